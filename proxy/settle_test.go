package proxy_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/mockupstream"
	"github.com/budgetguard/budgetguard/proxy"
)

func TestTheUsageOfAnAnswerIsWhatIsCharged(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	r := g.chat(key, `"max_tokens":50,`).want(t, 200)
	s := g.settled("acme")
	// 9 prompt tokens at 1 and 50 at 2 USD per million.
	if s.Charged != 109_000 || s.Basis != domain.BasisProvider || s.Usage.Prompt != 9 || s.Usage.Completion != 50 {
		t.Errorf("settled %+v", s)
	}
	for name, want := range map[string]string{
		"X-BudgetGuard-Cost-Usd": "0.000109", "X-BudgetGuard-Estimated-Usd": s.Reserved.String(),
		"X-BudgetGuard-Remaining-Usd": (usd("100") - s.Reserved).String(), "X-BudgetGuard-Reservation": string(s.Reservation),
	} {
		if got := r.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if timing := r.header.Get("Server-Timing"); !strings.HasPrefix(timing, "bg;dur=") {
		t.Errorf("Server-Timing is %q", timing)
	}
	if !bytes.Equal(r.body, g.forwarded().answer) {
		t.Error("the body is not what the provider sent")
	}
}

func TestWithoutABudgetNothingRemainsToBeTold(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	r := g.chat(g.tenant("acme", ""), "").want(t, 200)
	if _, there := r.header["X-Budgetguard-Remaining-Usd"]; there || r.header.Get("X-BudgetGuard-Cost-Usd") == "" {
		t.Errorf("headers %v", r.header)
	}
	g.settled("acme")
}

func TestTheTightestBudgetIsWhatRemains(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	g.budget("acme", domain.Daily, "1")
	g.budget("acme", domain.Total, "50")
	r := g.chat(key, "").want(t, 200)
	if got := usd(r.header.Get("X-BudgetGuard-Remaining-Usd")); got != usd("1")-g.settled("acme").Reserved {
		t.Errorf("%s remain", got)
	}
}

func TestWithoutBelievableUsageTheAnswerIsCountedAndNeverBelowTheBill(t *testing.T) {
	t.Parallel()
	for _, usage := range []string{mockupstream.UsageNone, mockupstream.UsageWrong} {
		for _, more := range []string{`"max_tokens":40,`, `"max_tokens":40,"stream":true,`, `"n":3,`, `"tools":[{"type":"function","function":{"name":"f"}}],`} {
			t.Run(usage+more, func(t *testing.T) {
				t.Parallel()
				g := start(t, setup{books: atLeast})
				key := g.tenant("acme", "100")
				g.settings(t, func(s *mockupstream.Settings) { s.Usage = usage })
				g.chat(key, more).want(t, 200)
				s := g.settled("acme")
				if s.Basis != domain.BasisCounted || s.Charged <= 0 || s.Charged > s.Reserved {
					t.Errorf("settled %+v", s)
				}
			})
		}
	}
}

func TestBestOfWithoutUsageIsPresumed(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: atLeast})
	key := g.tenant("acme", "100")
	g.settings(t, func(s *mockupstream.Settings) { s.Usage = mockupstream.UsageNone })
	post(t, g.url+completionPath, `{"model":"gpt-3.5-turbo","prompt":"hello","best_of":5}`, "X-API-Key", key).want(t, 200)
	g.presumed("acme", "best_of_without_usage")
}

// presumed checks that the one charge of a tenant is its whole hold.
func (g *gateway) presumed(id domain.TenantID, reason string) {
	g.tb.Helper()
	s := g.settled(id)
	if s.Basis != domain.BasisPresumed || s.Charged != s.Reserved || s.Reason != reason {
		g.tb.Errorf("want the whole hold presumed because of %q, got %+v", reason, s)
	}
	if n := g.metric("budgetguard_presumed_total", reason); n < 1 {
		g.tb.Errorf("no presumption is counted because of %q", reason)
	}
}

