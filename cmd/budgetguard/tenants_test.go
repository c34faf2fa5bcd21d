package main

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// byID sends a chat request with nothing but a tenant's id.
func byID(t *testing.T, gateway, tenant string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, gateway+"/v1/chat/completions", strings.NewReader(chat))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Tenant-Id", tenant)
	return send(t, r)
}

func TestNobodyMakesATenantThatWouldStopTheNextStart(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "TENANT_AUTH=optional", "BUDGET_MONTHLY_USD=5", "BUDGET_DAILY_TEAM_A=1")
	gateway, address := s.serve()
	if a := byID(t, address, "team-a"); a.status != http.StatusOK {
		t.Fatalf("team-a: %d %s", a.status, a.body)
	}
	for _, id := range []string{"team.a", "usd"} {
		if a := byID(t, address, id); a.status != http.StatusUnauthorized {
			t.Errorf("%s by its id: %d %s", id, a.status, a.body)
		}
		s.admin(http.MethodPost, address+"/admin/tenant", `{"name":"x","id":"`+id+`"}`, http.StatusBadRequest, nil)
	}
	if code := gateway.stop(t); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	s.serve()
	s.quiet()
	s.verify(exitOK)
}

func TestAStartThatFailsChangesNoBudget(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "MAX_MONTHLY_USD=3")
	_, address := s.serve()
	s.tenant(address, "acme", "")
	versions := s.count(`select version from tenant_head where tenant_id = 'acme'`)
	port := address[strings.LastIndex(address, ":")+1:]
	p := start(t, append(s.env, "MAX_MONTHLY_USD=77", "PORT="+port), "serve")
	if code := p.wait(t); code != exitFailure || !strings.Contains(p.output(), "--port 0") {
		t.Errorf("exit code %d:\n%s", code, p.output())
	}
	if now := s.count(`select version from tenant_head where tenant_id = 'acme'`); now != versions {
		t.Errorf("version %d, want %d as before", now, versions)
	}
}

func TestTheCustomPeriodOfTheEnvironmentFollowsItsDates(t *testing.T) {
	t.Parallel()
	type shown struct {
		Budgets []struct{ Period, StartDate, EndDate, LimitUsd, SpentUsd, WindowEnd string }
	}
	s := newSystem(t, "BUDGET_PERIODS=custom", "DEFAULT_BUDGET_USD=1", "BUDGET_CUSTOM_ACME=5", "BUDGET_START_DATE=2026-01-01", "BUDGET_END_DATE=2098-12-31")
	gateway, address := s.serve()
	key := s.tenant(address, "acme", "")
	if a := ask(t.Context(), t, address, key, chat); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	s.quiet()
	var before shown
	s.admin(http.MethodGet, address+"/admin/tenant/acme", "", http.StatusOK, &before)
	if len(before.Budgets) != 1 || before.Budgets[0].Period != "custom" || before.Budgets[0].LimitUsd != "5" || before.Budgets[0].SpentUsd == "0" ||
		before.Budgets[0].WindowEnd != "2099-01-01T00:00:00Z" {
		t.Errorf("budgets %+v", before)
	}
	if code := gateway.stop(t); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	// Other dates are another budget, which counts what its window has cost. The old one stays beside it: a
	// start loosens nothing.
	s.env = append(s.env, "BUDGET_END_DATE=2097-12-31")
	_, address = s.serve()
	var after shown
	s.admin(http.MethodGet, address+"/admin/tenant/acme", "", http.StatusOK, &after)
	ends := map[string]string{}
	for _, b := range after.Budgets {
		ends[b.EndDate] = b.SpentUsd
	}
	if spent := before.Budgets[0].SpentUsd; len(after.Budgets) != 2 || ends["2097-12-31"] != spent || ends["2098-12-31"] != spent {
		t.Errorf("budgets %+v, before %+v", after, before)
	}
	s.verify(exitOK)
}

func TestAStartLoosensNoLimit(t *testing.T) {
	t.Parallel()
	type shown struct {
		Budgets []struct{ Period, LimitUsd, Source string }
	}
	s := newSystem(t, "BUDGET_MONTHLY_USD=5", "BUDGET_DAILY_ACME=1")
	gateway, address := s.serve()
	s.tenant(address, "acme", "")
	s.tenant(address, "other", "")
	look := func(address string) map[string]shown {
		t.Helper()
		all := map[string]shown{}
		for _, id := range []string{"acme", "other"} {
			var b shown
			s.admin(http.MethodGet, address+"/admin/tenant/"+id, "", http.StatusOK, &b)
			all[id] = b
		}
		return all
	}
	before := look(address)
	if len(before["acme"].Budgets) != 2 || len(before["other"].Budgets) != 1 {
		t.Fatalf("budgets %+v", before)
	}
	if code := gateway.stop(t); code != exitOK {
		t.Fatalf("exit code %d", code)
	}

	// Without its variables, and with one of another tenant only.
	for _, env := range [][]string{nil, {"BUDGET_DAILY_OTHER=9"}, {"BUDGET_WEEKLY_NOBODY=1"}} {
		kept := slices.DeleteFunc(slices.Clone(s.env), func(v string) bool { return strings.HasPrefix(v, "BUDGET_") })
		p := start(t, append(kept, env...), "serve")
		line := p.line(t, "serves http://")
		after := look(line[strings.Index(line, "http://"):])
		if !reflect.DeepEqual(after["acme"], before["acme"]) || len(after["other"].Budgets) < len(before["other"].Budgets) {
			t.Errorf("with %v: budgets %+v, before %+v", env, after, before)
		}
		if out := p.output(); !strings.Contains(out, "no variable asks for any more stay in force") || !strings.Contains(out, "daily of 1 USD") {
			t.Errorf("with %v the start says\n%s", env, out)
		}
		if env != nil && strings.Contains(env[0], "NOBODY") && !strings.Contains(p.output(), "NOBODY") {
			t.Errorf("a tenant that does not exist is not named:\n%s", p.output())
		}
		if code := p.stop(t); code != exitOK {
			t.Fatalf("exit code %d", code)
		}
	}
	s.verify(exitOK)
}
