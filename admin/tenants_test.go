package admin_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/admin"
	"github.com/budgetguard/budgetguard/domain"
)

func TestCreateTenantWithItsBudgets(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	got := s.must(http.StatusCreated, "POST", "/admin/tenant",
		`{"name":"ACME Corp.","timezone":"Europe/Berlin","rateLimitPerMin":50,"budgets":[{"period":"monthly","limitUsd":"100.000000001","alertsAt":[0.5,0.8,1]},{"period":"daily","limitUsd":10}]}`)
	made := read[tenant](t, got)
	if made.ID != "acme-corp" || made.Name != "ACME Corp." || made.Timezone != "Europe/Berlin" || *made.RateLimitPerMin != 50 || made.Suspended {
		t.Errorf("tenant %s", got.body)
	}
	if at := got.header.Get("Location"); at != "/admin/tenant/acme-corp" {
		t.Errorf("Location %q", at)
	}
	if got.header.Get("Cache-Control") != "no-store" {
		t.Error("a tenant may be cached")
	}
	if len(made.Budgets) != 2 || made.Version != 3 || len(made.APIKeys) != 0 {
		t.Fatalf("tenant %s", got.body)
	}
	for _, b := range made.Budgets {
		want := map[string]string{"monthly": "100.000000001", "daily": "10"}[b.Period]
		if b.LimitUsd != want || b.RemainingUsd != want || b.SpentUsd != "0" || b.Source != "admin" || !strings.HasPrefix(b.ID, "bud_") {
			t.Errorf("budget %+v", b)
		}
		if b.Period == "monthly" && fmt.Sprint(b.AlertsAt) != "[0.5 0.8 1]" {
			t.Errorf("alertsAt %v", b.AlertsAt)
		}
		if !b.WindowStart.Before(made.CreatedAt) || !b.WindowEnd.After(made.CreatedAt) {
			t.Errorf("window %s to %s does not hold now", b.WindowStart, b.WindowEnd)
		}
	}
	if shown := s.must(http.StatusOK, "GET", "/admin/tenant/acme-corp", ""); string(shown.body) != string(got.body) {
		t.Errorf("shown %s, made %s", shown.body, got.body)
	}
}

func TestATenantIDIsTakenOnce(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"id":"a.b_c-9","name":"x"}`)
	s.refused(http.StatusConflict, "tenant_exists", "POST", "/admin/tenant", `{"id":"a.b_c-9","name":"y"}`)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"Ünïted & Söns"}`)
	s.must(http.StatusOK, "GET", "/admin/tenant/n-ted-s-ns", "")
	s.refused(http.StatusConflict, "tenant_exists", "POST", "/admin/tenant", `{"name":"n ted s ns"}`)
}

func TestCreateTenantNamesAllThatIsWrong(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	for _, c := range []struct{ body, pointers string }{
		{`{}`, "#/name"},
		{`{"name":""}`, "#/name"},
		{`{"name":null}`, "#/name"},
		{`{"name":7}`, "#/name"},
		{`{"name":"日本"}`, "#/id"},
		{`{"name":"x\u0000y"}`, "#/name"},
		{`{"name":"` + strings.Repeat("x", 201) + `"}`, "#/name"},
		{`{"name":"x","id":"_system"}`, "#/id"},
		{`{"name":"x","id":"ACME"}`, "#/id"},
		{`{"name":"x","id":""}`, "#/id"},
		{`{"name":"x","id":"` + strings.Repeat("a", 64) + `"}`, "#/id"},
		{`{"name":"x","timezone":"Mars/Olympus"}`, "#/timezone"},
		{`{"name":"x","timezone":"Local"}`, "#/timezone"},
		{`{"name":"x","timezone":"../../etc/passwd"}`, "#/timezone"},
		{`{"name":"x","rateLimitPerMin":1.5}`, "#/rateLimitPerMin"},
		{`{"name":"x","rateLimitPerMin":"50"}`, "#/rateLimitPerMin"},
		{`{"name":"x","rateLimitPerMin":-1}`, "#/rateLimitPerMin"},
		{`{"name":"x","Name":"y"}`, "#/Name"},
		{`{"name":"x","a/b~c":1}`, "#/a~1b~0c"},
		{`{"name":"x","budgets":{}}`, "#/budgets"},
		{`{"name":"x","budgets":[7]}`, "#/budgets/0"},
		{`{"name":"x","budgets":[{}]}`, "#/budgets/0/period #/budgets/0/limitUsd"},
		{`{"name":"x","budgets":[{"period":"monthly","limitUsd":1},{"period":"monthly","limitUsd":2}]}`, "#/budgets/1/period"},
		{`{"name":"x","budgets":[{"period":"monthly","limitUsd":1},{"period":"daily","limitUsd":-2}]}`, "#/budgets/1/limitUsd"},
		{
			`{"id":"_x","name":7,"timezone":"?","extra":1,"budgets":[{"period":"hourly","limitUsd":"1e3","more":1}]}`,
			"#/name #/timezone #/id #/budgets/0/limitUsd #/budgets/0/more #/extra",
		},
	} {
		p := s.refused(http.StatusBadRequest, "invalid_request", "POST", "/admin/tenant", c.body)
		var pointers []string
		for _, e := range p.Errors {
			pointers = append(pointers, e.Pointer)
		}
		if got := strings.Join(pointers, " "); got != c.pointers {
			t.Errorf("%s: %q (%+v), want %q", c.body, got, p, c.pointers)
		}
	}
	if page := s.must(http.StatusOK, "GET", "/admin/tenants", ""); string(page.body) != "{\"tenants\":[],\"nextCursor\":null}\n" {
		t.Errorf("a refused body left %s", page.body)
	}
}

