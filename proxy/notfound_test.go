package proxy

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
)

// answerTo is what a server without anything behind it answers to a path.
func answerTo(tb testing.TB, cfg Config, method, path string, header http.Header) *httptest.ResponseRecorder {
	tb.Helper()
	cfg.Now = time.Now
	s := New(cfg, Deps{})
	e := echo.New()
	s.Register(e)
	e.HTTPErrorHandler = func(_ error, c echo.Context) { s.NotFound(c.Response(), c.Request()) }
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(tb.Context(), method, "/", http.NoBody)
	r.URL.Path = path
	for name, values := range header {
		r.Header[name] = values
	}
	e.ServeHTTP(w, r)
	return w
}

func TestA404SaysWhichPathWasMeant(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/chat/completions":                      "/v1/chat/completions is probably meant (the base URL lacks /v1)",
		"/completions":                           "/v1/completions is probably meant (the base URL lacks /v1)",
		"/models":                                "/v1/models is probably meant (the base URL lacks /v1)",
		"/models/gpt-4o":                         "/v1/models/{id} is probably meant (the base URL lacks /v1)",
		"/v1/v1/chat/completions":                "the path has /v1 twice",
		"/v1/v1/models":                          "the path has /v1 twice",
		"/v1/chat/completions/chat/completions":  "the base URL ends before /chat/completions",
		"/v1/completions/chat/completions":       "the base URL ends before /chat/completions",
		"/v1/chat/completions/":                  "leave out the slash at the end",
		"/v1/Chat/Completions":                   "write it in lower case with single slashes",
		"//v1//chat/completions":                 "write it in lower case with single slashes",
		"/api/v1/chat/completions":               "the base URL has more than /v1 in it",
		"/openai/deployments/g/chat/completions": "Azure",
		"/v1/openai/deployments/x/completions":   "Azure",
		"/openai/v1/chat/completions":            "the base URL has more than /v1 in it",
		"/v1/engines/gpt-4o/completions":         "the base URL has more than /v1 in it",
		"/v1/responses":                          "Chat Completions",
		"/responses/resp_1/cancel":               "Chat Completions",
		"/v1/messages":                           "Anthropic",
		"/v1/v1/messages":                        "Anthropic",
		"/v1beta/models/gemini:generateContent":  "Gemini",
		"/v1/embeddings":                         "POST /v1/embeddings is not proxied: served are",
		"/api/tags":                              "Ollama",
		"/":                                      "POST / is not proxied: served are",
		"/v1":                                    "POST /v1 is not proxied: served are",
		"/" + strings.Repeat("x", 5000):          "xxx... is not proxied",
		"/v1/\x1b[31m\n\u202e":                   "POST /v1/?[31m??",
	} {
		for _, credential := range []string{"Authorization", "X-Api-Key"} {
			w := answerTo(t, Config{Errors: DialectAuto}, http.MethodPost, path, http.Header{credential: {"Bearer x"}})
			body := w.Body.String()
			if w.Code != http.StatusNotFound || !strings.Contains(body, want) || w.Body.Len() > 1500 {
				t.Errorf("%.80q: %d %s", path, w.Code, body)
			}
			if !strings.Contains(body, "POST /v1/chat/completions, POST /v1/completions and GET /v1/models") {
				t.Errorf("%.80q does not say what is served: %s", path, body)
			}
			if openAI := strings.HasPrefix(body, `{"error":{`); openAI != (credential == "Authorization") {
				t.Errorf("%.80q with %s: %s", path, credential, body)
			}
		}
	}
}
