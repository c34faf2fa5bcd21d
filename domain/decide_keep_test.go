package domain_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

// oneBudget is a tenant with a budget that has all that a change could lose: shares to warn at, the day its
// months begin on, and a raise.
func oneBudget(t *testing.T, now time.Time) State {
	t.Helper()
	s := NewState("acme")
	day := now.Add(24 * time.Hour)
	for _, c := range []Command{
		CreateTenant{Name: "ACME", Actor: "test"},
		DefineBudget{
			ID: "old", Period: Monthly, Span: Span{AnchorDay: 15}, Limit: usd("10"),
			AlertsAt: []Threshold{500_000}, Source: SourceAdmin, Actor: "test",
		},
		RaiseBudget{ID: "old", By: usd("2"), Until: day, Actor: "test"},
	} {
		s = executed(t, s, c, now)
	}
	return s
}

func executed(t *testing.T, s State, c Command, now time.Time) State {
	t.Helper()
	next, _, err := Execute(s.Clone(), c, now)
	if err != nil {
		t.Fatalf("%T: %v", c, err)
	}
	return next
}

func TestAChangeOfABudgetKeepsWhatItDoesNotName(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	limit, none, third := usd("20"), []Threshold(nil), int64(3)
	every := Keep{Limit: true, AlertsAt: true, WeekStart: true, AnchorDay: true}
	keepLimit := every
	keepLimit.AlertsAt = false

	for name, c := range map[string]struct {
		command Command
		limit   Amount
		alerts  []Threshold
		anchor  int64
		raises  int
	}{
		"nothing":            {ChangeBudget{ID: "old"}, usd("12"), []Threshold{500_000}, 15, 1},
		"the limit":          {ChangeBudget{ID: "old", Limit: &limit}, usd("22"), []Threshold{500_000}, 15, 1},
		"the alerts":         {ChangeBudget{ID: "old", AlertsAt: &none}, usd("12"), nil, 15, 1},
		"the day":            {ChangeBudget{ID: "old", NewID: "new", AnchorDay: &third}, usd("12"), []Threshold{500_000}, 3, 1},
		"the raises":         {EndRaises{ID: "old"}, usd("10"), []Threshold{500_000}, 15, 0},
		"nothing, by period": {DefineBudget{Period: Monthly, Source: SourceAdmin, Keep: every}, usd("12"), []Threshold{500_000}, 15, 1},
		"alerts, by period": {
			DefineBudget{Period: Monthly, Source: SourceAdmin, AlertsAt: []Threshold{900_000}, Keep: keepLimit},
			usd("12"),
			[]Threshold{900_000},
			15, 1,
		},
	} {
		s := executed(t, oneBudget(t, now), c.command, now.Add(time.Second))
		if len(s.Budgets) != 1 {
			t.Fatalf("%s: %d budgets", name, len(s.Budgets))
		}
		b := s.Budgets[0]
		same := b.Limit == c.limit && slices.Equal(b.AlertsAt, c.alerts) && b.Span.AnchorDay == c.anchor
		if !same || len(b.Raises) != c.raises {
			t.Errorf("%s: became %+v", name, b)
		}
	}
}

func TestRaisesThatMovedToAnotherBudgetEndWhenTheyWouldHave(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	third := int64(3)
	s := executed(t, oneBudget(t, now), ChangeBudget{ID: "old", NewID: "new", AnchorDay: &third}, now.Add(time.Second))
	s = executed(t, s, Age{}, now.Add(25*time.Hour))
	if b := s.Budgets[0]; b.ID != "new" || b.Limit != usd("10") || len(b.Raises) != 0 {
		t.Errorf("after the end of the raise: %+v", b)
	}
}

func TestEndingRaisesTwiceOrOfNothingRecordsNothing(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	s := executed(t, oneBudget(t, now), EndRaises{ID: "old"}, now.Add(time.Second))
	again := executed(t, s, EndRaises{ID: "old"}, now.Add(2*time.Second))
	if again.Version != s.Version {
		t.Errorf("version %d became %d", s.Version, again.Version)
	}
}

func TestANewBudgetNeedsALimit(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	c := DefineBudget{ID: "day", Period: Daily, Source: SourceAdmin, Keep: Keep{Limit: true}}
	if _, err := Decide(oneBudget(t, now), c, now.Add(time.Second)); !errors.Is(err, ErrInvalid) {
		t.Errorf("a budget without a limit: %v", err)
	}
}
