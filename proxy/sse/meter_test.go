package sse_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/proxy/sse"
)

// meter reads the events given.
func meter(events ...string) *sse.Meter {
	m := new(sse.Meter)
	for _, ev := range events {
		m.Add([]byte(ev))
	}
	return m
}

// largest is the reading with the most tokens of all that the answer's usages allow.
func largest(m *sse.Meter) (most domain.Usage, told bool) {
	for _, report := range m.Reports() {
		for _, u := range report.Readings() {
			if !told || u.Prompt+u.Completion > most.Prompt+most.Completion {
				most, told = u, true
			}
		}
	}
	return most, told
}

func TestUsageIsReadAndMadeConsistent(t *testing.T) {
	t.Parallel()
	for usage, want := range map[string]domain.Usage{
		`{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}`: {Prompt: 10, Completion: 5},

		`{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":null,"completion_tokens_details":null}`: {Prompt: 10, Completion: 5},

		`{"prompt_tokens":10,"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":4,"cache_write_tokens":2,"audio_tokens":1},
			"completion_tokens_details":{"reasoning_tokens":7,"audio_tokens":1,"accepted_prediction_tokens":3}}`: {
			Prompt: 10, Cached: 4, CacheWrite: 2, AudioPrompt: 1, Completion: 9, Reasoning: 7, AudioAnswer: 1,
		},
		// Hidden thinking that is only in the total is output.
		`{"prompt_tokens":10,"completion_tokens":5,"total_tokens":40}`: {Prompt: 10, Completion: 30},
		// A part that is larger than its whole stands beside it, and with it those that then fit nowhere.
		`{"prompt_tokens":10,"prompt_tokens_details":{"cached_tokens":99,"cache_write_tokens":5,"audio_tokens":5}}`: {
			Prompt: 119, Cached: 99, CacheWrite: 5, AudioPrompt: 5,
		},
		`{"completion_tokens":3,"completion_tokens_details":{"reasoning_tokens":9,"audio_tokens":2},"total_tokens":4}`: {
			Prompt: 1, Completion: 12, Reasoning: 9, AudioAnswer: 2,
		},
		// Odd, but whole numbers of tokens.
		`{"prompt_tokens":-5,"completion_tokens":-1,"prompt_tokens_details":{"cached_tokens":-1}}`: {},
		`{"prompt_tokens":1e2,"completion_tokens":12.0}`:                                           {Prompt: 100, Completion: 12},
		`{"prompt_tokens":null,"completion_tokens":2}`:                                             {Completion: 2},
		`{"prompt_tokens":"12","completion_tokens":"3"}`:                                           {Prompt: 12, Completion: 3},
		`{"total_tokens":7}`: {Prompt: 7},
		`{"prompt_\u0074okens":7,"x":{"prompt_tokens":9}}`: {Prompt: 7},
	} {
		for _, body := range []string{
			`{"choices":[],"usage":` + usage + `}`, `{"usage":` + usage + `,"choices":[{"message":{"content":"a"}}]}`,
			`{"choices":null,"x_groq":{"id":"r","usage":` + usage + `}}`, " {\"usage\" : " + usage + "}\n",
		} {
			m := meter(body)
			if got, ok := largest(m); !ok || got != want || m.Suspect() {
				t.Errorf("%s\n got %+v %t\nwant %+v", body, got, ok, want)
			}
		}
	}
}

func TestUsageThatIsNoneOrNotBelievableIsNotUsed(t *testing.T) {
	t.Parallel()
	for usage, suspect := range map[string]bool{
		`null`: false, `{}`: false, `[]`: false, `5`: false, `"x"`: false, `{"prompt_tokens":null}`: false, `{"spent_tokens":5}`: false,
		`{"prompt_tokens":1000000001}`: true, `{"prompt_tokens":99999999999999999999}`: true, `{"completion_tokens":1e300}`: true, `{"prompt_tokens":1e999}`: true,
		`{"prompt_tokens":1.5}`: true, `{"prompt_tokens":"5.5"}`: true, `{"prompt_tokens":"NaN"}`: true, `{"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":[]}}`: true,
	} {
		m := meter(`{"choices":[],"usage":` + usage + `}`)
		if got, ok := largest(m); ok || m.Suspect() != suspect {
			t.Errorf("%s: %+v %t, suspect %t", usage, got, ok, m.Suspect())
		}
	}
}

