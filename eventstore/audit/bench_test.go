package audit_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/audit"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// copyStream writes reserve and settle pairs of a tenant in bulk: the stream and its head.
func copyStream(b *testing.B, pool *pgxpool.Pool, tenant domain.TenantID, pairs int) {
	b.Helper()
	state, hash, at := domain.NewState(tenant), eventstore.Genesis(tenant), noon()
	var rows [][]any
	commands := []domain.Command{
		domain.CreateTenant{Name: "ACME"},
		domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: domain.MaxAmount, Source: domain.SourceAdmin},
		domain.DefineBudget{ID: "day", Period: domain.Daily, Limit: domain.MaxAmount, Source: domain.SourceAdmin},
	}
	for n := range pairs {
		commands = append(commands, reserve(n, 1_000_000), settle(n, 700_000))
	}
	for _, c := range commands {
		at = at.Add(50_000_000)
		next, records, err := domain.Execute(state, c, at)
		if err != nil {
			b.Fatal(err)
		}
		state = next
		for _, r := range records {
			r.Tenant = tenant
			if r.Body, err = domain.EncodeEvent(r.Event); err != nil {
				b.Fatal(err)
			}
			hash = eventstore.Link(hash, r, domain.SchemaVersion)
			link := hash
			rows = append(rows, []any{string(tenant), r.Version, r.Time, string(domain.TypeOf(r.Event)), string(r.Body), link[:]})
		}
	}
	if _, err := pool.CopyFrom(b.Context(), pgx.Identifier{"event"}, []string{"tenant_id", "version", "ts", "type", "body", "hash"}, pgx.CopyFromRows(rows)); err != nil {
		b.Fatal(err)
	}
	exec(b, pool, `insert into tenant_head (tenant_id, version, last_ts, last_hash) values ($1, $2, $3, $4)`, string(tenant), state.Version, state.LastTime, hash[:])
}

// BenchmarkVerify tells how many events a second are checked. The tables beside the stream are empty, which
// is a handful of violations a tenant and no less work.
func BenchmarkVerify(b *testing.B) {
	for _, size := range []struct{ tenants, pairs int }{{1, 50_000}, {1000, 50}} {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("tenants=%d/workers=%d", size.tenants, workers), func(b *testing.B) {
				pool := openPool(b, testenv.Database(b))
				for n := range size.tenants {
					copyStream(b, pool, domain.TenantID(fmt.Sprint("t", n)), size.pairs)
				}
				exec(b, pool, `analyze`)
				b.ReportAllocs()
				events := int64(0)
				for b.Loop() {
					report := verify(b, pool, audit.Options{Workers: workers})
					if got := found(report, audit.LawRows); got != "" {
						b.Fatal(got)
					}
					events += report.Events
				}
				b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}
