// Command chaos runs the real system and breaks it: make chaos T=20m SEED=7.
//
// # What runs
//
// Everything is a process of its own, as in production: a private Postgres and a private Redis, the mock provider with a
// journaled bill, three gateways and two workers of the binary that is built from the checkout. Every connection between
// them goes through a proxy (toxiproxy, used as a library), so that each can be hurt alone. Many clients call over several
// tenants with small budgets that are raised from time to time; some hang up in the middle.
//
// # What is done to it
//
// A deck of faults is shuffled by the seed and dealt in rounds of one to three at a time, so that every kind comes up
// equally often: kill -9 of gateways and workers, SIGSTOP for longer than a reservation lives, crashes of Postgres and of
// Redis, a Redis that comes back with old data or none, a full disk, a read-only database, gateways whose clock is off by
// hours, connections that are slow, cut, trickling, silent or refused, and a provider that is slow, lies, breaks off, fails
// or is gone. The seed decides what happens and in what order; how it falls between the calls is up to the machine.
//
// # What must be true at the end
//
// All is healed, the system comes to rest, and then: ledger verify finds nothing; each line of the provider's bill belongs
// to a reservation that was charged at least as much; no tenant's budget is overspent, by the ledger or by the bill; what
// was refused was not forwarded; what a client was answered is in the ledger; nothing is held, nothing is left to publish,
// and the registers in Redis are the balances in Postgres. What tenants of their own did and saw is linearizable.
// Otherwise the exit code is 1, and the seed is printed.
package main
