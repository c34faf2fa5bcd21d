// Package sim simulates BudgetGuard deterministically: gateways with the real lanes and the real decisions,
// their callers, a provider that bills, the relay, the projectors and the reaper, over a database that breaks
// in the ways Postgres and a network do.
//
// Everything is a coroutine under one scheduler, which a seed drives, and time is a number: the same seed gives
// the same trace, to the byte. `make sim SEEDS=n` runs seeds; one that fails prints its last steps and the
// command that repeats it.
//
// # What is real
//
// Packages eventstore/lanes and domain run as they are. Not real are Postgres (Database, which passes the
// same conformance suite, package journaltest), the handlers of requests (client.go follows package proxy), and
// the relay, the projectors and the reaper (background.go follows package projections).
//
// # What is judged
//
// After every step in which something was committed, model.go folds the new events anew, without using
// package domain (but for its calendar and its scopes), and holds them against the chain, the limits, the windows,
// the life of each reservation and of its idempotency key, and the tables. Answers are judged when they are given, forwarding when it happens, and the provider's book
// whenever it or a reservation's end changes. Every 5000 steps the harm stops, everything must come to rest,
// and the sums, the projections, the caches and the fate of each request are compared.
//
// # How to add to it
//
// A new command of callers belongs into client.go, one of administrators into admin.go; a new event into
// model.judge, change.go if it has rows, and chargeOf if it charges. A seeded bug is a Bug with a place where it
// is planted: the database's flaws, a wrongJournal, an executor, or an if in the simulated parts.
package sim
