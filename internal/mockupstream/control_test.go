package mockupstream_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/internal/mockupstream"
)

func TestHeldAnswersAreBilledAndComeWhenReleased(t *testing.T) {
	t.Parallel()
	const n = 5
	p := startProvider(t)
	p.control(t, `{"hold":true}`)
	answers := make(chan response, n)
	for range n {
		go func() { answers <- p.chat(t, hello) }()
	}
	eventually(t, "five held", func() bool { return p.Held() == n })
	if got := p.Bill(time.Time{}, time.Time{}).Requests; got != n {
		t.Errorf("billed while held: got %d, want %d", got, n)
	}
	if got := decode[map[string]any](t, p.do(t, http.MethodGet, "/control", "").body)["held"]; got != float64(n) {
		t.Errorf("GET /control: held is %v, want %d", got, n)
	}
	p.control(t, `{"latencyMs":0}`) // another change does not let them go
	if got := p.Held(); got != n {
		t.Errorf("held after another change: got %d, want %d", got, n)
	}
	if got := p.control(t, `{"hold":false}`)["held"]; got != 0.0 {
		t.Errorf("held after release: got %v", got)
	}
	for range n {
		if r := <-answers; r.status != http.StatusOK || r.err != nil {
			t.Errorf("released answer: %d %v", r.status, r.err)
		}
	}
}

func TestClientThatLeavesAHeldRequestIsBilledAndForgotten(t *testing.T) {
	t.Parallel()
	p := startProvider(t)
	p.control(t, `{"hold":true}`)
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/v1/chat/completions", strings.NewReader(hello))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer sk-test")
	left := make(chan error, 1)
	go func() {
		answer, err := http.DefaultClient.Do(r)
		if err == nil {
			_ = answer.Body.Close()
		}
		left <- err
	}()
	eventually(t, "one held", func() bool { return p.Held() == 1 })
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	eventually(t, "none held", func() bool { return p.Held() == 0 })
	if got := p.Bill(time.Time{}, time.Time{}).TotalUsd; got != "0.000389" {
		t.Errorf("bill: got %s, want 0.000389", got)
	}
}

func TestCutAnswersEndWithoutACleanEndAndAreBilledInFull(t *testing.T) {
	t.Parallel()
	for _, k := range []int{1, 3, 190} {
		p := startProvider(t)
		if err := p.Change(func(s *mockupstream.Settings) { s.CutAfterChunks = k }); err != nil {
			t.Fatal(err)
		}
		stream := p.chat(t, chatOf("gpt-3.5-turbo", 9, `,"stream":true,"stream_options":{"include_usage":true}`))
		chunks, done := events(t, stream.body)
		if !errors.Is(stream.err, io.ErrUnexpectedEOF) || done {
			t.Errorf("cut after %d: stream ended with %v, [DONE] %t", k, stream.err, done)
		}
		if got := contentChunks(chunks); got != k {
			t.Errorf("cut after %d: got %d content chunks", k, got)
		}
		plain := p.chat(t, hello)
		if plain.status != http.StatusOK || !errors.Is(plain.err, io.ErrUnexpectedEOF) || len(plain.body) == 0 {
			t.Errorf("cut after %d: plain answer %d, %d bytes, %v", k, plain.status, len(plain.body), plain.err)
		}
		if got := p.Bill(time.Time{}, time.Time{}).TotalUsd; got != "0.000778" {
			t.Errorf("cut after %d: bill %s, want twice 0.000389", k, got)
		}
		p.control(t, `{"cutAfterChunks":0}`)
		if r := p.chat(t, hello); r.err != nil {
			t.Errorf("after the cuts: %v", r.err)
		}
	}
}

func TestErrorsAreSpreadEvenlyAndBillNothing(t *testing.T) {
	t.Parallel()
	p := startProvider(t)
	p.control(t, `{"errorRate":0.25}`)
	var got []int
	for range 8 {
		got = append(got, p.chat(t, hello).status)
	}
	for i, status := range got {
		want := http.StatusOK
		if i%4 == 3 {
			want = http.StatusInternalServerError
		}
		if status != want {
			t.Errorf("request %d: got %d, want %d", i+1, status, want)
		}
	}
	if got := p.Bill(time.Time{}, time.Time{}).Requests; got != 6 {
		t.Errorf("billed: got %d, want 6", got)
	}
}

func TestInjectedErrorsHaveOpenAIsForm(t *testing.T) {
	t.Parallel()
	p := startProvider(t)
	for status, kind := range map[string]string{
		"400": "invalid_request_error", "401": "invalid_request_error", "429": "requests",
		"500": "server_error", "503": "server_error",
	} {
		p.control(t, `{"errorRate":1,"errorStatus":`+status+`}`)
		r := p.chat(t, hello)
		body := decode[map[string]map[string]any](t, r.body)["error"]
		if body["type"] != kind || body["message"] == "" || len(body) != 4 {
			t.Errorf("%s: got %d %s", status, r.status, r.body)
		}
		if got := r.header.Get("Retry-After") != ""; got != (status == "429") {
			t.Errorf("%s: retry-after is there: %t", status, got)
		}
	}
	if got := p.Bill(time.Time{}, time.Time{}).Requests; got != 0 {
		t.Errorf("billed: got %d, want 0", got)
	}
}

