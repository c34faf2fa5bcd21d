// Package eventstore keeps the tenants' streams in Postgres.
//
// # What is where
//
// The lanes, which queue, decide and retry, are package lanes: they know a Journal and no database. Here are
// the Journal in Postgres, the tables it moves, and Store, which reads them.
//
// # How a command is written
//
// Ledger.Do puts a command into its tenant's queue. While a commit is in flight the next commands wait;
// then all that wait, of every tenant, become one turn: domain.Execute decides them in order on the
// tenant's cached state, and one call of ledger_append writes the result in one transaction. That is the
// fast path: one round trip, no lock held over it.
//
// A tenant whose stream another gateway moved meanwhile is left out by the compare-and-set and named.
// It goes to the locked path: lock the head, read what is new, decide, append, commit. That path is
// always right and needs no cache. Refusals are confirmed there too, because a cached state may be old.
//
// # When the outcome of a commit is unknown
//
// A connection that breaks after the append was sent leaves three possibilities: it is committed, it is
// not, or it will be. The fence closes the third: raising the head's fence makes a late original fail
// its compare-and-set. Under the same lock the hash at the first expected version tells which of the
// other two it was. A caller that stopped waiting has its reservation released then: it knows that it
// forwarded nothing.
//
// # When a stream is not what was written
//
// A cold load looks at the last two events, the head and the newest version this gateway saw committed.
// Where they disagree the tenant fails closed with ErrTampered, every time, and the others go on. The whole
// proof is package audit's.
package eventstore
