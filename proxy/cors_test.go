package proxy

import (
	"net/http"
	"strings"
	"testing"
)

const preflightPath = "/v1/chat/completions"

// preflightOf is the question of a browser before a page's call.
func preflightOf(origin, headers string) http.Header {
	return http.Header{
		"Origin": {origin}, "Access-Control-Request-Method": {"POST"},
		"Access-Control-Request-Headers": {headers},
	}
}

func TestAPreflightOfAnAllowedOriginNeedsNoKey(t *testing.T) {
	t.Parallel()
	cfg := Config{Origins: []string{"https://app.example.com"}}
	for _, path := range []string{preflightPath, "/v1/models", "/v1/models/gpt-4o", "/chat/completions"} {
		w := answerTo(t, cfg, http.MethodOptions, path, preflightOf("https://app.example.com",
			"authorization,content-type,x-stainless-lang,x-budgetguard-tags,openai-project,cookie,x-evil,x-stainless-"))
		h := w.Header()
		if w.Code != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != "https://app.example.com" {
			t.Errorf("%s: %d %v", path, w.Code, h)
		}
		want := "authorization, content-type, x-stainless-lang, x-budgetguard-tags, openai-project"
		if got := h.Get("Access-Control-Allow-Headers"); got != want {
			t.Errorf("%s: allowed %q", path, got)
		}
		if h.Get("Access-Control-Allow-Credentials") != "" || !strings.Contains(strings.Join(h["Vary"], ","), "Origin") {
			t.Errorf("%s: %v", path, h)
		}
	}
}

func TestWithoutTheSettingOrFromAnotherOriginOptionsIsRefused(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{}, {Origins: []string{"https://app.example.com"}}} {
		for path, status := range map[string]int{preflightPath: 405, "/v1/models": 405, "/v1/other": 404} {
			w := answerTo(t, cfg, http.MethodOptions, path, preflightOf("https://evil.example", "authorization"))
			if w.Code != status || w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: %d %v", path, w.Code, w.Header())
			}
		}
	}
}

func TestAnErrorCanBeReadByThePage(t *testing.T) {
	t.Parallel()
	cfg := Config{Origins: []string{AnyOrigin}}
	w := answerTo(t, cfg, http.MethodPost, "/chat/completions", http.Header{"Origin": {"https://a.example"}})
	h := w.Header()
	exposes := h.Get("Access-Control-Expose-Headers")
	if w.Code != 404 || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("%d %v", w.Code, h)
	}
	for _, name := range []string{"X-Request-Id", "X-BudgetGuard-Cost-Usd", "Retry-After", "Server-Timing"} {
		if !strings.Contains(exposes, name) {
			t.Errorf("%s is not exposed", name)
		}
	}
}

func TestOriginsAreReadAsBrowsersSendThem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "*": "*", " https://A.example , http://localhost:5173,": "https://a.example http://localhost:5173",
		"HTTPS://a.example:443": "https://a.example", "http://a.example:80": "http://a.example",
		"app://obsidian.md": "app://obsidian.md", "chrome-extension://abc": "chrome-extension://abc",
	} {
		got, err := ParseOrigins(text)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestAMisspelledOriginSaysHowToWriteIt(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"app.example.com":           "scheme://host",
		"localhost:5173":            "scheme://host",
		"null":                      "scheme://host",
		"https://a.example/":        "write https://a.example",
		"https://a.example/app?x=1": "write https://a.example",
		"https://*.example.com":     "name each origin",
		"*,https://a.example":       "leave",
		"https://u:p@a.example":     "scheme://host",
		"https://bücher.example":    "scheme://host",
	} {
		if got, err := ParseOrigins(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
