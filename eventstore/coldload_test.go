package eventstore_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// BenchmarkColdLoadOfAMillionEvents is what a gateway that never saw the tenant adds to its first request:
// the head's lock, and the state from the tables. Median and worst are reported beside the mean.
func BenchmarkColdLoadOfAMillionEvents(b *testing.B) {
	const events = 1_000_000
	url := testenv.Database(b)
	pool := openPool(b, url)
	l := openLedger(b, url)
	tenant := fresh(b, l, domain.MaxAmount)
	for range 100 {
		do(b, l, tenant, reserve(1000))
	}
	lengthen(b, pool, url, tenant, events)
	if n := scalar(b, pool, `select count(*) from event where tenant_id = $1`, string(tenant)); n < events {
		b.Fatalf("%d events", n)
	}
	journal, err := eventstore.OpenJournal(b.Context(), url, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(journal.Close)
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		locked, err := journal.Lock(b.Context(), tenant)
		if err != nil {
			b.Fatal(err)
		}
		state, _, err := locked.Load(b.Context(), lanes.Mark{})
		if err != nil || len(state.Open) != 100 {
			b.Fatalf("%d open: %v", len(state.Open), err)
		}
		locked.Rollback(b.Context())
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms/median")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms/worst")
}

// lengthen adds pairs of a reservation and its settlement to a stream until it has so many events, as fast
// as Postgres can copy them, and moves the head and the account with them.
func lengthen(tb testing.TB, pool *pgxpool.Pool, url string, tenant domain.TenantID, events int64) {
	tb.Helper()
	s := openStore(tb, url)
	state, err := s.State(within(tb), tenant)
	if err != nil {
		tb.Fatal(err)
	}
	last, err := s.Read(within(tb), tenant, state.Version-1, 1)
	if err != nil {
		tb.Fatal(err)
	}
	hash, now := last[0].Hash, time.Now()
	var waiting []domain.Recorded
	next := func() ([]any, error) {
		if len(waiting) == 0 {
			if state.Version >= events {
				return nil, nil
			}
			r := reserve(1000)
			for _, c := range []domain.Command{r, settle(r.Reservation, 1)} {
				var records []domain.Recorded
				if state, records, err = domain.Execute(state, c, now); err != nil {
					return nil, fmt.Errorf("version %d: %w", state.Version, err)
				}
				waiting = append(waiting, records...)
			}
		}
		e := waiting[0]
		waiting = waiting[1:]
		if e.Body, err = domain.EncodeEvent(e.Event); err != nil {
			return nil, err
		}
		hash = eventstore.Link(hash, e, domain.SchemaVersion)
		return []any{string(tenant), e.Version, e.Time, string(domain.TypeOf(e.Event)), int16(domain.SchemaVersion), string(e.Body), hash[:]}, nil
	}
	_, err = pool.CopyFrom(tb.Context(), pgx.Identifier{"event"}, []string{"tenant_id", "version", "ts", "type", "schema_version", "body", "hash"}, pgx.CopyFromFunc(next))
	if err != nil {
		tb.Fatal(err)
	}
	for _, a := range state.Accounts {
		if _, err := pool.Exec(within(tb), `update account set settled = $2, version = $3 where tenant_id = $1`, string(tenant), int64(a.Settled), a.Version); err != nil {
			tb.Fatal(err)
		}
	}
	if _, err := pool.Exec(within(tb), `update tenant_head set version = $2, last_ts = $3, last_hash = $4 where tenant_id = $1`,
		string(tenant), state.Version, state.LastTime, hash[:]); err != nil {
		tb.Fatal(err)
	}
}
