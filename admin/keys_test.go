package admin_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
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

func TestARotatedKeysOldSecretWorksUntilItsGraceEnds(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x"}`)
	old := read[key](t, s.must(http.StatusCreated, "POST", "/admin/tenant/x/apikeys", `{"name":"search","tags":{"team":"search"}}`))
	at := "/admin/tenant/x/apikeys/" + old.ID + "/rotate"
	got := s.must(http.StatusOK, "POST", at, `{"graceSeconds":3600}`)
	renewed := read[key](t, got)
	if _, ok := apikey.Parse(renewed.Key); !ok || renewed.Key == old.Key || renewed.ID != old.ID || renewed.Name != "search" ||
		renewed.Prefix != renewed.Key[:12] || renewed.Tags["team"] != "search" || renewed.Models != nil || time.Until(*renewed.OldUntil) < 59*time.Minute {
		t.Fatalf("rotated %s", got.body)
	}
	byHash := func(secret string) (eventstore.KeyRecord, error) {
		return s.store.KeyByHash(t.Context(), apikey.Hash([]byte("pepper"), secret))
	}
	if k, err := byHash(renewed.Key); err != nil || k.ExpiresAt != nil || string(k.Key) != old.ID {
		t.Errorf("the new secret: %+v, %v", k, err)
	}
	if k, err := byHash(old.Key); err != nil || k.ExpiresAt == nil || !k.ExpiresAt.Equal(*renewed.OldUntil) || string(k.Key) != old.ID {
		t.Errorf("the old secret: %+v, %v", k, err)
	}
	last := read[key](t, s.must(http.StatusOK, "POST", at, "")) // at once
	for name, secret := range map[string]string{"before last": old.Key, "last": renewed.Key} {
		if _, err := byHash(secret); !errors.Is(err, domain.ErrKeyUnknown) {
			t.Errorf("the secret %s works: %v", name, err)
		}
	}
	if _, err := byHash(last.Key); err != nil {
		t.Error(err)
	}
	if shown := s.must(http.StatusOK, "GET", "/admin/tenant/x", ""); strings.Contains(string(shown.body), last.Key[12:]) {
		t.Error("the secret shows in the tenant")
	}
	for _, body := range []string{`{"graceSeconds":-1}`, `{"graceSeconds":2592001}`, `{"graceSeconds":9223372036854775807}`, `{"graceSeconds":"1h"}`, `{"grace":1}`} {
		s.refused(http.StatusBadRequest, "invalid_request", "POST", at, body)
	}
	s.must(http.StatusNoContent, "DELETE", "/admin/tenant/x/apikeys/"+old.ID, "")
	s.refused(http.StatusNotFound, "not_found", "POST", at, "")
	s.refused(http.StatusNotFound, "not_found", "POST", "/admin/tenant/x/apikeys/key_unknown/rotate", "")
}

func TestOfTwoEndsOfAnOldSecretTheEarlierCounts(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x"}`)
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	old := read[key](t, s.must(http.StatusCreated, "POST", "/admin/tenant/x/apikeys", `{"expiresAt":"`+expires.Format(time.RFC3339Nano)+`"}`))
	s.must(http.StatusOK, "POST", "/admin/tenant/x/apikeys/"+old.ID+"/rotate", `{"graceSeconds":86400}`)
	k, err := s.store.KeyByHash(t.Context(), apikey.Hash([]byte("pepper"), old.Key))
	if err != nil || !k.ExpiresAt.Equal(expires) {
		t.Errorf("%+v, %v; want it to end at %s", k, err, expires)
	}
}

func TestASuspendedKeyReservesNothingUntilItIsResumed(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x"}`)
	issued := read[key](t, s.must(http.StatusCreated, "POST", "/admin/tenant/x/apikeys", `{"requiredTags":["team","env"]}`))
	if fmt.Sprint(issued.RequiredTags) != "[team env]" || issued.OldUntil != nil {
		t.Errorf("issued %+v", issued)
	}
	at := "/admin/tenant/x/apikeys/" + issued.ID
	if got := read[key](t, s.must(http.StatusOK, "POST", at+"/suspend", `{"reason":"leaked?"}`)); !got.Suspended || got.ID != issued.ID || got.Key != "" {
		t.Errorf("suspended %+v", got)
	}
	if _, err := s.reserve(1, 1, domain.KeyID(issued.ID)); !errors.Is(err, domain.ErrKeyUnusable) {
		t.Errorf("a suspended key reserves: %v", err)
	}
	record, err := s.store.KeyByHash(t.Context(), apikey.Hash([]byte("pepper"), issued.Key))
	if err != nil || !record.Suspended || fmt.Sprint(record.RequiredTags) != "[team env]" {
		t.Errorf("by its hash: %+v, %v", record, err)
	}
	if got := read[key](t, s.must(http.StatusOK, "POST", at+"/resume", "")); got.Suspended {
		t.Errorf("resumed %+v", got)
	}
	if _, err := s.reserve(1, 1, domain.KeyID(issued.ID)); !errors.Is(err, domain.ErrInvalid) || !strings.Contains(err.Error(), "requires the tag") {
		t.Errorf("without its tags: %v", err)
	}
	s.refused(http.StatusBadRequest, "invalid_request", "POST", at+"/resume", `{"reason":"x"}`)
	s.refused(http.StatusNotFound, "not_found", "POST", "/admin/tenant/x/apikeys/key_unknown/suspend", "")
	s.refused(http.StatusNotFound, "not_found", "POST", "/admin/tenant/x/apikeys/key_unknown/resume", "")
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
		{`{"requiredTags":"team"}`, "#/requiredTags"},
		{`{"requiredTags":["a=b"]}`, "#/requiredTags"},
		{`{"requiredTags":[""]}`, "#/requiredTags"},
		{`{"requiredTags":["a","a"]}`, "#/requiredTags"},
		{`{"requiredTags":[1]}`, "#/requiredTags"},
		{`{"requiredTags":["` + strings.Repeat("x", 64) + `"]}`, "#/requiredTags"},
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
