package projections_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/testenv"
	"github.com/budgetguard/budgetguard/projections"
)

func (w *world) holds() int64 {
	w.tb.Helper()
	n, err := w.store.OpenHolds(w.tb.Context())
	if err != nil {
		w.tb.Fatal(err)
	}
	return n
}

func TestOverdueReservationsCloseInTimeHoweverManyReap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.cfg.Reap = 0 // as in production
	w.run(projections.NewReaper(w.cfg, w.store, w.ledger), nil)
	w.run(projections.NewReaper(w.cfg, w.store, w.ledger), nil)
	tenant := w.tenant("a")
	for range 30 {
		w.do(tenant, domain.Reserve{Request: request(), Amount: 10, TTL: time.Second})
	}
	lasting := w.reserve(tenant, 10)
	w.eventually("closed", func() error {
		if n := w.holds(); n != 1 {
			return fmt.Errorf("%d holds are open", n)
		}
		return nil
	})
	events, err := w.store.Read(t.Context(), tenant, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	expired := 0
	for _, r := range events {
		e, ok := r.Event.(domain.ReservationExpired)
		if !ok {
			continue
		}
		expired++
		if late := r.Time.Sub(e.ReservedAt) - time.Second; late < 0 || late > 30*time.Second || e.Charged != 10 || e.Reservation == lasting {
			t.Errorf("closed %s after its time, charged %s", late, e.Charged)
		}
	}
	if expired != 30 || w.metric("budgetguard_reaper_expired_total") != 30 || w.metric("budgetguard_reaper_failed_total") != 0 {
		t.Errorf("%d expired, %v counted, %v failed", expired, w.metric("budgetguard_reaper_expired_total"), w.metric("budgetguard_reaper_failed_total"))
	}
}

func TestPolicyReleaseGivesOverdueReservationsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.cfg.FreeExpired = true
	w.worker()
	tenant := w.tenant("a")
	w.do(tenant, domain.Reserve{Request: request(), Amount: 10, TTL: 50 * time.Millisecond})
	w.eventually("closed", func() error {
		if n := w.holds(); n != 0 {
			return fmt.Errorf("%d holds are open", n)
		}
		return nil
	})
	w.converge(tenant)
	var kind, usd string
	if err := w.pool.QueryRow(t.Context(), `select kind, usd::text from "UsageLedger"`).Scan(&kind, &usd); err != nil || kind != "expired" || usd != "0" {
		t.Errorf("row: %s %s, %v", kind, usd, err)
	}
}

// stuck is a ledger that cannot commit, with more overdue holds than one reading shows.
type stuck struct{ reads, tries atomic.Int64 }

func (s *stuck) Overdue(_ context.Context, limit int) ([]eventstore.OverdueHold, error) {
	s.reads.Add(1)
	return make([]eventstore.OverdueHold, limit), nil
}

func (s *stuck) Orphans(context.Context, time.Duration, int) ([]eventstore.OverdueHold, error) {
	return nil, nil
}

func (s *stuck) Do(context.Context, domain.TenantID, domain.Command) ([]domain.Recorded, error) {
	s.tries.Add(1)
	return nil, domain.ErrUnavailable
}

func TestReaperWaitsForALedgerThatIsDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.cfg.Reap = time.Hour
	s := &stuck{}
	stop := w.run(projections.NewReaper(w.cfg, s, s), nil)
	w.eventually("tried", func() error {
		if s.tries.Load() == 0 || s.tries.Load()%500 != 0 {
			return errors.New("not yet")
		}
		return nil
	})
	stop()
	if s.reads.Load() != 1 {
		t.Errorf("read %d times although nothing could be closed", s.reads.Load())
	}
}

func TestLagsSayHowFarEachIsBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	lags, err := projections.NewLags(w.cfg, w.store)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lags.Close() }()
	a, b := w.tenant("a"), w.tenant("b")
	w.spend(a, 3)
	events := w.head(a) + w.head(b)
	read, err := lags.Read(t.Context())
	if err != nil || len(read) != 3 {
		t.Fatalf("%+v, %v", read, err)
	}
	for i, name := range []string{"relay", "usage", "counters"} {
		l := read[i]
		if l.Name != name || l.Events != events || l.Tenants != 2 || l.Age <= 0 || l.Age > within || l.Err != nil {
			t.Errorf("%s: %+v, want %d events", name, l, events)
		}
	}
	w.worker()
	w.converge(a, b)
	w.eventually("no lag", func() error {
		read, err := lags.Read(t.Context())
		for _, l := range read {
			if l != (projections.Lag{Name: l.Name}) {
				err = fmt.Errorf("%+v", l)
			}
		}
		return err
	})
}

func TestLagOfAnUnreachableRedisSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.cfg.RedisURL = "redis://127.0.0.1:1"
	lags, err := projections.NewLags(w.cfg, w.store)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lags.Close() }()
	w.tenant("a")
	read, err := lags.Read(t.Context())
	if err != nil || len(read) != 3 || read[1].Events == 0 || read[2].Err == nil {
		t.Errorf("%+v, %v", read, err)
	}
}

func TestOrphansAreChargedWithinSecondsAndTheLivingKeepTheirs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.cfg.OrphanAfter = time.Minute
	tenant := w.tenant("a")
	for gateway, ends := range map[string]bool{"gone": true, "alive": false} {
		if err := w.store.Beat(t.Context(), gateway, "test"); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			r := request()
			r.Gateway = gateway
			w.do(tenant, domain.Reserve{Request: r, Amount: 10, TTL: time.Hour})
		}
		if ends {
			if err := w.store.EndSession(t.Context(), gateway); err != nil {
				t.Fatal(err)
			}
		}
	}
	soft := w.cfg
	soft.FreeExpired = true
	free := projections.NewReaper(soft, w.store, w.ledger)
	stop := w.run(free, nil)
	w.run(projections.NewReaper(w.cfg, w.store, w.ledger), nil)
	w.eventually("closed", func() error {
		if n := w.holds(); n != 5 {
			return fmt.Errorf("%d holds are open", n)
		}
		return nil
	})
	stop()
	events, err := w.store.Read(t.Context(), tenant, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range events {
		if e, ok := r.Event.(domain.ReservationExpired); ok && (e.Gateway != "gone" || e.Charged != 10 || e.Reason != domain.ReasonOrphaned) {
			t.Errorf("%+v", e)
		}
	}
	if n := w.metric("budgetguard_reaper_orphans_total"); n != 5 || w.metric("budgetguard_reaper_expired_total") != 0 {
		t.Errorf("%v orphans counted", n)
	}
}

// recovering is a database that answers again after an outage.
type recovering struct{ reads, orphans atomic.Int64 }

func (r *recovering) Overdue(context.Context, int) ([]eventstore.OverdueHold, error) {
	if r.reads.Add(1) == 1 {
		return nil, errors.New("away")
	}
	return nil, nil
}

func (r *recovering) Orphans(context.Context, time.Duration, int) ([]eventstore.OverdueHold, error) {
	r.orphans.CompareAndSwap(0, r.reads.Load())
	return nil, nil
}

func TestBehindAnOutageTheGatewaysGetTheTimeToBeat(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.cfg.Reap, w.cfg.OrphanAfter = 2*time.Millisecond, 40*time.Millisecond
	r := &recovering{}
	w.run(projections.NewReaper(w.cfg, r, w.ledger), nil)
	w.eventually("orphans are looked for", func() error {
		if r.orphans.Load() == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	if n := r.orphans.Load(); n != 22 {
		t.Errorf("looked for in sweep %d, want 22: one that failed and 20 that waited", n)
	}
}
