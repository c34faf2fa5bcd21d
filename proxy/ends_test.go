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

// thinking is a provider that sends its headers at once and its pieces when it is asked for them.
func thinking(kind string, pieces <-chan string) http.HandlerFunc {
	send := slowly(kind, pieces)
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		_ = http.NewResponseController(w).Flush()
		send(w, r)
	}
}

func TestAStreamBeginsWithItsHeadersWhileTheModelThinks(t *testing.T) {
	t.Parallel()
	for rule, keepAlive := range map[string]time.Duration{
		"silent": 0, "kept alive": time.Millisecond,
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			pieces := make(chan string, 1)
			g := start(t, setup{
				books: unbilled, upstream: thinking("text/event-stream", pieces),
				config: func(c *proxy.Config) { c.KeepAlive = keepAlive },
			})

			// The answer begins although the provider has sent no byte of its body.
			answer := g.open(g.tenant("acme", "100"), `"stream":true,`)
			defer func() { _ = answer.Body.Close() }()
			body := bufio.NewReader(answer.Body)
			if keepAlive > 0 {
				line, err := body.ReadString('\n')
				if err != nil || line != ": ping\n" {
					t.Errorf("the first line is %q (%v)", line, err)
				}
			}

			pieces <- delta + usage + done
			close(pieces)
			rest, err := io.ReadAll(body)
			if text := strings.ReplaceAll(string(rest), ": ping\n", ""); err != nil || text != delta+done {
				t.Errorf("got %q (%v)", rest, err)
			}
			if s := g.settled("acme"); s.Charged != 20_000 {
				t.Errorf("settled %+v", s)
			}
		})
	}
}

func TestAFormWeCannotReadKeepsItsLabel(t *testing.T) {
	t.Parallel()
	// The first bytes are those of RFC 8878 (zstd), RFC 1950 (zlib) and RFC 7932 (brotli): some are
	// letters.
	for kind, body := range map[string]string{
		"zstd":    "(\xb5/\xfd\x04\x00a\x00\x00hello",
		"deflate": "x\x9c\xabVJ-*\xca/R\xb2\x02\x00",
		"br":      "[\xff\xaf\x02\xc0\"yE\x85",
	} {
		for status, released := range map[int]bool{200: false, 429: true} {
			t.Run(fmt.Sprint(kind, status), func(t *testing.T) {
				t.Parallel()
				g := start(t, setup{
					books: unbilled, upstream: canned(status, "application/json", body, "Content-Encoding", kind),
				})
				r := g.chat(g.tenant("acme", "100"), "").want(t, status)
				if string(r.body) != body || r.header.Get("Content-Encoding") != kind {
					t.Errorf("got %q as %q", r.body, r.header.Get("Content-Encoding"))
				}
				if released {
					g.released("acme")
					return
				}
				g.presumed("acme", "upstream_status_200")
			})
		}
	}
}

func TestBlanksDoNotHideWhatABodyIs(t *testing.T) {
	t.Parallel()
	whole := answered("gpt-3.5-turbo", "default", 10, 5)
	const (
		json, events, asked = "application/json", "text/event-stream", `"stream":true,`
		all, shown          = delta + usage + done, delta + done
		mark                = "\ufeff"
	)
	for rule, c := range map[string]struct{ kind, stream, body, want string }{
		"a stream under JSON":             {json, asked, "\n\n" + all, "\n\n" + shown},
		"JSON under a stream":             {events, "", "\n \n" + whole, "\n \n" + whole},
		"JSON where a stream was asked":   {events, asked, whole, whole},
		"the same with blanks in front":   {events, asked, "\n \n" + whole, "\n \n" + whole},
		"a mark and a stream":             {json, asked, mark + all, mark + shown},
		"a stream that is gzip in secret": {events, asked, zipped(all), shown},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			g := start(t, setup{books: unbilled, upstream: canned(200, c.kind, c.body)})
			r := g.chat(g.tenant("acme", "100"), c.stream).want(t, 200)
			if string(r.body) != c.want {
				t.Errorf("got %q", r.body)
			}
			if s := g.settled("acme"); s.Charged != 20_000 || s.Basis != domain.BasisProvider {
				t.Errorf("settled %s by %s", s.Charged, s.Basis)
			}
		})
	}
}

