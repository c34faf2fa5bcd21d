package mockupstream_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/internal/mockupstream"
)

// chatOf is a chat of n prompt tokens: 6 of them are the overhead of one message and the reply.
func chatOf(model string, promptTokens int, more string) string {
	text := strings.TrimSpace(strings.Repeat("a ", promptTokens-6))
	return fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%q}]%s}`, model, text, more)
}

// The totals are computed by hand from the catalogue: prompt × input + 190 × output in USD per million tokens.
func TestBillEqualsTheFigureComputedByHand(t *testing.T) {
	t.Parallel()
	newYear := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	cases := map[string]struct {
		at         time.Time
		body       string
		want, tier string
	}{
		"seed row beats the list price":         {start, chatOf("gpt-3.5-turbo", 9, ""), "0.000389", "default"},
		"seed row holds for its alias":          {start, chatOf("gpt-3.5-turbo-0125", 9, ""), "0.000389", "default"},
		"seed row gpt-4":                        {start, chatOf("gpt-4", 9, ""), "0.01167", "default"},
		"alias of gpt-4":                        {start, chatOf("gpt-4-0613", 9, ""), "0.01167", "default"},
		"alias of gpt-4-turbo":                  {start, chatOf("gpt-4-turbo-preview", 9, ""), "0.00579", "default"},
		"list price":                            {start, chatOf("gpt-4o-mini", 9, ""), "0.00011535", "default"},
		"priority":                              {start, chatOf("gpt-4o-mini", 9, `,"service_tier":"priority"`), "0.00019225", "priority"},
		"flex":                                  {start, chatOf("gpt-5-mini", 9, `,"service_tier":"flex"`), "0.000191125", "flex"},
		"auto is default":                       {start, chatOf("gpt-4o-mini", 9, `,"service_tier":"auto"`), "0.00011535", "default"},
		"a tier without price is default":       {start, chatOf("gpt-4o-mini", 9, `,"service_tier":"flex"`), "0.00011535", "default"},
		"at the long-context threshold":         {start, chatOf("gpt-5.4", 272_000, ""), "0.68285", "default"},
		"above the threshold the whole is long": {start, chatOf("gpt-5.4", 272_001, ""), "1.36428", "default"},
		"flex has long rates of its own":        {start, chatOf("gpt-5.4", 272_001, `,"service_tier":"flex"`), "0.68214", "flex"},
		"priority has long rates of its own":    {start, chatOf("gpt-5.6-sol", 272_001, `,"service_tier":"priority"`), "4.363416", "priority"},
		"a tier without long rates is default":  {start, chatOf("gpt-5.4", 272_001, `,"service_tier":"priority"`), "1.36428", "default"},
		"off the peak of the day":               {start.Truncate(24 * time.Hour).Add(12 * time.Hour), chatOf("deepseek-v4-pro", 1000, `,"max_tokens":10`), "0.0006798", "default"},
		"at the peak of the day":                {start.Truncate(24 * time.Hour).Add(time.Hour), chatOf("deepseek-v4-pro", 1000, `,"max_tokens":10`), "0.0013596", "default"},
		"a price before its change":             {newYear.Add(-1), chatOf("gemini-3.6-flash", 9, ""), "0.00071925", "default"},
		"a price from the instant of change":    {newYear, chatOf("gemini-3.6-flash", 9, ""), "0.0014385", "default"},
		"max_tokens shortens":                   {start, chatOf("gpt-4", 9, `,"max_tokens":1`), "0.00033", "default"},
		"the larger of both limits":             {start, chatOf("gpt-4", 9, `,"max_tokens":1,"max_completion_tokens":2`), "0.00039", "default"},
		"n multiplies the answer only":          {start, chatOf("gpt-4", 9, `,"n":3,"max_tokens":10`), "0.00207", "default"},
		"the last of duplicate keys counts":     {start, chatOf("gpt-4", 9, `,"max_tokens":1,"max_tokens":2`), "0.00039", "default"},
		"a key of other case is another key":    {start, chatOf("gpt-4", 9, `,"max_tokens":2,"Max_Tokens":1`), "0.00039", "default"},
		"numbers of other notation are numbers": {start, chatOf("gpt-4", 9, `,"max_tokens":2e0`), "0.00039", "default"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProvider(t)
			p.clock.set(c.at)
			r := p.chat(t, c.body)
			if r.status != http.StatusOK {
				t.Fatalf("status %d: %s", r.status, r.body)
			}
			if got := p.Bill(time.Time{}, time.Time{}); got.TotalUsd != c.want || got.Requests != 1 {
				t.Errorf("bill: got %s for %d requests, want %s for 1", got.TotalUsd, got.Requests, c.want)
			}
			if got := decode[completion](t, r.body).Tier; got != c.tier {
				t.Errorf("service_tier: got %s, want %s", got, c.tier)
			}
		})
	}
}

func TestLegacyCompletionsBillEveryPromptAndEveryCandidate(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		body          string
		want          string
		prompt, reply int64
	}{
		"default of 16 tokens": {`{"model":"gpt-3.5-turbo-instruct","prompt":"one two"}`, "0.000035", 2, 16},
		"best_of": {
			`{"model":"gpt-3.5-turbo-instruct","prompt":["one two","three"],"n":2,"best_of":3,"max_tokens":5}`,
			"0.0000645", 3, 30,
		},
		"token numbers":          {`{"model":"gpt-3.5-turbo-instruct","prompt":[5,6,7],"max_tokens":1}`, "0.0000065", 3, 1},
		"arrays of numbers":      {`{"model":"gpt-3.5-turbo-instruct","prompt":[[5],[6,7]],"max_tokens":1}`, "0.0000085", 3, 2},
		"suffix":                 {`{"model":"gpt-3.5-turbo-instruct","prompt":"a","suffix":"b c","max_tokens":1}`, "0.0000065", 3, 1},
		"max_tokens 0":           {`{"model":"gpt-3.5-turbo-instruct","prompt":"a b","max_tokens":0}`, "0.000003", 2, 0},
		"no prompt":              {`{"model":"gpt-3.5-turbo-instruct","max_tokens":1}`, "0.000002", 0, 1},
		"the founding example":   {`{"model":"gpt-3.5-turbo","prompt":"hello"}`, "0.000033", 1, 16},
		"tier where it is named": {`{"model":"gpt-4o-mini","prompt":"a","max_tokens":1,"service_tier":"priority"}`, "0.00000125", 1, 1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProvider(t)
			r := p.do(t, http.MethodPost, "/completions", c.body)
			if r.status != http.StatusOK {
				t.Fatalf("status %d: %s", r.status, r.body)
			}
			if got := p.Bill(time.Time{}, time.Time{}).TotalUsd; got != c.want {
				t.Errorf("bill: got %s, want %s", got, c.want)
			}
			want := usage{c.prompt, c.reply, c.prompt + c.reply}
			if got := *decode[completion](t, r.body).Usage; got != want {
				t.Errorf("usage: got %+v, want %+v", got, want)
			}
		})
	}
}

func TestAmountIsRoundedUpOncePerRequest(t *testing.T) {
	t.Parallel()
	prices := `{"models":[{"id":"m","aliases":[],"input":0.000001,"output":0.000002}]}`
	p := startWith(t, []byte(prices))
	for range 3 {
		p.chat(t, chatOf("m", 9, `,"max_tokens":1`)) // 9 + 2 pico-dollars
	}
	p.chat(t, chatOf("m", 998, `,"max_tokens":1`))  // 1000 pico-dollars: exactly one nano-dollar
	p.chat(t, chatOf("m", 999, `,"max_tokens":1`))  // 1001: two
	p.chat(t, chatOf("m", 1999, `,"max_tokens":1`)) // 2001: three
	if got := p.Bill(time.Time{}, time.Time{}); got.TotalUsd != "0.000000009" || got.TotalNano != 9 {
		t.Errorf("bill: got %s (%d nano), want 0.000000009", got.TotalUsd, got.TotalNano)
	}
}

func TestBillTellsSpansModelsAndKeysApart(t *testing.T) {
	t.Parallel()
	p := startProvider(t)
	p.chat(t, chatOf("gpt-4", 9, ""))
	p.clock.set(start.Add(time.Hour))
	p.chat(t, chatOf("gpt-4-0613", 9, ""))
	p.chat(t, chatOf("gpt-3.5-turbo", 9, ""), "Authorization", "Bearer sk-other")

	all := p.Bill(time.Time{}, time.Time{})
	if all.Requests != 3 || all.TotalUsd != "0.023729" || all.Inexact {
		t.Errorf("all: got %+v", all)
	}
	if got := all.ByModel["gpt-4"]; got.Requests != 2 || got.TotalUsd != "0.02334" {
		t.Errorf("gpt-4 with its alias: got %+v", got)
	}
	if got := all.ByKey[mockupstream.KeyID("sk-other")]; got.Requests != 1 || got.TotalUsd != "0.000389" {
		t.Errorf("sk-other: got %+v", got)
	}
	if got := p.Bill(time.Time{}, start.Add(time.Hour)); got.Requests != 1 {
		t.Errorf("until is exclusive: got %d requests, want 1", got.Requests)
	}
	if got := p.Bill(start.Add(time.Hour), time.Time{}); got.Requests != 2 {
		t.Errorf("since is inclusive: got %d requests, want 2", got.Requests)
	}

	r := p.do(t, http.MethodGet, "/bill?since=2026-12-01T15:00:00+02:00", "")
	want := `{"requests":2,"totalUsd":"0.012059","byModel":{"gpt-3.5-turbo":{"requests":1,"totalUsd":"0.000389"},` +
		`"gpt-4":{"requests":1,"totalUsd":"0.01167"}},"byKey":{"` + mockupstream.KeyID("sk-test") +
		`":{"requests":1,"totalUsd":"0.01167"},"` + mockupstream.KeyID("sk-other") + `":{"requests":1,"totalUsd":"0.000389"}}}`
	if got := decode[mockupstream.Bill](t, r.body); fmt.Sprint(got) != fmt.Sprint(decode[mockupstream.Bill](t, []byte(want))) {
		t.Errorf("GET /bill: got %s, want %s", r.body, want)
	}
	if r := p.do(t, http.MethodGet, "/bill?until=yesterday", ""); r.status != http.StatusBadRequest {
		t.Errorf("a bad instant: got %d, want 400", r.status)
	}
}

func TestBillOfNothingIsZero(t *testing.T) {
	t.Parallel()
	r := startProvider(t).do(t, http.MethodGet, "/bill", "")
	if got, want := strings.TrimSpace(string(r.body)), `{"requests":0,"totalUsd":"0","byModel":{},"byKey":{}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestConcurrentRequestsAreEachBilledOnce(t *testing.T) {
	t.Parallel()
	const clients, each = 16, 25
	p := startProvider(t)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for range each {
				r := p.chat(t, chatOf("gpt-4", 9, `,"stream":true,"max_tokens":3`),
					"Authorization", fmt.Sprintf("Bearer sk-%d", i%4))
				if r.status != http.StatusOK || r.err != nil {
					t.Errorf("status %d: %v", r.status, r.err)
				}
				p.Bill(start, time.Time{})
			}
		})
	}
	wg.Wait()
	bill := p.Bill(time.Time{}, time.Time{})
	if bill.Requests != clients*each || bill.TotalNano != clients*each*450_000 {
		t.Errorf("got %d requests, %d nano; want %d, %d", bill.Requests, bill.TotalNano, clients*each, clients*each*450_000)
	}
	if len(bill.ByKey) != 4 || bill.ByKey[mockupstream.KeyID("sk-3")].Requests != 100 {
		t.Errorf("by key: got %+v", bill.ByKey)
	}
}
