package provider_test

import (
	"testing"

	"github.com/budgetguard/budgetguard/proxy/provider"
)

func TestWhatAnEndProves(t *testing.T) {
	t.Parallel()
	const own = `{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}`
	for _, c := range []struct {
		rule   string
		by     provider.Name
		status int
		body   string
		want   provider.End
	}{
		{"a redirect", "", 307, "", provider.NotBilled},
		{"a refusal", "", 400, own, provider.NotBilled},
		{"a refusal that cannot be read", "", 429, "\x1f\x8b", provider.NotBilled},
		{"the client's time-out", "", 408, own, provider.Unproven},
		{"nginx's time-out", "", 499, "", provider.Unproven},
		{"a failure of the provider's own", "", 500, "", provider.NotBilled},
		{"not implemented", "", 501, "", provider.NotBilled},
		{"a gateway that got nonsense", "", 502, "<html>", provider.Unproven},
		{"a gateway that passes the provider's error on", "", 502, own, provider.NotBilled},
		{"the same in Anthropic's form", provider.Anthropic, 502, `{"type":"error","error":{"type":"api_error","message":"x"}}`, provider.NotBilled},
		{"the same in Google's list", provider.Google, 502, `[{"error":{"code":502,"message":"x","status":"INTERNAL"}}]`, provider.NotBilled},
		{"an error that is a string", "", 502, `{"error":"bad gateway"}`, provider.Unproven},
		{"overloaded", "", 503, "", provider.NotBilled},
		{"a gateway's time-out", "", 504, own, provider.Unproven},
		{"a time-out by its name", "", 500, `{"error":{"message":"x","type":"timeout_error"}}`, provider.Unproven},
		{"Google's time-out", provider.Google, 503, `{"error":{"code":503,"message":"x","status":"DEADLINE_EXCEEDED"}}`, provider.Unproven},
		{
			"a time-out by its code", provider.OpenRouter, 502,
			`{"error":{"message":"x","code":504}}`, provider.Unproven,
		},
		{"the same as a string", "", 500, `{"error":{"message":"x","code":"408"}}`, provider.Unproven},
		{
			"another code", provider.OpenRouter, 502,
			`{"error":{"message":"x","code":502}}`, provider.NotBilled,
		},
		{"Azure's refusal that cannot be read", provider.Azure, 400, `{"err`, provider.PromptBilled},
		{"Azure's other refusals", provider.Azure, 400, own, provider.NotBilled},
		{"another version of HTTP", "", 505, "", provider.NotBilled},
		{"Cloudflare does not know", "", 520, "", provider.Unproven},
		{"the origin is down", "", 521, "", provider.NotBilled},
		{"the connection timed out", "", 522, "", provider.Unproven},
		{"the origin is unreachable", "", 523, "", provider.NotBilled},
		{"the answer timed out", "", 524, own, provider.Unproven},
		{"the handshake failed", "", 525, "", provider.NotBilled},
		{"Anthropic is overloaded", provider.Anthropic, 529, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, provider.NotBilled},
		{"and says nothing", provider.Anthropic, 529, "", provider.NotBilled},
		{
			"Azure's filter read the prompt", provider.Azure, 400,
			`{"error":{"message":"filtered","type":null,"param":"prompt","code":"content_filter","status":400}}`, provider.PromptBilled,
		},
		{"no status that exists", "", 600, own, provider.NotBilled},
		{"nothing", "", 0, "", provider.Unproven},
	} {
		if got := c.by.Ended(c.status, []byte(c.body)); got != c.want {
			t.Errorf("%s: %d %s proves %d, want %d", c.rule, c.status, c.body, got, c.want)
		}
	}
}

func FuzzEnded(f *testing.F) {
	f.Add(502, []byte(`{"error":{"message":"x"}}`))
	f.Add(400, []byte(`[{"error":{"code":{}}}]`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		end := provider.OpenAI.Ended(status, body)
		if end == provider.NotBilled && (status == 408 || status == 504 || status == 524) {
			t.Fatalf("the time-out %d with %q is no proof", status, body)
		}
	})
}
