package proxy_test

import (
	"testing"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/domain/pricing"
	"github.com/budgetguard/budgetguard/proxy"
)

func TestAFreeModelWorksAlsoAfterAnOverrun(t *testing.T) {
	t.Parallel()
	prices, err := pricing.Parse([]byte(`{"models":[
		{"id":"free","provider":"openai","input":0,"output":0,"max_output_tokens":100},
		{"id":"gpt-3.5-turbo","provider":"openai","input":1,"output":2,"max_output_tokens":4096}]}`), "test")
	check(t, err)
	g := start(t, setup{
		books:    unbilled,
		upstream: canned(200, "application/json", answered("", "", 10, 1_000_000)),
		deps:     func(d *proxy.Deps) { d.Prices = prices },
	})
	key := g.tenant("acme", "1")
	ask := func(model string, status int) {
		t.Helper()
		post(t, g.url+chatPath, `{"model":"`+model+`","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}`,
			"X-API-Key", key).want(t, status)
	}

	ask("gpt-3.5-turbo", 200) // billed at twice the budget
	g.quiet()
	ask("gpt-3.5-turbo", 402)
	ask("free", 200)
	if all := of[domain.UsageSettled](g, "acme"); len(all) != 2 || all[1].Charged != 0 || all[1].Reserved != 0 {
		t.Errorf("settled %+v", all)
	}
}