// byStatus is a provider that answers with the status that the request's id names.
func byStatus(w http.ResponseWriter, r *http.Request) {
	var status int
	_, _ = fmt.Sscanf(r.Header.Get("X-Request-Id"), "status-%d", &status)
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Retry-After", "7")
	w.Header().Set("Location", "/v1/elsewhere")
	w.WriteHeader(status)
	if status != http.StatusNoContent && status != http.StatusNotModified {
		_, _ = fmt.Fprintf(w, "it is %d", status)
	}
}

func TestTheStatusOfACompleteAnswerSaysWhatIsBilled(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: unbilled, upstream: http.HandlerFunc(byStatus)})
	for status, released := range map[int]bool{
		400: true, 401: true, 402: true, 403: true, 404: true, 409: true, 413: true, 422: true, 425: true, 429: true, 451: true, 500: true, 501: true, 503: true, 505: true, 511: true,
		301: true, 302: true, 304: true, 307: true, 308: true, 521: true, 523: true, 525: true, 526: true, 529: true, 530: true,
		204: false, 408: false, 499: false, 502: false, 504: false, 520: false, 522: false, 524: false, 527: false, 528: false, 599: false,
	} {
		tenant := domain.TenantID(fmt.Sprint("t", status))
		r := g.chat(g.tenant(tenant, ""), "", "X-Request-Id", fmt.Sprint("status-", status)).want(t, status)
		if want := fmt.Sprint("it is ", status); string(r.body) != want && status != 204 && status != 304 {
			t.Errorf("%d: body %q", status, r.body)
		}
		if r.header.Get("Retry-After") != "7" || r.header.Get("Location") != "" {
			t.Errorf("%d: headers %v", status, r.header)
		}
		if released {
			if got, want := g.released(tenant).Reason, fmt.Sprint("upstream_status_", status); got != want {
				t.Errorf("%d: released because of %q", status, got)
			}
			continue
		}
		reason := fmt.Sprint("upstream_status_", status)
		if status == 204 {
			reason = "answer_without_cost"
		}
		g.presumed(tenant, reason)
		if got := r.header.Get("X-Should-Retry"); got != "false" {
			t.Errorf("%d: x-should-retry is %q, and each try costs a hold", status, got)
		}
	}
	for _, seen := range g.recorder.requests() {
		if seen.target != chatPath {
			t.Errorf("a redirect was followed to %s", seen.target)
		}
	}
}

func TestASuccessThatSaysNothingOfItsCostIsPresumed(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, kind, body string }{
		{"an empty body", "application/json", ""},
		{"a page", "text/html", "<h1>welcome</h1>"},
		{"an error", "application/json", `{"error":{"message":"overloaded"}}`},
		{"a list", "application/json", `[]`},
		{"an object", "application/json", `{}`},
		{"broken JSON", "application/json", `{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":1`},
		{"two answers", "application/json", `{"choices":[{}]}{"choices":[{}]}`},
		{"an empty stream", "text/event-stream", ""},
		{"a stream of comments", "text/event-stream", ": ping\n\n: ping\n\n"},
	}
	var handlers []http.HandlerFunc
	for _, c := range cases {
		handlers = append(handlers, canned(200, c.kind, c.body))
	}
	g := start(t, setup{books: unbilled, upstream: inTurn(handlers...)})
	for i, c := range cases {
		tenant, header := g.inCase(i)
		r := post(t, g.url+chatPath, chat(""), header...).want(t, 200)
		if string(r.body) != c.body || r.header.Get("X-BudgetGuard-Cost-Usd") != "" {
			t.Errorf("%s: got %q %v", c.name, r.body, r.header)
		}
		if s := g.settled(tenant); s.Basis != domain.BasisPresumed || s.Charged != s.Reserved {
			t.Errorf("%s: settled %+v", c.name, s)
		}
	}
}

// answered is a provider's answer with the given model, tier and usage.
func answered(model, tier string, prompt, completion int) string {
	return fmt.Sprintf(`{"model":%q,"service_tier":%q,"choices":[{"index":0,"message":{"content":"hi"}}],`+
		`"usage":{"prompt_tokens":%d,"completion_tokens":%d}}`, model, tier, prompt, completion)
}

