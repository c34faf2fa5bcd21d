package proxy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/mockupstream"
	"github.com/budgetguard/budgetguard/internal/testenv"
	"github.com/budgetguard/budgetguard/proxy"
	"github.com/budgetguard/budgetguard/proxy/ratelimit"
)

// refusal is a row of the contract's table of errors.
type refusal struct {
	name   string
	status int
	code   string
	// send gets the path to a fresh URL and headers to add.
	method, path, body string
	header             []string
}

// moving are the parts of an error that no golden can hold.
var moving = regexp.MustCompile(`"resetsAt":"[^"]*"|(X-Ratelimit-Reset|Retry-After): \d+|[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}`)

// shown is an answer as the golden files keep it.
func (r reply) shown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d\n", r.status)
	for _, name := range []string{
		"Allow", "Cache-Control", "Content-Type", "Retry-After", "X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset",
		"X-Request-Id", "X-Should-Retry", "X-Budgetguard-Reservation", "X-Budgetguard-Cost-Usd",
	} {
		if v := r.header.Values(name); len(v) > 0 {
			fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(v, " | "))
		}
	}
	return moving.ReplaceAllString(b.String()+"\n"+string(r.body), `$1<moves>`)
}

// inBothDialects sends a request as an API key and as a Bearer token, and compares both answers with
// their golden files.
func (g *gateway) inBothDialects(c refusal, key string) {
	g.tb.Helper()
	for dialect, credential := range map[string][]string{
		"plain": {"X-API-Key", key}, "openai": {"Authorization", "Bearer " + key},
	} {
		header := slices.Concat([]string{"X-Request-Id", "req_golden"}, credential, c.header)
		r := send(request(g.tb, c.method, g.url+c.path, strings.NewReader(c.body), header...)).want(g.tb, c.status)
		if r.code() != c.code {
			g.tb.Errorf("%s: code %q, want %q", c.name, r.code(), c.code)
		}
		wellFormed(g.tb, dialect, r)
		golden(g.tb, "errors/"+c.name+"."+dialect+".txt", r.shown())
	}
}

// wellFormed checks what each dialect promises of every error.
func wellFormed(tb testing.TB, dialect string, r reply) {
	tb.Helper()
	if dialect == "plain" && !strings.HasPrefix(string(r.body), `{"error":"`) {
		tb.Errorf("error is not first, or no string: %s", r.body)
	}
	if dialect == "openai" {
		var body map[string]map[string]any
		check(tb, json.Unmarshal(r.body, &body))
		for _, key := range []string{"message", "type", "param", "code"} {
			if _, there := body["error"][key]; !there || len(body["error"]) != 4 {
				tb.Errorf("want the four keys of OpenAI's errors: %s", r.body)
			}
		}
	}
	final := r.status == http.StatusPaymentRequired || r.status == http.StatusConflict ||
		r.status == http.StatusGatewayTimeout // which may have been billed
	if (r.header.Get("X-Should-Retry") == "false") != final {
		tb.Errorf("x-should-retry is %q at %d", r.header.Get("X-Should-Retry"), r.status)
	}
	later := r.status == http.StatusTooManyRequests || r.status == http.StatusServiceUnavailable || r.code() == "idempotency_in_progress"
	if wait := r.header.Get("Retry-After"); (wait != "") != later {
		tb.Errorf("retry-after is %q at %d", wait, r.status)
	}
}

