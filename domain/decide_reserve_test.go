package domain_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

const openedMonth = "#3 window.opened monthly 2026-11-01T00:00..2026-12-01T00:00 limit 10"

func TestReserve(t *testing.T) {
	t.Parallel()
	month := budget(Monthly, "10")
	play(t, []scene{
		{
			"opens the window and holds the amount",
			[]any{month},
			reserve("r", "4"),
			[]string{openedMonth, "#4 usage.reserved r 4 [#3 0+4/10]"},
			nil,
		},
		{
			"fits exactly the limit",
			[]any{month},
			reserve("r", "10"),
			[]string{openedMonth, "#4 usage.reserved r 10 [#3 0+10/10]"},
			nil,
		},
		{
			"is refused one nano-dollar above the limit",
			[]any{month},
			reserve("r", "10.000000001"), nil, ErrBudgetExceeded,
		},
		{
			"reuses the window that is open",
			[]any{month, reserve("r", "4")},
			reserve("q", "6"),
			[]string{"#5 usage.reserved q 6 [#3 0+10/10]"},
			nil,
		},
		{
			"counts what is held and what is spent",
			[]any{month, reserve("r", "4"), settle("r", "3"), reserve("q", "5")},
			reserve("p", "2.000000001"), nil, ErrBudgetExceeded,
		},
		{
			"of nothing fits a full budget",
			[]any{month, reserve("r", "10")},
			reserve("q", "0"),
			[]string{"#5 usage.reserved q 0 [#3 0+10/10]"},
			nil,
		},
		{
			"posts to all budgets, in the order of their ids",
			[]any{budget(Monthly, "10"), budget(Daily, "5")},
			reserve("r", "5"),
			[]string{
				"#4 window.opened daily 2026-11-22T00:00..2026-11-23T00:00 limit 5", "#5 window.opened monthly 2026-11-01T00:00..2026-12-01T00:00 limit 10",
				"#6 usage.reserved r 5 [#4 0+5/5] [#5 0+5/10]",
			},
			nil,
		},
		{
			"holds on no budget if one of them has no room",
			[]any{budget(Monthly, "10"), budget(Daily, "5")},
			reserve("r", "6"), nil, ErrBudgetExceeded,
		},
		{
			"needs no budget", nil,
			reserve("r", "999"),
			[]string{"#2 usage.reserved r 999"},
			nil,
		},
		{
			"opens the next window when the month has ended",
			[]any{month, reserve("r", "10"), "2026-12-01"},
			reserve("q", "10"),
			[]string{"#5 window.opened monthly 2026-12-01T00:00..2027-01-01T00:00 limit 10", "#6 usage.reserved q 10 [#5 0+10/10]"},
			nil,
		},
		{
			"within a millisecond of a window's end counts in the next one",
			[]any{month, "2026-11-30T23:59:59.999Z"},
			reserve("r", "4"),
			[]string{"#3 window.opened monthly 2026-12-01T00:00..2027-01-01T00:00 limit 10", "#4 usage.reserved r 4 [#3 0+4/10]"},
			nil,
		},
		{
			"more than a millisecond before a window's end counts in it",
			[]any{month, "2026-11-30T23:59:59.998999Z"},
			reserve("r", "4"),
			[]string{openedMonth, "#4 usage.reserved r 4 [#3 0+4/10]"},
			nil,
		},
		{"with the id of an open reservation is refused", []any{reserve("r", "1")}, reserve("r", "1"), nil, ErrReservationExists},
		{"with the id of a presumed reservation is refused", []any{reserve("r", "1"), presume("r")}, reserve("r", "1"), nil, ErrReservationExists},
		{"without an id is refused", nil, reserve("", "1"), nil, ErrInvalid},
		{"of less than nothing is refused", nil, reserve("r", "-0.000000001"), nil, ErrInvalid},
		{"above the largest amount is refused", nil, reserve("r", "1000000000.000000001"), nil, ErrInvalid},
		{"without a life is refused", nil, Reserve{Request: Request{Reservation: "r"}}, nil, ErrInvalid},
		{"for more than a day is refused", nil, Reserve{Request: Request{Reservation: "r"}, TTL: 24*time.Hour + 1}, nil, ErrInvalid},
		{"with a model that is no text is refused", nil, Reserve{Request: Request{Reservation: "r", Model: "\xff"}, TTL: time.Hour}, nil, ErrInvalid},
		{"with a tag that is no text is refused", nil, Reserve{Request: Request{Reservation: "r", Tags: map[string]string{"a": "\xff"}}, TTL: time.Hour}, nil, ErrInvalid},
		{"of a suspended tenant is refused", []any{SuspendTenant{Reason: "unpaid", Actor: "admin"}}, reserve("r", "1"), nil, ErrTenantSuspended},
		{
			"of a resumed tenant is accepted",
			[]any{SuspendTenant{Actor: "admin"}, ResumeTenant{Actor: "admin"}},
			reserve("r", "1"),
			[]string{"#4 usage.reserved r 1"},
			nil,
		},
	})
}

func TestReserveWithAKey(t *testing.T) {
	t.Parallel()
	expires := at("2026-11-22T11:00")
	short := issue("k")
	short.ExpiresAt = &expires
	play(t, []scene{
		{"that was issued is accepted", []any{issue("k")}, reserveWithKey(), []string{"#3 usage.reserved r 1"}, nil},
		{"nobody issued is refused", nil, reserveWithKey(), nil, ErrKeyUnusable},
		{"that was revoked is refused", []any{issue("k"), RevokeKey{ID: "k", Actor: "admin"}}, reserveWithKey(), nil, ErrKeyUnusable},
		{"is accepted until it expires", []any{short, "2026-11-22T10:59:59.999999Z"}, reserveWithKey(), []string{"#3 usage.reserved r 1"}, nil},
		{"is refused from its expiry on", []any{short, "2026-11-22T11:00"}, reserveWithKey(), nil, ErrKeyUnusable},
	})
}