func TestUsageSettingChangesTheAnswerAndNotTheBill(t *testing.T) {
	t.Parallel()
	const wrong = `"usage":{"prompt_tokens":-7,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":1000000000},` +
		`"completion_tokens_details":{"reasoning_tokens":-1}}`
	ask := []string{
		hello, chatOf("gpt-3.5-turbo", 9, `,"stream":true,"stream_options":{"include_usage":true}`),
		chatOf("gpt-3.5-turbo", 9, `,"stream":true`),
	}
	p := startProvider(t)
	p.control(t, `{"usage":"none"}`)
	for _, body := range ask {
		if r := p.chat(t, body); strings.Contains(string(r.body), "usage") || r.err != nil {
			t.Errorf("none: got %s", r.body)
		}
	}
	p.control(t, `{"usage":"wrong"}`)
	for i, body := range ask {
		if got := strings.Contains(string(p.chat(t, body).body), wrong); got != (i < 2) {
			t.Errorf("wrong, request %d: the absurd usage is there: %t", i, got)
		}
	}
	if got := p.Bill(time.Time{}, time.Time{}).TotalUsd; got != "0.002334" {
		t.Errorf("bill: got %s, want 6 × 0.000389", got)
	}
}

func TestHeadersOverrideTheSettingsOfOneRequest(t *testing.T) {
	t.Parallel()
	p := startProvider(t)
	if got := p.chat(t, hello, "X-Mock-Error", "503").status; got != http.StatusServiceUnavailable {
		t.Errorf("X-Mock-Error: got %d", got)
	}
	if r := p.chat(t, hello, "X-Mock-Cut", "3"); r.err == nil {
		t.Error("X-Mock-Cut: got a whole answer")
	}
	if r := p.chat(t, hello, "X-Mock-Usage", "none"); strings.Contains(string(r.body), "usage") {
		t.Errorf("X-Mock-Usage: got %s", r.body)
	}
	for _, header := range []string{"X-Mock-Error", "X-Mock-Cut", "X-Mock-Usage"} {
		if got := p.chat(t, hello, header, "x").status; got != http.StatusBadRequest {
			t.Errorf("bad %s: got %d, want 400", header, got)
		}
	}
	if r := p.chat(t, hello); r.status != http.StatusOK || r.err != nil {
		t.Errorf("the next request: %d %v", r.status, r.err)
	}
	if got := p.Bill(time.Time{}, time.Time{}).Requests; got != 3 {
		t.Errorf("billed: got %d, want 3", got)
	}
}

func TestControlMergesAndRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	p := startProvider(t)
	p.control(t, `{"latencyMs":1,"tokensPerSecond":5000.5}`)
	got := p.control(t, `{"errorStatus":429}`)
	want := map[string]any{
		"hold": false, "latencyMs": 1.0, "tokensPerSecond": 5000.5, "errorRate": 0.0, "errorStatus": 429.0,
		"cutAfterChunks": 0.0, "usage": "ok", "held": 0.0,
	}
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: got %v, want %v", name, got[name], value)
		}
	}
	for _, bad := range []string{
		`{"latency":1}`, `{"latencyMs":-1}`, `{"latencyMs":1e99}`, `{"tokensPerSecond":-1}`, `{"errorRate":1.1}`, `{"errorRate":"1"}`,
		`{"errorStatus":200}`, `{"errorStatus":600}`, `{"cutAfterChunks":-1}`, `{"usage":"some"}`, `{"hold":1}`, `{} {}`, `[]`, `{`,
	} {
		if r := p.do(t, http.MethodPost, "/control", `{"latencyMs":9}`); r.status != http.StatusOK {
			t.Fatalf("status %d", r.status)
		}
		if r := p.do(t, http.MethodPost, "/control", bad); r.status != http.StatusBadRequest {
			t.Errorf("%s: got %d, want 400", bad, r.status)
		}
		if now := p.control(t, `{}`); now["latencyMs"] != 9.0 {
			t.Errorf("%s: changed the settings to %v", bad, now)
		}
	}
	if err := p.Change(func(s *mockupstream.Settings) { s.Usage = "" }); err == nil {
		t.Error("Change to an invalid setting: got no error")
	}
}

func TestPacedChunksArriveOneByOne(t *testing.T) {
	t.Parallel()
	p := startProvider(t)
	// One piece in a thousand seconds: unless all are sent at once, only the opening chunk can be there.
	p.control(t, `{"tokensPerSecond":0.001}`)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/v1/chat/completions",
		strings.NewReader(chatOf("gpt-4", 9, `,"stream":true`)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer sk-test")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	lines := bufio.NewScanner(answer.Body)
	if !lines.Scan() || !strings.Contains(lines.Text(), `"role":"assistant"`) {
		t.Fatalf("first event: %q", lines.Text())
	}
	leave()
	for lines.Scan() {
		if lines.Text() != "" {
			t.Errorf("a chunk came before its time: %s", lines.Text())
		}
	}

	p.control(t, `{"tokensPerSecond":1000000,"latencyMs":1}`)
	if chunks, done := events(t, p.chat(t, chatOf("gpt-4", 9, `,"stream":true`)).body); !done || contentChunks(chunks) != 190 {
		t.Errorf("a fast pace: %d chunks, [DONE] %t", contentChunks(chunks), done)
	}
	if r := p.chat(t, hello); r.status != http.StatusOK || r.err != nil {
		t.Errorf("a paced plain answer: %d %v", r.status, r.err)
	}
}

func TestSettingsChangeWhileRequestsRun(t *testing.T) {
	t.Parallel()
	p := startProvider(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if r := p.chat(t, hello); r.status != http.StatusOK || r.err != nil {
					t.Errorf("status %d: %v", r.status, r.err)
				}
			}
		})
	}
	for range 20 {
		p.control(t, `{"hold":true}`)
		p.control(t, `{"hold":false}`)
	}
	wg.Wait()
	if got := p.Bill(time.Time{}, time.Time{}).Requests; got != 80 {
		t.Errorf("billed: got %d, want 80", got)
	}
}
