package admin_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// fullBudget makes tenant x with one budget that has all that a change could lose, and gives its path.
func (s *site) fullBudget() (b budget, path string) {
	s.t.Helper()
	made := read[tenant](s.t, s.must(http.StatusCreated, "POST", "/admin/tenant",
		`{"name":"x","budgets":[{"period":"monthly","anchorDay":15,"limitUsd":"10","alertsAt":[0.5,0.8]}]}`))
	path = "/admin/tenant/x/budgets/" + made.Budgets[0].ID
	raised := s.must(http.StatusOK, "POST", path+"/raise", `{"usd":"5","until":"2099-01-01T00:00:00Z"}`)
	return read[tenant](s.t, raised).Budgets[0], path
}

// said prints the parts of a budget that a change could lose, in one line.
func (b budget) said() string {
	return fmt.Sprint(b.LimitUsd, " ", b.BaseLimitUsd, " ", b.AlertsAt, " ", b.AnchorDay, " ", len(b.Raises))
}

func TestAChangeKeepsWhatItDoesNotName(t *testing.T) {
	t.Parallel()
	const post = "/admin/tenant/x/budgets"
	for _, c := range []struct{ method, body, want string }{
		{"PATCH", `{}`, "15 10 [0.5 0.8] 15 1"},
		{"PATCH", `{"limitUsd":"20"}`, "25 20 [0.5 0.8] 15 1"},
		{"PATCH", `{"limitUsd":0}`, "5 0 [0.5 0.8] 15 1"},
		{"PATCH", `{"alertsAt":[0.9]}`, "15 10 [0.9] 15 1"},
		{"PATCH", `{"alertsAt":[]}`, "15 10 [] 15 1"},
		{"PATCH", `{"alertsAt":null}`, "15 10 [] 15 1"},
		{"PATCH", `{"anchorDay":15}`, "15 10 [0.5 0.8] 15 1"},
		{"PATCH", `{"anchorDay":3}`, "15 10 [0.5 0.8] 3 1"},
		{"PATCH", `{"anchorDay":null}`, "15 10 [0.5 0.8] 0 1"},
		{"POST", `{"period":"monthly","limitUsd":"20"}`, "25 20 [0.5 0.8] 15 1"},
		{"POST", `{"period":"monthly"}`, "15 10 [0.5 0.8] 15 1"},
		{"POST", `{"period":"monthly","alertsAt":[]}`, "15 10 [] 15 1"},
		{"POST", `{"period":"monthly","alertsAt":null,"limitUsd":1}`, "6 1 [] 15 1"},
		{"POST", `{"budgets":[{"period":"monthly","anchorDay":31}]}`, "15 10 [0.5 0.8] 31 1"},
	} {
		t.Run(c.method+" "+c.body, func(t *testing.T) {
			t.Parallel()
			s := openSite(t)
			before, path := s.fullBudget()
			if c.method == "POST" {
				path = post
			}

			got := read[tenant](t, s.must(http.StatusOK, c.method, path, c.body)).Budgets
			if len(got) != 1 || got[0].said() != c.want {
				t.Fatalf("became %+v, want %s", got, c.want)
			}
			if replaced := got[0].ID != before.ID; replaced != (got[0].AnchorDay != 15) {
				t.Errorf("the id %s became %s", before.ID, got[0].ID)
			}
			listed := read[tenant](t, s.must(http.StatusOK, "GET", post, "")).Budgets
			if len(listed) != 1 || listed[0].said() != c.want {
				t.Errorf("listed as %+v, want %s", listed, c.want)
			}
		})
	}
}

func TestAWeekKeepsItsFirstDay(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant",
		`{"name":"x","budgets":[{"period":"weekly","weekStart":"sunday","limitUsd":"10"}]}`)
	got := read[tenant](t, s.must(http.StatusOK, "POST", "/admin/tenant/x/budgets", `{"period":"weekly","limitUsd":"20"}`))
	if b := got.Budgets; len(b) != 1 || b[0].WeekStart != "sunday" || b[0].LimitUsd != "20" {
		t.Errorf("became %+v", b)
	}
}

