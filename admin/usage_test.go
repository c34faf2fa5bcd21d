package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/admin"
	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/projections"
)

func TestUsageOfOneTenantInItsOwnZone(t *testing.T) {
	t.Parallel()
	sums := &usage{report: admin.UsageReport{
		Rows:  []admin.UsageSum{{Group: "2026-11-01", Requests: 2, PromptTokens: 10, CompletionTokens: 20, USD: 3, Presumed: 1}},
		Total: 3, Presumed: 1,
	}}
	s := openSite(t, func(set *setup) { set.deps.Usage = sums })
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x","timezone":"Asia/Tokyo"}`)
	got := s.must(http.StatusOK, "GET", "/admin/tenant-usage?tenant=x&from=2026-11-01T00:00:00%2B09:00&to=2026-11-02T00:00:00%2B09:00&groupBy=day", "")
	want := `{"tenant":"x","from":"2026-10-31T15:00:00Z","to":"2026-11-01T15:00:00Z","groupBy":"day",` +
		`"rows":[{"group":"2026-11-01","requests":2,"promptTokens":10,"completionTokens":20,"usd":"0.000000003","presumedUsd":"0.000000001"}],"totalUsd":"0.000000003","presumedUsd":"0.000000001"}`
	if strings.TrimSpace(string(got.body)) != want {
		t.Errorf("usage %s, want %s", got.body, want)
	}
	unescaped := s.serve(s.request("GET", "/admin/tenant-usage?tenant=x&from=2026-11-01T00:00:00+09:00&to=2026-11-02T00:00:00+09:00&groupBy=day", ""))
	if string(unescaped.body) != string(got.body) {
		t.Errorf("with an offset that nobody escaped %s", unescaped.body)
	}
	if q := sums.asked; q.Tenant != "x" || q.GroupBy != admin.ByDay || q.Zone.String() != "Asia/Tokyo" {
		t.Errorf("asked %+v", q)
	}
}

func TestUsageIsSummedFromTheUsageLedger(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x","timezone":"Asia/Tokyo"}`)
	_, err := s.store.Pool().Exec(t.Context(), `insert into usage_row
		(tenant_id, version, ts, route, usd_nano, prompt_tok, comp_tok, model, reservation_id, reserved_nano, kind, tags, posted_at)
		values ('x', 2, '2026-11-01T16:00:00Z', '/v1/completions', 1500000000, 10, 20, 'gpt-4o', gen_random_uuid(), 2000000000, 'settled', '{}', now())`)
	if err != nil {
		t.Fatal(err)
	}
	for groupBy, want := range map[string]string{"model": "gpt-4o", "route": "/v1/completions", "day": "2026-11-02", "hour": "2026-11-02T01:00:00+09:00", "apiKey": "", "tag": ""} {
		got := s.must(http.StatusOK, "GET", "/admin/tenant-usage?tenant=x&from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z&groupBy="+groupBy, "")
		report := read[struct {
			Rows []struct {
				Group, Usd string
				Requests   int
			}
			TotalUsd string
		}](t, got)
		if len(report.Rows) != 1 || report.Rows[0].Group != want || report.Rows[0].Usd != "1.5" || report.Rows[0].Requests != 1 || report.TotalUsd != "1.5" {
			t.Errorf("by %s: %s", groupBy, got.body)
		}
	}
}

func TestUsageIsOfAllTenantsThisMonthByModelUnlessSaidOtherwise(t *testing.T) {
	t.Parallel()
	sums := &usage{}
	noon := time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)
	s := openSite(t, func(set *setup) {
		set.deps.Usage = sums
		set.deps.Now = func() time.Time { return noon }
	})
	got := s.must(http.StatusOK, "GET", "/admin/tenant-usage", "")
	want := `{"tenant":null,"from":"2026-11-01T00:00:00Z","to":"2026-11-22T12:00:00Z","groupBy":"model","rows":[],"totalUsd":"0","presumedUsd":"0"}`
	if strings.TrimSpace(string(got.body)) != want || sums.asked.Zone != time.UTC {
		t.Errorf("usage %s, asked %+v", got.body, sums.asked)
	}
	for _, query := range []string{
		"groupBy=tenant", "from=2026-11-01", "to=yesterday", "from=2026-11-22T12:00:00Z", "to=2026-01-01T00:00:00Z",
		"tennat=x", "tenant=", "groupBy=hour&from=2026-01-01T00:00:00Z", "groupBy=day&groupBy=hour", "from=0001-01-01T00:00:00Z",
	} {
		s.refused(http.StatusBadRequest, "invalid_request", "GET", "/admin/tenant-usage?"+query, "")
	}
	sums.err = errors.New("connection refused")
	s.refused(http.StatusServiceUnavailable, "ledger_unavailable", "GET", "/admin/tenant-usage", "")
}

