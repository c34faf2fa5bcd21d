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
		edited := request.InjectIncludeUsage([]byte(body), parse(t, chat, body))
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
		if edited := request.InjectIncludeUsage(raw, parse(t, chat, body)); &edited[0] != &raw[0] || len(edited) != len(raw) {
			t.Errorf("%s became %s", body, edited)
		}
	}
}
