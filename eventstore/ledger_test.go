package eventstore_test

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/migrations"
)

func TestSmoke(t *testing.T) {
	url := os.Getenv("BG_TEST_DB")
	ctx := t.Context()
	if _, err := migrations.Up(ctx, url); err != nil {
		t.Fatal(err)
	}
	open := func() *eventstore.Ledger {
		l, err := eventstore.OpenLedger(ctx, eventstore.Config{URL: url, Now: time.Now, Turned: func(x eventstore.Turned) {
			if x.Err != nil {
				t.Log(x)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	a, b := open(), open()
	tenant := domain.TenantID("t" + uuid.NewString()[:8])
	do := func(l *eventstore.Ledger, c domain.Command) []domain.Recorded {
		r, err := l.Do(ctx, tenant, c)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	do(a, domain.CreateTenant{Name: "x", Actor: "admin"})
	do(a, domain.DefineBudget{ID: "bud_1", Period: domain.Monthly, Limit: 1000, Source: domain.SourceAdmin})
	var wg sync.WaitGroup
	var mu sync.Mutex
	ok, refused := 0, 0
	start := time.Now()
	for i := range 500 {
		l := a
		if i%2 == 1 {
			l = b
		}
		wg.Go(func() {
			_, err := l.Do(ctx, tenant, domain.Reserve{Request: domain.Request{Reservation: domain.ReservationID(uuid.NewString())}, Amount: 10, TTL: time.Minute})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				ok++
			case errors.Is(err, domain.ErrBudgetExceeded):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	fmt.Println(ok, refused, time.Since(start))
	if err := a.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := b.Close(ctx); err != nil {
		t.Error(err)
	}
}
