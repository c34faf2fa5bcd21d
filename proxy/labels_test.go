package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/proxy"
)

// slowly is a provider that sends pieces, each when it is asked for.
func slowly(kind string, pieces <-chan string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = nil
		if kind != "" {
			w.Header().Set("Content-Type", kind)
		}
		for piece := range pieces {
			_, _ = io.WriteString(w, piece)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// open sends a chat request and gives its answer as soon as it has begun.
func (g *gateway) open(key, more string) *http.Response {
	g.tb.Helper()
	r := request(g.tb, http.MethodPost, g.url+chatPath, strings.NewReader(chat(more)), "X-API-Key", key)
	answer, err := http.DefaultClient.Do(r)
	check(g.tb, err)
	return answer
}

func TestAStreamIsOneByItsFirstBytesWhateverItsLabel(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"application/json", "", "text/event-stream; charset", "text/plain", "TEXT/EVENT-STREAM"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			pieces := make(chan string, 1)
			pieces <- delta
			g := start(t, setup{books: unbilled, upstream: slowly(kind, pieces)})
			answer := g.open(g.tenant("acme", "100"), `"stream":true,`)
			defer func() { _ = answer.Body.Close() }()

			// The first event is there before the provider goes on.
			body := bufio.NewReader(answer.Body)
			line, err := body.ReadString('}')
			if err != nil || !strings.HasPrefix(line, `data: {"choices"`) {
				t.Fatalf("%q, %v", line, err)
			}
			pieces <- usage + done
			close(pieces)
			_, err = io.ReadAll(body)
			check(t, err)
			if s := g.settled("acme"); s.Charged != 20_000 || s.Basis != domain.BasisProvider {
				t.Errorf("settled %+v", s)
			}
		})
	}
}

func TestAnAnswerUnderTheLabelOfAStreamIsReadAsWhatItIs(t *testing.T) {
	t.Parallel()
	whole := answered("gpt-3.5-turbo", "default", 10, 5)
	g := start(t, setup{books: unbilled, upstream: canned(200, "text/event-stream", whole)})
	r := g.chat(g.tenant("acme", "100"), "").want(t, 200)
	if string(r.body) != whole || r.header.Get("X-BudgetGuard-Cost-Usd") != "0.00002" {
		t.Errorf("%s %v", r.body, r.header)
	}
	g.settled("acme")
}

func TestCompressionIsWhatTheBytesSay(t *testing.T) {
	t.Parallel()
	whole := answered("gpt-3.5-turbo", "default", 10, 5)
	limited := `{"error":{"message":"slow down"}}`
	for rule, c := range map[string]struct {
		upstream http.HandlerFunc
		status   int
		body     string
		released bool
	}{
		"plain bytes under gzip":      {canned(200, "application/json", whole, "Content-Encoding", "gzip"), 200, whole, false},
		"gzip without a label":        {canned(200, "application/json", zipped(whole)), 200, whole, false},
		"a 429 under gzip":            {canned(429, "application/json", limited, "Content-Encoding", "gzip"), 429, limited, true},
		"a 429 in a form of its own":  {canned(429, "application/json", "\x1b\x02br", "Content-Encoding", "br"), 429, "\x1b\x02br", true},
		"a 429 whose gzip breaks off": {canned(429, "application/json", zipped(strings.Repeat("x", 1000))[:15], "Content-Encoding", "gzip"), 429, "", true},
		"a 400 that breaks off":       {canned(400, "application/json", `{"err`, "Content-Length", "500"), 400, `{"err`, true},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			g := start(t, setup{books: unbilled, upstream: c.upstream})
			r := g.chat(g.tenant("acme", "100"), "").want(t, c.status)
			if string(r.body) != c.body && c.body != "" {
				t.Errorf("body %q", r.body)
			}
			if c.released {
				g.released("acme")
				return
			}
			if s := g.settled("acme"); s.Charged != 20_000 {
				t.Errorf("settled %+v", s)
			}
		})
	}
}

