package main

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/mockupstream"
)

// burst sends 500 calls at once at a budget for exactly 100 of them, over any number of gateways, while
// the provider holds every answer until the other 400 were refused.
func burst(t *testing.T, gateways int) {
	t.Helper()
	s := newSystem(t)
	var addresses []string
	for range gateways {
		_, address := s.serve()
		addresses = append(addresses, address)
	}
	s.worker()
	probe := ask(t.Context(), t, addresses[0], s.tenant(addresses[0], "probe", "1"), chat)
	estimate := nano(t, probe.header.Get("X-BudgetGuard-Estimated-Usd"))
	before := s.billed()
	key := s.tenant(addresses[0], "burst", domain.Amount(100*estimate).String())
	if err := s.provider.Change(func(x *mockupstream.Settings) { x.Hold = true }); err != nil {
		t.Fatal(err)
	}
	var calls sync.WaitGroup
	var allowed, refused, other atomic.Int64
	for i := range 500 {
		calls.Go(func() {
			switch a := ask(t.Context(), t, addresses[i%gateways], key, chat); a.status {
			case http.StatusOK:
				allowed.Add(1)
			case http.StatusPaymentRequired:
				refused.Add(1)
			default:
				other.Add(1)
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	eventually(t, "400 refused", func() bool { return refused.Load()+other.Load() >= 400 })
	eventually(t, "100 at the provider", func() bool { return s.provider.Held() == 100 })
	if err := s.provider.Change(func(x *mockupstream.Settings) { x.Hold = false }); err != nil {
		t.Fatal(err)
	}
	calls.Wait()
	s.quiet()
	if allowed.Load() != 100 || refused.Load() != 400 {
		t.Errorf("%d allowed and %d refused, want 100 and 400", allowed.Load(), refused.Load())
	}
	bill := s.billed() - before
	if settled := s.settled("burst"); settled != bill || bill > 100*estimate {
		t.Errorf("settled %d, billed %d, limit %d", settled, bill, 100*estimate)
	}
	eventually(t, "nothing to publish", func() bool { return s.count(`select count(*) from outbox`) == 0 })
	s.verify(exitOK)
}

func TestABurstOf500OnABudgetFor100LetsExactly100Through(t *testing.T) {
	t.Parallel()
	burst(t, 1)
}

func TestABurstOverTwoGatewaysLetsExactly100Through(t *testing.T) {
	t.Parallel()
	burst(t, 2)
}
