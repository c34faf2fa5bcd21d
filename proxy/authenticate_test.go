package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/apikey"
	"github.com/budgetguard/budgetguard/proxy"
)

func optional(c *proxy.Config) { c.AuthOptional = true }

func TestEveryBadKeyGetsTheSameAnswer(t *testing.T) {
	t.Parallel()
	for _, opt := range []bool{false, true} {
		g := start(t, setup{config: func(c *proxy.Config) { c.AuthOptional = opt }})
		key := g.tenant("acme", "100")
		past := time.Now().Add(-time.Hour)
		expired := g.key("acme", domain.IssueKey{ExpiresAt: &past})
		revoked := g.key("acme", domain.IssueKey{ID: "key_revoked"})
		g.do("acme", domain.RevokeKey{ID: "key_revoked", Actor: "admin"})
		other := "0"
		if strings.HasSuffix(key, "0") {
			other = "1"
		}
		want := ""
		for name, secret := range map[string]string{
			"missing": "", "malformed": "hello", "a wrong checksum": key[:len(key)-1] + other, "unknown": "bgk_" + strings.Repeat("A", 49),
			"too short": "bgk_", "too long": "bgk_" + strings.Repeat("A", 1000), "expired": expired, "revoked": revoked, "lower case": strings.ToLower(key),
		} {
			r := post(t, g.url+chatPath, chat(""), "X-API-Key", secret, "X-Request-Id", "req_1").want(t, 401)
			r.header.Del("Date")
			got := fmt.Sprint(r.header, string(r.body))
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("%s: got %s, others %s", name, got, want)
			}
		}
		g.nothingForwarded()
		g.chat(key, "").want(t, 200)
	}
}

func TestWhoseRequestItIs(t *testing.T) {
	t.Parallel()
	const acme, nobody = "ACME", "bgk_nobodys"
	cases := []struct {
		rule               string
		required, optional int
		header             []string
	}{
		{"a key", 200, 200, []string{"X-API-Key", acme}},
		{"a key as Bearer", 200, 200, []string{"Authorization", "Bearer " + acme}},
		{"bearer in lower case, spaces around", 200, 200, []string{"Authorization", "bearer   " + acme + " "}},
		{"the same key in both", 200, 200, []string{"Authorization", "Bearer " + acme, "X-API-Key", acme}},
		{"a key with its tenant", 200, 200, []string{"X-API-Key", acme, "X-Tenant-Id", "acme"}},
		{"a key with another tenant", 403, 403, []string{"X-API-Key", acme, "X-Tenant-Id", "free"}},
		{"an unknown key with a free tenant", 401, 401, []string{"X-API-Key", nobody, "X-Tenant-Id", "free"}},
		{"what is no key with a free tenant", 401, 401, []string{"X-API-Key", "hello", "X-Tenant-Id", "free"}},
		{"an unknown Bearer key with a free tenant", 401, 401, []string{"Authorization", "Bearer " + nobody, "X-Tenant-Id", "free"}},
		{"a tenant without keys", 401, 200, []string{"X-Tenant-Id", "free"}},
		{"a tenant without keys, somebody's Bearer", 401, 200, []string{"X-Tenant-Id", "free", "Authorization", "Bearer sk-somebody"}},
		{"a tenant without keys, Basic", 401, 200, []string{"X-Tenant-Id", "free", "Authorization", "Basic eDp5"}},
		{"a tenant with keys needs one", 401, 401, []string{"X-Tenant-Id", "acme"}},
		{"even after they are all revoked", 401, 401, []string{"X-Tenant-Id", "former"}},
		{"the demo tenant does not", 401, 200, []string{"X-Tenant-Id", "demo"}},
		{"a tenant nobody made", 401, 200, []string{"X-Tenant-Id", "new"}},
		{"two tenants", 401, 401, []string{"X-Tenant-Id", "free", "X-Tenant-Id", "demo"}},
		{"an invalid tenant", 401, 401, []string{"X-Tenant-Id", "No Slug"}},
		{"a reserved tenant", 401, 401, []string{"X-Tenant-Id", "_system"}},
		{"nothing", 401, 401, nil},
		{"somebody's Bearer alone", 401, 401, []string{"Authorization", "Bearer sk-somebody"}},
		{"somebody's Bearer beside a key", 401, 200, []string{"Authorization", "Bearer sk-somebody", "X-API-Key", acme}},
	}
	for _, opt := range []bool{false, true} {
		g := start(t, setup{most: 10, config: func(cfg *proxy.Config) { cfg.AuthOptional = opt }})
		key := g.tenant("acme", "100")
		g.keyless("free", "100")
		g.tenant("demo", "100")
		g.keyless("former", "100")
		g.key("former", domain.IssueKey{ID: "key_1"})
		g.do("former", domain.RevokeKey{ID: "key_1", Actor: "admin"})
		forwarded := 0
		for _, c := range cases {
			header := slices.Clone(c.header)
			for i := range header {
				header[i] = strings.ReplaceAll(header[i], acme, key)
			}
			want := c.required
			if opt {
				want = c.optional
			}
			r := post(t, g.url+chatPath, chat(`"max_tokens":5,`), header...)
			if r.status != want || want != 200 && r.code() == "" {
				t.Errorf("%s, optional %t: got %d %s", c.rule, opt, r.status, r.body)
			}
			if want == 200 {
				forwarded++
			}
		}
		seen := g.recorder.requests()
		if len(seen) != forwarded {
			t.Errorf("%d of %d were forwarded", len(seen), forwarded)
		}
		for _, s := range seen {
			if got := s.header.Get("Authorization"); got != "Bearer "+upstreamKey {
				t.Errorf("the provider got %q", got)
			}
		}
	}
}

