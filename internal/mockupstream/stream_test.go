package mockupstream_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

const toolsJSON = `"tools":[{"type":"function","function":{"name":"weather","parameters":` +
	`{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}]`

// Each golden is the body of the first answer of a fresh server, byte for byte.
func TestAnswersEqualTheirTranscripts(t *testing.T) {
	t.Parallel()
	const ask = `"messages":[{"role":"user","content":"one two three"}],"max_tokens":4`
	cases := map[string]struct{ path, body string }{
		"chat.json":        {"/v1/chat/completions", `{"model":"gpt-4",` + ask + `}`},
		"chat.sse":         {"/v1/chat/completions", `{"model":"gpt-4","stream":true,` + ask + `}`},
		"chat_usage.sse":   {"/v1/chat/completions", `{"model":"gpt-4","stream":true,"stream_options":{"include_usage":true},` + ask + `}`},
		"chat_choices.sse": {"/v1/chat/completions", `{"model":"gpt-4","stream":true,"n":2,` + ask + `}`},
		"tool.json":        {"/v1/chat/completions", `{"model":"gpt-4","messages":[{"role":"user","content":"rain?"}],` + toolsJSON + `}`},
		"tool_usage.sse": {"/v1/chat/completions", `{"model":"gpt-4","stream":true,"stream_options":{"include_usage":true},` +
			`"messages":[{"role":"user","content":"rain?"}],` + toolsJSON + `}`},
		"legacy.json": {"/v1/completions", `{"model":"gpt-3.5-turbo","prompt":["hello","world"],"max_tokens":3}`},
		"legacy_usage.sse": {"/v1/completions", `{"model":"gpt-3.5-turbo","prompt":"hello","max_tokens":3,"stream":true,` +
			`"stream_options":{"include_usage":true}}`},
		"not_found.json":     {"/v1/embeddings", `{"model":"gpt-4"}`},
		"unknown_model.json": {"/v1/chat/completions", `{"model":"gpt-0",` + ask + `}`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startProvider(t).do(t, http.MethodPost, c.path, c.body)
			wantType := "application/json"
			if strings.HasSuffix(name, ".sse") {
				wantType = "text/event-stream; charset=utf-8"
			}
			if got := r.header.Get("Content-Type"); got != wantType {
				t.Errorf("content type: got %s, want %s", got, wantType)
			}
			path := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(path, r.body, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(r.body, want) {
				t.Errorf("got\n%s\nwant\n%s", r.body, want)
			}
		})
	}
}

func TestStreamAndPlainAnswerSayAndBillTheSame(t *testing.T) {
	t.Parallel()
	for _, more := range []string{"", `,"max_tokens":7`, `,"n":3`, `,` + toolsJSON, `,"max_tokens":2,` + toolsJSON, `,"max_tokens":500`} {
		p := startProvider(t)
		whole := decode[completion](t, p.chat(t, chatOf("gpt-4o", 30, more)).body)
		chunks, done := events(t, p.chat(t, chatOf("gpt-4o", 30, more+`,"stream":true,"stream_options":{"include_usage":true}`)).body)
		if !done {
			t.Fatalf("%s: the stream has no [DONE]", more)
		}
		said := make([]string, len(whole.Choices))
		finish := make([]string, len(whole.Choices))
		for _, c := range chunks {
			for _, choice := range c.Choices {
				said[choice.Index] += choice.Delta.Content
				finish[choice.Index] += choice.Finish
				for _, call := range choice.Delta.ToolCalls {
					said[choice.Index] += call.Function.Name + call.Function.Arguments
				}
			}
		}
		for i, choice := range whole.Choices {
			want := choice.Message.Content
			for _, call := range choice.Message.ToolCalls {
				want += call.Function.Name + call.Function.Arguments
			}
			if said[i] != want || finish[i] != choice.Finish {
				t.Errorf("%s, choice %d: streamed %q (%s), plain %q (%s)", more, i, said[i], finish[i], want, choice.Finish)
			}
		}
		last := chunks[len(chunks)-1]
		if len(last.Choices) != 0 || *last.Usage != *whole.Usage {
			t.Errorf("%s: last chunk %+v, plain usage %+v", more, last, *whole.Usage)
		}
		if got := contentChunks(chunks); int64(got) != whole.Usage.Completion {
			t.Errorf("%s: %d content chunks for %d completion tokens", more, got, whole.Usage.Completion)
		}
		if bill := p.Bill(time.Time{}, time.Time{}); bill.TotalNano%2 != 0 {
			t.Errorf("%s: the two are not billed alike: %d nano", more, bill.TotalNano)
		}
	}
}

