package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/domain/pricing"
	"github.com/budgetguard/budgetguard/proxy"
)

func TestTheHoldIsTheDearestOutcome(t *testing.T) {
	t.Parallel()
	ones := func(n int) string { return "[" + strings.Repeat("1,", n-1) + "1]" }
	message := `"messages":[{"role":"user","content":"hello"}]}`
	gateways := map[domain.Tier]*gateway{}
	for i, c := range []struct {
		rule       string
		configured domain.Tier
		path, body string
		tier       domain.Tier
		completion int64
	}{
		{"max_tokens caps the answer", "default", chatPath, `{"model":"gpt-3.5-turbo","max_tokens":7,` + message, "default", 7},
		{"so does max_completion_tokens", "default", chatPath, `{"model":"gpt-3.5-turbo","max_completion_tokens":8,` + message, "default", 8},
		{"the larger of both counts", "default", chatPath, `{"model":"gpt-3.5-turbo","max_completion_tokens":8,"max_tokens":9,` + message, "default", 9},
		{"without a cap it is the model's", "default", chatPath, `{"model":"gpt-3.5-turbo",` + message, "default", 4096},
		{"null is no cap", "default", chatPath, `{"model":"gpt-3.5-turbo","max_tokens":null,` + message, "default", 4096},
		{"no cap is above the model's", "default", chatPath, `{"model":"gpt-3.5-turbo","max_tokens":1000000,` + message, "default", 4096},
		{"legacy requests have no smaller default", "default", completionPath, `{"model":"gpt-3.5-turbo","prompt":"hello"}`, "default", 4096},
		{"each choice", "default", chatPath, `{"model":"gpt-3.5-turbo","max_tokens":10,"n":3,` + message, "default", 30},
		{"each candidate", "default", completionPath, `{"model":"gpt-3.5-turbo","max_tokens":10,"n":2,"best_of":4,"prompt":"hello"}`, "default", 40},
		{"each prompt", "default", completionPath, `{"model":"gpt-3.5-turbo","max_tokens":10,"n":2,"prompt":["a","b","c"]}`, "default", 60},
		{"each prompt of tokens", "default", completionPath, `{"model":"gpt-3.5-turbo","max_tokens":10,"prompt":[[1,2,3],[4]]}`, "default", 20},
		{"a prompt of tokens", "default", completionPath, `{"model":"gpt-3.5-turbo","max_tokens":10,"prompt":` + ones(500) + `}`, "default", 10},
		{"the tier asked for", "default", chatPath, `{"model":"o3","max_tokens":10,"service_tier":"priority",` + message, "priority", 10},
		{"a cheaper tier asked for", "default", chatPath, `{"model":"o3","max_tokens":10,"service_tier":"flex",` + message, "flex", 10},
		{"the tier of the installation", "priority", chatPath, `{"model":"o3","max_tokens":10,` + message, "priority", 10},
		{"auto is the tier of the installation", "priority", chatPath, `{"model":"o3","max_tokens":10,"service_tier":"auto",` + message, "priority", 10},
		{"auto of the installation is the dearest", "auto", chatPath, `{"model":"o3","max_tokens":10,` + message, "auto", 10},
		{"a named tier beats auto", "auto", chatPath, `{"model":"o3","max_tokens":10,"service_tier":"default",` + message, "default", 10},
		{"a long prompt is dearer as a whole", "default", completionPath, `{"model":"gpt-5.4","max_tokens":10,"prompt":` + ones(272_001) + `}`, "default", 10},
		{"a long prompt at priority", "priority", completionPath, `{"model":"gpt-5.4","max_tokens":10,"service_tier":"priority","prompt":` + ones(272_001) + `}`, "priority", 10},
		{"a long prompt at flex", "default", completionPath, `{"model":"gpt-5.4","max_tokens":10,"service_tier":"flex","prompt":` + ones(272_001) + `}`, "flex", 10},
		{"just not a long prompt", "default", completionPath, `{"model":"gpt-5.4","max_tokens":10,"prompt":` + ones(271_000) + `}`, "default", 10},
	} {
		g := gateways[c.configured]
		if g == nil {
			g = start(t, setup{config: func(cfg *proxy.Config) { cfg.ServiceTier = c.configured }})
			gateways[c.configured] = g
		}
		tenant, header := g.inCase(i)
		post(t, g.url+c.path, c.body, header...).want(t, 200)
		s := g.settled(tenant)
		if s.Tier != c.tier || s.Estimate.CompletionTokens != c.completion {
			t.Errorf("%s: held for %d tokens at %s, want %d at %s", c.rule, s.Estimate.CompletionTokens, s.Tier, c.completion, c.tier)
		}
		model, _ := catalogue().Model(s.Model)
		want, err := model.Hold(pricing.Demand{
			Tier: c.tier, Prompt: s.Estimate.PromptTokens, Output: c.completion, At: s.ReservedAt,
		})
		check(t, err)
		if s.Reserved != want || s.Charged > s.Reserved || s.Usage.Prompt > s.Estimate.PromptTokens {
			t.Errorf("%s: held %s, want %s; charged %s", c.rule, s.Reserved, want, s.Charged)
		}
	}
}

func TestTheHoldIsExactInNanoDollars(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	r := g.chat(g.tenant("acme", "100"), `"max_tokens":100,`).want(t, 200)
	// 17 prompt tokens at most at 1 USD, 100 tokens at 2 USD per million.
	if got := r.header.Get("X-BudgetGuard-Estimated-Usd"); got != "0.000217" {
		t.Errorf("held %s", got)
	}
	g.settled("acme")
}

func TestATierWithoutAPriceIsRefused(t *testing.T) {
	t.Parallel()
	g := start(t, setup{config: func(c *proxy.Config) { c.ServiceTier = domain.TierPriority }})
	key := g.tenant("acme", "100")
	for _, more := range []string{"", `"service_tier":"flex",`, `"service_tier":"auto",`, `"service_tier":"whatever",`} {
		if r := g.chat(key, more).want(t, 400); r.code() != "model_not_priced" {
			t.Errorf("%s: got %s", more, r.body)
		}
	}
	g.nothingForwarded()
}

func TestTheSmallestBudgetThatFitsIsEnough(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "0.000217")
	short := g.tenant("short", "0.000216999")
	if r := g.chat(short, `"max_tokens":100,`).want(t, 402); r.header.Get("X-BudgetGuard-Reservation") != "" {
		t.Errorf("a refusal names a reservation: %v", r.header)
	}
	g.chat(key, `"max_tokens":100,`).want(t, 200)
	g.settled("acme")
}

func TestWhatAReservationRecords(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	g.keyless("acme", "100")
	key := g.key("acme", domain.IssueKey{ID: "key_1", Tags: map[string]string{"team": "pinned"}})
	g.chat(key, `"stream":true,`, "X-BudgetGuard-Tags", "team=mine, env=prod", "X-Request-Id", "req_1").want(t, 200)
	s := g.settled("acme")
	if s.RequestID != "req_1" || s.Route != chatPath || s.Provider != "openai" || s.Model != "gpt-3.5-turbo" || s.KeyID != "key_1" ||
		!s.Stream || s.Prices != "embedded" || s.Policy == "" || s.Gateway != "test" || s.Estimate.Basis != "cl100k_base" ||
		fmt.Sprint(s.Tags) != "map[env:prod team:pinned]" || s.AnsweredModel != "gpt-3.5-turbo-0125" {
		t.Errorf("recorded %+v", s.Request)
	}
}