func TestTenantsAreMadeOnFirstUseUpToTheBound(t *testing.T) {
	t.Parallel()
	g := start(t, setup{most: 3, config: optional})
	for i, want := range []int{200, 200, 200, 401, 401} {
		post(t, g.url+chatPath, chat(`"max_tokens":5,`), "X-Tenant-Id", fmt.Sprint("t", i)).want(t, want)
	}
	post(t, g.url+chatPath, chat(`"max_tokens":5,`), "X-Tenant-Id", "t0").want(t, 200)
	if ids, err := g.store.TenantIDs(t.Context(), "", 10); len(ids) != 3 || err != nil {
		t.Errorf("tenants %v, %v", ids, err)
	}
}

func TestABurstOfFirstRequestsOfATenantIsServed(t *testing.T) {
	t.Parallel()
	g := start(t, setup{most: 10, config: optional})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if r := post(t, g.url+chatPath, chat(`"max_tokens":5,`), "X-Tenant-Id", "new"); r.status != 200 {
				t.Errorf("got %d %s %v", r.status, r.body, r.err)
			}
		})
	}
	all.Wait()
}

func TestKeysFromBeforeThePepperStayValid(t *testing.T) {
	t.Parallel()
	pepper := []byte("a pepper of the installation")
	g := start(t, setup{config: func(c *proxy.Config) { c.Pepper = pepper }})
	before := g.tenant("acme", "100")
	g.chat(before, "").want(t, 200)
	after := "bgk_" + strings.Repeat("7", 49)
	g.key("acme", domain.IssueKey{Hash: apikey.Hash(pepper, after)})
	g.chat(after, "").want(t, 200)
	other := "bgk_" + strings.Repeat("8", 49)
	g.key("acme", domain.IssueKey{Hash: apikey.Hash([]byte("another pepper"), other)})
	g.chat(other, "").want(t, 401)
}

func TestARevokedKeyIsRefusedThoughTheCacheKnowsIt(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	g.keyless("acme", "100")
	key := g.key("acme", domain.IssueKey{ID: "key_1"})
	g.chat(key, "").want(t, 200) // and is in the cache
	g.quiet()
	g.do("acme", domain.RevokeKey{ID: "key_1", Actor: "admin"})
	if r := g.chat(key, "").want(t, 401); r.code() != "invalid_api_key" {
		t.Errorf("got %s", r.body)
	}
	g.forwarded()
}

func TestARevocationWinsAgainstRequestsUnderWay(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	g.keyless("acme", "100")
	key := g.key("acme", domain.IssueKey{ID: "key_1"})
	var all sync.WaitGroup
	var stop atomic.Bool
	for range 4 {
		all.Go(func() {
			for !stop.Load() {
				if r := g.chat(key, `"max_tokens":1,`); r.status != 200 && r.status != 401 {
					t.Errorf("got %d %s %v", r.status, r.body, r.err)
				}
			}
		})
	}
	eventually(t, "requests run", func() bool { return len(g.recorder.requests()) > 20 })
	g.do("acme", domain.RevokeKey{ID: "key_1", Actor: "admin"})
	stop.Store(true)
	all.Wait()
	g.quiet()
	revoked := false
	for _, e := range g.events("acme") {
		switch e.(type) { //nolint:gochecksumtype // two are enough
		case domain.APIKeyRevoked:
			revoked = true
		case domain.UsageReserved:
			if revoked {
				t.Error("a reservation behind the revocation")
			}
		}
	}
}

func TestASuspendedTenantIsRefusedAtOnceAndServedAgain(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	g.chat(key, "").want(t, 200)
	g.do("acme", domain.SuspendTenant{Actor: "admin"})
	g.chat(key, "").want(t, 403)
	g.do("acme", domain.ResumeTenant{Actor: "admin"})
	g.chat(key, "").want(t, 200)
}

func TestAnAbsentDirectoryIs503AndNo401(t *testing.T) {
	t.Parallel()
	g := start(t, setup{deps: func(d *proxy.Deps) { d.Directory = absent{} }})
	r := post(t, g.url+chatPath, chat(""), "X-API-Key", "bgk_x").want(t, http.StatusServiceUnavailable)
	if r.code() != "ledger_unavailable" || r.header.Get("Retry-After") != "1" {
		t.Errorf("got %s", r.body)
	}
}

type absent struct{ proxy.Directory }

func (absent) Credential(context.Context, string) (proxy.Credential, error) {
	return proxy.Credential{}, context.DeadlineExceeded
}

func TestThePolicySeesTheBudgetsAndADenialCostsNothing(t *testing.T) {
	t.Parallel()
	g := start(t, setup{policy: `package budgetguard.policy
default allow := false
allow if input.usage < input.budget
allow if input.stream
`})
	key := g.tenant("acme", "0.000217")
	g.chat(key, `"max_tokens":100,`).want(t, 200)
	g.quiet()
	broke := g.tenant("broke", "0")
	if r := g.chat(broke, "").want(t, 403); r.code() != "policy_denied" {
		t.Errorf("got %s", r.body)
	}
	g.chat(broke, `"stream":true,`).want(t, 402) // allowed by the policy, refused by the ledger
	g.forwarded()
}