func TestEveryRefusalHasItsStatusCodeAndBodyInBothDialects(t *testing.T) {
	t.Parallel()
	g := start(t, setup{
		policy: "package budgetguard.policy\nallow := true\ndeny contains \"not on production\" if input.tags.env == \"prod\"\n",
		deps:   func(d *proxy.Deps) { d.Limiter = cursed{d.Limiter} },
	})
	key := g.tenant("acme", "100")
	post, image := http.MethodPost, `{"model":"gpt-3.5-turbo","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x"}}]}]}`
	for _, c := range []refusal{
		{"400-bad-json", 400, "invalid_request", post, chatPath, `{"model":`, nil},
		{"400-duplicate-key", 400, "invalid_request", post, chatPath, chat(`"model":"gpt-4o",`), nil},
		{"400-no-model", 400, "invalid_request", post, chatPath, `{"messages":[]}`, nil},
		{"400-tags", 400, "invalid_request", post, chatPath, chat(""), []string{"X-BudgetGuard-Tags", "team"}},
		{"400-unknown-model", 400, "model_not_priced", post, chatPath, `{"model":"gpt-3.5-turbos","messages":[]}`, nil},
		{"400-unknown-tier", 400, "model_not_priced", post, chatPath, chat(`"service_tier":"scale",`), nil},
		{"400-no-completions", 400, "model_not_priced", post, chatPath, `{"model":"text-embedding-3-small","messages":[]}`, nil},
		{"400-image", 400, "not_estimable", post, chatPath, image, nil},
		{"400-search", 400, "not_estimable", post, chatPath, `{"model":"gpt-4o-search-preview","messages":[]}`, nil},
		{"403-policy", 403, "policy_denied", post, chatPath, chat(""), []string{"X-BudgetGuard-Tags", "env=prod"}},
		{"403-mismatch", 403, "tenant_mismatch", post, chatPath, chat(""), []string{"X-Tenant-Id", "other"}},
		{"404", 404, "not_found", post, "/v1/embeddings", `{}`, nil},
		{"405", 405, "method_not_allowed", http.MethodGet, chatPath, "", nil},
		{"415-type", 415, "unsupported_media_type", post, chatPath, chat(""), []string{"Content-Type", "text/plain"}},
		{"415-gzip", 415, "unsupported_media_type", post, chatPath, chat(""), []string{"Content-Encoding", "gzip"}},
	} {
		g.inBothDialects(c, key)
	}
	call := refusal{method: post, path: chatPath, body: chat("")}
	call.name, call.status, call.code = "401", 401, "invalid_api_key"
	g.inBothDialects(call, "bgk_nobodys")
	call.name, call.status, call.code = "402", 402, "budget_exceeded"
	g.inBothDialects(call, g.tenant("poor", "0.000001"))
	call.name, call.status, call.code = "500", 500, "internal"
	curse, five := g.tenant("cursed", ""), int64(5)
	g.do("cursed", domain.SetRateLimit{PerMin: &five})
	g.inBothDialects(call, curse)
	halted := g.tenant("halted", "")
	g.do("halted", domain.SuspendTenant{Actor: "admin"})
	call.name, call.status, call.code = "403-suspended", 403, "tenant_suspended"
	g.inBothDialects(call, halted)
	call.name, call.status, call.code = "403-model", 403, "model_not_allowed"
	g.inBothDialects(call, g.key("acme", domain.IssueKey{Models: []string{"gpt-4o"}}))
	g.nothingForwarded()
}

// cursed is a limiter with a bug that one tenant meets.
type cursed struct{ proxy.Limiter }

func (c cursed) Admit(ctx context.Context, tenant string, perMinute int64) ratelimit.Verdict {
	if tenant == "cursed" {
		panic("a bug")
	}
	return c.Limiter.Admit(ctx, tenant, perMinute)
}

func TestABodyAboveTheLimitIs413(t *testing.T) {
	t.Parallel()
	g := start(t, setup{config: func(c *proxy.Config) { c.MaxBody = 100 }})
	key := g.tenant("acme", "100")
	g.inBothDialects(refusal{"413", 413, "request_too_large", http.MethodPost, chatPath, strings.Repeat(" ", 100) + chat(""), nil}, key)
	g.nothingForwarded()
}

func TestNoUpstreamKeyAtAllIs400(t *testing.T) {
	t.Parallel()
	g := start(t, setup{config: func(c *proxy.Config) { c.UpstreamKey = "" }})
	key := g.tenant("acme", "100")
	g.inBothDialects(refusal{"400-no-upstream-key", 400, "invalid_request", http.MethodPost, chatPath, chat(""), nil}, key)
	g.nothingForwarded()
	g.chat(key, "", "X-OpenAI-Key", callersKey).want(t, 200)
}

func TestTheRateLimitIs429WithTheWait(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	two := int64(2)
	g.do("acme", domain.SetRateLimit{PerMin: &two})
	for want := range two {
		r := g.chat(key, "").want(t, 200)
		if left := r.header.Get("X-RateLimit-Remaining"); left != fmt.Sprint(1-want) {
			t.Errorf("%s are left after %d", left, want+1)
		}
	}
	g.inBothDialects(refusal{"429", 429, "rate_limit_exceeded", http.MethodPost, chatPath, chat(""), nil}, key)
	r := g.chat(key, "").want(t, 429)
	if wait := r.header.Get("Retry-After"); wait != r.header.Get("X-RateLimit-Reset") || len(wait) != 2 {
		t.Errorf("the wait is %q and %q", wait, r.header.Get("X-RateLimit-Reset"))
	}
}

func TestAnUnreachableProviderIs502AndCostsNothing(t *testing.T) {
	t.Parallel()
	g := start(t, setup{address: closedPort(t)})
	key := g.tenant("acme", "100")
	g.inBothDialects(refusal{"502", 502, "upstream_unreachable", http.MethodPost, chatPath, chat(""), nil}, key)
	for _, r := range of[domain.ReservationReleased](g, "acme") {
		if r.Reason != "not_sent" {
			t.Errorf("released because of %q", r.Reason)
		}
	}
	if n := len(of[domain.UsageSettled](g, "acme")); n != 0 {
		t.Errorf("%d charges for what was never sent", n)
	}
	// Two calls, each counted under one decision.
	if n := g.metric("budgetguard_requests_total", ""); n != 2 {
		t.Errorf("%v decisions are counted for two calls", n)
	}
}