func TestBlanksInFrontOfAPlainAnswerArePassedOnAtOnce(t *testing.T) {
	t.Parallel()
	pieces := make(chan string, 1)
	pieces <- "\n \n"
	g := start(t, setup{books: unbilled, upstream: slowly("application/json", pieces)})
	answer := g.open(g.tenant("acme", "100"), "")
	defer func() { _ = answer.Body.Close() }()
	blank := make([]byte, 3)
	_, err := io.ReadFull(answer.Body, blank)
	check(t, err)

	whole := answered("gpt-3.5-turbo", "default", 10, 5)
	pieces <- "\n"
	pieces <- "  " + whole
	close(pieces)
	rest, err := io.ReadAll(answer.Body)
	if err != nil || string(blank)+string(rest) != "\n \n\n  "+whole {
		t.Errorf("%q%q, %v", blank, rest, err)
	}
	if s := g.settled("acme"); s.Charged != 20_000 {
		t.Errorf("settled %+v", s)
	}
}

func TestASilentStreamIsKeptAlive(t *testing.T) {
	t.Parallel()
	pieces := make(chan string, 1)
	pieces <- delta
	g := start(t, setup{books: unbilled, upstream: slowly("text/event-stream", pieces), config: func(c *proxy.Config) { c.KeepAlive = time.Millisecond }})
	answer := g.open(g.tenant("acme", "100"), `"stream":true,`)
	defer func() { _ = answer.Body.Close() }()
	body := bufio.NewReader(answer.Body)
	var read strings.Builder
	for strings.Count(read.String(), ": ping\n") < 3 {
		line, err := body.ReadString('\n')
		check(t, err)
		read.WriteString(line)
	}
	pieces <- usage + done
	close(pieces)
	rest, err := io.ReadAll(body)
	check(t, err)
	text := read.String() + string(rest)
	if strings.Contains(text, ": ping\n\n") || strings.ReplaceAll(text, ": ping\n", "") != delta+done {
		t.Errorf("got %q", text)
	}
	g.settled("acme")
}

func TestAUsageBehindAnEventThatIsTooLargeIsRead(t *testing.T) {
	t.Parallel()
	huge := `data: {"choices":[{"index":0,"delta":{"content":"` + strings.Repeat("a", 33<<20) + `"}}]}` + "\n\n"
	for rule, c := range map[string]struct {
		rest    string
		charged domain.Amount
		basis   domain.Basis
	}{
		"with a usage":    {usage + done, 20_000, domain.BasisProvider},
		"without a usage": {done, 8_209_000, domain.BasisPresumed},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			g := start(t, setup{books: unbilled, upstream: canned(200, "text/event-stream", delta+huge+delta+c.rest)})
			r := g.chat(g.tenant("acme", "100"), `"stream":true,`).want(t, 200)
			if want := delta + huge + delta + done; string(r.body) != want {
				t.Errorf("%d bytes came, want %d", len(r.body), len(want))
			}
			if s := g.settled("acme"); s.Charged != c.charged || s.Basis != c.basis {
				t.Errorf("settled %s, %s", s.Charged, s.Basis)
			}
		})
	}
}

func TestAModelThatReasonsIsNotBoundByItsText(t *testing.T) {
	t.Parallel()
	for model, basis := range map[string]domain.Basis{"gpt-4o": domain.BasisCounted, "o3": domain.BasisPresumed} {
		g := start(t, setup{books: unbilled, upstream: canned(200, "text/event-stream", delta+done)})
		key := g.tenant("acme", "100")
		body := fmt.Sprintf(`{"model":%q,"stream":true,"messages":[{"role":"user","content":"hi"}]}`, model)
		post(t, g.url+chatPath, body, "X-API-Key", key).want(t, 200)
		if s := g.settled("acme"); s.Basis != basis {
			t.Errorf("%s: %s by %s", model, s.Charged, s.Basis)
		}
	}
}

