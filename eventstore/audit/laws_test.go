package audit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/audit"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// story is an honest history with every event of a reservation's life:
//
//	1 tenant.created   2 budget.defined  3 window.opened  4, 5, 6, 7 usage.reserved 10, 20, 30, 5
//	8 usage.settled 15 of 10   9 released 20   10 expired 30   11 settled late 4   12 budget.changed to 40
//	13 usage.reserved 9        14 usage.settled presumed 5 of 5
func story(t *testing.T) *history {
	t.Helper()
	return newHistory(t,
		reserve(1, 10), reserve(2, 20), reserve(3, 30), reserve(4, 5),
		settle(1, 15), domain.Release{Reservation: id(2), Reason: domain.ReleasedNotSent}, domain.Expire{Reservation: id(3)}, settle(3, 4),
		domain.DefineBudget{ID: "x", Period: domain.Monthly, Limit: 40, Source: domain.SourceAdmin},
		reserve(5, 9), domain.SettlePresumed{Reservation: id(4)})
}

func TestHonestHistoryBreaksNoLaw(t *testing.T) {
	t.Parallel()
	h := story(t)
	if len(h.events) != 14 {
		t.Fatalf("%d events", len(h.events))
	}
	pool := openPool(t, testenv.Database(t))
	h.plant(pool)
	if report := verify(t, pool, audit.Options{}); found(report, audit.LawRows) != "" || report.Events != 14 || report.Tenants != 1 {
		t.Errorf("%+v", report)
	}
}

