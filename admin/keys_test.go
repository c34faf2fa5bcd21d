package admin_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/apikey"
)

func TestAKeyIsShownOnceAndStoredAsItsHash(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x"}`)
	got := s.must(http.StatusCreated, "POST", "/admin/tenant/x/apikeys",
		`{"name":"search","expiresAt":"2099-01-01T01:00:00+01:00","models":["gpt-4o"],"tags":{"team":"search"}}`)
	issued := read[key](t, got)
	if _, ok := apikey.Parse(issued.Key); !ok || issued.Prefix != issued.Key[:12] || issued.Name != "search" || issued.CreatedAt.IsZero() {
		t.Fatalf("issued %s", got.body)
	}
	if got.header.Get("Cache-Control") != "no-store" {
		t.Error("a secret may be cached")
	}
	found, err := s.store.KeyByHash(t.Context(), apikey.Hash([]byte("pepper"), issued.Key))
	if err != nil || found.Tenant != "x" || string(found.Key) != issued.ID {
		t.Errorf("by its hash: %+v, %v", found, err)
	}
	shown := s.must(http.StatusOK, "GET", "/admin/tenant/x", "")
	listed := read[tenant](t, shown).APIKeys
	if len(listed) != 1 || listed[0].ID != issued.ID || listed[0].RevokedAt != nil || fmt.Sprint(listed[0].Models, listed[0].Tags) != "[gpt-4o] map[team:search]" ||
		listed[0].ExpiresAt.Format("15:04 MST") != "00:00 UTC" || !listed[0].CreatedAt.Equal(issued.CreatedAt) {
		t.Errorf("listed %s", shown.body)
	}
	events := s.must(http.StatusOK, "GET", "/admin/tenant/x/events", "")
	for name, text := range map[string]string{"tenant": string(shown.body), "events": string(events.body), "log": s.log.String()} {
		if strings.Contains(text, issued.Key[12:]) {
			t.Errorf("the secret shows in the %s", name)
		}
	}
}

func TestARevokedKeyReservesNothingFromTheAnswerOn(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x"}`)
	issued := read[key](t, s.must(http.StatusCreated, "POST", "/admin/tenant/x/apikeys", ""))
	if _, err := s.reserve(1, 1, domain.KeyID(issued.ID)); err != nil {
		t.Fatal(err)
	}
	s.must(http.StatusNoContent, "DELETE", "/admin/tenant/x/apikeys/"+issued.ID, "")
	if _, err := s.reserve(2, 1, domain.KeyID(issued.ID)); !errors.Is(err, domain.ErrKeyUnusable) {
		t.Errorf("a revoked key reserves: %v", err)
	}
	s.must(http.StatusNoContent, "DELETE", "/admin/tenant/x/apikeys/"+issued.ID, "")
	s.refused(http.StatusNotFound, "not_found", "DELETE", "/admin/tenant/x/apikeys/key_unknown", "")
	if listed := read[tenant](t, s.must(http.StatusOK, "GET", "/admin/tenant/x", "")).APIKeys; len(listed) != 1 || listed[0].RevokedAt == nil {
		t.Errorf("listed %+v", listed)
	}
}

func TestAKeyThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x"}`)
	many := strings.TrimSuffix(strings.Repeat(`"m",`, 65), ",")
	for _, c := range []struct{ body, pointer string }{
		{`{"expiresAt":"2020-01-01T00:00:00Z"}`, "#/expiresAt"},
		{`{"expiresAt":"2099-01-01"}`, "#/expiresAt"},
		{`{"expiresAt":4102444800}`, "#/expiresAt"},
		{`{"models":[]}`, "#/models"},
		{`{"models":[""]}`, "#/models"},
		{`{"models":[1]}`, "#/models"},
		{`{"models":"gpt-4o"}`, "#/models"},
		{`{"models":[` + many + `]}`, "#/models"},
		{`{"tags":{"team":1}}`, "#/tags"},
		{`{"tags":{"":"x"}}`, "#/tags"},
		{`{"tags":{"a,b":"x"}}`, "#/tags"},
		{`{"tags":{"team":"` + strings.Repeat("x", 64) + `"}}`, "#/tags"},
		{`{"tags":["team"]}`, "#/tags"},
		{`{"name":"` + strings.Repeat("x", 201) + `"}`, "#/name"},
		{`{"id":"key_mine"}`, "#/id"},
		{`{"key":"bgk_mine"}`, "#/key"},
	} {
		p := s.refused(http.StatusBadRequest, "invalid_request", "POST", "/admin/tenant/x/apikeys", c.body)
		if len(p.Errors) != 1 || p.Errors[0].Pointer != c.pointer {
			t.Errorf("%.80s: %+v", c.body, p.Errors)
		}
	}
}

func TestRateLimitOfATenant(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x"}`)
	const at = "/admin/tenant/x/ratelimit"
	for _, c := range []struct{ set, want string }{
		{"", `{"rateLimitPerMin":null,"effective":100}`},
		{`{"rateLimitPerMin":50}`, `{"rateLimitPerMin":50,"effective":50}`},
		{`{"rateLimitPerMin":0}`, `{"rateLimitPerMin":0,"effective":0}`},
		{`{"rateLimitPerMin":null}`, `{"rateLimitPerMin":null,"effective":100}`},
	} {
		if c.set != "" {
			if got := s.must(http.StatusOK, "PUT", at, c.set); strings.TrimSpace(string(got.body)) != c.want {
				t.Errorf("PUT %s: %s", c.set, got.body)
			}
		}
		if got := s.must(http.StatusOK, "GET", at, ""); strings.TrimSpace(string(got.body)) != c.want {
			t.Errorf("after %s: %s", c.set, got.body)
		}
	}
	for _, body := range []string{`{}`, `{"rateLimitPerMin":-1}`, `{"rateLimitPerMin":1000001}`, `{"rateLimitPerMin":1e2}`, `{"rateLimitPerMin":99999999999999999999}`, `{"limit":5}`} {
		s.refused(http.StatusBadRequest, "invalid_request", "PUT", at, body)
	}
}
