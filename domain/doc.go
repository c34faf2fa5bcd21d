// Package domain is the ledger's rules and nothing else: money, prices, calendar windows, the commands
// a tenant's stream accepts and the events it records. It reads no clock, opens no file, holds no
// context; the same input gives the same output on every machine, which is what makes replay a proof.
//
// # The two functions
//
//	Decide(state, command, now) → events   what would have to be recorded, or why it is refused
//	Evolve(state, recorded)     → state    what a recorded event makes of the state
//
// Decide never changes the state it is given. Evolve consumes its state, like append consumes a slice:
// use only the result. Execute joins both for a writer that appends what it decided.
//
// # Glossary
//
//   - stream, version: all events of one tenant; their dense count 1..n.
//   - command, event: what somebody wants; what has happened.
//   - budget: a limit for a tenant over a period. Several apply to one request at once.
//   - window: the half-open interval [start, end) in which a limit counts; a period is its length.
//   - account: the balance of one budget in one window. Its id is the version of its window.opened event.
//   - reservation: a hold of one amount on every account that applies, made before a request is
//     forwarded. It is what card networks call an authorisation hold and TigerBeetle a pending transfer.
//   - Reserve, Settle, Release, Expire: hold; charge what it really cost; give back because nothing can
//     have been billed; charge because nobody said.
//   - Limit, Reserved (held), Settled, Available, Overrun: the five amounts. Settled above its
//     reservation is overrun: recorded, never refused, because the money is already spent.
//   - presumed: the part of settled that was charged without evidence of the real cost. Late evidence
//     corrects it.
//
// # Laws
//
// After every event held + settled ≤ limit in every account, unless a posting marked forced (an overrun,
// a limit cut below use, a late settlement) says why not. Held is the sum of the open reservations. A
// reservation is closed at most once. Every posting carries the balances that result, so folding events
// assigns and never recomputes.
package domain
