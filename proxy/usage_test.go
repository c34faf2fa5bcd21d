package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
)

// chunk is an event of a stream with a choice and, behind it, more members of the chunk.
func chunk(choice, more string) string {
	return `data: {"choices":[` + choice + `]` + more + "}\n\n"
}

// What providers report, and what it costs by the catalogue. Each was charged too little once, or too
// much.
func TestAUsageIsChargedAtWhatItMeans(t *testing.T) {
	t.Parallel()
	const text = `{"index":0,"delta":{"content":"a"}}`
	stream := func(events ...string) string { return strings.Join(events, "") + "data: [DONE]\n\n" }
	whole := func(usage string) string {
		return `{"choices":[{"index":0,"message":{"content":"a"}}],"usage":` + usage + `}`
	}
	cases := []struct {
		rule, model, answer, want string
	}{
		{
			"Gemini's cached tokens stand beside the prompt", "gemini-2.5-flash",
			whole(`{"prompt_tokens":5,"completion_tokens":20,"total_tokens":25,"prompt_tokens_details":{"cached_tokens":13710}}`),
			"0.0004628",
		},
		{
			"reasoning stands beside a completion that is shorter", "gpt-5",
			whole(`{"prompt_tokens":12,"completion_tokens":1,"completion_tokens_details":{"reasoning_tokens":386}}`),
			"0.003885",
		},
		{
			"one-hour writes have a price of their own", "claude-sonnet-4-5",
			whole(`{"completion_tokens":467,"prompt_tokens":31,"total_tokens":498,"cache_creation_input_tokens":1253,
				"cache_creation":{"ephemeral_1h_input_tokens":1253}}`),
			"0.014616",
		},
		{
			"five-minute writes too", "claude-sonnet-4-5",
			whole(`{"completion_tokens":467,"prompt_tokens":31,"total_tokens":498,"cache_creation_input_tokens":1253}`),
			"0.01179675",
		},
		{
			"a usage in a choice", "gpt-5",
			stream(chunk(`{"index":0,"delta":{"content":"a"},"usage":{"prompt_tokens":19,"completion_tokens":213}}`, "")),
			"0.00215375",
		},
		{
			"DeepSeek's cache hits", "deepseek-flash",
			whole(`{"prompt_tokens":1336,"completion_tokens":31,"total_tokens":1367,"prompt_cache_hit_tokens":1280,"prompt_cache_miss_tokens":56}`),
			"0.00006168",
		},
		{
			"numbers in quotes", "gpt-5", whole(`{"prompt_tokens":"19","completion_tokens":"213"}`), "0.00215375",
		},
		{
			"a last chunk of zeros", "gpt-4o",
			stream(
				chunk(text, ""),
				chunk(`{"index":0,"delta":{},"finish_reason":"stop"}`, `,"usage":{"prompt_tokens":20,"completion_tokens":60,"total_tokens":80}`),
				chunk("", `,"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}`),
			),
			"0.00065",
		},
		{
			"text after a usage is charged beside it", "gpt-5",
			stream(
				chunk(text, `,"usage":{"prompt_tokens":12,"completion_tokens":500,"completion_tokens_details":{"reasoning_tokens":490}}`),
				chunk(text, ""),
			),
			"0.005025",
		},
	}
	for i, c := range cases {
		kind := "application/json"
		if strings.HasPrefix(c.answer, "data:") {
			kind = "text/event-stream"
		}
		g := start(t, setup{books: unbilled, upstream: canned(200, kind, c.answer)})
		tenant, header := g.inCase(i)
		body := fmt.Sprintf(`{"model":%q,"stream":%t,"messages":[{"role":"user","content":"hi"}],"max_tokens":100}`,
			c.model, kind == "text/event-stream")
		post(t, g.url+chatPath, body, header...).want(t, http.StatusOK)
		if s := g.settled(tenant); s.Charged != usd(c.want) {
			t.Errorf("%s: charged %s, want %s: %+v", c.rule, s.Charged, c.want, s.Usage)
		}
	}
}

func TestAnEchoGeneratesNothing(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: unbilled, upstream: canned(200, "application/json",
		`{"choices":[{"index":0,"text":"one two three four five six seven eight nine ten"}],
		"usage":{"prompt_tokens":12,"completion_tokens":0,"total_tokens":12}}`)})
	tenant, header := g.inCase(0)
	post(t, g.url+completionPath, `{"model":"gpt-3.5-turbo-instruct","echo":true,"max_tokens":0,
		"prompt":"one two three four five six seven eight nine ten!!"}`, header...).want(t, http.StatusOK)
	s := g.settled(tenant)
	if s.Charged != usd("0.000018") || s.Reserved < s.Charged || s.Reserved > 2*s.Charged {
		t.Errorf("held %s and charged %s", s.Reserved, s.Charged)
	}
}

func TestAllVisibleTextCountsWhateverItsFieldIsCalled(t *testing.T) {
	t.Parallel()
	words := strings.Repeat("word ", 100)
	for _, field := range []string{"content", "reasoning", "reasoning_content", "thinking", "refusal", "output", "something_new"} {
		answer := chunk(fmt.Sprintf(`{"index":0,"delta":{%q:%q}}`, field, words), "") + "data: [DONE]\n\n"
		g := start(t, setup{books: unbilled, upstream: canned(200, "text/event-stream", answer)})
		tenant, header := g.inCase(0)
		post(t, g.url+chatPath, `{"model":"gpt-4o","stream":true,"max_tokens":1000,"messages":[]}`, header...).want(t, http.StatusOK)
		if s := g.settled(tenant); s.Basis != domain.BasisCounted || s.Usage.Completion < 100 {
			t.Errorf("%s: settled %+v", field, s.Usage)
		}
	}
}

func TestAFigureThatNoTableKnowsIsCountedAndNamedOnce(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: unbilled, upstream: canned(200, "application/json",
		`{"choices":[{"message":{"content":"a"}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"warp_tokens":9}}`)})
	key := g.tenant("acme", "100")
	for range 3 {
		g.chat(key, "").want(t, http.StatusOK)
	}
	g.quiet()
	if n := g.metric("budgetguard_unknown_usage_figures_total", ""); n != 3 {
		t.Errorf("%v are counted", n)
	}
	if n := strings.Count(g.log.String(), "warp_tokens"); n != 1 {
		t.Errorf("it is named %d times", n)
	}
}
