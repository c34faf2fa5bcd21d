package admin_test

import (
	"bytes"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

func TestProblemsLookAsTheyDid(t *testing.T) {
	t.Parallel()
	clock := &hands{at: time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)}
	closed := openSite(t, func(set *setup) { set.cfg.AdminKey = "" })
	s := openSite(t, func(set *setup) {
		set.deps.Now = clock.now
		set.deps.Policy = load(t, "package budgetguard.policy\ndefault allow := true\ndeny contains \"frozen until Monday\" if input.tenant == \"frozen\"\n")
	})
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x"}`)
	for _, c := range []struct {
		name, method, target, body string
		on                         *site
		headers                    []string
	}{
		{name: "invalid_body", method: "POST", target: "/admin/tenant", body: `{"name":"y","budgets":[{"period":"fortnightly","limitUsd":"1.0000000001"}],"colour":"red"}`},
		{name: "invalid_json", method: "POST", target: "/admin/tenant", body: `{"name":"y",}`},
		{name: "invalid_query", method: "GET", target: "/admin/tenant-usage?groupBy=colour&form=2026"},
		{name: "invalid_admin_key", method: "GET", target: "/admin/tenants", headers: []string{"X-Admin-Key", "wrong"}},
		{name: "policy_denied", method: "GET", target: "/admin/tenant/frozen"},
		{name: "not_found", method: "GET", target: "/admin/tenant/nobody"},
		{name: "not_found_path", method: "GET", target: "/admin/nothing"},
		{name: "method_not_allowed", method: "PUT", target: "/admin/tenant"},
		{name: "no_idempotency_key", method: "POST", target: "/admin/tenant/x/adjustments", body: `{"usd":"-1","reason":"x","more":1}`},
		{name: "tenant_exists", method: "POST", target: "/admin/tenant", body: `{"name":"x"}`},
		{name: "unsupported_media_type", method: "POST", target: "/admin/tenant", body: `{"name":"y"}`, headers: []string{"Content-Type", "text/plain"}},
		{name: "admin_disabled", method: "GET", target: "/admin/tenants", on: closed},
	} {
		site := s
		if c.on != nil {
			site = c.on
		}
		got := site.send(c.method, c.target, c.body, append([]string{"X-Request-Id", "req-1"}, c.headers...)...)
		golden(t, c.name+".json", got.body)
	}
	s.store.Close()
	golden(t, "ledger_unavailable.json", s.send("GET", "/admin/tenant/x", "", "X-Request-Id", "req-1").body)
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got %s, want %s", name, got, want)
	}
}
