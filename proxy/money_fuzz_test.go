package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/domain/pricing"
	"github.com/budgetguard/budgetguard/proxy/request"
	"github.com/budgetguard/budgetguard/proxy/sse"
	"github.com/budgetguard/budgetguard/proxy/tokens"
)

// pricer is a server that prices and meters, and neither reserves nor forwards.
var pricer = sync.OnceValue(func() *Server {
	prices, err := pricing.Parse(pricing.Embedded(), "embedded")
	counter, countErr := tokens.New()
	if err = errors.Join(err, countErr); err != nil {
		panic(err)
	}
	now := time.Date(2026, time.December, 1, 12, 0, 0, 0, time.UTC)
	s := &Server{
		Deps: Deps{Prices: prices, Tokens: counter, Metrics: NewMetrics(prometheus.NewRegistry())},
		cfg: Config{
			Upstream: &url.URL{Scheme: "http", Host: "127.0.0.1"}, ServiceTier: domain.TierDefault,
			Now: func() time.Time { return now },
		},
		log: slog.New(slog.DiscardHandler),
	}
	// Read a moment ago, and never again.
	s.allowed = &allowances{now: s.cfg.Now, until: now.Add(time.Hour), stored: map[string]pricing.Allowance{}}
	return s
})

// priced is an exchange of a body, priced; false where it is refused.
func pricedExchange(tb testing.TB, body string) (*exchange, bool) {
	tb.Helper()
	s := pricer()
	x := &exchange{s: s, r: httptest.NewRequest("POST", "/", nil), route: request.RouteChat, started: s.cfg.Now(), body: []byte(body)}
	var err error
	if x.asked, err = request.Parse(x.route, x.body); err != nil {
		return nil, false
	}
	return x, x.price() == nil
}

// FuzzCharge: of whatever usage a provider sends, the charge is never below what any consistent reading of
// it costs, found here a second time from the plain figures.
func FuzzCharge(f *testing.F) {
	for _, usage := range []string{
		`{"prompt_tokens":5,"completion_tokens":20,"total_tokens":25,"prompt_tokens_details":{"cached_tokens":13710}}`,
		`{"prompt_tokens":12,"completion_tokens":1,"completion_tokens_details":{"reasoning_tokens":386}}`,
		`{"prompt_tokens":31,"completion_tokens":467,"cache_creation_input_tokens":1253,"cache_creation":{"ephemeral_1h_input_tokens":1253}}`,
		`{"prompt_tokens":"7","completion_tokens":1e2,"total_tokens":-5}`, `{"total_tokens":9}`, `{"input_tokens":1,"output_tokens":2}`,
	} {
		f.Add("claude-sonnet-4-5", usage)
		f.Add("gpt-5", usage)
	}
	f.Fuzz(func(t *testing.T, model, usage string) {
		x, ok := pricedExchange(t, fmt.Sprintf(`{"model":%q,"max_tokens":100,"messages":[{"role":"user","content":"hi"}]}`, model))
		if !ok {
			return
		}
		m := new(sse.Meter)
		m.Add([]byte(`{"choices":[{"message":{"content":"a"}}],"usage":` + usage + `}`))
		b, err := x.bill(m)
		if err != nil {
			return // more than can be booked: the hold is charged, and an operator is told
		}
		for _, report := range m.Reports() {
			for _, reading := range report.Readings() {
				cost, err := x.priced.model.Cost(x.priced.demand.Tier, reading, x.started, x.started)
				if err == nil && x.believable(m, reading) && cost > b.cost {
					t.Fatalf("%s: %s may mean %+v, which costs %s; charged %s", model, usage, reading, cost, b.cost)
				}
			}
		}
		if least, ok := plainCost(x, usage); ok && least > b.cost {
			t.Fatalf("%s: %s costs %s at least; charged %s", model, usage, least, b.cost)
		}
	})
}

// plainCost is the cost of prompt and completion alone, with the cheapest place of what was cached, false for
// a usage that is not that plain.
func plainCost(x *exchange, usage string) (domain.Amount, bool) {
	var u struct {
		Prompt     int64 `json:"prompt_tokens"`
		Completion int64 `json:"completion_tokens"`
		Details    struct {
			Cached int64 `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
		Reads int64 `json:"cache_read_input_tokens"`
	}
	const most = 1_000_000
	if strings.Count(usage, `"prompt_tokens"`) != 1 || json.Unmarshal([]byte(usage), &u) != nil ||
		u.Prompt <= 0 || u.Completion <= 0 || max(u.Prompt, u.Completion, u.Details.Cached, u.Reads) > most {
		return 0, false
	}
	cached := min(max(u.Details.Cached, u.Reads, 0), u.Prompt)
	if !slices.Contains([]int{0, 1}, strings.Count(usage, "cached_tokens")) || strings.Contains(usage, "hit_tokens") || strings.Contains(usage, "\\u") {
		return 0, false
	}
	cost, err := x.priced.model.Cost(x.priced.demand.Tier, domain.Usage{Prompt: u.Prompt, Cached: cached, Completion: u.Completion}, x.started, x.started)
	return cost, err == nil
}

// FuzzHold: the hold of whatever body is accepted is never below what any answer within its caps can cost.
func FuzzHold(f *testing.F) {
	for _, body := range []string{
		`{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"max_tokens":10,"n":3}`,
		`{"model":"claude-sonnet-4-5","messages":[{"role":"user","content":[{"type":"text","text":"hi","cache_control":{"type":"ephemeral","ttl":"1h"}}]}]}`,
		`{"model":"deepseek-v4-pro","messages":[],"max_completion_tokens":5}`,
		`{"model":"gpt-5.4","messages":[],"service_tier":"flex","prediction":{"type":"content","content":"guess"}}`,
		`{"model":"gpt-4o","messages":[{"role":"user","content":[{"type":"image_url","image_url":"https://x"}]}]}`,
	} {
		f.Add([]byte(body), uint32(100), uint32(10), uint8(0))
	}
	f.Fuzz(func(t *testing.T, body []byte, prompt, completion uint32, kind uint8) {
		x, ok := pricedExchange(t, string(body))
		if !ok {
			return
		}
		d, model := x.priced.demand, x.priced.model
		each := min(int64(completion), d.Output+d.Predicted)
		u := domain.Usage{Prompt: min(int64(prompt), d.Prompt)}
		if model.ContextWindow > 0 {
			u.Prompt = min(u.Prompt, model.ContextWindow)
			each = min(each, max(model.ContextWindow-u.Prompt, 0)+d.Predicted)
		}
		u.Completion = each * d.Answers
		switch kind % 4 {
		case 1:
			u.Cached = u.Prompt
		case 2:
			u.CacheWrite = u.Prompt
		case 3:
			u.CacheWrite = u.Prompt
			if x.asked.LongCacheWrite {
				u.CacheWriteLong = u.Prompt
			}
		}
		cost, err := model.Cost(d.Tier, u, x.started, x.started)
		if err != nil || cost > x.priced.bound {
			t.Fatalf("%s: %+v costs %s, %v; held %s for %+v", model.ID, u, cost, err, x.priced.bound, d)
		}
	})
}
