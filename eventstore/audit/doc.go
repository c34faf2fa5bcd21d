// Package audit proves the ledger: it reads every stream from its first event, in one snapshot, and
// checks the laws of money against it and every table that moves with it.
//
// # What Verify trusts
//
// Nothing but the events' order. Balances are computed from what each event says it moved, so a posting
// that lies is found even where the chain of hashes was written anew around it. The definitions (tenant,
// keys, budgets) come from domain.Evolve; the money is folded here, by other code than wrote it.
//
// # What it costs
//
// The events are read once, a chunk at a time. Memory holds what is open of at most two tenants: their
// reservations, presumptions, definitions, the idempotency keys of a week, and one small row for
// each window a budget ever had.
package audit
