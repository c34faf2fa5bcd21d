package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
)

// What is held for requests whose bill was above their hold once, or whose hold was far above any bill.
func TestAHoldCoversWhatTheProviderMayBill(t *testing.T) {
	t.Parallel()
	const tool = `"tools":[{"type":"function","function":{"name":"current_time","parameters":{"type":"object","properties":{}}}}]`
	long := strings.Repeat("abcd efgh ", 25_000)
	g := start(t, setup{books: unbilled, upstream: canned(500, "application/json", `{"error":{"message":"x"}}`)})
	for i, c := range []struct {
		rule, body, least, most string
	}{
		{
			"a tool's hidden preamble", `{"model":"claude-haiku-4-5","max_tokens":40,` + tool + `,"messages":[{"role":"user","content":"What time is it?"}]}`,
			"0.000603", "0.003",
		},
		{
			"a cap that DeepSeek ignores", `{"model":"deepseek-v4-pro","max_completion_tokens":5,"messages":[{"role":"user","content":"hi"}]}`,
			"1.5", "2",
		},
		{
			"a cap above the catalogue's maximum", `{"model":"codestral-latest","max_tokens":100000,"messages":[{"role":"user","content":"hi"}]}`,
			"0.09", "0.1",
		},
		{
			"a prompt longer than the window", fmt.Sprintf(`{"model":"claude-sonnet-4-5","messages":[{"role":"user","content":%q}]}`, long),
			"1.47", "1.47",
		},
		{
			"writes that live for an hour", `{"model":"claude-sonnet-4-5","max_tokens":1,"messages":[{"role":"user","content":[{"type":"text","text":"` +
				long[:10_000] + `","cache_control":{"type":"ephemeral","ttl":"1h"}}]}]}`,
			"0.06", "0.062",
		},
		{
			"a prediction", `{"model":"gpt-4o","max_tokens":1,"messages":[{"role":"user","content":"hi"}],"prediction":{"type":"content","content":"` +
				strings.Repeat("word ", 1000) + `"}}`,
			"0.01", "0.02",
		},
		{
			"a function without parameters at GPT-5", `{"model":"gpt-5","max_completion_tokens":1,` + tool + `,"messages":[{"role":"user","content":"hi"}]}`,
			"0.00017125", "0.001",
		},
		{
			"Groq's name for its default tier", `{"model":"llama-3.1-8b-instant","service_tier":"on_demand","max_tokens":1,"messages":[{"role":"user","content":"hi"}]}`,
			"0.000001", "0.0001",
		},
	} {
		tenant, header := g.inCase(i)
		post(t, g.url+chatPath, c.body, header...).want(t, http.StatusInternalServerError)
		g.released(tenant)
		held := of[domain.UsageReserved](g, tenant)[0].Amount
		if held < usd(c.least) || held > usd(c.most) {
			t.Errorf("%s: held %s, want %s to %s", c.rule, held, c.least, c.most)
		}
	}
}

func TestWhatBillsByTheCallIsRefusedUnderEveryName(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	for _, model := range []string{
		"gpt-4o-mini-search-preview-2025-03-11", "gpt-4o-mini-search-preview", "gpt-4o-search-preview-2025-03-11", "gpt-5-search-api",
	} {
		r := post(t, g.url+chatPath, `{"model":"`+model+`","messages":[{"role":"user","content":"hi"}]}`, "X-API-Key", key)
		if r.want(t, http.StatusBadRequest).code() != "not_estimable" {
			t.Errorf("%s: %s", model, r.body)
		}
	}
	g.nothingForwarded()
}
