package eventstore_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

const day = 24 * time.Hour

func tidy(tb testing.TB, s *eventstore.Store) eventstore.Tidied {
	tb.Helper()
	t, err := s.Tidy(within(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func TestHousekeepingTakesWhatNobodyNeedsAndItComesBack(t *testing.T) {
	t.Parallel()
	url, jump := timeMachine(t, testenv.Database(t))
	l, store, pool := openLedger(t, url), openStore(t, url), openPool(t, url)
	tenant := domain.TenantID("a")
	do(t, l, tenant, domain.CreateTenant{Name: "a", Actor: "admin"})
	for id, period := range map[domain.BudgetID]domain.Period{"hour": domain.Hourly, "total": domain.Total} {
		do(t, l, tenant, domain.DefineBudget{ID: id, Period: period, Limit: 1000, Source: domain.SourceAdmin, Actor: "admin"})
	}
	released, presumed, settled := reserve(10), reserve(20), reserve(30)
	settled.Idempotency, settled.Fingerprint = "once", "f"
	do(t, l, tenant, released)
	do(t, l, tenant, domain.Release{Reservation: released.Reservation, Reason: domain.ReleasedNotSent})
	do(t, l, tenant, presumed)
	do(t, l, tenant, domain.SettlePresumed{Reservation: presumed.Reservation, Reason: "cut"})
	jump(3 * time.Hour)
	do(t, l, tenant, settled)
	do(t, l, tenant, settle(settled.Reservation, 30))
	if got := tidy(t, store); got != (eventstore.Tidied{}) {
		t.Errorf("at once %+v", got)
	}
	jump(6 * day)
	if got := tidy(t, store); got != (eventstore.Tidied{}) {
		t.Errorf("after 6 days %+v", got)
	}
	jump(2 * day)
	if got := tidy(t, store); got != (eventstore.Tidied{Attempts: 1, Presumptions: 1}) {
		t.Errorf("after 8 days %+v", got)
	}
	jump(85 * day)
	if got := tidy(t, store); got != (eventstore.Tidied{}) {
		t.Errorf("the newest window of a budget went: %+v", got)
	}
	again := reserve(5) // the key is new again
	again.Idempotency, again.Fingerprint = "once", "g"
	do(t, l, tenant, again)
	do(t, l, tenant, settle(again.Reservation, 5))
	if got := tidy(t, store); got.Accounts < 1 || got.Attempts+got.Presumptions > 0 {
		t.Errorf("after 93 days %+v", got)
	}
	const archived = `select count(*) from account_archive where settled = 30`
	if scalar(t, pool, archived) != 1 || scalar(t, pool, `select count(*) from account where period = 'hourly' and presumed = 20`) != 1 {
		t.Error("the archive has not what was settled, or the account of a presumption went there")
	}
	verified(t, url)
	late := do(t, l, tenant, settle(presumed.Reservation, 7))
	if e, ok := late[0].Event.(domain.UsageSettledLate); !ok || e.Delta != -13 || len(e.Postings) != 2 {
		t.Errorf("late %+v", late)
	}
	adjusted := do(t, l, tenant, domain.Adjust{Reservation: settled.Reservation, Delta: -4, Reason: "invoice", Idempotency: "i", Actor: "admin"})
	if e, ok := adjusted[0].Event.(domain.UsageAdjusted); !ok || len(e.Postings) != 2 {
		t.Errorf("adjusted %+v", adjusted)
	}
	if scalar(t, pool, archived) != 0 || scalar(t, pool, `select count(*) from account where period = 'hourly' and settled = 26`) != 1 {
		t.Error("the account did not come back from the archive")
	}
	if got := tidy(t, store); got.Accounts < 1 {
		t.Errorf("it does not go there again: %+v", got)
	}
	verified(t, url)
}

func TestHousekeepingBesideLateEvidenceHarmsNothing(t *testing.T) {
	t.Parallel()
	url, jump := timeMachine(t, testenv.Database(t))
	l, store := openLedger(t, url), openStore(t, url)
	tenant := fresh(t, l, 1_000_000)
	const n = 60
	ids := make([]domain.ReservationID, n)
	for i := range ids {
		r := reserve(10)
		r.Idempotency, r.Fingerprint = fmt.Sprint(i), "f"
		ids[i] = r.Reservation
		do(t, l, tenant, r)
		do(t, l, tenant, domain.Release{Reservation: r.Reservation, Reason: domain.ReleasedNotSent})
	}
	jump(100 * day)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for range 10 {
				if _, err := store.Tidy(within(t)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, id := range ids {
		all.Go(func() {
			if _, err := l.Do(within(t), tenant, settle(id, 3)); err != nil && !errors.Is(err, domain.ErrReservationUnknown) {
				t.Errorf("late evidence: %v", err)
			}
			r := reserve(10)
			if _, err := l.Do(within(t), tenant, r); err != nil {
				t.Errorf("reserve: %v", err)
			}
			if _, err := l.Do(within(t), tenant, settle(r.Reservation, 1)); err != nil {
				t.Errorf("settle: %v", err)
			}
		})
	}
	all.Wait()
	verified(t, url)
}

func TestAgingListsWhatTimeAloneHasChanged(t *testing.T) {
	t.Parallel()
	url, jump := timeMachine(t, testenv.Database(t))
	l, store := openLedger(t, url), openStore(t, url)
	aging := func(want ...domain.TenantID) {
		t.Helper()
		got, err := store.Aging(within(t), 10)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("aging %v, %v; want %v", got, err, want)
		}
	}
	for _, tenant := range []domain.TenantID{"idle", "raised", "retired", "rolling"} {
		do(t, l, tenant, domain.CreateTenant{Name: "x", Actor: "admin"})
		do(t, l, tenant, domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: 100, Source: domain.SourceAdmin, Actor: "admin"})
		do(t, l, tenant, domain.DefineBudget{
			ID: "roll", Period: domain.Rolling, Span: domain.Span{Duration: domain.Length(time.Hour)}, Limit: 100, Source: domain.SourceAdmin, Actor: "admin",
		})
	}
	for _, tenant := range []domain.TenantID{"retired", "rolling"} {
		r := reserve(10)
		do(t, l, tenant, r)
		do(t, l, tenant, settle(r.Reservation, 10))
	}
	do(t, l, "retired", domain.RetireBudget{ID: "roll", Actor: "admin"})
	do(t, l, "raised", domain.RaiseBudget{ID: "month", By: 5, Until: time.Now().Add(30 * time.Minute), Actor: "admin"})
	aging()
	jump(31 * time.Minute)
	aging("raised")
	jump(31 * time.Minute)
	aging("raised", "rolling")
	for _, tenant := range []domain.TenantID{"idle", "raised", "rolling"} {
		before, err := store.State(within(t), tenant)
		if err != nil {
			t.Fatal(err)
		}
		do(t, l, tenant, domain.Age{})
		after, err := store.State(within(t), tenant)
		if err != nil || (after.Version > before.Version) != (tenant != "idle") {
			t.Errorf("%s went from version %d to %d, %v", tenant, before.Version, after.Version, err)
		}
	}
	aging()
	verified(t, url)
}
