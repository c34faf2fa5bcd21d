package audit_test

import (
	"slices"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/audit"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// write does commands, with execute in the place of domain.Execute if it is not nil.
func write(t *testing.T, url string, execute func(domain.State, domain.Command, time.Time) (domain.State, []domain.Recorded, error), commands ...domain.Command) {
	t.Helper()
	journal, err := eventstore.OpenJournal(t.Context(), url, wall)
	if err != nil {
		t.Fatal(err)
	}
	l := lanes.New(journal, lanes.Config{Now: wall, Execute: execute})
	l.Start(t.Context())
	for _, c := range commands {
		if _, err := l.Do(t.Context(), "acme", c); err != nil {
			t.Fatalf("%T: %v", c, err)
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// month is a budget of the tenant.
func month() domain.DefineBudget {
	return domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: 1000, Source: domain.SourceAdmin, Actor: "admin"}
}

// upgrade is what migration 00007 does to a stream that is there.
const upgrade = `update tenant_head set inherited = version`

func TestReleaseOfEarlierBuildNeedsNoRow(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	pool := openPool(t, url)
	create, release := domain.CreateTenant{Name: "a", Actor: "admin"}, domain.Release{Reservation: id(1), Reason: domain.ReleasedNotSent}
	write(t, url, nil, create, month(), reserve(1, 10), release)
	if report := verify(t, pool, audit.Options{}); report.Total != 0 {
		t.Fatal(report)
	}
	exec(t, pool, `create temporary table kept as select * from presumption; delete from presumption`)
	if got := found(verify(t, pool, audit.Options{})); got != "rows 5" {
		t.Errorf("a release of this build: found %q", got)
	}
	exec(t, pool, upgrade)
	if got := found(verify(t, pool, audit.Options{})); got != "" {
		t.Errorf("a release of an earlier build: found %q", got)
	}
	exec(t, pool, `update tenant_head set inherited = version - 1`)
	if got := found(verify(t, pool, audit.Options{})); got != "rows 5" {
		t.Errorf("the first release of this build: found %q", got)
	}
}

func TestRowOfReleaseOfEarlierBuildIsRightWhereItIs(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	pool := openPool(t, url)
	write(t, url, nil, domain.CreateTenant{Name: "a", Actor: "admin"}, month(), reserve(1, 10),
		domain.Release{Reservation: id(1), Reason: domain.ReleasedNotSent})
	exec(t, pool, upgrade)
	for _, sql := range []string{
		`update presumption set amount = 11`, `update presumption set amount = 10, charged = 1`, `update presumption set charged = 0, accounts = '{}'`,
		`update presumption set reservation_id = '00000000-0000-4000-8000-000000000009'`,
	} {
		exec(t, pool, sql)
		if got := found(verify(t, pool, audit.Options{})); got != "rows 5" {
			t.Errorf("%s: found %q", sql, got)
		}
	}
}

func TestPresumedChargeOfEarlierBuildNeedsItsRow(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	pool := openPool(t, url)
	write(t, url, nil, domain.CreateTenant{Name: "a", Actor: "admin"}, month(), reserve(1, 10),
		domain.SettlePresumed{Reservation: id(1), Reason: "cut"})
	exec(t, pool, upgrade)
	exec(t, pool, `delete from presumption`)
	if got := found(verify(t, pool, audit.Options{})); got != "rows 5" {
		t.Errorf("found %q", got)
	}
}

// unasked decides as an earlier build did: a new budget asks for no past.
func unasked(s domain.State, c domain.Command, now time.Time) (domain.State, []domain.Recorded, error) {
	if _, defines := c.(domain.DefineBudget); defines {
		s.Used = false
	}
	return domain.Execute(s, c, now)
}

func TestWindowOfNewBudgetOfEarlierBuildOpenedEmpty(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	pool := openPool(t, url)
	write(t, url, unasked, domain.CreateTenant{Name: "a", Actor: "admin"}, reserve(1, 10), month(), reserve(2, 20))
	if got := found(verify(t, pool, audit.Options{})); got != "posting 4, seed 4" {
		t.Errorf("a window of this build: found %q", got)
	}
	exec(t, pool, upgrade)
	if got := found(verify(t, pool, audit.Options{})); got != "" {
		t.Errorf("a window of an earlier build: found %q", got)
	}
	write(t, url, nil, settle(1, 7), settle(2, 15), reserve(3, 30))
	if got := found(verify(t, pool, audit.Options{})); got != "" {
		t.Errorf("what it held is settled by this build: found %q", got)
	}
	write(t, url, unasked, domain.DefineBudget{
		ID: "total", Period: domain.Total, Limit: 1000, Source: domain.SourceAdmin, Actor: "admin",
	}, reserve(4, 1))
	if got := found(verify(t, pool, audit.Options{})); got != "posting 10, seed 10" {
		t.Errorf("a window of this build beside one of an earlier build: found %q", got)
	}
}

func TestWindowThatOpensEmptyCostNothingBefore(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	pool := openPool(t, url)
	write(t, url, unasked, domain.CreateTenant{Name: "a", Actor: "admin"}, reserve(1, 10), settle(1, 7), month(), reserve(2, 20))
	if got := found(verify(t, pool, audit.Options{})); got != "seed 5" {
		t.Errorf("a window of this build: found %q", got)
	}
	exec(t, pool, upgrade)
	if got := found(verify(t, pool, audit.Options{})); got != "" {
		t.Errorf("a window of an earlier build: found %q", got)
	}
}

func TestWindowThatSaysWhatWasBeforeIsCheckedInWhatIsInheritedToo(t *testing.T) {
	t.Parallel()
	h := newHistory(t, reserve(1, 10), domain.DefineBudget{ID: "total", Period: domain.Total, Limit: 100, Source: domain.SourceAdmin})
	n := slices.IndexFunc(h.events, func(r domain.Recorded) bool {
		opened, ok := r.Event.(domain.WindowOpened)
		return ok && opened.Budget == "total"
	})
	edit(h, int64(n+1), func(e *domain.WindowOpened) { e.Held = 9 })
	pool := openPool(t, testenv.Database(t))
	h.plant(pool)
	exec(t, pool, upgrade)
	if got := found(verify(t, pool, audit.Options{}), audit.LawRows, audit.LawSums); got != "posting 6" {
		t.Errorf("found %q", got)
	}
}

// evidence is a history in which a release turns out to have cost 4, after a budget came: of the month that a
// release is in, and narrower than the tenant.
func evidence(t *testing.T) *history {
	t.Helper()
	return newHistory(t, reserve(1, 10), domain.Release{Reservation: id(1), Reason: domain.ReleasedNotSent}, reserve(2, 5), settle(2, 5),
		domain.DefineBudget{ID: "gpt", Period: domain.Monthly, Scope: domain.Scope{Model: "gpt-4"}, Limit: 100, Source: domain.SourceAdmin}, settle(1, 4))
}

func TestLateEvidenceOfReleaseCountsInBudgetsThatCameLater(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lie  func(*history)
		want string
	}{
		"and in its own": {func(*history) {}, ""},
		"not there alone": {func(h *history) {
			edit(h, 10, func(e *domain.UsageSettledLate) { e.Postings = e.Postings[:1] })
		}, "closing 10"},
		"but not instead": {func(h *history) {
			edit(h, 10, func(e *domain.UsageSettledLate) { e.Postings = e.Postings[1:] })
		}, "closing 10"},
		"but not where its model does not": {func(h *history) {
			edit(h, 8, func(e *domain.BudgetDefined) { e.Scope.Model = "gpt-5" })
			edit(h, 9, func(e *domain.WindowOpened) { e.Settled = 0 })
			edit(h, 10, func(e *domain.UsageSettledLate) { e.Postings[1].Settled = 4 })
		}, "closing 10"},
		"but not where it was charged": {func(h *history) {
			h.events[4].Event = domain.ReservationExpired{
				Request: reserve(1, 10).Request, ReservedAt: h.events[3].Time, Reserved: 10, Postings: []domain.Posting{{Account: 3, Budget: "month", Limit: 100}},
				Reason: domain.ReasonOrphaned,
			}
		}, "closing 5, seed 9, closing 10"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := evidence(t)
			c.lie(h)
			pool := openPool(t, testenv.Database(t))
			h.plant(pool)
			report := verify(t, pool, audit.Options{})
			if got := found(report, audit.LawRows, audit.LawSums); got != c.want {
				t.Errorf("found %q, want %q: %v", got, c.want, report.Violations)
			}
		})
	}
}

func TestBudgetOfEarlierBuildMayOpenItsFirstWindowWithThisOne(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	pool := openPool(t, url)
	write(t, url, unasked, domain.CreateTenant{Name: "a", Actor: "admin"}, reserve(1, 10), settle(1, 7), reserve(3, 5), month())
	exec(t, pool, upgrade)
	write(t, url, nil, reserve(2, 20))
	if got := found(verify(t, pool, audit.Options{})); got != "" {
		t.Errorf("found %q", got)
	}
}

func TestAnAdjustmentIsPostedWhereverItCounts(t *testing.T) {
	t.Parallel()
	of := domain.DefineBudget{ID: "gpt", Period: domain.Monthly, Scope: domain.Scope{Model: "gpt-4"}, Limit: 100, Source: domain.SourceAdmin}
	for name, c := range map[string]struct {
		adjust domain.Adjust
		want   string
	}{
		"of a reservation":      {domain.Adjust{Reservation: id(1), Delta: 2, Reason: "invoice", Idempotency: "i"}, "budgets 8"},
		"of the tenant's month": {domain.Adjust{Delta: 2, Reason: "fee", Idempotency: "i"}, "budgets 8"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHistory(t, reserve(1, 10), domain.SettlePresumed{Reservation: id(1), Reason: "cut"}, of)
			h.then(c.adjust)
			if got := found(verifyHistory(t, h), audit.LawRows, audit.LawSums); got != "" {
				t.Errorf("as it is: found %q", got)
			}
			edit(h, 8, func(e *domain.UsageAdjusted) { e.Postings = e.Postings[1:] })
			if got := found(verifyHistory(t, h), audit.LawRows, audit.LawSums); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

// verifyHistory is what is found in a history that is put into a database of its own.
func verifyHistory(t *testing.T, h *history) audit.Report {
	t.Helper()
	pool := openPool(t, testenv.Database(t))
	h.plant(pool)
	return verify(t, pool, audit.Options{})
}
