package domain

import (
	"errors"
	"testing"
	"time"
)

func TestAllRecordsEveryCommandOrNone(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	define := func(id BudgetID, p Period) DefineBudget {
		return DefineBudget{ID: id, Period: p, Limit: 1, Source: SourceAdmin, Actor: "admin"}
	}
	s, recorded, err := Execute(NewState("acme"), All{[]Command{
		CreateTenant{Name: "ACME", Actor: "admin"}, define("a", Monthly), define("b", Daily), define("a", Monthly),
	}}, now)
	if err != nil || len(recorded) != 3 || len(s.Budgets) != 2 || s.Version != 3 {
		t.Fatalf("got %d events, %d budgets, %v", len(recorded), len(s.Budgets), err)
	}
	before := s.Clone()
	_, recorded, err = Execute(s, All{[]Command{define("c", Yearly), define("d", "fortnightly")}}, now.Add(time.Second))
	if !errors.Is(err, ErrInvalid) || len(recorded) != 0 {
		t.Errorf("got %d events and %v, want none and ErrInvalid", len(recorded), err)
	}
	if len(s.Budgets) != len(before.Budgets) || s.Version != before.Version {
		t.Error("a refused command changed the state")
	}
	for _, c := range []Command{All{}, Reserve{}, Expire{}} {
		if _, _, err := Execute(s, All{[]Command{c}}, now.Add(time.Second)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%T in All: %v, want ErrInvalid", c, err)
		}
	}
}
