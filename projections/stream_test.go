package projections_test

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/testenv"
	"github.com/budgetguard/budgetguard/projections"
)

// projectors runs what reads the stream, without a relay: the test is the relay.
func (w *world) projectors() {
	w.tb.Helper()
	counters, err := projections.NewCounters(w.cfg, w.store)
	w.run(counters, err)
	usage, err := projections.NewUsage(w.cfg, w.store)
	w.run(usage, err)
}

// add puts an entry on the stream as Watermill would.
func (w *world) add(payload string) {
	w.tb.Helper()
	err := w.redis.XAdd(w.tb.Context(), &redis.XAddArgs{
		Stream: projections.DefaultStream, Values: map[string]any{"_watermill_message_uuid": "x", "metadata": "", "payload": payload},
	}).Err()
	if err != nil {
		w.tb.Fatal(err)
	}
}

func (w *world) payloads(tenant domain.TenantID) []string {
	w.tb.Helper()
	events, err := w.store.Read(w.tb.Context(), tenant, 0, 10_000)
	if err != nil {
		w.tb.Fatal(err)
	}
	payloads := make([]string, len(events))
	for i, r := range events {
		payloads[i] = string(projections.Message(r).Payload)
	}
	return payloads
}

// consumed waits until both groups have taken everything on the stream.
func (w *world) consumed() {
	w.tb.Helper()
	w.eventually("stream", func() error {
		groups, err := w.redis.XInfoGroups(w.tb.Context(), projections.DefaultStream).Result()
		if err != nil {
			return err
		}
		for _, g := range groups {
			if g.Lag != 0 || g.Pending != 0 {
				return fmt.Errorf("%s: %d to read, %d pending", g.Name, g.Lag, g.Pending)
			}
		}
		return nil
	})
}

// mixed is a number that depends on a text and a seed, and looks as if it did not.
func mixed(text string, seed uint64) uint64 {
	hash := fnv.New64a()
	_, _ = fmt.Fprint(hash, seed, text)
	return hash.Sum64()
}

func TestStreamMayRepeatReorderAndLose(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, testenv.Redis(t))
			w.projectors()
			w.eventually("groups", func() error { return w.redis.XInfoGroups(t.Context(), projections.DefaultStream).Err() })
			a, b := w.tenant("a"), w.tenant("b")
			w.spend(a, 20)
			w.spend(b, 20)
			entries := append(w.payloads(a), w.payloads(b)...)
			entries = append(entries, entries...)
			slices.SortFunc(entries, func(a, b string) int { return cmp.Compare(mixed(a, seed), mixed(b, seed)) })
			for i, payload := range entries {
				if mixed(payload, seed+uint64(i))%3 > 0 {
					w.add(payload)
				}
			}
			w.consumed()
			w.projected(a, b)
		})
	}
}

// The comparison with the heads is kept out of the way, so that only the stream can bring the events.
func TestStreamAloneBringsEventsInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.cfg.Poll = time.Hour
	w.worker()
	w.eventually("registers vouched for", func() error { return w.redis.Get(t.Context(), "bg:{counters}:fresh").Err() })
	tenant := w.tenant("a")
	w.spend(tenant, 30)
	w.converge(tenant)
	head := float64(w.head(tenant))
	if applied := w.metric("budgetguard_projection_events_total", "usage", "applied"); applied != head {
		t.Errorf("usage applied %v events of %v", applied, head)
	}
	if applied := w.metric("budgetguard_projection_events_total", "counters", "applied"); applied != head {
		t.Errorf("counters applied %v events of %v", applied, head)
	}
}

func TestUnreadableEntriesAreCountedAndPassed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.worker()
	tenant := w.tenant("a")
	w.spend(tenant, 5)
	if err := w.redis.XAdd(t.Context(), &redis.XAddArgs{Stream: projections.DefaultStream, Values: []string{"what", "ever"}}).Err(); err != nil {
		t.Fatal(err)
	}
	if err := w.redis.XAdd(t.Context(), &redis.XAddArgs{
		Stream: projections.DefaultStream, Values: map[string]any{"_watermill_message_uuid": "x", "metadata": "\xc1 no msgpack", "payload": "{}"},
	}).Err(); err != nil {
		t.Fatal(err)
	}
	w.add("")
	w.add(`{"specversion":"1.0"`)
	w.add(strings.Replace(w.payloads(tenant)[0], `"sequence":"1"`, `"sequence":"-1"`, 1))
	w.spend(tenant, 5)
	w.consumed()
	w.converge(tenant)
	if bad := w.metric("budgetguard_projection_events_total", "bad"); bad != 10 {
		t.Errorf("%v bad entries counted, want 5 by each of two projections", bad)
	}
}

// A valid event that is not in Postgres: forged, or left of another database. The comparison is kept out of
// the way, so nothing but disbelief keeps the registers right.
func TestEventThatIsNotInPostgresNeverMovesARegister(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.cfg.Poll = time.Hour
	w.worker()
	tenant := w.tenant("a")
	w.spend(tenant, 8)
	w.converge(tenant)

	recorded, err := w.store.Read(t.Context(), tenant, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	before := w.redis.HGetAll(t.Context(), "bg:{a}:balances").Val()
	for _, payload := range forgeries(recorded) {
		w.add(payload)
	}
	w.consumed()
	w.spend(w.tenant("b"), 1) // behind the forgeries in the same inbox
	w.converge("b")
	if after := w.redis.HGetAll(t.Context(), "bg:{a}:balances").Val(); !maps.Equal(before, after) {
		t.Errorf("registers went from %v to %v", before, after)
	}

	w.spend(tenant, 3)
	w.converge(tenant)
	var rows int
	if err := w.pool.QueryRow(t.Context(), `select count(*) from projection_cursor
		where tenant_id not in ('a', 'b')`).Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d cursors of tenants that do not exist, %v", rows, err)
	}
	if n := w.redis.Exists(t.Context(), "bg:{ghost}:balances").Val(); n != 0 {
		t.Error("registers of a tenant that does not exist")
	}
}

