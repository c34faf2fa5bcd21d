package mockupstream_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/internal/mockupstream"
)

// pricesPath is the project's own catalogue: the bill must be right for the prices that are really used.
const pricesPath = "../../domain/pricing/prices.json"

var start = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// clock is a clock that a test moves.
type clock struct{ at atomic.Pointer[time.Time] }

func newClock(at time.Time) *clock {
	c := &clock{}
	c.set(at)
	return c
}

func (c *clock) set(at time.Time) { c.at.Store(&at) }
func (c *clock) now() time.Time   { return *c.at.Load() }

// provider is a running mock upstream.
type provider struct {
	*mockupstream.Server
	url   string
	clock *clock
}

func catalogue(tb testing.TB) []byte {
	tb.Helper()
	data, err := os.ReadFile(pricesPath)
	if err != nil {
		tb.Fatalf("read the catalogue: %v", err)
	}
	return data
}

func startProvider(tb testing.TB) *provider {
	tb.Helper()
	return startWith(tb, catalogue(tb))
}

func startWith(tb testing.TB, prices []byte) *provider {
	tb.Helper()
	c := newClock(start)
	s, err := mockupstream.New(mockupstream.Config{Prices: prices, Now: c.now})
	if err != nil {
		tb.Fatalf("new: %v", err)
	}
	web := httptest.NewServer(s.Handler())
	tb.Cleanup(web.Close)
	return &provider{Server: s, url: web.URL, clock: c}
}

// response is an answer read to its end; err is how reading ended.
type response struct {
	status int
	header http.Header
	body   []byte
	err    error
}

func (p *provider) do(tb testing.TB, method, path, body string, header ...string) response {
	tb.Helper()
	r, err := http.NewRequestWithContext(tb.Context(), method, p.url+path, strings.NewReader(body))
	if err != nil {
		tb.Fatalf("%s %s: %v", method, path, err)
	}
	r.Header.Set("Authorization", "Bearer sk-test")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return response{err: err}
	}
	defer func() { _ = answer.Body.Close() }()
	data, err := io.ReadAll(answer.Body)
	return response{answer.StatusCode, answer.Header, data, err}
}

func (p *provider) chat(tb testing.TB, body string, header ...string) response {
	tb.Helper()
	return p.do(tb, http.MethodPost, "/v1/chat/completions", body, header...)
}

func (p *provider) control(tb testing.TB, body string) map[string]any {
	tb.Helper()
	r := p.do(tb, http.MethodPost, "/control", body)
	if r.status != http.StatusOK {
		tb.Fatalf("POST /control %s: %d %s", body, r.status, r.body)
	}
	return decode[map[string]any](tb, r.body)
}

func decode[T any](tb testing.TB, data []byte) T {
	tb.Helper()
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		tb.Fatalf("decode %s: %v", data, err)
	}
	return v
}

type usage struct {
	Prompt     int64 `json:"prompt_tokens"`
	Completion int64 `json:"completion_tokens"`
	Total      int64 `json:"total_tokens"`
}

// completion is a response or chunk of either endpoint.
type completion struct {
	ID      string `json:"id"`
	Model   string `json:"model"`
	Tier    string `json:"service_tier"`
	Choices []struct {
		Index   int    `json:"index"`
		Text    string `json:"text"`
		Finish  string `json:"finish_reason"`
		Message content
		Delta   content
	} `json:"choices"`
	Usage *usage `json:"usage"`
}

type content struct {
	Content   string `json:"content"`
	ToolCalls []struct {
		Function struct{ Name, Arguments string }
	} `json:"tool_calls"`
}

// events reads the chunks of a stream and whether [DONE] ended it.
func events(tb testing.TB, body []byte) (chunks []completion, done bool) {
	tb.Helper()
	lines := bufio.NewScanner(bytes.NewReader(body))
	for lines.Scan() {
		data, isData := strings.CutPrefix(lines.Text(), "data: ")
		switch {
		case !isData:
		case data == "[DONE]":
			done = true
		case !json.Valid([]byte(data)):
			return chunks, false // cut in the middle
		default:
			chunks = append(chunks, decode[completion](tb, []byte(data)))
		}
	}
	return chunks, done
}

// contentChunks counts the chunks that carry text or arguments.
func contentChunks(chunks []completion) (n int) {
	for _, c := range chunks {
		for _, choice := range c.Choices {
			calls := choice.Delta.ToolCalls
			if choice.Delta.Content != "" || choice.Text != "" || len(calls) > 0 && calls[0].Function.Arguments != "" {
				n++
			}
		}
	}
	return n
}

const hello = `{"model":"gpt-3.5-turbo","messages":[{"role":"user","content":"one two three"}]}`

// eventually waits for a condition that another goroutine brings about.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("%s: never happened", what)
		}
	}
}
