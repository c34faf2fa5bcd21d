// Package projections carries the tenants' events from Postgres to everybody else: to a Redis stream, to
// registers in Redis that show the balances, and to the UsageLedger. It also closes reservations that
// nobody resolved. Nothing here decides whether money may be spent, and everything it writes can be
// thrown away: it is rebuilt from the events.
//
// # The way of an event
//
//	append (eventstore) ── outbox row ── Relay ── Redis stream ── Subscription ─┬─ Counters ── Redis hash a tenant
//	                                                                            └─ Usage ── usage_row, "UsageLedger"
//
// The Relay publishes what the outbox names and then deletes the row: at least once, and in order of
// version for each tenant. The stream may repeat, reorder, lose and even forge: a projector takes from it
// only that a tenant's stream has moved, and reads the event from Postgres.
//
// # Cursors and convergence
//
// Every projection keeps a cursor for each tenant beside what it writes, moved in the same transaction or
// script: duplicates are ignored, gaps are filled from Postgres. Each projector also compares its cursors
// with the heads of the streams, at start, after each renewed subscription, and every [Config.Poll]. So
// it converges with an empty stream too; the stream only makes it fast. That is also why a message is
// acknowledged when the projector has taken it over and not when it was applied: whatever dies in
// between is behind its cursor and is found by the comparison.
//
// A worker's projectors share one subscription, which decodes each message once and never waits for them: a
// projector without room for a message misses it, knows that, and compares. Relay and projectors linger a
// few milliseconds for more, so that their fixed costs are those of a batch and not of an event. While all
// goes well a projection is some 60 ms behind the ledger.
//
// # The registers
//
// The balances of a tenant are one hash, bg:{<tenant>}:balances, that is exactly what the stream
// amounted to at the version in its field "version":
//
//	version       newest version applied
//	zone          <version>|<IANA zone>
//	b:<budgetId>  <version>|<period>|<source>|<limit>|<alerts ppm, comma separated>|<scope as JSON>
//	<accountId>   <version>|<period>|<start>|<end>|<limit>|<spent>|<reserved>|<presumed>|<budgetId>
//
// Amounts are nano-dollars, times are microseconds since 1970, the version in front is that of the last
// event that changed the field. Windows leave the hash two days after their end. [Registers] reads it,
// and reads Postgres instead whenever Redis is slow, empty or no worker has vouched for it lately.
//
// # What is never skipped
//
// An entry of the stream that cannot be read is logged, counted and acknowledged: the event it stood for
// is read from Postgres. An event in Postgres that this build cannot read stops the projection of that
// tenant, before the event, with an error in the log and a gauge, and is tried again at growing
// intervals. The other tenants go on. A projection that skips is wrong; one that lags is late.
package projections
