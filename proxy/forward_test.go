package proxy_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// nosy is everything a client may send along that must not reach the provider.
var nosy = []string{
	"X-Tenant-Id", "acme", "Cookie", "session=1", "X-Forwarded-For", "1.2.3.4", "X-Forwarded-Host", "evil", "Forwarded", "for=1.2.3.4",
	"OpenAI-Organization", "org-1", "OpenAI-Project", "proj-1", "Api-Key", "k", "X-Goog-Api-Key", "k", "Proxy-Authorization", "Basic eA==",
	"Connection", "X-Secret", "X-Secret", "s", "Te", "trailers", "Keep-Alive", "timeout=5", "X-Stainless-Lang", "go", "Referer", "http://x",
	"Idempotency-Key", "once", "X-BudgetGuard-Tags", "team=a", "X-BudgetGuard-Clamp", "true", "Accept-Encoding", "br", "Via", "1.1 x",
	"Traceparent", "00-1-2-3", "Range", "bytes=0-1", "If-None-Match", "x", "Accept-Language", "de",
	"Accept", "application/json", "User-Agent", "OpenAI/Go 3", "OpenAI-Beta", "assistants=v2",
}

func TestOnlyTheAllowedHeadersReachTheProvider(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	body := ` {"max_tokens" : 7, "metadata":{"big":12345678901234567890,"e":1e400,"u":"\u00e9é"},"model":"gpt-3.5-turbo","messages":[{"role":"user","content":"` + prompt + `"}]}` + "\n"
	r := post(t, g.url+chatPath+"?key=abc&api-version=1", body, append([]string{"Authorization", "Bearer " + key}, nosy...)...).want(t, 200)
	seen := g.forwarded()
	want := map[string]string{
		"Accept": "application/json", "Accept-Encoding": "identity", "Authorization": "Bearer " + upstreamKey, "Content-Type": "application/json",
		"Openai-Beta": "assistants=v2", "User-Agent": "OpenAI/Go 3", "X-Request-Id": r.header.Get("X-Request-Id"),
	}
	for _, name := range slices.Sorted(maps.Keys(seen.header)) {
		if name == "Content-Length" {
			continue
		}
		if want[name] != strings.Join(seen.header[name], "|") {
			t.Errorf("%s: %q reached the provider", name, seen.header[name])
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	if seen.method != http.MethodPost || seen.target != chatPath {
		t.Errorf("%s %s", seen.method, seen.target)
	}
	if string(seen.body) != body {
		t.Errorf("the body became %s", seen.body)
	}
}

func TestAStreamsBodyChangesOnlyInIncludeUsage(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	body := chat(`"stream" : true, "metadata":{"n":1.0},`)
	post(t, g.url+chatPath, body, "X-API-Key", key).want(t, 200)
	want := `{"stream_options":{"include_usage":true},` + body[1:]
	if got := string(g.forwarded().body); got != want {
		t.Errorf("the body became %s", got)
	}
}

func TestTheCallersOwnKeyWinsOverTheConfiguredOne(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	g.chat(key, "", "X-OpenAI-Key", callersKey).want(t, 200)
	seen := g.forwarded()
	if got := seen.header.Get("Authorization"); got != "Bearer "+callersKey || seen.header.Get("X-Openai-Key") != "" {
		t.Errorf("the provider got %v", seen.header)
	}
}

func TestOnlyTheAllowedHeadersComeBack(t *testing.T) {
	t.Parallel()
	allowed := map[string]string{
		"Openai-Processing-Ms": "12", "Openai-Version": "2020-10-01", "X-Ratelimit-Limit-Requests": "60", "X-Ratelimit-Limit-Tokens": "61",
		"X-Ratelimit-Remaining-Requests": "1", "X-Ratelimit-Remaining-Tokens": "2", "X-Ratelimit-Reset-Requests": "1s",
		"X-Ratelimit-Reset-Tokens": "2s", "Retry-After": "3", "Retry-After-Ms": "3000", "X-Should-Retry": "true",
	}
	header := []string{
		"Set-Cookie", "a=b", "Server", "cloud", "Openai-Organization", "org-1", "Alt-Svc", "h3", "Strict-Transport-Security", "max-age=1",
		"Access-Control-Allow-Origin", "*", "X-BudgetGuard-Cost-Usd", "0", "X-RateLimit-Limit", "1", "Cf-Ray", "x", "X-Request-Id", "req_theirs",
		"Location", "http://evil",
	}
	for name, value := range allowed {
		header = append(header, name, value)
	}
	for kind, body := range map[string]string{"application/json": answered("gpt-3.5-turbo", "default", 10, 5), "text/event-stream": delta + usage + done} {
		g := start(t, setup{books: unbilled, upstream: canned(200, kind, body, header...)})
		r := g.chat(g.tenant("acme", "100"), "", "X-Request-Id", "req_ours").want(t, 200)
		for name, value := range allowed {
			if got := r.header.Get(name); got != value {
				t.Errorf("%s is %q, want %q", name, got, value)
			}
			r.header.Del(name)
		}
		if r.header.Get("X-Request-Id") != "req_ours" || r.header.Get("X-Upstream-Request-Id") != "req_theirs" {
			t.Errorf("request ids: %v", r.header)
		}
		for _, name := range []string{
			"X-Request-Id", "X-Upstream-Request-Id", "X-Budgetguard-Reservation", "X-Budgetguard-Estimated-Usd", "X-Budgetguard-Remaining-Usd",
			"Server-Timing", "Content-Type", "Content-Length", "Date", "Cache-Control", "X-Accel-Buffering",
		} {
			r.header.Del(name)
		}
		if cost := r.header.Get("X-BudgetGuard-Cost-Usd"); (cost == "0.00002") != (kind == "application/json") {
			t.Errorf("%s: the cost is %q", kind, cost)
		}
		r.header.Del("X-BudgetGuard-Cost-Usd")
		if len(r.header) > 0 {
			t.Errorf("%s: also came %v", kind, r.header)
		}
		g.settled("acme")
	}
}