func TestACumulativeUsageIsNeverAdded(t *testing.T) {
	t.Parallel()
	m := meter(
		`{"choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"prompt_tokens":9,"completion_tokens":1}}`,
		`{"choices":[{"index":0,"delta":{"content":"b"}}],"usage":{"prompt_tokens":9,"completion_tokens":2}}`,
		`{"choices":[],"usage":null}`, `{"choices":[{"delta":{}}]}`, `[DONE]`,
	)
	if u, ok := largest(m); !ok || u.Prompt != 9 || u.Completion != 2 || !m.Done() {
		t.Errorf("%+v %t", u, ok)
	}
}

func TestWeakerEvidenceDoesNotReplaceStronger(t *testing.T) {
	t.Parallel()
	first := `{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":20,"completion_tokens":60,"total_tokens":80}}`
	for rule, c := range map[string]struct {
		then  string
		later int64
	}{
		"a last chunk of zeros":         {`{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}`, 0},
		"a last chunk with less":        {`{"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":1,"total_tokens":21}}`, 0},
		"a last chunk without figures":  {`{"choices":[],"usage":{}}`, 0},
		"a last chunk that is nonsense": {`{"choices":[],"usage":{"prompt_tokens":1.5}}`, 0},
		"text that comes after it":      {`{"choices":[{"delta":{"content":"b"}}]}`, 1},
		"text with the same usage":      {first, 1},
	} {
		m := meter(first, c.then)
		if u, ok := largest(m); !ok || u.Prompt != 20 || u.Completion != 60 || m.Later() != c.later {
			t.Errorf("%s: %+v, %t, %d pieces later", rule, u, ok, m.Later())
		}
	}
}

func TestUsageIsReadWhereProvidersPutIt(t *testing.T) {
	t.Parallel()
	for rule, events := range map[string][]string{
		"inside a choice": {
			`{"choices":[{"index":0,"delta":{"content":"a"},"usage":{"prompt_tokens":19,"completion_tokens":213}}]}`,
		},
		"by Anthropic's names":      {`{"choices":[],"usage":{"input_tokens":19,"output_tokens":213}}`},
		"before a cost with tokens": {`{"usage":{"prompt_tokens":19,"cost_details":{"deep":{"prompt_tokens":9}},"completion_tokens":213}}`},
	} {
		if u, ok := largest(meter(events...)); !ok || u.Prompt != 19 || u.Completion != 213 {
			t.Errorf("%s: %+v, %t", rule, u, ok)
		}
	}
}

func TestUnknownFiguresAreNamedOnceAndBounded(t *testing.T) {
	t.Parallel()
	usage := `{"usage":{"prompt_tokens":1,"magic_tokens":5,"prompt_tokens_details":{"holo_tokens":1},"cost":1,"speed":2}}`
	m := meter(usage, usage)
	if got := m.UnknownFigures(); !slices.Equal(got, []string{"magic_tokens", "prompt_tokens_details.holo_tokens"}) {
		t.Errorf("unknown are %q", got)
	}
	for i := range 100 {
		m.Add([]byte(fmt.Sprintf(`{"usage":{"x%d_tokens":1}}`, i)))
	}
	if n := len(m.UnknownFigures()); n > 16 {
		t.Errorf("%d names are kept", n)
	}
}

func TestTheUsageOnlyChunkIsToldFromAllOthers(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]bool{
		`{"choices":[],"usage":{"prompt_tokens":1}}`:                              true,
		`{"choices":null,"usage":{"prompt_tokens":1}}`:                            true,
		`{"usage":{"prompt_tokens":1}}`:                                           true,
		`{"choices":[],"x_groq":{"usage":{"prompt_tokens":1}}}`:                   true,
		`{"choices":[],"usage":{"prompt_tokens":"many"}}`:                         true,
		`{"choices":[],"usage":null}`:                                             false,
		`{"choices":[],"prompt_filter_results":[{}]}`:                             false,
		`{"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}`:                  false,
		`{"choices":[],"usage":{"prompt_tokens":1},"error":{"message":"broken"}}`: false,
		`{"choices":[],"usage":{"prompt_tokens":1}`:                               false,
		`[DONE]`: false,
	} {
		if got := new(sse.Meter).Add([]byte(data)); got.UsageOnly() != want {
			t.Errorf("%s: %+v", data, got)
		}
	}
}

