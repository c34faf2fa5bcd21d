package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// callWithin bounds a call of a watched tenant: far beyond what the gateway allows itself.
	callWithin = 40 * time.Second
	// patienceLeast and patienceMost bound a call of a client, who shall not wait for a stalled gateway all the time.
	patienceLeast, patienceMost = time.Second, 6 * time.Second
	// thinkMost bounds the time between two calls of a client.
	thinkMost = 250 * time.Millisecond
)

// call is one request of a client and what became of it.
type call struct {
	tenant      int
	stream      bool
	vanished    bool   // the client hung up
	status      int    // 0: no answer
	code        string // of a refusal that is BudgetGuard's own
	whole       bool   // the answer came to its clean end
	reservation string
	costUSD     string
}

// name is the request id of a call and, as an upstream key, what the provider's bill knows it by.
func name(number int64) string { return "chaos-" + strconv.FormatInt(number, 10) }

// load is all that the clients did.
type load struct {
	stage   *stage
	tenants []*tenant
	http    *http.Client
	began   atomic.Int64 // calls

	mu    sync.Mutex
	calls map[int64]call
}

func newLoad(s *stage, tenants []*tenant) *load {
	return &load{
		stage: s, tenants: tenants, calls: map[int64]call{},
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 5 * time.Second}},
	}
}

// client calls until ctx is done and then finishes the call it is in.
func (l *load) client(ctx context.Context, d *dice) {
	for sleep(ctx, d.between(0, thinkMost)) == nil {
		number := l.began.Add(1)
		c := l.one(context.WithoutCancel(ctx), d, number)
		l.mu.Lock()
		l.calls[number] = c
		l.mu.Unlock()
	}
}

// one makes a call. One in ten hangs up in the middle.
func (l *load) one(ctx context.Context, d *dice, number int64) call {
	c := call{tenant: d.below(len(l.tenants)), stream: d.chance(50)}
	patience := d.between(patienceLeast, patienceMost)
	if d.chance(10) {
		c.vanished, patience = true, d.between(0, 600*time.Millisecond)
	}
	ctx, hangUp := context.WithTimeout(ctx, patience)
	defer hangUp()
	body := fmt.Sprintf(`{"model":%q,"max_tokens":%d,"stream":%t,"messages":[{"role":"user","content":"call %d, please answer"}]}`,
		oneOf(d, []string{"gpt-4o-mini", "gpt-3.5-turbo", "gpt-4o"}), 5+d.below(60), c.stream, number)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, oneOf(d, l.stage.urls)+"/v1/chat/completions", bytes.NewReader([]byte(body)))
	if err != nil {
		return c
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-API-Key", l.tenants[c.tenant].key)
	r.Header.Set("X-OpenAI-Key", name(number))
	r.Header.Set("X-Request-Id", name(number))
	answer, err := l.http.Do(r)
	if err != nil {
		return c
	}
	defer func() { _ = answer.Body.Close() }() // read as far as it came
	c.status, c.reservation = answer.StatusCode, answer.Header.Get("X-BudgetGuard-Reservation")
	c.costUSD = answer.Header.Get("X-BudgetGuard-Cost-Usd")
	said, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
	case c.status != http.StatusOK:
		var refusal struct {
			Code string `json:"code"`
		}
		_ = json.Unmarshal(said, &refusal) // the provider's own errors have another form
		c.code, c.whole = refusal.Code, true
	case c.stream:
		c.whole = bytes.Contains(said, []byte("data: [DONE]"))
	default:
		c.whole = json.Valid(said)
	}
	return c
}

// answered counts the calls by what came of them, for the report.
func (l *load) answered() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := map[string]int{}
	for _, c := range l.calls {
		counts[c.outcome()]++
	}
	return counts
}

func (c call) outcome() string {
	switch {
	case c.status == 0 && c.vanished:
		return "no answer: the client hung up"
	case c.status == 0:
		return "no answer: the gateway was away"
	case c.status == http.StatusOK && c.whole:
		return "200"
	case c.status == http.StatusOK:
		return "200, broken off"
	case c.code != "":
		return strconv.Itoa(c.status) + " " + c.code
	}
	return strconv.Itoa(c.status) + " of the provider"
}
