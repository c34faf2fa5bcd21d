package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/mockupstream"
	"github.com/budgetguard/budgetguard/proxy"
)

// usageEvent is the event that exists because usage was asked for.
var usageEvent = regexp.MustCompile(`data: \{[^\n]*"choices":\[\],"usage":\{[^\n]*\}\n\n`)

func TestAStreamIsPassedOnByteForByteButForTheUsageNobodyAskedFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, path, body string
		asked            bool
	}{
		{"chat", chatPath, chat(`"stream":true,"n":2,"max_tokens":30,`), false},
		{"chat, usage asked", chatPath, chat(`"stream":true,"stream_options":{"include_usage":true},`), true},
		{"chat, usage refused", chatPath, chat(`"stream":true,"stream_options":{"include_usage":false},`), false},
		{"legacy", completionPath, `{"model":"gpt-3.5-turbo","prompt":"hello","stream":true}`, false},
		{"legacy, usage asked", completionPath, `{"model":"gpt-3.5-turbo","prompt":"hello","stream":true,"stream_options":{"include_usage":true}}`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := start(t, setup{})
			key := g.tenant("acme", "100")
			r := post(t, g.url+c.path, c.body, "X-API-Key", key).want(t, 200)
			sent := string(g.forwarded().answer)
			if n := len(usageEvent.FindAllString(sent, -1)); n != 1 {
				t.Fatalf("the provider sent %d usage events", n)
			}
			if !c.asked {
				sent = strings.ReplaceAll(usageEvent.ReplaceAllString(sent, ""), `,"usage":null`, "")
			}
			if string(r.body) != sent {
				t.Errorf("got\n%s\nwant\n%s", r.body, sent)
			}
			if kind := r.header.Get("Content-Type"); kind != "text/event-stream; charset=utf-8" {
				t.Errorf("Content-Type is %q", kind)
			}
			if r.header.Get("X-BudgetGuard-Reservation") == "" || r.header.Get("Server-Timing") == "" {
				t.Errorf("headers %v", r.header)
			}
			if s := g.settled("acme"); s.Basis != domain.BasisProvider || s.Stream != true {
				t.Errorf("settled %+v", s)
			}
		})
	}
}

// stream reads so many events of a streamed answer and then hangs up.
func (g *gateway) stream(key, more string, events int) {
	g.tb.Helper()
	ctx, hangUp := context.WithCancel(g.tb.Context())
	defer hangUp()
	r := request(g.tb, http.MethodPost, g.url+chatPath, strings.NewReader(chat(`"stream":true,`+more)), "X-API-Key", key).WithContext(ctx)
	answer, err := http.DefaultClient.Do(r)
	check(g.tb, err)
	defer func() { _ = answer.Body.Close() }()
	for lines := bufio.NewScanner(answer.Body); events > 0 && lines.Scan(); {
		if lines.Text() != "" {
			events--
		}
	}
}

func TestAClientThatHangsUpPaysForTheWholeAnswer(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	g.settings(t, func(s *mockupstream.Settings) { s.TokensPerSecond = 40 })
	g.stream(key, `"max_tokens":20,`, 5)
	s := g.settled("acme")
	if s.Basis != domain.BasisProvider || s.Usage.Completion != 20 {
		t.Errorf("settled %+v", s)
	}
}

func TestAClientThatHangsUpBeforeTheAnswerPaysForItToo(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	g.settings(t, func(s *mockupstream.Settings) { s.Hold = true })
	hangUp := g.leave(key, "")
	eventually(t, "the call is under way", func() bool { return g.mock.Held() == 1 })
	hangUp()
	g.settings(t, func(s *mockupstream.Settings) { s.Hold = false })
	if s := g.settled("acme"); s.Basis != domain.BasisProvider {
		t.Errorf("settled %+v", s)
	}
}

func TestReadingOnAfterTheClientHasGoneEndsAtTheBound(t *testing.T) {
	t.Parallel()
	for _, bound := range []time.Duration{0, 20 * time.Millisecond} {
		g := start(t, setup{books: atLeast, config: func(c *proxy.Config) { c.DrainTimeout = bound }})
		key := g.tenant("acme", "100")
		g.settings(t, func(s *mockupstream.Settings) { s.TokensPerSecond = 20 })
		g.stream(key, `"max_tokens":200,`, 2)
		g.presumed("acme", "drain_bound")
	}
}