func TestTextOfEveryKindIsCollectedByChoice(t *testing.T) {
	t.Parallel()
	m := meter(
		`{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"model":"gpt-4o-2024-08-06","service_tier":"default"}`,
		`{"choices":[{"index":0,"delta":{"content":"a\u00e9\n\ud83d\ude00"}},{"delta":{"content":"B"},"index":1}]}`,
		`{"choices":[{"index":0,"delta":{"refusal":"r","reasoning_content":"t","reasoning":"t","reasoning_details":[]}}]}`,
		`{"choices":[{"index":1,"delta":{"tool_calls":[{"index":0,"id":"call_1","function":{"name":"f","arguments":"{\"x\""}}]}}]}`,
		`{"choices":[{"index":1,"delta":{"tool_calls":[{"function":{"arguments":":1}"}},{"custom":{"name":"g","input":"i"}}]}}]}`,
		`{"choices":[{"index":1,"delta":{"function_call":{"name":"h","arguments":"j"}}}]}`,
		`{"choices":[{"index":2,"text":"old"}]}`,
		`{"choices":[{"index":2,"delta":{"content":[{"type":"text","text":"z"}]},"finish_reason":"stop","logprobs":{"content":[{"token":"no"}]}}]}`,
		`{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"model":null}`,
		`{"choices":[null,{"delta":null},5],"model":5}`,
	)
	want := []string{"aé\n😀rt", `Bf{"x":1}gihj`, `old[{"type":"text","text":"z"}]`}
	if got := m.Texts(); !slices.Equal(got, want) {
		t.Errorf("texts %q, want %q", got, want)
	}
	if m.Deltas() != 8 || m.Model() != "gpt-4o-2024-08-06" || m.ServiceTier() != "default" || m.Overflow() != 0 {
		t.Errorf("deltas %d, model %q, tier %q", m.Deltas(), m.Model(), m.ServiceTier())
	}
}

func TestAWholeAnswerIsReadLikeAChunk(t *testing.T) {
	t.Parallel()
	m := meter(`{
		"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o",
		"choices": [{"index": 0, "message": {"role": "assistant", "content": "one"}}, {"index": 1, "message": {"content": null, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}],
		"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, "service_tier": "priority"
	}`)
	u, ok := largest(m)
	if !ok || u.Prompt != 3 || u.Completion != 4 || m.ServiceTier() != "priority" || !slices.Equal(m.Texts(), []string{"one", "f{}"}) {
		t.Errorf("%+v %t %q %q", u, ok, m.ServiceTier(), m.Texts())
	}
}

func TestErrorsAreSeenAndNullIsNone(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]bool{
		`{"error":{"message":"overloaded","code":502}}`: true, `{"error":"x"}`: true, `{"error":null,"choices":[]}`: false, `{"choices":[{"error":{}}]}`: false,
	} {
		m := new(sse.Meter)
		if c := m.Add([]byte(data)); c.Failed != want || m.Failed() != want {
			t.Errorf("%s: %+v", data, c)
		}
	}
}

func TestMalformedEventsBringNoUsageButTheirText(t *testing.T) {
	t.Parallel()
	m := meter(`{"model":"m","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":6}}`)
	for _, data := range []string{
		"", "x", "[]", `"s"`, "null", `{`, `{"usage":{"prompt_tokens":1}`, `{"usage":{"prompt_tokens":1}}}`, `{"usage":{"prompt_tokens":1},}`, `{"usage" {}}`,
		`{"a":tru,"usage":{"prompt_tokens":1}}`, `{"choices":[{"delta":{"content":"kept"}}],"usage":{"prompt_tokens":1},"cut":"of`, strings.Repeat(`{"a":`, 5000),
		`{"a":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}`, `{"model":"other","x":`, "{\"\\",
	} {
		if c := m.Add([]byte(data)); !c.Malformed {
			t.Errorf("%.60q is well-formed", data)
		}
	}
	if u, ok := largest(m); !ok || u.Prompt != 5 || m.Model() != "m" || !slices.Equal(m.Texts(), []string{"kept"}) {
		t.Errorf("%+v %t %q %q", u, ok, m.Model(), m.Texts())
	}
}

func TestKeptTextIsBoundedAndTheRestIsReported(t *testing.T) {
	t.Parallel()
	m, part := new(sse.Meter), strings.Repeat("x", 1<<20)
	for range 18 {
		m.Add([]byte(`{"choices":[{"delta":{"content":"` + part + `"}}]}`))
	}
	if got := len(m.Texts()[0]); got != 16<<20 || m.Overflow() != 2<<20 || m.Deltas() != 18 {
		t.Errorf("kept %d, overflow %d, deltas %d", got, m.Overflow(), m.Deltas())
	}
	m = new(sse.Meter)
	for i := range 1<<16 + 5 {
		m.Add(fmt.Appendf(nil, `{"choices":[{"index":%d,"text":"ab"}]}`, i))
	}
	if len(m.Texts()) != 1<<16 || m.Overflow() != 10 {
		t.Errorf("kept %d texts, overflow %d", len(m.Texts()), m.Overflow())
	}
}
