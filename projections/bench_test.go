package projections_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/testenv"
	"github.com/budgetguard/budgetguard/projections"
)

// benchEvents is the size of the backlog that each round of a benchmark works off, over ten tenants.
const benchEvents = 20_000

// backlog makes a ledger with events that nobody has seen yet.
func backlog(b *testing.B) (*world, []domain.TenantID) {
	b.Helper()
	w := newWorld(b, testenv.Redis(b))
	w.cfg.StreamLen = 2 * benchEvents
	const tenants, atOnce = 10, 8
	ids := make([]domain.TenantID, tenants)
	var spending sync.WaitGroup
	for i := range ids {
		ids[i] = w.tenant(fmt.Sprintf("t%d", i))
		for range atOnce {
			spending.Go(func() {
				for range benchEvents / 2 / tenants / atOnce {
					id := w.reserve(ids[i], 10)
					w.do(ids[i], domain.Settle{Reservation: id, Charged: 9, Basis: domain.BasisProvider})
				}
			})
		}
	}
	spending.Wait()
	return w, ids
}

func (w *world) perSecond(b *testing.B, work func()) {
	b.Helper()
	start := time.Now()
	work()
	b.ReportMetric(benchEvents/time.Since(start).Seconds(), "events/s")
}

func BenchmarkRelay(b *testing.B) {
	for b.Loop() {
		w, _ := backlog(b)
		w.perSecond(b, func() {
			relay, err := projections.NewRelay(w.cfg, w.store)
			stop := w.run(relay, err)
			w.converge()
			stop()
		})
	}
}

func BenchmarkUsageFromPostgres(b *testing.B) {
	for b.Loop() {
		w, tenants := backlog(b)
		w.perSecond(b, func() {
			usage, err := projections.NewUsage(w.cfg, w.store)
			stop := w.run(usage, err)
			for _, tenant := range tenants {
				w.eventually("usage", func() error { return w.usageRight(tenant) })
			}
			stop()
		})
	}
}

// The whole way: published, received and applied by both projectors, with no comparison with the heads but
// at the start and where a projector had no room.
func BenchmarkStream(b *testing.B) {
	for b.Loop() {
		w, tenants := backlog(b)
		w.cfg.Poll = time.Hour
		w.perSecond(b, func() {
			stop := w.worker()
			w.converge(tenants...)
			w.consumed()
			stop()
		})
	}
}