func TestEventsArePagedByVersionAsCloudEvents(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x","budgets":[{"period":"daily","limitUsd":1},{"period":"total","limitUsd":1}]}`)
	type event struct {
		SpecVersion, ID, Source, Type, Sequence string
		Time                                    time.Time
		Data                                    map[string]any
	}
	type page struct {
		Events []event
		Next   int64
	}
	first := read[page](t, s.must(http.StatusOK, "GET", "/admin/tenant/x/events?limit=2", ""))
	if len(first.Events) != 2 || first.Next != 2 {
		t.Fatalf("first page %+v", first)
	}
	if e := first.Events[1]; e.SpecVersion != "1.0" || e.ID != "x:2" || e.Source != "/tenants/x" || e.Type != "budgetguard.budget.defined.v1" ||
		e.Sequence != "2" || e.Data["limitUsd"] != "1" || e.Data["actor"] != "admin" || e.Time.IsZero() {
		t.Errorf("event %+v", e)
	}
	rest := read[page](t, s.must(http.StatusOK, "GET", "/admin/tenant/x/events?after=2", ""))
	if len(rest.Events) != 1 || rest.Next != 3 {
		t.Errorf("rest %+v", rest)
	}
	end := read[page](t, s.must(http.StatusOK, "GET", "/admin/tenant/x/events?after=3", ""))
	if len(end.Events) != 0 || end.Next != 3 {
		t.Errorf("end %+v", end)
	}
	for _, query := range []string{"after=-1", "limit=0", "limit=501", "after=x", "since=1"} {
		s.refused(http.StatusBadRequest, "invalid_request", "GET", "/admin/tenant/x/events?"+query, "")
	}
}

func TestEventsAreTheDocumentsOfTheStream(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"<x> & \u2028 ü","id":"x","budgets":[{"period":"daily","limitUsd":1}]}`)
	s.must(http.StatusCreated, "POST", "/admin/tenant/x/apikeys", "")
	if _, err := s.reserve(1, 1, ""); err != nil {
		t.Fatal(err)
	}
	page := read[struct{ Events []json.RawMessage }](t, s.must(http.StatusOK, "GET", "/admin/tenant/x/events", ""))
	recorded, err := s.store.Read(t.Context(), "x", 0, 100)
	if err != nil || len(recorded) != 5 || len(page.Events) != 5 {
		t.Fatalf("%d events recorded, %d shown: %v", len(recorded), len(page.Events), err)
	}
	for i, r := range recorded {
		if got, want := string(page.Events[i]), string(projections.Message(r).Payload); got != want {
			t.Errorf("version %d: %s, on the stream %s", r.Version, got, want)
		}
	}
}

func TestTheSystemStreamCanBeReadAndNothingElseDoneToIt(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.refused(http.StatusNotFound, "not_found", "GET", "/admin/tenant/_system/events", "")
	if _, err := s.ledger.Do(t.Context(), "_system", domain.CreateTenant{Name: "system"}); err != nil {
		t.Fatal(err)
	}
	s.must(http.StatusOK, "GET", "/admin/tenant/_system/events", "")
	s.refused(http.StatusNotFound, "not_found", "GET", "/admin/tenant/_system", "")
	s.refused(http.StatusNotFound, "not_found", "POST", "/admin/tenant/_system/apikeys", "")
}

func TestProjectionsShowTheirLag(t *testing.T) {
	t.Parallel()
	var fails error
	s := openSite(t, func(set *setup) {
		set.deps.Projections = func(context.Context) ([]admin.ProjectionLag, error) {
			return []admin.ProjectionLag{{Name: "counters"}, {Name: "usage", Events: 7, Tenants: 2, Age: 1500 * time.Millisecond}, {Name: "relay", Err: errors.New("redis gone")}}, fails
		}
	})
	got := s.must(http.StatusOK, "GET", "/admin/projections", "")
	want := `{"projections":[{"name":"counters","measured":true,"eventsBehind":0,"tenantsBehind":0,"ageSeconds":0},` +
		`{"name":"usage","measured":true,"eventsBehind":7,"tenantsBehind":2,"ageSeconds":1.5},` +
		`{"name":"relay","measured":false,"eventsBehind":0,"tenantsBehind":0,"ageSeconds":0}]}`
	if strings.TrimSpace(string(got.body)) != want || !strings.Contains(s.log.String(), "redis gone") {
		t.Errorf("projections %s", got.body)
	}
	fails = errors.New("redis: connection refused")
	s.refused(http.StatusServiceUnavailable, "ledger_unavailable", "GET", "/admin/projections", "")
}