func TestBudgetChangesWhileItIsInUse(t *testing.T) {
	t.Parallel()
	month, cut := budget(Monthly, "10"), budget(Monthly, "3")
	play(t, []scene{
		{
			"raised: there is room at once",
			[]any{month, reserve("r", "10"), budget(Monthly, "12")},
			reserve("q", "2"),
			[]string{"#6 usage.reserved q 2 [#3 0+12/12]"},
			nil,
		},
		{
			"cut above use: posts the new limit",
			[]any{month, reserve("r", "2")},
			cut,
			[]string{"#5 budget.changed monthly 10→3 admin [#3 0+2/3]"},
			nil,
		},
		{
			"cut below use: is forced",
			[]any{month, reserve("r", "2"), settle("r", "2"), reserve("q", "4")},
			cut,
			[]string{"#7 budget.changed monthly 10→3 admin [#3 2+4/3!]"},
			nil,
		},
		{"cut below use: refuses the least amount", []any{month, reserve("r", "4"), cut}, reserve("q", "0.000000001"), nil, ErrBudgetExceeded},
		{
			"cut below use: has room again once use is below",
			[]any{month, reserve("r", "4"), cut, settle("r", "1")},
			reserve("q", "2"),
			[]string{"#7 usage.reserved q 2 [#3 1+2/3]"},
			nil,
		},
		{
			"cut below use: what is open still settles, unforced",
			[]any{month, reserve("r", "4"), cut},
			settle("r", "4"),
			[]string{"#6 usage.settled r 4→4 provider [#3 4+0/3]"},
			nil,
		},
		{
			"before its first window: has nothing to post",
			[]any{month},
			cut,
			[]string{"#3 budget.changed monthly 10→3 admin"},
			nil,
		},
		{
			"after its window has ended: leaves the old window alone",
			[]any{month, reserve("r", "4"), "2026-12-01"},
			cut,
			[]string{"#5 budget.changed monthly 10→3 admin"},
			nil,
		},
		{
			"retired: no longer limits",
			[]any{month, RetireBudget{ID: "monthly", Actor: "admin"}},
			reserve("r", "999"),
			[]string{"#4 usage.reserved r 999"},
			nil,
		},
		{
			"retired: what is open settles where it was held",
			[]any{month, reserve("r", "4"), RetireBudget{ID: "monthly", Actor: "admin"}},
			settle("r", "1"),
			[]string{"#6 usage.settled r 4→1 provider [#3 1+0/10]"},
			nil,
		},
	})
}

func TestBudgetExceededNamesTheTightestBudget(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	for _, step := range []any{budget(Daily, "5"), budget(Monthly, "6"), budget(Total, "100"), reserve("r", "3"), settle("r", "2"), reserve("q", "1"), budget(Monthly, "4")} {
		if _, err := st.do(step); err != nil {
			t.Fatal(err)
		}
	}
	_, err := st.do(reserve("p", "50"))
	var exceeded *BudgetExceededError
	if !errors.As(err, &exceeded) || !errors.Is(err, ErrBudgetExceeded) {
		t.Fatalf("got %v", err)
	}
	want := BudgetExceededError{
		Budget: "monthly", Period: Monthly, Window: Window{Start: at("2026-11-01"), End: at("2026-12-01")},
		Limit: usd("4"), Settled: usd("2"), Held: usd("1"), Requested: usd("50"), At: exceeded.At,
	}
	if *exceeded != want || !strings.Contains(err.Error(), "monthly budget of 4 USD has 2 spent and 1 reserved; 50 requested") {
		t.Errorf("got %+v, %v; want %+v", *exceeded, err, want)
	}
}

func TestAZoneChangedMidWindowKeepsItsBoundsAndTheNextOneBeginsAtItsEnd(t *testing.T) {
	t.Parallel()
	day := budget(Daily, "10")
	play(t, []scene{
		{
			"the open window goes on",
			[]any{day, reserve("r", "4"), moveTo("America/Los_Angeles"), "2026-11-22T23:00"},
			reserve("q", "1"),
			[]string{"#6 usage.reserved q 1 [#3 0+5/10]"},
			nil,
		},
		{
			"the next one ends by the new zone, and does not reach back",
			[]any{day, reserve("r", "4"), moveTo("America/Los_Angeles"), "2026-11-23T01:00"},
			reserve("q", "1"),
			[]string{"#6 window.opened daily 2026-11-23T00:00..2026-11-23T08:00 limit 10", "#7 usage.reserved q 1 [#6 0+1/10]"},
			nil,
		},
		{
			"the one after is whole",
			[]any{day, reserve("r", "4"), moveTo("America/Los_Angeles"), "2026-11-23T01:00", reserve("q", "1"), "2026-11-23T09:00"},
			reserve("p", "1"),
			[]string{"#8 window.opened daily 2026-11-23T08:00..2026-11-24T08:00 limit 10", "#9 usage.reserved p 1 [#8 0+1/10]"},
			nil,
		},
		{
			"a window not opened yet follows the new zone",
			[]any{day, moveTo("America/Los_Angeles")},
			reserve("r", "1"),
			[]string{"#4 window.opened daily 2026-11-22T08:00..2026-11-23T08:00 limit 10", "#5 usage.reserved r 1 [#4 0+1/10]"},
			nil,
		},
	})
}