func TestTheModelAndTierThatAnsweredAreWhatIsPaid(t *testing.T) {
	t.Parallel()
	cases := []struct {
		rule, answer string
		want         domain.Amount
	}{
		// o3 costs 2 and 8 USD per million, 3.5 and 14 with priority, 1 and 4 with flex; gpt-3.5-turbo 1 and 2.
		{"the model and tier asked for", answered("o3-2025-04-16", "default", 1000, 100), 2_800_000},
		{"a cheaper model does not make it cheaper", answered("gpt-3.5-turbo", "default", 1000, 100), 2_800_000},
		{"a dearer model makes it dearer", answered("gpt-4", "default", 1000, 100), 36_000_000},
		{"a name that Groq has for the default tier", answered("o3", "on_demand", 1000, 100), 2_800_000},
		{"a model without a price is paid like the one asked for", answered("o99", "default", 1000, 100), 2_800_000},
		{"a dearer tier", answered("o3", "priority", 1000, 100), 4_900_000},
		{"a cheaper tier", answered("o3", "flex", 1000, 100), 1_400_000},
		{"a tier nobody knows is paid like the dearest", answered("o3", "warp", 1000, 100), 4_900_000},
		{"a tier that is not known, of a cheaper model", answered("gpt-3.5-turbo", "warp", 1000, 100), 4_900_000},
		{"a model without that tier is paid like the one asked for at that tier", answered("gpt-3.5-turbo", "priority", 1000, 100), 4_900_000},
		{"whoever does not say is paid like what was asked for", `{"choices":[{}],"usage":{"prompt_tokens":1000,"completion_tokens":100}}`, 2_800_000},
	}
	var handlers []http.HandlerFunc
	for _, c := range cases {
		handlers = append(handlers, canned(200, "application/json", c.answer))
	}
	g := start(t, setup{books: unbilled, upstream: inTurn(handlers...)})
	for i, c := range cases {
		tenant, header := g.inCase(i)
		post(t, g.url+chatPath, `{"model":"o3","messages":[]}`, header...).want(t, 200)
		if s := g.settled(tenant); s.Charged != c.want || s.Basis != domain.BasisProvider {
			t.Errorf("%s: charged %s, want %s: %+v", c.rule, s.Charged, c.want, s)
		}
	}
}

func TestATierWithoutAnyPriceIsPresumed(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: unbilled, upstream: canned(200, "application/json", answered("gpt-4.1-nano", "flex", 1000, 100))})
	tenant, header := g.inCase(0)
	post(t, g.url+chatPath, `{"model":"gpt-4.1-nano","messages":[]}`, header...).want(t, 200)
	g.presumed(tenant, "usage_not_priced")
}

func TestTextThatComesAfterAUsageIsChargedBesideIt(t *testing.T) {
	t.Parallel()
	stream := `data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":1}}` + "\n\n" + strings.Repeat(delta, 50) + "data: [DONE]\n\n"
	g := start(t, setup{books: unbilled, upstream: canned(200, "text/event-stream", stream)})
	tenant, header := g.inCase(0)
	post(t, g.url+chatPath, `{"model":"gpt-4o","stream":true,"max_tokens":100,"messages":[]}`, header...).want(t, 200)
	if s := g.settled(tenant); s.Usage.Prompt < 10 || s.Usage.Completion < 51 {
		t.Errorf("settled %+v; want the prompt, and 50 pieces of text after the first token", s)
	}
}

func TestAnOverrunIsRecordedAndStopsTheNextRequest(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: unbilled, upstream: canned(200, "application/json", answered("gpt-3.5-turbo", "default", 10, 1_000_000))})
	key := g.tenant("acme", "1")
	g.chat(key, `"max_tokens":10,`).want(t, 200)
	if s := g.settled("acme"); s.Charged != 2_000_010_000 || s.Overrun != s.Charged-s.Reserved {
		t.Errorf("settled %+v", s)
	}
	if n := g.metric("budgetguard_overruns_total", ""); n != 1 {
		t.Errorf("%v overruns are counted", n)
	}
	if r := g.chat(key, "").want(t, 402); r.code() != "budget_exceeded" {
		t.Errorf("got %s", r.body)
	}
}

func zipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}