func TestAProviderThatDiesInAStreamIsPresumedAndTheClientTold(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: atLeast})
	key := g.tenant("acme", "100")
	g.settings(t, func(s *mockupstream.Settings) { s.CutAfterChunks = 5 })
	r := g.chat(key, `"stream":true,`).wantCut(t)
	if !strings.HasSuffix(string(r.body), `"code":"upstream_unreachable"}}`+"\n\n") {
		t.Errorf("got %s %v", r.body, r.err)
	}
	g.presumed("acme", "stream_cut")
}

func TestATimeoutInAStreamIsPresumed(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: atLeast, config: func(c *proxy.Config) { c.UpstreamTimeout = 2 * time.Second }})
	key := g.tenant("acme", "100")
	g.settings(t, func(s *mockupstream.Settings) { s.TokensPerSecond = 10 })
	r := g.chat(key, `"stream":true,"max_tokens":100,`).wantCut(t)
	if !strings.HasSuffix(string(r.body), `"code":"upstream_timeout"}}`+"\n\n") {
		t.Errorf("got %s", r.body)
	}
	g.presumed("acme", "upstream_timeout")
}

const (
	delta  = `data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}` + "\n\n"
	usage  = `data: {"model":"gpt-3.5-turbo","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}` + "\n\n"
	done   = "data: [DONE]\n\n"
	broken = `data: {"error":{"message":"the provider broke off the stream","type":"server_error","param":null,"code":"upstream_unreachable"}}` + "\n\n"
)

// closing is a provider of the time before chunks: the end of the connection is the end of the answer.
func closing(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, "HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"+text)
		_ = conn.Close()
	}
}

func TestTheEndOfAStreamSaysWhatIsCharged(t *testing.T) {
	t.Parallel()
	const kind = "text/event-stream"
	both := strings.ReplaceAll(usage, `"choices":[]`, `"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]`)
	cases := []struct {
		rule     string
		upstream http.HandlerFunc
		want     string // what the client gets
		charged  domain.Amount
		basis    domain.Basis
	}{
		{"usage, then [DONE]", canned(200, kind, delta+usage+done), delta + done, 20_000, domain.BasisProvider},
		{"usage without [DONE]", canned(200, kind, delta+usage), delta, 20_000, domain.BasisProvider},
		{"broken off behind the usage", cutAfter(kind, delta+usage), delta, 20_000, domain.BasisProvider},
		{"broken off behind [DONE]", cutAfter(kind, delta+usage+done), delta + done, 20_000, domain.BasisProvider},
		{"broken off behind [DONE] without usage", cutAfter(kind, delta+done), delta + done, 19_000, domain.BasisCounted},
		{"usage in the last chunk with choices stays", canned(200, kind, delta+both+done), delta + both + done, 20_000, domain.BasisProvider},
		{"cumulative usage: the last one counts", canned(200, kind, both+both+both+done), both + both + both + done, 20_000, domain.BasisProvider},
		{"neither usage nor [DONE]: counted", canned(200, kind, delta+delta), delta + delta, 21_000, domain.BasisCounted},
		{"broken off", cutAfter(kind, delta), delta + broken, 8_209_000, domain.BasisPresumed},
		{"broken off within an event", cutAfter(kind, delta+`data: {"choi`), delta + broken, 8_209_000, domain.BasisPresumed},
		{"usage first and then broken off", cutAfter(kind, usage+delta), delta + broken, 8_209_000, domain.BasisPresumed},
		{"no more than the prompt counted and broken off", cutAfter(kind, strings.ReplaceAll(usage, ":5}", ":0}")), broken, 8_209_000, domain.BasisPresumed},
		{"an error with usage", canned(200, kind, delta+`data: {"error":{"message":"x"}}`+"\n\n"+usage), delta + `data: {"error":{"message":"x"}}` + "\n\n", 20_000, domain.BasisProvider},
		{"an error without", canned(200, kind, delta+`data: {"error":{"message":"x"}}`+"\n\n"+done), delta + `data: {"error":{"message":"x"}}` + "\n\n" + done, 19_000, domain.BasisCounted},
		{"[DONE] without its blank line", canned(200, kind, delta+usage+"data: [DONE]"), delta + "data: [DONE]", 20_000, domain.BasisProvider},
		{"closed behind the usage, nothing marks the end", closing(delta + usage), delta, 20_000, domain.BasisProvider},
		{"closed, nothing marks the end", closing(delta + delta), delta + delta + broken, 8_209_000, domain.BasisPresumed},
		{"comments and CRLF pass", canned(200, kind, ": ping\r\n\r\n"+strings.ReplaceAll(delta+usage+done, "\n", "\r\n")), ": ping\r\n\r\n" + strings.ReplaceAll(delta+done, "\n", "\r\n"), 20_000, domain.BasisProvider},
		{"what follows [DONE] is read", canned(200, kind, delta+done+usage), delta + done, 20_000, domain.BasisProvider},
	}
	var handlers []http.HandlerFunc
	for _, c := range cases {
		handlers = append(handlers, c.upstream)
	}
	g := start(t, setup{books: unbilled, upstream: inTurn(handlers...)})
	for i, c := range cases {
		tenant, header := g.inCase(i)
		r := post(t, g.url+chatPath, chat(`"stream":true,`), header...)
		if strings.HasSuffix(c.want, broken) {
			r.wantCut(t)
		} else {
			r.want(t, 200)
		}
		if string(r.body) != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.rule, r.body, c.want)
		}
		if s := g.settled(tenant); s.Charged != c.charged || s.Basis != c.basis {
			t.Errorf("%s: charged %s (%s), want %s (%s)", c.rule, s.Charged, s.Basis, c.charged, c.basis)
		}
	}
}

