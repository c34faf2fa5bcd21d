package eventstore_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// BenchmarkAppend is a reservation and its settlement, by so many callers on so many tenants. The test
// database does not wait for the disk; what a real one adds is shared by all that wait for the same turn.
func BenchmarkAppend(b *testing.B) {
	for _, tenants := range []int{1, 1000} {
		for _, clients := range []int{1, 64} {
			b.Run(fmt.Sprintf("tenants=%d/clients=%d", tenants, clients), func(b *testing.B) {
				l := openLedger(b, testenv.Database(b))
				names := make([]domain.TenantID, tenants)
				var wg sync.WaitGroup
				for i := range names {
					wg.Go(func() { names[i] = fresh(b, l, domain.MaxAmount) })
					if i%64 == 63 {
						wg.Wait()
					}
				}
				wg.Wait()
				b.ReportAllocs()
				b.ResetTimer()
				var next atomic.Int64
				for range clients {
					wg.Go(func() {
						for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
							tenant, r := names[i%int64(tenants)], reserve(1000)
							if _, err := l.Do(b.Context(), tenant, r); err != nil {
								b.Error(err)
							}
							if _, err := l.Do(b.Context(), tenant, settle(r.Reservation, 700)); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
			})
		}
	}
}

// BenchmarkColdLoad reads a tenant's state of 1000 open reservations from the tables.
func BenchmarkColdLoad(b *testing.B) {
	url := testenv.Database(b)
	l, s := openLedger(b, url), openStore(b, url)
	tenant := fresh(b, l, domain.MaxAmount)
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() { _, _ = l.Do(b.Context(), tenant, reserve(1000)) })
	}
	wg.Wait()
	b.ReportAllocs()
	for b.Loop() {
		state, err := s.State(b.Context(), tenant)
		if err != nil || len(state.Open) != 1000 {
			b.Fatalf("%d open, %v", len(state.Open), err)
		}
	}
}