func TestAnswerFollowsFromThePromptAlone(t *testing.T) {
	t.Parallel()
	ask := func(p *provider, text string) string {
		r := p.chat(t, fmt.Sprintf(`{"model":"gpt-4","messages":[{"role":"user","content":%q}]}`, text))
		return decode[completion](t, r.body).Choices[0].Message.Content
	}
	a, b := startProvider(t), startProvider(t)
	first := ask(a, "alpha")
	if again, elsewhere := ask(a, "alpha"), ask(b, "alpha"); again != first || elsewhere != first {
		t.Errorf("the same prompt: %q, %q and %q", first, again, elsewhere)
	}
	if other := ask(a, "beta"); other == first {
		t.Errorf("another prompt got the same answer %q", other)
	}
}

func TestResponseNamesTheDatedSnapshot(t *testing.T) {
	t.Parallel()
	p := startProvider(t)
	for asked, want := range map[string]string{
		"gpt-3.5-turbo":       "gpt-3.5-turbo-0125",
		"gpt-4":               "gpt-4-0613",
		"gpt-4-0314":          "gpt-4-0314",
		"gpt-4-turbo-preview": "gpt-4-turbo-preview",
		"gpt-4o-mini":         "gpt-4o-mini-2024-07-18",
		"gpt-4o":              "gpt-4o",
	} {
		if got := decode[completion](t, p.chat(t, chatOf(asked, 9, "")).body).Model; got != want {
			t.Errorf("%s: got %s, want %s", asked, got, want)
		}
	}
}

func TestToolsAreCalledUnlessForbiddenOrAnswered(t *testing.T) {
	t.Parallel()
	const two = `"tools":[{"type":"function","function":{"name":"a"}},{"type":"function","function":{"name":"b"}}]`
	const user = `{"role":"user","content":"go"}`
	cases := map[string]struct{ messages, more, want string }{
		"the first":        {user, two, "a"},
		"auto":             {user, two + `,"tool_choice":"auto"`, "a"},
		"required":         {user, two + `,"tool_choice":"required"`, "a"},
		"by name":          {user, two + `,"tool_choice":{"type":"function","function":{"name":"b"}}`, "b"},
		"none":             {user, two + `,"tool_choice":"none"`, ""},
		"no tools":         {user, `"tools":[]`, ""},
		"null tools":       {user, `"tools":null`, ""},
		"answered":         {user + `,{"role":"tool","tool_call_id":"x","content":"42"}`, two, ""},
		"asked once again": {user + `,{"role":"tool","tool_call_id":"x","content":"42"},` + user, two, "a"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startProvider(t).chat(t, `{"model":"gpt-4","messages":[`+c.messages+`],`+c.more+`}`)
			choice := decode[completion](t, r.body).Choices[0]
			got := ""
			if calls := choice.Message.ToolCalls; len(calls) == 1 {
				got = calls[0].Function.Name
				arguments := decode[map[string]string](t, []byte(calls[0].Function.Arguments))
				if arguments["input"] == "" {
					t.Errorf("arguments: got %v", arguments)
				}
			}
			if got != c.want || (got != "") != (choice.Finish == "tool_calls") {
				t.Errorf("called %q with finish_reason %s, want %q", got, choice.Finish, c.want)
			}
		})
	}
}