func TestAStreamBehindBlanksUnderJSONComesEventByEvent(t *testing.T) {
	t.Parallel()
	pieces := make(chan string, 1)
	pieces <- "\n\n" + delta
	g := start(t, setup{books: unbilled, upstream: slowly("application/json", pieces)})
	answer := g.open(g.tenant("acme", "100"), `"stream":true,`)
	defer func() { _ = answer.Body.Close() }()

	first := make([]byte, len("\n\n"+delta))
	_, err := io.ReadFull(answer.Body, first)
	check(t, err)
	pieces <- usage + done
	close(pieces)
	_, err = io.ReadAll(answer.Body)
	check(t, err)
	g.settled("acme")
}

func TestAUsageInFrontOfAnEventThatIsTooLargeIsNotTheWholeBill(t *testing.T) {
	t.Parallel()
	const begun = `data: {"choices":[{"index":0,"delta":{"content":"`
	huge := begun + strings.Repeat("a", 33<<20) + `"}}]}` + "\n\n"
	early := begun + `hi"}}],"usage":{"prompt_tokens":10,"completion_tokens":1}}` + "\n\n"
	g := start(t, setup{books: unbilled, upstream: canned(200, "text/event-stream", early+huge+done)})
	g.chat(g.tenant("acme", "100"), `"stream":true,`).want(t, 200)
	g.presumed("acme", "event_too_large")
}

func TestAnEventIsSkippedOnlyUpToItsBlankLine(t *testing.T) {
	t.Parallel()
	// The reader gives up behind 32 MiB: within the line, behind its end, and behind a CR.
	const most = 32 << 20
	for rule, c := range map[string]struct{ end, blank string }{
		"behind the line's end": {"\n", "\n"},
		"behind a CRLF":         {"\r\n", "\r\n"},
		"between CR and LF":     {"\r", "\n\r\n"},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			huge := "data: " + strings.Repeat("a", most-len("data: ")-len(c.end)) + c.end + c.blank
			upstream := canned(200, "text/event-stream", huge+usage+done)
			g := start(t, setup{books: unbilled, upstream: upstream})
			r := g.chat(g.tenant("acme", "100"), `"stream":true,`).want(t, 200)
			if string(r.body) != huge+done {
				t.Errorf("%d bytes came, want %d", len(r.body), len(huge+done))
			}
			if s := g.settled("acme"); s.Charged != 20_000 || s.Basis != domain.BasisProvider {
				t.Errorf("settled %s by %s", s.Charged, s.Basis)
			}
		})
	}
}

func TestAWholeAnswerOfAModelThatReasonsIsNotBoundByItsText(t *testing.T) {
	t.Parallel()
	const answer = `{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"}}]}`
	for model, basis := range map[string]domain.Basis{
		"gpt-4o": domain.BasisCounted, "o3": domain.BasisPresumed,
	} {
		g := start(t, setup{books: unbilled, upstream: canned(200, "application/json", answer)})
		body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"hi"}]}`, model)
		post(t, g.url+chatPath, body, "X-API-Key", g.tenant("acme", "100")).want(t, 200)
		if s := g.settled("acme"); s.Basis != basis {
			t.Errorf("%s: %s by %s", model, s.Charged, s.Basis)
		}
	}
}

func TestAUsageThatNobodyInjectedIsPassedOn(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: unbilled, upstream: canned(200, "text/event-stream", delta+usage+done)})
	const body = `{"model":"mistral-small-latest","stream":true,` +
		`"messages":[{"role":"user","content":"hi"}]}`
	r := post(t, g.url+chatPath, body, "X-API-Key", g.tenant("acme", "100")).want(t, 200)
	if string(r.body) != delta+usage+done {
		t.Errorf("got %q", r.body)
	}
	g.settled("acme")
}

func TestATimeOutInTheProvidersOwnWordsIsPresumed(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"error":{"message":"x","code":504}}`, `{"error":{"message":"x","type":"None","code":"408"}}`,
	} {
		upstream := canned(502, "application/json", body, "X-Should-Retry", "true")
		g := start(t, setup{books: unbilled, upstream: upstream})
		r := g.chat(g.tenant("acme", "100"), "").want(t, 502)
		if got := r.header.Get("X-Should-Retry"); got != "false" {
			t.Errorf("x-should-retry is %q, and each try costs a hold", got)
		}
		g.presumed("acme", "upstream_status_502")
	}
}