func TestACompressedAnswerIsReadAllTheSame(t *testing.T) {
	t.Parallel()
	whole := answered("gpt-3.5-turbo", "default", 1000, 100)
	for kind, text := range map[string]string{
		"application/json": whole, "text/event-stream": "data: " + whole + "\n\ndata: [DONE]\n\n",
	} {
		g := start(t, setup{books: unbilled, upstream: canned(200, kind, zipped(text), "Content-Encoding", "gzip")})
		r := g.chat(g.tenant("acme", "100"), "", "Accept-Encoding", "gzip").want(t, 200)
		if string(r.body) != text || r.header.Get("Content-Encoding") != "" {
			t.Errorf("%s: got %q %v", kind, r.body, r.header)
		}
		if s := g.settled("acme"); s.Charged != 1_200_000 {
			t.Errorf("%s: settled %+v", kind, s)
		}
		if got := g.forwarded().header.Get("Accept-Encoding"); got != "identity" {
			t.Errorf("the provider was asked for %q", got)
		}
	}
}

func TestACompressionWeCannotReadIsPassedOnAndPresumed(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"application/json", "text/event-stream"} {
		g := start(t, setup{books: unbilled, upstream: canned(200, kind, "\x1b\x02brotli", "Content-Encoding", "br")})
		r := g.chat(g.tenant("acme", "100"), "").want(t, 200)
		if string(r.body) != "\x1b\x02brotli" || r.header.Get("Content-Encoding") != "br" {
			t.Errorf("%s: got %q %v", kind, r.body, r.header)
		}
		g.presumed("acme", "upstream_status_200")
	}
}

func TestAnAnswerThatBreaksOffIs502AndPresumed(t *testing.T) {
	t.Parallel()
	half := func(header ...string) http.HandlerFunc {
		return canned(200, "application/json", `{"choices"`, append(header, "Content-Length", "500")...)
	}
	handlers := []http.HandlerFunc{
		half(),
		half("Content-Encoding", "br"),
		canned(200, "application/json", zipped(answered("gpt-4o", "", 1, 1))[:30], "Content-Encoding", "gzip"),
		cutAfter("application/json", `{"choices"`),
	}
	g := start(t, setup{books: unbilled, upstream: inTurn(handlers...)})
	for i := range handlers {
		tenant, header := g.inCase(i)
		r := post(t, g.url+chatPath, chat(""), header...).want(t, 502)
		if r.code() != "upstream_unreachable" || r.header.Get("Content-Encoding") != "" || r.header.Get("X-Should-Retry") != "false" {
			t.Errorf("case %d: got %q %v", i, r.body, r.header)
		}
		g.presumed(tenant, "answer_cut")
	}
	if n := g.metric("budgetguard_requests_total", "forwarded"); int(n) != len(handlers) {
		t.Errorf("%v forwarded requests are counted", n)
	}
}

func TestTheMocksBrokenAnswerIsPresumedToo(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: atLeast})
	key := g.tenant("acme", "100")
	g.settings(t, func(s *mockupstream.Settings) { s.CutAfterChunks = 5 })
	g.chat(key, "").want(t, 502)
	g.presumed("acme", "answer_cut")
}

func TestAnAnswerThatIsTooLargeIsCutAndPresumed(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: unbilled, upstream: canned(200, "application/json", strings.Repeat("x", 64<<20+1))})
	g.chat(g.tenant("acme", "100"), "").want(t, 502)
	g.presumed("acme", "answer_cut")
}

func TestACallThatIsNeverAnsweredIsPresumed(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: unbilled, upstream: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })})
	r := g.chat(g.tenant("acme", "100"), "").want(t, 502)
	if r.code() != "upstream_unreachable" {
		t.Errorf("got %s", r.body)
	}
	g.presumed("acme", "upstream_broke_off")
}

func TestALeapInMaxBodyIsNoLeapInTheHold(t *testing.T) {
	t.Parallel()
	g := start(t, setup{config: func(c *proxy.Config) { c.MaxBody = 1 << 20 }})
	key := g.tenant("acme", "100")
	padded := strings.Repeat(" ", 500_000) + chat(`"max_tokens":5,`)
	post(t, g.url+chatPath, padded, "X-API-Key", key).want(t, 200)
	if s := g.settled("acme"); s.Reserved > 100_000 {
		t.Errorf("white space costs %s", s.Reserved)
	}
}
