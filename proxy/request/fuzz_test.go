package request_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"slices"
	"testing"

	"github.com/budgetguard/budgetguard/proxy/request"
)

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}`,
		`{"model":"gp\u0074","stream":true,"stream_options":{"include_usage":false},"messages":[{"content":[{"type":"text","text":"\ud800"}]}],"n":1e1}`,
		`{"model":"m","prompt":["a","b"],"best_of":3,"max_tokens":16.0,"suffix":null,"echo":true}`,
		`{"model":"m","prompt":[[1,2],[3]],"stream":true,"stream_options":null}`,
		`{"model":"m","messages":[{"tool_calls":[{"id":"\n"}]}],"tools":[{"type":"function","function":{"parameters":{"enum":[1]}}}],"stream":true,"stream_options":{"a":1}}`,
		`{"model":"m","Model":"n","messages":[]}`, `{"a":{"b":1,"b":2}}`, `[[[[[[`, "\xef\xbb\xbf{}", `{"model":"m","messages":[],"audio":{}}`,
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, body []byte, isChat bool) {
		route := request.RouteCompletions
		if isChat {
			route = request.RouteChat
		}
		before := bytes.Clone(body)
		r, err := request.Parse(route, body)
		if !bytes.Equal(before, body) {
			t.Fatal("the body was changed")
		}
		var refused *request.Error
		if err != nil {
			if !errors.As(err, &refused) {
				t.Fatalf("error of type %T", err)
			}
			return
		}
		fields := wantSameReading(t, body, r)
		wantCleanInjection(t, body, r, fields)
	})
}

// wantSameReading checks what was read against encoding/json's view of the body as a map.
func wantSameReading(t *testing.T, body []byte, r request.Request) map[string]json.RawMessage {
	t.Helper()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		t.Fatalf("accepted what encoding/json refuses: %v", err)
	}
	var model string
	if err := json.Unmarshal(fields["model"], &model); err != nil || model != r.Model {
		t.Fatalf("model %q, encoding/json reads %q, %v", r.Model, model, err)
	}
	if stream := string(fields["stream"]) == "true"; stream != r.Stream {
		t.Fatalf("stream %t", r.Stream)
	}
	for name, got := range map[string]*int64{"max_tokens": r.MaxTokens, "max_completion_tokens": r.MaxCompletionTokens} {
		text := string(fields[name])
		if (got == nil) != (text == "" || text == "null") {
			t.Fatalf("%s %q read as %v", name, text, got)
		}
		if got == nil || len(text) > 30 {
			continue
		}
		want, ok := new(big.Rat).SetString(text)
		if !ok || want.Cmp(new(big.Rat).SetInt64(*got)) != 0 {
			t.Fatalf("%s %q read as %d", name, text, *got)
		}
	}
	if r.Choices() < 1 || r.Prompts < 1 || r.PromptTokens < 0 {
		t.Fatalf("choices %d, prompts %d", r.Choices(), r.Prompts)
	}
	return fields
}

func wantCleanInjection(t *testing.T, body []byte, r request.Request, before map[string]json.RawMessage) {
	t.Helper()
	r.Stream = true // what is injected does not depend on it
	edited := request.Edit(body, r, request.Edits{IncludeUsage: true, MaxTokens: 16})
	again, err := request.Parse(r.Route, edited)
	if err != nil || !again.IncludeUsage || *again.MaxTokens != 16 {
		t.Fatalf("injected %s: %v", edited, err)
	}
	var after, optionsBefore, optionsAfter map[string]json.RawMessage
	if err := json.Unmarshal(edited, &after); err != nil {
		t.Fatalf("injected %s: %v", edited, err)
	}
	if options, ok := before["stream_options"]; ok && json.Unmarshal(options, &optionsBefore) != nil {
		t.Fatalf("accepted stream_options %s", options)
	}
	if err := json.Unmarshal(after["stream_options"], &optionsAfter); err != nil {
		t.Fatalf("injected %s: %v", edited, err)
	}
	delete(before, "stream_options")
	delete(after, "stream_options")
	delete(before, "max_tokens")
	delete(after, "max_tokens")
	delete(optionsBefore, "include_usage")
	delete(optionsAfter, "include_usage")
	equal := func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }
	if !maps.EqualFunc(before, after, equal) || !maps.EqualFunc(optionsBefore, optionsAfter, equal) {
		t.Fatalf("injection changed %s to %s", body, edited)
	}
	if !slices.Equal(again.Texts, r.Texts) {
		t.Fatal("injection changed the texts")
	}
}