func TestANewTenantGetsTheEnvironmentsBudgetsItDoesNotSet(t *testing.T) {
	t.Parallel()
	s := openSite(t, func(set *setup) {
		set.deps.Defaults = func(id domain.TenantID) []domain.DefineBudget {
			return []domain.DefineBudget{
				{Period: domain.Monthly, Limit: 5e9, Source: domain.SourceEnvironment, Actor: "environment"},
				{ID: domain.BudgetID("bud_" + id), Period: domain.Daily, Limit: 1e9, Source: domain.SourceEnvironment, Actor: "environment"},
			}
		}
	})
	made := read[tenant](t, s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x","budgets":[{"period":"monthly","limitUsd":9}]}`))
	shown := map[string]string{}
	for _, b := range made.Budgets {
		shown[b.Period] = b.LimitUsd + " " + b.Source
	}
	if len(shown) != 2 || shown["monthly"] != "9 admin" || shown["daily"] != "1 environment" || made.Version != 3 {
		t.Errorf("budgets %v at version %d", shown, made.Version)
	}
}

func TestTenantsArePagedByCursor(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	for i := range 5 {
		s.must(http.StatusCreated, "POST", "/admin/tenant", fmt.Sprintf(`{"name":"tenant %d"}`, i))
	}
	if _, err := s.ledger.Do(t.Context(), domain.SystemTenant, domain.CreateTenant{Name: "system"}); err != nil {
		t.Fatal(err)
	}
	var seen []string
	for target := "/admin/tenants?limit=2"; target != ""; {
		page := read[struct {
			Tenants    []tenant
			NextCursor *string
		}](t, s.must(http.StatusOK, "GET", target, ""))
		for _, one := range page.Tenants {
			seen = append(seen, one.ID)
		}
		target = ""
		if page.NextCursor != nil {
			target = "/admin/tenants?limit=2&cursor=" + *page.NextCursor
		}
	}
	if got := strings.Join(seen, " "); got != "tenant-0 tenant-1 tenant-2 tenant-3 tenant-4" {
		t.Errorf("pages have %s", got)
	}
	for _, query := range []string{"limit=0", "limit=201", "limit=x", "cursor=%21", "cursor=YWJj", "cursor=a&cursor=b", "offset=3", "a=%zz"} {
		if p := s.refused(http.StatusBadRequest, "invalid_request", "GET", "/admin/tenants?"+query, ""); len(p.Errors) == 0 || p.Errors[0].Parameter == "" {
			t.Errorf("%s: %+v", query, p)
		}
	}
}

func TestChangeSuspendAndResume(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x"}`)
	changed := read[tenant](t, s.must(http.StatusOK, "PATCH", "/admin/tenant/x", `{"name":"New","timezone":"America/Santiago"}`))
	if changed.Name != "New" || changed.Timezone != "America/Santiago" || changed.Version != 2 {
		t.Errorf("changed %+v", changed)
	}
	if again := read[tenant](t, s.must(http.StatusOK, "PATCH", "/admin/tenant/x", `{}`)); again.Version != 2 {
		t.Error("an empty change recorded an event")
	}
	s.refused(http.StatusBadRequest, "invalid_request", "PATCH", "/admin/tenant/x", `{"name":""}`)
	s.refused(http.StatusBadRequest, "invalid_request", "PATCH", "/admin/tenant/x", `{"id":"y"}`)
	if got := read[tenant](t, s.must(http.StatusOK, "POST", "/admin/tenant/x/suspend", `{"reason":"unpaid"}`)); !got.Suspended {
		t.Error("not suspended")
	}
	if got := read[tenant](t, s.must(http.StatusOK, "POST", "/admin/tenant/x/suspend", "")); !got.Suspended || got.Version != 3 {
		t.Errorf("suspended twice: %+v", got)
	}
	_, err := s.ledger.Do(t.Context(), "x", domain.Reserve{Request: domain.Request{Reservation: "0198c0de-0000-7000-8000-000000000001"}, Amount: 1, TTL: 1e9})
	if !errors.Is(err, domain.ErrTenantSuspended) {
		t.Errorf("a suspended tenant reserves: %v", err)
	}
	if got := read[tenant](t, s.must(http.StatusOK, "POST", "/admin/tenant/x/resume", "{}")); got.Suspended {
		t.Error("not resumed")
	}
	s.refused(http.StatusBadRequest, "invalid_request", "POST", "/admin/tenant/x/resume", `{"reason":"x"}`)
}

func TestEveryRouteOfATenantAnswers404WithoutOne(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	for _, id := range []string{"nobody", "NOBODY", "_system", "no%2Fbody", "%00", strings.Repeat("a", 64)} {
		at := "/admin/tenant/" + id
		for _, r := range []struct{ method, path, body string }{
			{"GET", at, ""},
			{"PATCH", at, `{"name":"x"}`},
			{"POST", at + "/suspend", ""},
			{"POST", at + "/resume", ""},
			{"POST", at + "/budgets", `{"period":"daily","limitUsd":1}`},
			{"DELETE", at + "/budgets/b", ""},
			{"POST", at + "/budgets/b/raise", `{"usd":1}`},
			{"POST", at + "/adjustments", `{"usd":1,"reason":"x"}`},
			{"POST", at + "/apikeys", `{}`},
			{"POST", at + "/apikeys/k/rotate", ""},
			{"POST", at + "/apikeys/k/suspend", ""},
			{"POST", at + "/apikeys/k/resume", ""},
			{"DELETE", at + "/apikeys/k", ""},
			{"GET", at + "/ratelimit", ""},
			{"PUT", at + "/ratelimit", `{"rateLimitPerMin":1}`},
			{"GET", at + "/events", ""},
			{"GET", "/admin/tenant-usage?tenant=" + id, ""},
		} {
			s.refused(http.StatusNotFound, "not_found", r.method, r.path, r.body)
		}
	}
}

func TestWithoutPostgresTheAnswerIs503(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x"}`)
	s.store.Close()
	for _, r := range []struct{ method, path string }{{"GET", "/admin/tenant/x"}, {"GET", "/admin/tenants"}, {"GET", "/admin/tenant/x/events"}} {
		s.refused(http.StatusServiceUnavailable, "ledger_unavailable", r.method, r.path, "")
	}
	got := s.send("GET", "/admin/tenant/x", "")
	if got.header.Get("Retry-After") != "1" || strings.Contains(string(got.body), "pool") {
		t.Errorf("%v %s", got.header, got.body)
	}
}

// doer is a ledger that fails at will.
type doer func(domain.Command) error

func (d doer) Do(_ context.Context, tenant domain.TenantID, c domain.Command) ([]domain.Recorded, error) {
	if err := d(c); err != nil {
		return nil, err
	}
	return []domain.Recorded{{Tenant: tenant, Version: 1}}, nil
}

func TestABugIs500WithTheRequestIDOnlyAndLoggedOnce(t *testing.T) {
	t.Parallel()
	s := openSite(t, func(set *setup) {
		set.deps.Ledger = doer(func(domain.Command) error { return errors.New("nil map in 0xdeadbeef") })
	})
	p := s.refused(http.StatusInternalServerError, "internal", "POST", "/admin/tenant", `{"name":"x"}`, "X-Request-Id", "req-7")
	if p.RequestID != "req-7" || strings.Contains(p.Detail, "dead") {
		t.Errorf("problem %+v", p)
	}
	if log := s.log.String(); strings.Count(log, "nil map") != 1 || !strings.Contains(log, `"request_id":"req-7"`) {
		t.Errorf("log %s", log)
	}
}

func TestATenantAndItsBudgetsAreOneCommand(t *testing.T) {
	t.Parallel()
	var sent []domain.Command
	s := openSite(t, func(set *setup) {
		set.deps.Ledger = doer(func(c domain.Command) error {
			sent = append(sent, c)
			return fmt.Errorf("append: %w", domain.ErrUnavailable)
		})
	})
	s.refused(http.StatusServiceUnavailable, "ledger_unavailable", "POST", "/admin/tenant", `{"name":"x","budgets":[{"period":"daily","limitUsd":1}]}`)
	if len(sent) != 1 {
		t.Fatalf("%d commands were sent, want one", len(sent))
	}
	if all, ok := sent[0].(domain.All); !ok || len(all.Commands) < 2 {
		t.Errorf("sent %+v, want the tenant and its budget together", sent[0])
	}
}

func TestNewNeedsAllItWorksWith(t *testing.T) {
	t.Parallel()
	if _, err := admin.New(admin.Config{}, admin.Deps{}); err == nil {
		t.Error("New without anything")
	}
}
