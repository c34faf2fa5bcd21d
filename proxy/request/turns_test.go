package request_test

import (
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/proxy/request"
)

func TestWhatAModelThoughtIsSentBackInALaterTurn(t *testing.T) {
	t.Parallel()
	r := parse(t, chat, `{"model":"m","messages":[
		{"role":"assistant","content":[{"type":"thinking","thinking":[{"type":"text","text":"T1"}]},{"type":"text","text":"T2"}]},
		{"role":"assistant","content":[{"type":"thinking","thinking":"T3","signature":"T4"},{"type":"redacted_thinking","data":"T5"}]},
		{"role":"assistant","content":[{"type":"tool_use","id":"T6","name":"T7","input":{"q":"T8"}}],"reasoning_content":"T9"},
		{"role":"assistant","content":"x","reasoning":"TA","reasoning_details":[{"type":"reasoning.text","text":"TB"}],
			"thinking_blocks":[{"thinking":"TC"}]},
		{"role":"user","content":[{"type":"tool_result","tool_use_id":"TD","content":"TE"},{"type":"reference","reference_ids":[1,"TF"]},"TG"]}]}`)
	all := strings.Join(r.Texts, "\x00")
	for _, mark := range strings.Split("T1 T2 T3 T4 T5 T6 T7 T8 T9 TA TB TC TD TE TF TG", " ") {
		if !strings.Contains(all, mark) {
			t.Errorf("%s is not counted", mark)
		}
	}
}

func TestAPredictionIsInputAndMayBeOutput(t *testing.T) {
	t.Parallel()
	for _, prediction := range []string{`{"type":"content","content":"GUESS"}`, `{"type":"content","content":[{"type":"text","text":"GUESS"}]}`} {
		r := parse(t, chat, withField(`"prediction":`+prediction))
		if all := strings.Join(r.Predicted, ""); !strings.Contains(all, "GUESS") || !strings.Contains(strings.Join(r.Texts, ""), "GUESS") {
			t.Errorf("%s: predicted %q", prediction, all)
		}
	}
	if r := parse(t, chat, withField(`"prediction":null`)); len(r.Predicted) != 0 {
		t.Errorf("predicted %q", r.Predicted)
	}
}

func TestCacheOptionsWithoutAKnownPriceAreRefused(t *testing.T) {
	t.Parallel()
	parse(t, chat, withField(`"prompt_cache_options":{"mode":"explicit","ttl":"30m"},"prompt_cache_retention":"24h"`))
	parse(t, chat, withField(`"prompt_cache_options":null,"prompt_cache_retention":null`))
	for _, field := range []string{
		`"prompt_cache_options":{"ttl":"12h"}`, `"prompt_cache_options":{"\u0074tl":"12h"}`, `"prompt_cache_options":{"TTL":"12h"}`,
		`"prompt_cache_options":[1]`, `"prompt_cache_retention":"12h"`,
	} {
		wantCode(t, chat, withField(field), request.NotEstimable)
	}
	wantCode(t, chat, withField(`"Prompt_Cache_Options":{"ttl":"12h"}`), request.InvalidRequest)
}

func TestTheResultsOfToolsAreCountedWithWhatEscapingAdds(t *testing.T) {
	t.Parallel()
	r := parse(t, chat, `{"model":"m","messages":[
		{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b"}]},
		{"content":"{\"a\":\"b\\n\"}\n","role":"tool","tool_call_id":"a"},{"role":"function","name":"g","content":"\u0001"},
		{"role":"user","content":"\"\"\"\""}]}`)
	// Six quotes, a backslash and a line end; a control character takes five more.
	if r.Framing.ToolResults != 2 || r.Framing.ToolCalls < 2 || r.Escaped != 4+1+1+5 {
		t.Errorf("framing %+v, escaped %d", r.Framing, r.Escaped)
	}
}

func TestManyTinyTextsCostNoMultipleOfTheirBody(t *testing.T) {
	t.Parallel()
	const n = 200_000
	r := parse(t, chat, withContent(`[`+strings.Repeat(`"a",`, n-1)+`"a"]`))
	if len(r.Texts) > 1<<16 || int64(len(r.Texts))+r.PromptTokens < n {
		t.Errorf("%d texts and %d tokens of %d", len(r.Texts), r.PromptTokens, n)
	}
}

func TestAToolWithoutATypeIsAFunctionWhereItIsNothingElse(t *testing.T) {
	t.Parallel()
	parse(t, chat, withField(`"tools":[{"function":{"name":"f"}}]`))
	for _, tool := range []string{`{}`, `{"web_search":{}}`, `{"function":{"name":"f"},"web_search":{}}`, `{"function":{"name":"f"},"type":"mcp"}`} {
		wantCode(t, chat, withField(`"tools":[`+tool+`]`), request.NotEstimable)
	}
}
