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

func TestTextWithANULIsRefusedOrRepaired(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s, _, err := Execute(NewState("acme"), CreateTenant{Name: "ACME"}, now)
	if err != nil {
		t.Fatal(err)
	}
	reserve := Reserve{Request: Request{Reservation: "r", Tags: map[string]string{"team": "a\x00b"}}, Amount: 1, TTL: time.Minute}
	if _, err := Decide(s, reserve, now.Add(time.Second)); !errors.Is(err, ErrInvalid) {
		t.Errorf("a tag with a NUL: %v, want ErrInvalid", err)
	}
	reserve.Tags = nil
	if s, _, err = Execute(s, reserve, now.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	events, err := Decide(s, Settle{Reservation: "r", Basis: BasisCounted, Reason: "x\x00y\xff", AnsweredModel: "\x00"}, now.Add(2*time.Second))
	if err != nil || events[0].(UsageSettled).Reason != "x\uFFFDy\uFFFD" || events[0].(UsageSettled).AnsweredModel != "\uFFFD" {
		t.Errorf("got %+v, %v; a closing command is repaired, not refused", events, err)
	}
}

func TestTheTenantsIDAloneReservesNothingOnceAKeyWasIssued(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s, _, err := Execute(NewState("acme"), CreateTenant{Name: "ACME"}, now)
	if err != nil {
		t.Fatal(err)
	}
	reserve := Reserve{Request: Request{Reservation: "r"}, Amount: 1, TTL: time.Minute, Keyless: true}
	if _, err := Decide(s, reserve, now.Add(time.Second)); err != nil {
		t.Errorf("before any key: %v", err)
	}
	for _, c := range []Command{IssueKey{ID: "k", Hash: "h"}, RevokeKey{ID: "k"}} {
		if s, _, err = Execute(s, c, now.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := Decide(s, reserve, now.Add(2*time.Second)); !errors.Is(err, ErrKeyUnusable) {
			t.Errorf("after %T: %v, want ErrKeyUnusable", c, err)
		}
	}
}