func TestASlowProviderIs504AndPresumed(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: atLeast, config: func(c *proxy.Config) { c.UpstreamTimeout = time.Second }})
	key := g.tenant("acme", "100")
	g.settings(t, func(s *mockupstream.Settings) { s.Hold = true })
	g.inBothDialects(refusal{"504", 504, "upstream_timeout", http.MethodPost, chatPath, chat(""), nil}, key)
	for _, s := range of[domain.UsageSettled](g, "acme") {
		if s.Basis != domain.BasisPresumed || s.Charged != s.Reserved || s.Reason != "upstream_timeout" {
			t.Errorf("settled %+v", s)
		}
	}
}

func TestWithoutPostgresItIs503AndNothingIsForwarded(t *testing.T) {
	t.Parallel()
	server := testenv.Server(t)
	g := start(t, setup{database: server.URL()})
	key := g.tenant("acme", "100")
	g.chat(key, "").want(t, 200)
	g.quiet()
	check(t, server.StopImmediate(t.Context()))
	g.inBothDialects(refusal{"503", 503, "ledger_unavailable", http.MethodPost, chatPath, chat(""), nil}, key)
	g.forwarded() // the first one alone
	check(t, server.Start(t.Context()))
	g.store.Pool().Reset() // the connections of the test itself
	eventually(t, "the gateway recovers", func() bool { return g.chat(key, "").status == 200 })
	if n := len(g.recorder.requests()); n != 2 {
		t.Errorf("%d requests reached the provider, want the two that were answered", n)
	}
}

func TestASettlementWaitsForPostgresToComeBack(t *testing.T) {
	t.Parallel()
	server := testenv.Server(t)
	g := start(t, setup{database: server.URL()})
	key := g.tenant("acme", "100")
	g.settings(t, func(s *mockupstream.Settings) { s.Hold = true })
	answered := make(chan reply, 1)
	go func() { answered <- g.chat(key, "") }()
	eventually(t, "the call is under way", func() bool { return g.mock.Held() == 1 })
	check(t, server.StopImmediate(t.Context()))
	g.settings(t, func(s *mockupstream.Settings) { s.Hold = false })
	(<-answered).want(t, 200) // what it cost is known, and the client has no part in the outage
	check(t, server.Start(t.Context()))
	g.store.Pool().Reset() // the connections of the test itself
	g.settled("acme")
}

func TestErrorFormatForcesADialect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dialect proxy.Dialect
		header  string
		want    string
	}{
		{proxy.DialectPlain, "Authorization", `{"error":"`},
		{proxy.DialectOpenAI, "X-API-Key", `{"error":{"`},
		{proxy.DialectAuto, "X-API-Key", `{"error":"`},
		{proxy.DialectAuto, "Authorization", `{"error":{"`},
	} {
		g := start(t, setup{config: func(cfg *proxy.Config) { cfg.Errors = c.dialect }})
		r := post(t, g.url+chatPath, chat(""), c.header, "Bearer bgk_nobodys").want(t, 401)
		if !strings.HasPrefix(string(r.body), c.want) {
			t.Errorf("%s with %s: got %s", c.dialect, c.header, r.body)
		}
	}
}

func TestUnknownPathsAndMethodsAreOursToRefuse(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/v1", 404},
		{"GET", "/v1/models/", 404},
		{"POST", chatPath + "/", 404},
		{"POST", "/v1/chat/completions/x", 404},
		{"POST", "/v1/responses", 404},
		{"POST", "/v1/Chat/Completions", 404},
		{"PUT", chatPath, 405},
		{"DELETE", completionPath, 405},
		{"FROB", chatPath, 405},
		{"FROB", "/v1/models", 405},
		{"OPTIONS", "/v1/models", 405},
		{"DELETE", "/v1/models/gpt-4o", 405},
	} {
		r := send(request(t, c.method, g.url+c.path, strings.NewReader("{}"))).want(t, c.status)
		if r.code() == "" || r.header.Get("X-Request-Id") == "" {
			t.Errorf("%s %s: not our error: %s", c.method, c.path, r.body)
		}
		if (r.header.Get("Allow") != "") != (c.status == 405) {
			t.Errorf("%s %s: Allow is %q", c.method, c.path, r.header.Get("Allow"))
		}
	}
	g.nothingForwarded()
}

func TestTheRequestIDIsTheCallersIfHarmless(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	for id, kept := range map[string]bool{"abc-1.2:3_X": true, "": false, "a b": false, "<script>": false, strings.Repeat("x", 129): false} {
		r := post(t, g.url+chatPath, "{}", "X-Request-Id", id).want(t, 401)
		if got := r.header.Get("X-Request-Id"); (got == id) != kept || !kept && !strings.HasPrefix(got, "req_") {
			t.Errorf("id %q became %q", id, got)
		}
	}
}

// metric is the sum of a counter over all its labels that contain the text.
func (g *gateway) metric(name, label string) (sum float64) {
	g.tb.Helper()
	families, err := g.registry.Gather()
	check(g.tb, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && strings.Contains(m.String(), label) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