func TestAChangeThatCannotBeIsRefusedByName(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	before, path := s.fullBudget()
	for _, c := range []struct{ body, pointer, says string }{
		{`{"limitUsd":null}`, "#/limitUsd", "leave it out to keep it"},
		{`{"limitUsd":"-1"}`, "#/limitUsd", "want 0 to"},
		{`{"period":"daily"}`, "#/period", "cannot change"},
		{`{"scope":null}`, "#/scope", "cannot change"},
		{`{"duration":"24h"}`, "#/duration", "cannot change"},
		{`{"startDate":"2026-01-01"}`, "#/startDate", "cannot change"},
		{`{"anchorDay":32}`, "#/anchorDay", "want 1 to 31"},
		{`{"weekStart":"sunday"}`, "#/weekStart", "of a weekly budget"},
		{`{"alertsAt":[11]}`, "#/alertsAt", "at most 10"},
		{`{"limit":"1"}`, "#/limit", "unknown field"},
	} {
		p := s.refused(http.StatusBadRequest, "invalid_request", "PATCH", path, c.body)
		if len(p.Errors) != 1 || p.Errors[0].Pointer != c.pointer || !strings.Contains(p.Errors[0].Detail, c.says) {
			t.Errorf("%s is refused with %+v, want %s %s", c.body, p.Errors, c.pointer, c.says)
		}
	}
	s.refused(http.StatusNotFound, "not_found", "PATCH", "/admin/tenant/x/budgets/bud_unknown", `{"limitUsd":1}`)
	if after := read[tenant](t, s.must(http.StatusOK, "GET", "/admin/tenant/x", "")).Budgets[0]; after.said() != before.said() {
		t.Errorf("refused bodies made %s of %s", after.said(), before.said())
	}
}

func TestARaiseCanBeEnded(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	before, path := s.fullBudget()
	if before.LimitUsd != "15" || before.BaseLimitUsd != "10" {
		t.Errorf("raised, it is %s", before.said())
	}
	for range 2 { // the second time there is nothing to end
		ended := read[tenant](t, s.must(http.StatusOK, "DELETE", path+"/raise", "")).Budgets[0]
		if ended.said() != "10 10 [0.5 0.8] 15 0" {
			t.Errorf("ended, it is %s", ended.said())
		}
	}
	s.refused(http.StatusNotFound, "not_found", "DELETE", "/admin/tenant/x/budgets/bud_unknown/raise", "")
}

func TestARefusalNamesEveryFieldThatItIsAbout(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	_, path := s.fullBudget()
	for _, c := range []struct{ method, path, body, want string }{
		{"POST", "/admin/tenant/x/budgets", `{"period":"custom","limitUsd":1}`, "#/startDate #/endDate"},
		{
			"POST", "/admin/tenant/x/budgets", `{"budgets":[{"period":"custom","startDate":"2026-02-02","endDate":"2026-02-01","limitUsd":1}]}`,
			"#/budgets/0/startDate #/budgets/0/endDate",
		},
		{"POST", "/admin/tenant/x/budgets", `{"budgets":[{"period":"daily"}]}`, "#/budgets/0/limitUsd"},
		{"POST", "/admin/tenant/x/budgets", `{"period":"daily","limitUsd":1,"scope":{"apiKey":"k"}}`, "#/scope"},
		{"POST", path + "/raise", `{"usd":0}`, "#/usd"},
		{"POST", path + "/raise", `{"usd":1,"until":"2020-01-01T00:00:00Z"}`, "#/until"},
		{"PATCH", "/admin/tenant/x", `{"name":""}`, "#/name"},
		{"PUT", "/admin/tenant/x/ratelimit", `{"rateLimitPerMin":-1}`, "#/rateLimitPerMin"},
	} {
		p := s.refused(http.StatusBadRequest, "invalid_request", c.method, c.path, c.body)
		var at []string
		for _, e := range p.Errors {
			at = append(at, e.Pointer)
		}
		if got := strings.Join(at, " "); got != c.want {
			t.Errorf("%s %s points at %s, want %s", c.method, c.body, got, c.want)
		}
	}
}
