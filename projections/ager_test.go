package projections_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/testenv"
	"github.com/budgetguard/budgetguard/projections"
)

func TestAnIdleTenantsRaiseEndsInTimeHoweverManyAge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.cfg.Age = 50 * time.Millisecond
	w.worker()
	w.run(projections.NewAger(w.cfg, w.store, w.ledger), nil)
	tenant := w.tenant("a")
	w.do(tenant, domain.RaiseBudget{ID: "bud_m", By: 5, Until: time.Now().Add(5 * time.Second), Actor: "admin"})
	w.eventually("lowered", func() error {
		events, err := w.store.Read(t.Context(), tenant, 0, 100)
		if err != nil {
			return err
		}
		var ended int
		for _, r := range events {
			if e, ok := r.Event.(domain.BudgetChanged); ok && e.Reason == "raise_ended" {
				ended++
				if e.Limit != 1_000_000 || len(e.Raises) != 0 {
					t.Errorf("lowered to %+v", e)
				}
			}
		}
		if ended != 1 {
			return fmt.Errorf("%d raises ended", ended)
		}
		return nil
	})
	w.converge(tenant)
}

// aged is a ledger and a store of which one tenant cannot be aged.
type aged struct {
	mu      sync.Mutex
	done    map[domain.TenantID]int
	tidied  atomic.Int64
	failing error
}

func (a *aged) Aging(context.Context, int) ([]domain.TenantID, error) {
	return []domain.TenantID{"broken", "b", "c", "gone"}, nil
}

func (a *aged) Tidy(context.Context) (eventstore.Tidied, error) {
	a.tidied.Add(1)
	return eventstore.Tidied{Attempts: 3}, a.failing
}

func (a *aged) Do(_ context.Context, tenant domain.TenantID, c domain.Command) ([]domain.Recorded, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ages := c.(domain.Age); !ages {
		return nil, fmt.Errorf("unexpected %T", c)
	}
	a.done[tenant]++
	return nil, map[domain.TenantID]error{"broken": domain.ErrUnavailable, "gone": domain.ErrTenantUnknown}[tenant]
}

func (a *aged) times(tenant domain.TenantID) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.done[tenant]
}

func TestATenantThatCannotBeAgedKeepsNoOtherFromIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	log := &lines{}
	w.cfg.Age, w.cfg.Tidy, w.cfg.Logger = 10*time.Millisecond, 10*time.Millisecond, slog.New(slog.NewTextHandler(log, nil))
	a := &aged{done: map[domain.TenantID]int{}, failing: errors.New("no permission")}
	stop := w.run(projections.NewAger(w.cfg, a, a), nil)
	w.eventually("aged", func() error {
		if a.times("b") < 5 || a.times("c") < 5 || a.tidied.Load() < 5 {
			return errors.New("not yet")
		}
		return nil
	})
	stop()
	if text := log.String(); strings.Count(text, "age broken") != 1 || strings.Count(text, "no permission") != 1 || !strings.Contains(text, "idempotency_keys=3") {
		t.Errorf("an outage is told once, and what was tidied; the log has:\n%s", text)
	}
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
