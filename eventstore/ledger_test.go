package eventstore_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// agree fails the test unless the ledger's cached state, the tables and the events are one.
func agree(t *testing.T, l *eventstore.Ledger, s *eventstore.Store, tenant domain.TenantID) {
	t.Helper()
	want := refold(t, s, tenant)
	cold, err := s.State(within(t), tenant)
	if err != nil {
		t.Fatal(err)
	}
	sameState(t, "the tables and the events", cold, want)
	if warm, ok := l.Warm(tenant); ok {
		sameState(t, "the cached state and the events", warm, want)
	} else {
		t.Error("the state is not cached")
	}
}

func TestEveryWayAReservationCanGo(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l, s := openLedger(t, url), openStore(t, url)
	tenant := fresh(t, l, 1000)
	overrun, released, presumed, expired, free := reserve(10), reserve(20), reserve(30), reserve(40), reserve(50)
	expired.TTL, free.TTL = time.Microsecond, time.Microsecond
	for _, r := range []domain.Reserve{overrun, released, presumed, expired, free} {
		if n := len(do(t, l, tenant, r)); n < 1 || n > 2 {
			t.Fatalf("%d events", n)
		}
		agree(t, l, s, tenant)
	}
	for _, c := range []domain.Command{
		settle(overrun.Reservation, 15),
		domain.Release{Reservation: released.Reservation, Reason: domain.ReleasedNotSent},
		domain.SettlePresumed{Reservation: presumed.Reservation, Reason: "broken"},
		domain.Expire{Reservation: expired.Reservation},
		domain.Expire{Reservation: free.Reservation, Free: true},
		settle(presumed.Reservation, 7),
		settle(expired.Reservation, 4),
		domain.SettlePresumed{Reservation: free.Reservation, Reason: "no usage"}, // a presumption again, now with a charge
		settle(free.Reservation, 60),
	} {
		if records := do(t, l, tenant, c); len(records) != 1 {
			t.Errorf("%T: %d events", c, len(records))
		}
		agree(t, l, s, tenant)
		verified(t, url)
	}
	state, err := s.State(within(t), tenant)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range state.Balances(state.LastTime) {
		if b.Held != 0 || b.Settled != 15+7+4+60 || b.Presumed != 0 {
			t.Errorf("%s: held %d, settled %d, presumed %d", b.Budget.ID, b.Held, b.Settled, b.Presumed)
		}
	}
	for _, c := range []domain.Command{
		settle(overrun.Reservation, 15), settle(newID(), 1), settle("no-uuid", 1),
		domain.Release{Reservation: "no-uuid", Reason: domain.ReleasedNotSent},
		domain.Expire{Reservation: "no-uuid"},
		settle(free.Reservation, 60),
	} {
		if _, err := l.Do(within(t), tenant, c); !errors.Is(err, domain.ErrReservationUnknown) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestPresumptionsThatStayAreKeptOnce(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l, s := openLedger(t, url), openStore(t, url)
	tenant := fresh(t, l, 1000)
	r := reserve(30)
	r.TTL = time.Microsecond
	do(t, l, tenant, r)
	do(t, l, tenant, domain.Expire{Reservation: r.Reservation, Free: true})
	for _, charged := range []domain.Amount{5, 9} {
		late := settle(r.Reservation, charged)
		late.Basis = domain.BasisPresumed
		do(t, l, tenant, late)
		agree(t, l, s, tenant)
		verified(t, url)
	}
	// Several corrections in one turn: the last one counts.
	first, second, last := settle(r.Reservation, 11), settle(r.Reservation, 12), settle(r.Reservation, 13)
	first.Basis, second.Basis = domain.BasisPresumed, domain.BasisPresumed
	together(t, l, url, tenant, first, second, last)
	agree(t, l, s, tenant)
	verified(t, url)
	if n := scalar(t, openPool(t, url), `select count(*) from presumption`); n != 0 {
		t.Errorf("%d presumptions are left", n)
	}
}

// together makes commands wait for one another, so that one turn decides them in their order.
func together(t *testing.T, l *eventstore.Ledger, url string, tenant domain.TenantID, commands ...domain.Command) []error {
	t.Helper()
	unlock := lockHead(t, url, tenant)
	var wg sync.WaitGroup
	errs := make([]error, len(commands))
	for i, c := range commands {
		before := l.Waiting()
		wg.Go(func() { _, errs[i] = l.Do(within(t), tenant, c) })
		eventually(t, "the command waits", func() bool { return l.Waiting() > before })
	}
	unlock()
	wg.Wait()
	return errs
}

// lockHead holds the lock of a tenant's head until the function it returns is called.
func lockHead(t *testing.T, url string, tenant domain.TenantID) (unlock func()) {
	t.Helper()
	tx, err := openPool(t, url).Begin(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(within(t), `select from tenant_head where tenant_id = $1 for update`, string(tenant)); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() { _ = tx.Rollback(within(t)) })
}

func TestDefinitionsAreTheSameColdAndWarm(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l, s := openLedger(t, url), openStore(t, url)
	tenant := fresh(t, l, 1000)
	berlin, err := domain.ParseZone("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	name, perMin, expires := "Söhne <&>", int64(50), wall().Add(time.Hour)
	kept := reserve(1)
	for _, c := range []domain.Command{
		domain.ChangeTenant{Name: &name, Zone: &berlin, Actor: "admin"},
		domain.SetRateLimit{PerMin: &perMin, Actor: "admin"},
		domain.IssueKey{ID: "k1", Name: "ci", Prefix: "bgk_1", Hash: "h1:" + string(tenant), Actor: "admin"},
		domain.IssueKey{ID: "k2", Prefix: "bgk_2", Hash: "h2:" + string(tenant), ExpiresAt: &expires, Models: []string{"gpt-4"}, Tags: map[string]string{"a": "b"}},
		domain.RevokeKey{ID: "k1"},
		domain.DefineBudget{ID: "day", Period: domain.Daily, Limit: 500, AlertsAt: []domain.Threshold{800_000}, Source: domain.SourceEnvironment},
		domain.DefineBudget{ID: "hour", Period: domain.Hourly, Limit: 500, Source: domain.SourceDemo},
		kept,
		domain.DefineBudget{ID: "other", Period: domain.Daily, Limit: 400, Source: domain.SourceAdmin},
		domain.RetireBudget{ID: "hour"},
		reserve(2),
		domain.SuspendTenant{Reason: "unpaid"},
		domain.SetRateLimit{},
		domain.ResumeTenant{},
		domain.Release{Reservation: kept.Reservation, Reason: domain.ReleasedNotSent},
	} {
		if len(do(t, l, tenant, c)) == 0 {
			t.Errorf("%T recorded nothing", c)
		}
		agree(t, l, s, tenant)
	}
	verified(t, url)
	if got, err := s.Tenant(within(t), tenant); err != nil || got.Name != name || got.Zone.String() != "Europe/Berlin" || !got.EverKeyed || got.Suspended {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestBudgetIsSharedByAllWhoReserveAtOnce(t *testing.T) {
	t.Parallel()
	for _, ledgers := range []int{1, 3} {
		t.Run(fmt.Sprint(ledgers, " ledgers"), func(t *testing.T) {
			t.Parallel()
			url := testenv.Database(t)
			var all []*eventstore.Ledger
			for range ledgers {
				all = append(all, openLedger(t, url))
			}
			tenant := fresh(t, all[0], 1000)
			var y tally
			var wg sync.WaitGroup
			for i := range 500 {
				wg.Go(func() {
					_, err := all[i%ledgers].Do(within(t), tenant, reserve(10))
					y.count(err)
				})
			}
			wg.Wait()
			if y.ok != 100 || y.refused != 400 || len(y.other)+y.unwilling > 0 {
				t.Errorf("%d reserved, %d refused, %d unavailable, %v", y.ok, y.refused, y.unwilling, y.other)
			}
			if n := verified(t, url).Events; n != 2+1+100 {
				t.Errorf("%d events", n)
			}
		})
	}
}

func TestUnknownTenantIsRefusedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := openLedger(t, url)
	for range 2 {
		if _, err := l.Do(within(t), "nobody", reserve(1)); !errors.Is(err, domain.ErrTenantUnknown) {
			t.Error(err)
		}
	}
	if n := scalar(t, openPool(t, url), `select count(*) from tenant_head`); n != 0 {
		t.Errorf("%d heads", n)
	}
}

func TestReservationIDsAreCanonicalUUIDs(t *testing.T) {
	t.Parallel()
	l := openLedger(t, testenv.Database(t))
	tenant := fresh(t, l, 1000)
	for _, id := range []domain.ReservationID{
		"", "x", "0199C9A4-7A1E-7CC3-98C4-DC0C0C07398F", "0199c9a47a1e7cc398c4dc0c0c07398f",
		"{0199c9a4-7a1e-7cc3-98c4-dc0c0c07398f}", "urn:uuid:0199c9a4-7a1e-7cc3-98c4-dc0c0c07398f",
	} {
		r := reserve(1)
		r.Reservation = id
		if _, err := l.Do(within(t), tenant, r); !errors.Is(err, domain.ErrInvalid) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestOverdueReservationsAreFoundAndExpire(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l, s := openLedger(t, url), openStore(t, url)
	tenant := fresh(t, l, 1000)
	r := reserve(10)
	r.TTL = time.Microsecond
	do(t, l, tenant, r)
	do(t, l, tenant, reserve(20))
	overdue, err := s.Overdue(within(t), 10)
	if err != nil || len(overdue) != 1 || overdue[0].Reservation != r.Reservation || overdue[0].Tenant != tenant {
		t.Fatalf("%+v, %v", overdue, err)
	}
	do(t, l, tenant, domain.Expire{Reservation: overdue[0].Reservation})
	verified(t, url)
}
