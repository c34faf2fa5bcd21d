package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/audit"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// TestLedgerRepairFollowsExitCode5 is what docs/operations.md says to do after it, step by step.
func TestLedgerRepairFollowsExitCode5(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l, err := eventstore.OpenLedger(t.Context(), eventstore.Config{URL: url, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []domain.Command{
		domain.CreateTenant{Name: "ACME", Actor: "admin"},
		domain.DefineBudget{ID: "b_1", Period: domain.Monthly, Limit: 5_000_000_000, Source: domain.SourceAdmin},
		domain.Reserve{
			Request: domain.Request{Reservation: "00000000-0000-4000-8000-000000000001", Model: "gpt-4"},
			Amount:  1_300_000_000, TTL: time.Minute,
		},
	} {
		if _, err := l.Do(t.Context(), "acme", c); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), `update account set held = 1250000000`); err != nil {
		t.Fatal(err)
	}

	env := []string{"DATABASE_URL=" + url}
	const fault = "of budget b_1 (account 3, version 4): held is 1.25 USD, the events say 1.3 USD"
	for _, step := range []struct {
		args  []string
		code  int
		wants []string
	}{
		{[]string{"verify"}, exitUnverified, []string{"account monthly 20", fault, "1 violations", "docs/operations.md"}},
		{[]string{"repair", "--tenant", "nobody"}, exitUsage, []string{"nobody"}},
		{[]string{"repair"}, exitUnverified, []string{"rows that differ", fault, "--apply"}},
		{[]string{"verify"}, exitUnverified, []string{fault}},
		{[]string{"repair", "--tenant", "acme", "--apply"}, exitOK, []string{"rows put right", fault}},
		{[]string{"verify"}, exitOK, []string{"violations  0"}},
		{[]string{"repair"}, exitOK, []string{"rows that differ  0"}},
		{[]string{"repair", "-o", "yaml"}, exitUsage, []string{"table or json"}},
	} {
		p := start(t, env, append([]string{"ledger"}, step.args...)...)
		code := p.wait(t)
		for _, want := range step.wants {
			if code != step.code || !strings.Contains(p.output(), want) {
				t.Errorf("ledger %v: exit code %d, want %d and %q; printed:\n%s", step.args, code, step.code, want, p.output())
			}
		}
	}

	if _, err := conn.Exec(t.Context(), `delete from account`); err != nil {
		t.Fatal(err)
	}
	p := start(t, env, "ledger", "repair", "-o", "json")
	_ = p.wait(t)
	var report audit.Repaired
	document, _, _ := strings.Cut(p.output(), "\nbudgetguard:")
	if err := json.Unmarshal([]byte(document), &report); err != nil || report.Total == 0 || report.Differences[0].Table != "account" {
		t.Errorf("%v:\n%s", err, p.output())
	}
}
