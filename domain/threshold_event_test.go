package domain_test

import (
	"testing"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

func TestAThresholdSaysAllThatAnAlertNeeds(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	hour := Window{Start: now, End: now.Add(time.Hour)}
	scope := Scope{Tag: "team"}
	s := NewState("acme")
	for _, c := range []Command{
		CreateTenant{Name: "ACME", Actor: "test"},
		DefineBudget{
			ID: "hour", Period: Hourly, Scope: scope, Limit: usd("10"),
			AlertsAt: []Threshold{500_000, 900_000}, Source: SourceAdmin, Actor: "test",
		},
		reserveTagged("one", "6"),
		reserveTagged("two", "3"),
	} {
		s = executed(t, s, c, now)
	}

	// One reservation settles at more than half, then a cut of the limit makes it more than all.
	settled := crossed(t, &s, Settle{Reservation: "one", Charged: usd("6"), Basis: BasisProvider}, now)
	want := BudgetThresholdCrossed{
		Budget: "hour", Account: settled.Account, Threshold: 500_000, Limit: usd("10"), Use: usd("6"),
		TenantName: "ACME", Period: Hourly, Scope: scope, Start: hour.Start, End: hour.End,
		Held: usd("3"), Reservation: "one",
	}
	if settled != want {
		t.Errorf("crossed by a charge\n%+v, want\n%+v", settled, want)
	}
	limit := usd("5")
	want.Threshold, want.Limit, want.Reservation = 900_000, limit, ""
	if cut := crossed(t, &s, ChangeBudget{ID: "hour", Limit: &limit}, now); cut != want {
		t.Errorf("crossed by a cut\n%+v, want\n%+v", cut, want)
	}
}

func TestAThresholdThatANewBudgetHasReachedSaysItsWindow(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	s := NewState("acme")
	s = executed(t, s, CreateTenant{Name: "ACME", Actor: "test"}, now)
	s = executed(t, s, reserveTagged("one", "6"), now)
	s = executed(t, s, Settle{Reservation: "one", Charged: usd("6"), Basis: BasisProvider}, now)

	window := Window{Start: now, End: now.Add(time.Hour)}
	past := Past{Window: window, Spent: []Bucket{{Settled: usd("6")}}}
	define := DefineBudget{ID: "hour", Period: Hourly, Limit: usd("10"), AlertsAt: []Threshold{500_000}, Source: SourceAdmin}
	got := crossed(t, &s, Informed{Command: define, Past: []Past{past}}, now)
	if got.TenantName != "ACME" || !got.Start.Equal(window.Start) || !got.End.Equal(window.End) {
		t.Errorf("a new budget says %+v", got)
	}
}

func reserveTagged(id ReservationID, amount string) Reserve {
	return Reserve{
		Request: Request{Reservation: id, Route: "/v1/chat/completions", Model: "gpt-4o", Tags: map[string]string{"team": "a"}},
		Amount:  usd(amount), TTL: time.Hour,
	}
}

// crossed is the threshold that a command crosses, which is one.
func crossed(t *testing.T, s *State, c Command, now time.Time) BudgetThresholdCrossed {
	t.Helper()
	next, records, err := Execute(s.Clone(), c, now)
	if err != nil {
		t.Fatalf("%T: %v", c, err)
	}
	*s = next
	var found []BudgetThresholdCrossed
	for _, r := range records {
		if e, ok := r.Event.(BudgetThresholdCrossed); ok {
			found = append(found, e)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%T crosses %+v, want one threshold", c, found)
	}
	return found[0]
}