func TestLyingEventIsFoundThoughTheChainHolds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lie  func(*history)
		want string // violations, those of rows left out; "…" for what follows
	}{
		"held too little": {func(h *history) {
			edit(h, 5, func(e *domain.UsageReserved) { e.Postings[0].Held-- })
		}, "posting 5, posting 6, …"},
		"settled too little": {func(h *history) {
			edit(h, 8, func(e *domain.UsageSettled) { e.Postings[0].Settled -= 5 })
		}, "posting 8, posting 9, …"},
		"presumed too little": {func(h *history) {
			edit(h, 10, func(e *domain.ReservationExpired) { e.Postings[0].Presumed = 0 })
		}, "posting 10, posting 11, …"},
		"a credit too large": {func(h *history) {
			edit(h, 11, func(e *domain.UsageSettledLate) { e.Charged, e.Delta = 0, -30 })
		}, "posting 11, …"},
		"a limit that moves with a reservation": {func(h *history) {
			edit(h, 13, func(e *domain.UsageReserved) { e.Postings[0].Limit = 50 })
		}, "posting 13, …"},
		"a limit that changes more than the limit": {func(h *history) {
			edit(h, 12, func(e *domain.BudgetChanged) { e.Postings[0].Settled = 0 })
		}, "posting 12, …"},
		"a limit that does not reach the open window": {func(h *history) {
			edit(h, 12, func(e *domain.BudgetChanged) { e.Postings = nil })
		}, "posting 12, posting 13, …"},
		"another old limit": {func(h *history) {
			edit(h, 12, func(e *domain.BudgetChanged) { e.OldLimit = 90 })
		}, "budgets 12"},
		"an account that is not there": {func(h *history) {
			edit(h, 4, func(e *domain.UsageReserved) { e.Postings[0].Account = 9 })
		}, "window 4, posting 4, …"},
		"an account twice": {func(h *history) {
			edit(h, 4, func(e *domain.UsageReserved) { e.Postings = append(e.Postings, e.Postings[0]) })
		}, "posting 4, …"},
		"an overspend": {func(h *history) {
			h.events = h.events[:4]
			edit(h, 4, func(e *domain.UsageReserved) { e.Amount = 101; e.Postings[0].Held = 101 })
		}, "overspend 4"},
		"a forced reservation": {func(h *history) {
			h.events = h.events[:4]
			edit(h, 4, func(e *domain.UsageReserved) { e.Amount = 101; e.Postings[0].Held = 101; e.Postings[0].Forced = true })
		}, "overspend 4"},
		"an overrun that is not forced": {func(h *history) {
			h.events = h.events[:8]
			edit(h, 8, func(e *domain.UsageSettled) {
				e.Charged, e.Overrun = 60, 50
				e.Postings[0].Settled = 60
			})
		}, "overspend 8"},
		"an overrun that is forced": {func(h *history) {
			h.events = h.events[:8]
			edit(h, 8, func(e *domain.UsageSettled) {
				e.Charged, e.Overrun = 60, 50
				e.Postings[0].Settled, e.Postings[0].Forced = 60, true
			})
		}, ""},
		"an overrun that is hidden": {func(h *history) {
			edit(h, 8, func(e *domain.UsageSettled) { e.Overrun = 0 })
		}, "posting 8"},
		"an amount that was not held": {func(h *history) {
			edit(h, 8, func(e *domain.UsageSettled) { e.Reserved, e.Overrun = 12, 3 })
		}, "closing 8"},
		"another reserve time": {func(h *history) {
			edit(h, 8, func(e *domain.UsageSettled) { e.ReservedAt = noon() })
		}, "closing 8"},
		"closing twice": {func(h *history) {
			edit(h, 9, func(e *domain.ReservationReleased) {
				e.Reservation, e.ReservedAt, e.Reserved = id(1), h.events[3].Time, 10
			})
		}, "closing 9, …"},
		"late evidence for what was settled": {func(h *history) {
			edit(h, 11, func(e *domain.UsageSettledLate) { e.Reservation, e.ReservedAt = id(1), h.events[3].Time })
		}, "closing 11, …"},
		"an expiry before its time": {func(h *history) {
			edit(h, 6, func(e *domain.UsageReserved) { e.ExpiresAt = noon().Add(9 * time.Hour) })
		}, "closing 10"},
		"an expiry of an orphan before its time": {func(h *history) {
			edit(h, 6, func(e *domain.UsageReserved) { e.ExpiresAt = noon().Add(9 * time.Hour) })
			edit(h, 10, func(e *domain.ReservationExpired) { e.Reason = domain.ReasonOrphaned })
		}, ""},
		"an early expiry of an orphan that charges nothing": {func(h *history) {
			h.events = h.events[:10]
			edit(h, 6, func(e *domain.UsageReserved) { e.ExpiresAt = noon().Add(9 * time.Hour) })
			edit(h, 10, func(e *domain.ReservationExpired) {
				e.Reason, e.Charged = domain.ReasonOrphaned, 0
				e.Postings[0].Settled, e.Postings[0].Presumed = e.Postings[0].Settled-30, 0
			})
		}, "closing 10"},
		"an early expiry for a reason of its own": {func(h *history) {
			edit(h, 6, func(e *domain.UsageReserved) { e.ExpiresAt = noon().Add(9 * time.Hour) })
			edit(h, 10, func(e *domain.ReservationExpired) { e.Reason = "tired" })
		}, "closing 10"},
		"a reservation twice": {func(h *history) {
			edit(h, 5, func(e *domain.UsageReserved) { e.Reservation = id(1) })
		}, "closing 5, …"},
		"a key that pays twice": {func(h *history) {
			edit(h, 6, func(e *domain.UsageReserved) { e.Idempotency = "order-1" })
		}, "idempotency 6, closing 10, closing 11"}, // which say that it was another key
		"a charge moved to another model": {func(h *history) {
			edit(h, 8, func(e *domain.UsageSettled) { e.Model = "gpt-3.5-turbo" })
		}, "closing 8"},
		"a charge moved to another tag": {func(h *history) {
			edit(h, 8, func(e *domain.UsageSettled) { e.Tags = map[string]string{"team": "ads"} })
		}, "closing 8"},
		"a charge moved to another key": {func(h *history) {
			edit(h, 8, func(e *domain.UsageSettled) { e.KeyID = "k" })
		}, "closing 8"},
		"a charge moved to another route": {func(h *history) {
			edit(h, 8, func(e *domain.UsageSettled) { e.Route = "/v1/embeddings" })
		}, "closing 8"},
		"a charge of another price list": {func(h *history) {
			edit(h, 8, func(e *domain.UsageSettled) { e.Prices = "2020-01-01" })
		}, "closing 8"},
		"a release of another model": {func(h *history) {
			edit(h, 9, func(e *domain.ReservationReleased) { e.Model = "gpt-3.5-turbo" })
		}, "closing 9"},
		"an expiry moved to another tag": {func(h *history) {
			edit(h, 10, func(e *domain.ReservationExpired) { e.Tags = nil })
		}, "closing 10"},
		"a late charge moved to another model": {func(h *history) {
			edit(h, 11, func(e *domain.UsageSettledLate) { e.Model = "gpt-3.5-turbo" })
		}, "closing 11"},
		"tokens below zero": {func(h *history) {
			edit(h, 8, func(e *domain.UsageSettled) { e.Usage.Completion = -20 })
		}, "posting 8"},
		"tokens of a priced model that cost nothing": {func(h *history) {
			h.events = h.events[:8]
			edit(h, 8, func(e *domain.UsageSettled) { e.Charged, e.Overrun, e.Postings[0].Settled = 0, 0, 0 })
		}, "posting 8"},
		"a key that pays again after a release": {func(h *history) {
			edit(h, 13, func(e *domain.UsageReserved) { e.Idempotency = "order-2" })
		}, ""},
		"a window that does not contain its reservation": {func(h *history) {
			edit(h, 3, func(e *domain.WindowOpened) { e.End = noon().Add(time.Second) })
		}, "window 4, window 5, window 6, window 7, window 13"},
		"a window with another limit": {func(h *history) {
			edit(h, 3, func(e *domain.WindowOpened) { e.Limit = 1000 })
		}, "window 3, posting 4, …"},
		"a window of no budget": {func(h *history) {
			edit(h, 3, func(e *domain.WindowOpened) { e.Budget = "other" })
		}, "window 3, window 4, posting 4, …"},
		"a window that overlaps": {func(h *history) {
			opened := h.events[2].Event.(domain.WindowOpened)
			opened.Account, opened.Start, opened.End = 15, noon(), noon().Add(time.Hour)
			opened.Limit = 40
			h.events = append(h.events, domain.Recorded{Version: 15, Time: h.at.Add(time.Hour), Event: opened})
		}, "window 15, posting 15, seed 15"},
		"a budget that is left out": {func(h *history) {
			edit(h, 13, func(e *domain.UsageReserved) { e.Postings = nil })
		}, "budgets 13, …"},
		"times that fall": {func(h *history) {
			h.events[7].Time = h.events[6].Time
		}, "time 8"},
		"a gap": {func(h *history) {
			h.events[13].Version = 15
		}, "dense 13, dense 15"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := story(t)
			c.lie(h)
			pool := openPool(t, testenv.Database(t))
			h.plant(pool)
			report := verify(t, pool, audit.Options{})
			got := found(report, audit.LawRows)
			want, more := strings.CutSuffix(c.want, "…")
			if got != c.want && (!more || !strings.HasPrefix(got+", ", want)) {
				t.Errorf("found %q, want %q", got, c.want)
				for _, v := range report.Violations {
					t.Log(v)
				}
			}
		})
	}
}

func TestUnreadableEventIsAViolationAndTheRestIsChecked(t *testing.T) {
	t.Parallel()
	h := story(t)
	pool := openPool(t, testenv.Database(t))
	h.plant(pool)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`set local session_replication_role = replica`,
		`update event set type = 'usage.imagined' where version = 9`,
		`update event set body = '{"name"' where version = 1`,
		`update event set ts = 'infinity' where version = 14`,
	} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := found(verify(t, pool, audit.Options{}), audit.LawRows, audit.LawPosting, audit.LawSums)
	if !strings.HasPrefix(got, "chain 1, chain 9, ") || !strings.Contains(got, "time 14") {
		t.Error(got)
	}
}
