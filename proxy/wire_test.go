package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// recorder keeps what reaches the provider.
type recorder struct {
	url     string
	handler http.Handler

	mu   sync.Mutex
	seen []sighting
}

// sighting is a request as the provider got it, and what was answered to it.
type sighting struct {
	method, target string
	header         http.Header
	body, answer   []byte
}

// tee keeps what is answered.
type tee struct {
	http.ResponseWriter
	r  *recorder
	at int
}

func (t *tee) Write(p []byte) (int, error) {
	const most = 1 << 20 // no test looks further
	t.r.mu.Lock()
	if kept := &t.r.seen[t.at].answer; len(*kept) < most {
		*kept = append(*kept, p[:min(len(p), most)]...)
	}
	t.r.mu.Unlock()
	return t.ResponseWriter.Write(p)
}

func (t *tee) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (r *recorder) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	t := &tee{w, r, len(r.seen)}
	r.seen = append(r.seen, sighting{method: q.Method, target: q.RequestURI, header: q.Header.Clone(), body: body})
	r.mu.Unlock()
	q.Body = io.NopCloser(bytes.NewReader(body))
	r.handler.ServeHTTP(t, q)
}

func (r *recorder) requests() []sighting {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]sighting(nil), r.seen...)
}

// forwarded is the one request that reached the provider.
func (g *gateway) forwarded() sighting {
	g.tb.Helper()
	seen := g.recorder.requests()
	if len(seen) != 1 {
		g.tb.Fatalf("%d requests reached the provider, want one", len(seen))
	}
	return seen[0]
}

// nothingForwarded checks what every refusal promises.
func (g *gateway) nothingForwarded() {
	g.tb.Helper()
	if seen := g.recorder.requests(); len(seen) > 0 {
		g.tb.Errorf("%d requests reached the provider: %s %s", len(seen), seen[0].target, seen[0].body)
	}
	if n := g.openHolds(); n > 0 {
		g.tb.Errorf("%d holds are open", n)
	}
}

// reply is an answer read to its end; err is how reading ended.
type reply struct {
	status int
	header http.Header
	body   []byte
	err    error
}

const (
	chatPath       = "/v1/chat/completions"
	completionPath = "/v1/completions"
)

// chat is a chat request of the model that the tests use unless they say otherwise; more is put in front.
func chat(more string) string {
	return `{` + more + `"model":"gpt-3.5-turbo","messages":[{"role":"user","content":"` + prompt + `"}]}`
}

// post sends a request. Headers with an empty value are taken out again.
func post(tb testing.TB, url, body string, header ...string) reply {
	tb.Helper()
	return send(request(tb, http.MethodPost, url, strings.NewReader(body), header...))
}

func request(tb testing.TB, method, url string, body io.Reader, header ...string) *http.Request {
	tb.Helper()
	r, err := http.NewRequestWithContext(tb.Context(), method, url, body)
	check(tb, err)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		if header[i+1] == "" {
			r.Header.Del(header[i])
			continue
		}
		r.Header.Add(header[i], header[i+1])
		if header[i] == "Content-Type" {
			r.Header.Set(header[i], header[i+1])
		}
	}
	return r
}

func send(r *http.Request) reply { return sendBy(http.DefaultClient, r) }

func sendBy(client *http.Client, r *http.Request) reply {
	answer, err := client.Do(r)
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	return reply{answer.StatusCode, answer.Header, body, err}
}

// chat sends a chat request with a key.
func (g *gateway) chat(key, more string, header ...string) reply {
	g.tb.Helper()
	return post(g.tb, g.url+chatPath, chat(more), append([]string{"X-API-Key", key}, header...)...)
}

// want checks the status.
func (r reply) want(tb testing.TB, status int) reply {
	tb.Helper()
	if r.err != nil || r.status != status {
		tb.Fatalf("got %d %s %v, want %d", r.status, r.body, r.err, status)
	}
	return r
}

// wantCut checks that the answer began and that its transport broke before its end.
func (r reply) wantCut(tb testing.TB) reply {
	tb.Helper()
	if !errors.Is(r.err, io.ErrUnexpectedEOF) || r.status != http.StatusOK {
		tb.Fatalf("got %d %s %v, want 200 and a broken transport", r.status, r.body, r.err)
	}
	return r
}

// parsed reads a reply's body.
func parsed[T any](tb testing.TB, r reply) T {
	tb.Helper()
	var v T
	check(tb, json.Unmarshal(r.body, &v))
	return v
}

// code is the code of an error of ours, in whichever dialect.
func (r reply) code() string {
	var plain struct {
		Code  string
		Error any
	}
	if json.Unmarshal(r.body, &plain) != nil {
		return ""
	}
	if nested, ok := plain.Error.(map[string]any); ok {
		code, _ := nested["code"].(string)
		return code
	}
	return plain.Code
}

// rawExchange writes bytes as they are and reads what comes until the server closes or is silent.
func rawExchange(tb testing.TB, base, text string) string {
	tb.Helper()
	conn, err := (&net.Dialer{}).DialContext(tb.Context(), "tcp", strings.TrimPrefix(base, "http://"))
	check(tb, err)
	defer func() { _ = conn.Close() }()
	check(tb, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, text)
	check(tb, err)
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

// canned is a provider that says one thing.
func canned(status int, kind, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// cutAfter is a provider that breaks off behind the given text.
func cutAfter(kind, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = io.WriteString(w, text)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// inTurn is a provider that answers a request with the id "case-3" by the third of the handlers.
func inTurn(handlers ...http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(strings.TrimPrefix(r.Header.Get("X-Request-Id"), "case-"))
		if err != nil {
			panic(err)
		}
		handlers[n](w, r)
	}
}

// inCase is the id of a request that inTurn understands, and a tenant of its own with a key.
func (g *gateway) inCase(n int) (tenant domain.TenantID, header []string) {
	g.tb.Helper()
	tenant = domain.TenantID("case-" + strconv.Itoa(n))
	return tenant, []string{"X-API-Key", g.tenant(tenant, "100"), "X-Request-Id", string(tenant)}
}

// golden compares text with a file under testdata.
func golden(tb testing.TB, name, text string) {
	tb.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		check(tb, os.MkdirAll(filepath.Dir(path), 0o755))
		check(tb, os.WriteFile(path, []byte(text), 0o600))
	}
	want, err := os.ReadFile(path)
	check(tb, err)
	if string(want) != text {
		tb.Errorf("%s: got\n%s\nwant\n%s", path, text, want)
	}
}

// closedPort is an address nobody listens at.
func closedPort(tb testing.TB) string {
	tb.Helper()
	web := httptest.NewServer(http.NotFoundHandler())
	web.Close()
	return web.URL
}

// leave sends a chat request whose client hangs up when the function is called, which returns when it has.
func (g *gateway) leave(key, more string) (hangUp func()) {
	g.tb.Helper()
	r := request(g.tb, http.MethodPost, g.url+chatPath, strings.NewReader(chat(more)), "X-API-Key", key)
	ctx, cancel := context.WithCancel(g.tb.Context())
	gone := make(chan reply)
	go func() { gone <- sendBy(http.DefaultClient, r.WithContext(ctx)) }()
	return func() {
		cancel()
		<-gone
	}
}

func containsAll(text string, parts ...string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}
