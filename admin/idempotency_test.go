package admin_test

import (
	"net/http"
	"testing"
)

func TestAnIdempotencyKeyIsNeverIgnored(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	before, path := s.fullBudget()
	for _, c := range []struct{ path, body string }{
		{"/admin/tenant", `{"name":"y"}`},
		{"/admin/tenant/x/budgets", `{"period":"daily","limitUsd":1}`},
		{path + "/raise", `{"usd":1}`},
		{"/admin/tenant/x/apikeys", `{}`},
		{"/admin/tenant/x/suspend", `{}`},
	} {
		s.refused(http.StatusBadRequest, "invalid_request", "POST", c.path, c.body, "Idempotency-Key", "a")
	}
	got := read[tenant](t, s.must(http.StatusOK, "GET", "/admin/tenant/x", "", "Idempotency-Key", "a"))
	if len(got.APIKeys) != 0 || len(got.Budgets) != 1 || got.Budgets[0].said() != before.said() || got.Suspended {
		t.Errorf("refused requests left %+v", got)
	}
}