// forgeries are well-formed messages that an outsider can make of a tenant's own events.
func forgeries(recorded []domain.Recorded) []string {
	payload := func(r domain.Recorded) string { return string(projections.Message(r).Payload) }
	last := recorded[len(recorded)-1]
	all := []string{payload(recorded[0]), payload(last)} // replayed

	// The next version, one far away, and the last that a number can hold.
	for _, version := range []int64{last.Version + 1, last.Version + 1000, math.MaxInt64} {
		forged := last
		forged.Version = version
		all = append(all, payload(forged))
	}

	// A version that is there, with a body that is not; a body as large as no event is; another tenant.
	other := recorded[len(recorded)-2]
	other.Version = last.Version
	huge := last
	huge.Version++
	huge.Body = []byte(`{"actor":"` + strings.Repeat("x", 4<<20) + `"}`)
	ghost := last
	ghost.Tenant = "ghost"
	system := last
	system.Tenant, system.Version = "_system", 1

	return append(all, payload(other), payload(huge), payload(ghost), payload(system))
}

func TestEventThisBuildCannotReadStopsOnlyItsTenant(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.worker()
	tenant, other := w.tenant("a"), w.tenant("b")
	w.spend(tenant, 5)
	w.converge(tenant)
	good := w.head(tenant)
	w.fromTheFuture(tenant, good+1)
	w.eventually("stop", func() error {
		if n := w.metric("budgetguard_projection_stopped_tenants", "usage"); n != 1 {
			return fmt.Errorf("%v tenants stopped", n)
		}
		return nil
	})
	w.spend(other, 10)
	w.converge(other)
	var cursor int64
	if err := w.pool.QueryRow(t.Context(), `select version from projection_cursor where tenant_id = $1`, tenant).Scan(&cursor); err != nil || cursor != good {
		t.Errorf("cursor is at %d, want %d, the last event that was read: %v", cursor, good, err)
	}
	// A newer build would read it: so does this one, once it is an event it knows.
	w.exec(`alter table event disable trigger event_no_change`)
	w.exec(`update event set type = 'tenant.resumed' where tenant_id = 'a' and type = 'tenant.teleported'`)
	w.eventually("usage goes on", func() error { return w.usageRight(tenant) })
	w.eventually("gauge", func() error {
		if n := w.metric("budgetguard_projection_stopped_tenants", "usage"); n != 0 {
			return fmt.Errorf("%v tenants stopped", n)
		}
		return nil
	})
}

func (w *world) exec(sql string, args ...any) {
	w.tb.Helper()
	if _, err := w.pool.Exec(w.tb.Context(), sql, args...); err != nil {
		w.tb.Fatal(err)
	}
}

// fromTheFuture appends an event of a type that this build does not have, as a newer gateway would.
func (w *world) fromTheFuture(tenant domain.TenantID, version int64) {
	w.tb.Helper()
	w.exec(`with e as (insert into event (tenant_id, version, ts, type, body, hash)
			values ($1, $2, now(), 'tenant.teleported', '{"actor":"admin"}', sha256('x')) returning 1),
		o as (insert into outbox (tenants, after, upto) values (array[$1::text], array[$2::bigint - 1], array[$2::bigint]) returning 1)
		update tenant_head set version = $2 where tenant_id = $1`, tenant, version)
}

func TestUsageLedgerThatWasDroppedIsRebuilt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.worker()
	tenant := w.tenant("a")
	w.spend(tenant, 20)
	w.converge(tenant)
	w.exec(`with c as (delete from projection_cursor returning 1) delete from usage_row`)
	w.converge(tenant)
}

func TestRelayStandsByWhileAnotherLeads(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	first, err := projections.NewRelay(w.cfg, w.store)
	stop := w.run(first, err)
	second, err := projections.NewRelay(w.cfg, w.store)
	w.run(second, err)
	tenant := w.tenant("a")
	w.spend(tenant, 5)
	w.eventually("published", func() error { return w.publishedTo(tenant) })
	stop()
	w.spend(tenant, 5)
	w.eventually("published by the other", func() error { return w.publishedTo(tenant) })
	if n, head := w.redis.XLen(t.Context(), projections.DefaultStream).Val(), w.head(tenant); n != head {
		t.Errorf("%d entries for %d events", n, head)
	}
}

// publishedTo is nil when the last entry of the stream is the tenant's newest event.
func (w *world) publishedTo(tenant domain.TenantID) error {
	entries, err := w.redis.XRevRangeN(w.tb.Context(), projections.DefaultStream, "+", "-", 1).Result()
	if err != nil || len(entries) == 0 {
		return fmt.Errorf("read the stream: %d entries, %w", len(entries), err)
	}
	if got, want := entries[0].Values["_watermill_message_uuid"], fmt.Sprintf("%s:%d", tenant, w.head(tenant)); got != want {
		return fmt.Errorf("last is %v, want %s", got, want)
	}
	return nil
}

func TestStreamIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.cfg.StreamLen = 100
	w.worker()
	tenant := w.tenant("a")
	w.spend(tenant, 250)
	w.converge(tenant)
	// Redis trims whole nodes of a hundred entries.
	if n := w.redis.XLen(t.Context(), projections.DefaultStream).Val(); n > 300 {
		t.Errorf("%d entries, want about 100", n)
	}
}

func TestStandingByEndsWithItsContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	worker, err := projections.NewWorker(w.cfg, w.store, w.ledger)
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Run(ctx); err != nil {
		t.Error(err)
	}
}