func TestTenOverloadedAnswersEmptyNoBudget(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: unbilled, upstream: canned(529, "application/json", `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`)})
	key := g.tenant("acme", "25")
	for range 10 {
		post(t, g.url+chatPath, `{"model":"claude-opus-4-7","messages":[{"role":"user","content":"hi"}],"max_tokens":100000}`, "X-API-Key", key).want(t, 529)
	}
	if all := of[domain.ReservationReleased](g, "acme"); len(all) != 10 {
		t.Errorf("%d holds were given back", len(all))
	}
}

func TestAGatewaysErrorWithTheProvidersOwnWordsMayBeTriedAgain(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: unbilled, upstream: canned(502, "application/json", `{"error":{"message":"bad gateway","type":"server_error"}}`, "X-Should-Retry", "true")})
	r := g.chat(g.tenant("acme", "100"), "").want(t, 502)
	if got := r.header.Get("X-Should-Retry"); got != "true" {
		t.Errorf("x-should-retry is %q", got)
	}
	g.released("acme")
}

func TestAzuresContentFilterIsChargedItsPrompt(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: unbilled, upstream: canned(400, "application/json",
		`{"error":{"message":"filtered","type":null,"param":"prompt","code":"content_filter","status":400}}`)})
	g.chat(g.tenant("acme", "100"), "").want(t, 400)
	if s := g.settled("acme"); s.Charged != 17_000 || s.Basis != domain.BasisCounted || s.Usage.Completion != 0 {
		t.Errorf("settled %+v", s)
	}
}

func TestTheProvidersRefusalOfOurKeyIsToldApart(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: unbilled, upstream: canned(401, "application/json", `{"error":{"message":"Incorrect API key provided"}}`)})
	key := g.tenant("acme", "100")
	for range 3 {
		if r := g.chat(key, "").want(t, 401); r.header.Get("X-BudgetGuard-Upstream-Refused") != "401" {
			t.Errorf("headers %v", r.header)
		}
	}
	g.chat(key, "", "X-OpenAI-Key", callersKey).want(t, 401)
	if n := g.metric("budgetguard_upstream_refused_total", ""); n != 3 {
		t.Errorf("%v refusals are counted", n)
	}
	if n := strings.Count(g.log.String(), "refuses the installation's key"); n != 1 {
		t.Errorf("%d warnings", n)
	}
	if r := g.chat("bgk_wrong", "").want(t, 401); r.header.Get("X-BudgetGuard-Upstream-Refused") != "" {
		t.Errorf("our own refusal has headers %v", r.header)
	}
}

func TestAStreamIsAskedForItsUsageOnlyWhereTheProviderTakesTheField(t *testing.T) {
	t.Parallel()
	for model, injected := range map[string]bool{"gpt-4o": true, "mistral-small-latest": false} {
		g := start(t, setup{books: unbilled, upstream: canned(200, "text/event-stream", delta+usage+done)})
		body := fmt.Sprintf(`{"model":%q,"stream":true,"messages":[{"role":"user","content":"hi"}]}`, model)
		post(t, g.url+chatPath, body, "X-API-Key", g.tenant("acme", "100")).want(t, 200)
		if sent := string(g.forwarded().body); strings.Contains(sent, "include_usage") != injected {
			t.Errorf("%s was sent %s", model, sent)
		}
		g.settled("acme")
	}
}

func TestABaseURLWithoutAPathHasARequestLineWithASlash(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: unbilled, upstream: canned(200, "application/json", answered("gpt-4o", "", 1, 1)), config: func(c *proxy.Config) { c.Upstream.Path = "" }})
	g.chat(g.tenant("acme", "100"), "").want(t, 200)
	if got := g.forwarded().target; got != "/chat/completions" {
		t.Errorf("the request line has %q", got)
	}
	g.settled("acme")
}

func TestAStatusThatIsNoneIsNotPassedOn(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"099 Odd", "101 Switching Protocols"} {
		g := start(t, setup{books: unbilled, upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 "+status+"\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			_ = conn.Close()
		})})
		if r := g.chat(g.tenant("acme", "100"), "").want(t, 502); r.code() != "upstream_unreachable" {
			t.Errorf("%s: %s", status, r.body)
		}
		g.quiet()
	}
}
