package request_test

import (
	"testing"

	"github.com/budgetguard/budgetguard/proxy/request"
)

func TestInjectionChangesOnlyIncludeUsage(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{ "model":"m","stream":true,"messages":[]}`: `{"stream_options":{"include_usage":true}, "model":"m","stream":true,"messages":[]}`,

		`{"model":"m","stream":true,"stream_options":null,"messages":[]}`: `{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}`,

		`{"model":"m","stream":true,"stream_options":{ },"messages":[]}`: `{"model":"m","stream":true,"stream_options":{"include_usage":true },"messages":[]}`,

		`{"model":"m","stream":true,"stream_options":{"include_obfuscation":false},"messages":[]}`: `{"model":"m","stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false},"messages":[]}`,

		`{"model":"m","stream":true,"messages":[],"stream_options":{"x":{"include_usage":true},"include_usage" : false }}`: `{"model":"m","stream":true,"messages":[],"stream_options":{"x":{"include_usage":true},"include_usage" : true }}`,

		`{"model":"m","stream":true,"messages":[],"stream_options":{"include_usage":null}}`: `{"model":"m","stream":true,"messages":[],"stream_options":{"include_usage":true}}`,
	} {
		edited := request.Edit([]byte(body), parse(t, chat, body), request.Edits{IncludeUsage: true})
		if string(edited) != want {
			t.Errorf("inject\n into %s\n  got %s\n want %s", body, edited, want)
		}
		if r := parse(t, chat, string(edited)); !r.IncludeUsage || !r.Stream {
			t.Errorf("%s does not ask for usage", edited)
		}
	}
}

func TestInjectionLeavesAloneWhatNeedsNone(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"model":"m","messages":[]}`, `{"model":"m","stream":false,"messages":[],"stream_options":null}`,
		`{"model":"m","stream":true,"messages":[],"stream_options":{"include_usage":true}}`,
	} {
		raw := []byte(body)
		if edited := request.Edit(raw, parse(t, chat, body), request.Edits{IncludeUsage: true}); &edited[0] != &raw[0] || len(edited) != len(raw) {
			t.Errorf("%s became %s", body, edited)
		}
	}
}

func TestACapIsWrittenWhereItIsOrAddedInFront(t *testing.T) {
	t.Parallel()
	both := request.Edits{IncludeUsage: true, MaxTokens: 7, MaxCompletionTokens: 8}
	for _, c := range []struct {
		edits      request.Edits
		body, want string
	}{
		{
			request.Edits{MaxTokens: 7},
			`{"model":"m", "max_tokens" : 1e3 ,"messages":[]}`,
			`{"model":"m", "max_tokens" : 7 ,"messages":[]}`,
		},
		{
			request.Edits{MaxTokens: 7},
			`{"model":"m","messages":[],"max_tokens":null}`,
			`{"model":"m","messages":[],"max_tokens":7}`,
		},
		{
			request.Edits{MaxCompletionTokens: 8},
			` { "model":"m","messages":[]}`,
			` {"max_completion_tokens":8, "model":"m","messages":[]}`,
		},
		{
			both,
			`{"stream":true,"max_completion_tokens":90,"model":"m","max_tokens":90,"messages":[]}`,
			`{"stream_options":{"include_usage":true},"stream":true,"max_completion_tokens":8,"model":"m","max_tokens":7,"messages":[]}`,
		},
		{
			both,
			`{"max_tokens":90,"stream":true,"stream_options":{},"model":"m","messages":[]}`,
			`{"max_completion_tokens":8,"max_tokens":7,"stream":true,"stream_options":{"include_usage":true},"model":"m","messages":[]}`,
		},
	} {
		edited := request.Edit([]byte(c.body), parse(t, chat, c.body), c.edits)
		if string(edited) != c.want {
			t.Errorf("edit %+v\n  of %s\n got %s\nwant %s", c.edits, c.body, edited, c.want)
		}
		r := parse(t, chat, string(edited))
		if e := c.edits; e.MaxTokens > 0 && *r.MaxTokens != e.MaxTokens ||
			e.MaxCompletionTokens > 0 && *r.MaxCompletionTokens != e.MaxCompletionTokens {
			t.Errorf("%s has other caps", edited)
		}
	}
}