func TestEachEventIsPassedOnAsSoonAsItIsThere(t *testing.T) {
	t.Parallel()
	seen := make(chan struct{})
	g := start(t, setup{books: unbilled, upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range 5 {
			_, _ = io.WriteString(w, delta)
			_ = http.NewResponseController(w).Flush()
			<-seen
		}
		_, _ = io.WriteString(w, usage+done)
	})})
	key := g.tenant("acme", "100")
	r := request(t, http.MethodPost, g.url+chatPath, strings.NewReader(chat(`"stream":true,`)), "X-API-Key", key)
	answer, err := http.DefaultClient.Do(r)
	check(t, err)
	defer func() { _ = answer.Body.Close() }()
	reader := bufio.NewReader(answer.Body)
	for i := range 5 {
		event := make([]byte, len(delta))
		if _, err := io.ReadFull(reader, event); err != nil || string(event) != delta {
			t.Fatalf("event %d: %q %v", i, event, err)
		}
		seen <- struct{}{} // the provider goes on only now: nothing may be held back
	}
	rest, err := io.ReadAll(reader)
	if string(rest) != done || err != nil {
		t.Errorf("the rest is %q %v", rest, err)
	}
	g.settled("acme")
}

func TestManyStreamsAtOnceSettleToTheNanoDollar(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	g.settings(t, func(s *mockupstream.Settings) { s.TokensPerSecond = 400 })
	failures := make(chan string, 60)
	for i := range 60 {
		go func() {
			if i%3 == 0 {
				g.stream(key, `"max_tokens":30,`, i%7)
				failures <- ""
				return
			}
			if r := g.chat(key, fmt.Sprintf(`"stream":%t,"max_tokens":30,`, i%2 == 0)); r.status != 200 || r.err != nil {
				failures <- fmt.Sprint(r.status, string(r.body), r.err)
				return
			}
			failures <- ""
		}()
	}
	for range 60 {
		if f := <-failures; f != "" {
			t.Error(f)
		}
	}
	if n := len(of[domain.UsageSettled](g, "acme")); n+len(of[domain.ReservationReleased](g, "acme")) != 60 {
		t.Errorf("%d settlements", n)
	}
}
