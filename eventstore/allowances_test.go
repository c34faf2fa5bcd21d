package eventstore_test

import (
	"maps"
	"sync"
	"testing"

	"github.com/budgetguard/budgetguard/domain/pricing"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

func TestAllowancesOnlyGrowAndOutliveTheProcess(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	store := openStore(t, url)
	if known, err := store.Allowances(within(t)); err != nil || len(known) != 0 {
		t.Fatalf("a new database knows %v, %v", known, err)
	}

	// Two gateways learn different things of one model at once, again and again.
	learnt := []pricing.Allowance{{Prompt: 343, CostPermille: 7}, {Prompt: 12, PromptPermille: 81, Answer: 9, Uncapped: true}}
	var wg sync.WaitGroup
	for _, a := range learnt {
		wg.Go(func() {
			for range 20 {
				if err := store.RaiseAllowance(within(t), "m", a); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	raise(t, store, "n", pricing.Allowance{Answer: 1})

	want := map[string]pricing.Allowance{"m": learnt[0].Or(learnt[1]), "n": {Answer: 1}}
	if known, err := openStore(t, url).Allowances(within(t)); err != nil || !maps.Equal(known, want) {
		t.Errorf("the next process knows %v, %v; want %v", known, err, want)
	}
}

func raise(t *testing.T, store *eventstore.Store, model string, a pricing.Allowance) {
	t.Helper()
	if err := store.RaiseAllowance(within(t), model, a); err != nil {
		t.Fatal(err)
	}
}
