package mockupstream_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/internal/mockupstream"
)

func TestRefusedRequestsHaveOpenAIsFormAndBillNothing(t *testing.T) {
	t.Parallel()
	const user = `"messages":[{"role":"user","content":"hi"}]`
	const chat, legacy = "/v1/chat/completions", "/v1/completions"
	cases := map[string]struct {
		path, body string
		status     int
	}{
		"empty body":           {chat, ``, 400},
		"no JSON":              {chat, `model=gpt-4`, 400},
		"trailing junk":        {chat, `{"model":"gpt-4",` + user + `} x`, 400},
		"null":                 {chat, `null`, 400},
		"array":                {chat, `[]`, 400},
		"invalid UTF-8":        {chat, "{\"model\":\"gpt-4\",\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}", 400},
		"depth bomb":           {chat, strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000), 400},
		"no model":             {chat, `{` + user + `}`, 400},
		"model of other case":  {chat, `{"Model":"gpt-4",` + user + `}`, 400},
		"model is a number":    {chat, `{"model":4,` + user + `}`, 400},
		"unknown model":        {chat, `{"model":"gpt-0",` + user + `}`, 404},
		"no messages":          {chat, `{"model":"gpt-4"}`, 400},
		"messages empty":       {chat, `{"model":"gpt-4","messages":[]}`, 400},
		"messages a string":    {chat, `{"model":"gpt-4","messages":"hi"}`, 400},
		"null message":         {chat, `{"model":"gpt-4","messages":[null]}`, 400},
		"content a number":     {chat, `{"model":"gpt-4","messages":[{"role":"user","content":1}]}`, 400},
		"text a number":        {chat, `{"model":"gpt-4","messages":[{"role":"user","content":[{"type":"text","text":1}]}]}`, 400},
		"n zero":               {chat, `{"model":"gpt-4","n":0,` + user + `}`, 400},
		"n too large":          {chat, `{"model":"gpt-4","n":129,` + user + `}`, 400},
		"n a fraction":         {chat, `{"model":"gpt-4","n":1.5,` + user + `}`, 400},
		"n a string":           {chat, `{"model":"gpt-4","n":"1",` + user + `}`, 400},
		"max_tokens zero":      {chat, `{"model":"gpt-4","max_tokens":0,` + user + `}`, 400},
		"max_tokens negative":  {chat, `{"model":"gpt-4","max_completion_tokens":-5,` + user + `}`, 400},
		"max_tokens huge":      {chat, `{"model":"gpt-4","max_tokens":1e300,` + user + `}`, 400},
		"stream a string":      {chat, `{"model":"gpt-4","stream":"true",` + user + `}`, 400},
		"options sans stream":  {chat, `{"model":"gpt-4","stream_options":{"include_usage":true},` + user + `}`, 400},
		"tier a number":        {chat, `{"model":"gpt-4","service_tier":1,` + user + `}`, 400},
		"tools an object":      {chat, `{"model":"gpt-4","tools":{},` + user + `}`, 400},
		"tool without name":    {chat, `{"model":"gpt-4","tools":[{"type":"function"}],` + user + `}`, 400},
		"tool with bad name":   {chat, `{"model":"gpt-4","tools":[{"type":"function","function":{"name":"\""}}],` + user + `}`, 400},
		"tool function text":   {chat, `{"model":"gpt-4","tools":[{"type":"function","function":"f"}],` + user + `}`, 400},
		"tool type a number":   {chat, `{"model":"gpt-4","tools":[{"type":1}],` + user + `}`, 400},
		"tool name a number":   {chat, `{"model":"gpt-4","tools":[{"type":"function","function":{"name":1}}],` + user + `}`, 400},
		"tool choice a number": {chat, `{"model":"gpt-4","tool_choice":1,` + user + `}`, 400},
		"tool choice odd":      {chat, `{"model":"gpt-4","tool_choice":{"function":1},` + user + `}`, 400},
		"calls a string":       {chat, `{"model":"gpt-4","messages":[{"role":"assistant","tool_calls":"f"}]}`, 400},
		"call without object":  {chat, `{"model":"gpt-4","messages":[{"role":"assistant","tool_calls":[{"function":1}]}]}`, 400},
		"arguments an object":  {chat, `{"model":"gpt-4","messages":[{"role":"assistant","tool_calls":[{"function":{"arguments":{}}}]}]}`, 400},
		"role a number":        {chat, `{"model":"gpt-4","messages":[{"role":1}]}`, 400},
		"options a string":     {chat, `{"model":"gpt-4","stream":true,"stream_options":"x",` + user + `}`, 400},
		"suffix a number":      {legacy, `{"model":"gpt-4","prompt":"a","suffix":1}`, 400},
		"best_of too large":    {legacy, `{"model":"gpt-4","prompt":"a","best_of":21}`, 400},
		"tool choice unknown":  {chat, `{"model":"gpt-4",` + toolsJSON + `,"tool_choice":{"function":{"name":"x"}},` + user + `}`, 400},
		"best_of below n":      {legacy, `{"model":"gpt-4","prompt":"a","n":3,"best_of":2}`, 400},
		"best_of streamed":     {legacy, `{"model":"gpt-4","prompt":"a","best_of":2,"stream":true}`, 400},
		"prompt empty array":   {legacy, `{"model":"gpt-4","prompt":[]}`, 400},
		"prompt mixed":         {legacy, `{"model":"gpt-4","prompt":[1,"a"]}`, 400},
		"prompt an object":     {legacy, `{"model":"gpt-4","prompt":{}}`, 400},
		"prompt holds null":    {legacy, `{"model":"gpt-4","prompt":[null]}`, 400},
		"too many prompts":     {legacy, `{"model":"gpt-4","prompt":["a"` + strings.Repeat(`,"a"`, 2048) + `]}`, 400},
		"too many candidates":  {legacy, `{"model":"gpt-4","n":20,"best_of":20,"prompt":["a"` + strings.Repeat(`,"a"`, 200) + `]}`, 400},
		"unknown path":         {"/v1/embeddings", `{}`, 404},
		"responses":            {"/v1/responses", `{}`, 404},
		"bill below /v1":       {"/v1/bill", ``, 404},
		"encoded path variant": {"/v1/chat/completions/", `{}`, 404},
	}
	p := startProvider(t)
	for name, c := range cases {
		r := p.do(t, http.MethodPost, c.path, c.body)
		body := decode[map[string]map[string]any](t, r.body)["error"]
		if r.status != c.status || body["message"] == "" || body["type"] != "invalid_request_error" || len(body) != 4 {
			t.Errorf("%s: got %d %s, want %d", name, r.status, r.body, c.status)
		}
	}
	if got := p.Bill(time.Time{}, time.Time{}).Requests; got != 0 {
		t.Errorf("billed: got %d, want 0", got)
	}
}

func TestCallsWithoutBearerKeyAreUnauthorized(t *testing.T) {
	t.Parallel()
	p := startProvider(t)
	for _, header := range []string{"", "Bearer", "Bearer ", "Basic c2s6", "sk-test"} {
		for _, call := range [][2]string{{http.MethodPost, "/v1/chat/completions"}, {http.MethodGet, "/v1/models"}} {
			r := p.do(t, call[0], call[1], hello, "Authorization", header)
			body := decode[map[string]map[string]any](t, r.body)["error"]
			if r.status != http.StatusUnauthorized || body["code"] != "invalid_api_key" {
				t.Errorf("%q on %s: got %d %s", header, call[1], r.status, r.body)
			}
		}
	}
	if got := p.Bill(time.Time{}, time.Time{}).Requests; got != 0 {
		t.Errorf("billed: got %d, want 0", got)
	}
}

func TestModelsListsEveryNameOfTheCatalogue(t *testing.T) {
	t.Parallel()
	p := startProvider(t)
	list := decode[struct {
		Object string
		Data   []struct{ ID, Object string }
	}](t, p.do(t, http.MethodGet, "/v1/models", "").body)
	names := make(map[string]bool)
	for _, m := range list.Data {
		names[m.ID] = m.Object == "model"
	}
	if list.Object != "list" || !names["gpt-4"] || !names["gpt-4-0613"] || len(names) < 200 {
		t.Errorf("got %d models, object %s", len(names), list.Object)
	}
}

func TestPromptTokensCountWordsMessagesToolsAndAttachments(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		messages, more string
		want           int64
	}{
		"three words":     {`{"role":"user","content":"one two three"}`, ``, 9},
		"no letters":      {`{"role":"user","content":"!!! ..."}`, ``, 7},
		"empty":           {`{"role":"user","content":""}`, ``, 6},
		"null":            {`{"role":"assistant","content":null}`, ``, 6},
		"two messages":    {`{"role":"system","content":"be kind"},{"role":"user","content":"hi"}`, ``, 12},
		"parts are one":   {`{"role":"user","content":[{"type":"text","text":"one tw"},{"type":"text","text":"o"}]}`, ``, 8},
		"an image":        {`{"role":"user","content":[{"type":"text","text":"see"},{"type":"image_url"}]}`, ``, 772},
		"a refusal":       {`{"role":"assistant","content":[{"type":"refusal","refusal":"no way"}]}`, ``, 8},
		"an earlier call": {`{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"a\": 1}"}}]}`, ``, 9},
		"tools":           {`{"role":"user","content":"hi"}`, `,"tools":[{"type": "function", "function": {"name": "f"}}]`, 12},
		"no tools":        {`{"role":"user","content":"hi"}`, `,"tools":[]`, 7},
	}
	p := startProvider(t)
	for name, c := range cases {
		r := p.chat(t, `{"model":"gpt-4","messages":[`+c.messages+`]`+c.more+`}`)
		if r.status != http.StatusOK {
			t.Fatalf("%s: %d %s", name, r.status, r.body)
		}
		if got := decode[completion](t, r.body).Usage.Prompt; got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}

func TestBodyAboveTheLimitIsRefused(t *testing.T) {
	t.Parallel()
	p := startProvider(t)
	endless := io.MultiReader(strings.NewReader(`{"model":"`), &letters{65 << 20})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/v1/chat/completions", endless)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer sk-test")
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "invalid_request_error") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// letters reads as n times the letter a.
type letters struct{ n int }

func (l *letters) Read(p []byte) (int, error) {
	if l.n == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), l.n)], strings.Repeat("a", 64<<10))
	l.n -= n
	return n, nil
}

// Whatever the body is: the answer is JSON or a whole stream, and the bill grows exactly when the status is 200.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		hello, `{"model":"gpt-4","prompt":[[1],[2,3]],"n":2,"best_of":3}`, `{"model":"gpt-4","prompt":["a",null]}`,
		`{"model":"gpt-4","stream":true,"stream_options":{"include_usage":true},"prompt":"a"}`,
		`{"model":"gpt-4","messages":[{"role":"tool","content":[{"text":"x"},{"type":"image_url"}]}],` + toolsJSON + `}`,
		`{"model":"gpt-4","messages":[{"role":"user"}],"tool_choice":{"function":{"name":"weather"}},` + toolsJSON + `}`,
		`{"model":"gpt-4","max_tokens":1e3,"max_completion_tokens":null}`, `[]`, `{"model":"gpt-4","model":"gpt-0"}`,
	} {
		f.Add(true, seed)
		f.Add(false, seed)
	}
	s, err := mockupstream.New(mockupstream.Config{Prices: catalogue(f), Now: newClock(start).now})
	if err != nil {
		f.Fatal(err)
	}
	handler := s.Handler()
	f.Fuzz(func(t *testing.T, chat bool, body string) {
		path := "/v1/completions"
		if chat {
			path = "/v1/chat/completions"
		}
		before := s.Bill(time.Time{}, time.Time{}).Requests
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer sk-fuzz")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		billed := s.Bill(time.Time{}, time.Time{}).Requests - before
		if (w.Code == http.StatusOK) != (billed == 1) {
			t.Fatalf("status %d with %d billed", w.Code, billed)
		}
		if strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream") {
			if _, done := events(t, w.Body.Bytes()); !done {
				t.Fatalf("a stream without end: %s", w.Body)
			}
			return
		}
		if fmt.Sprint(decode[any](t, w.Body.Bytes())) == "" {
			t.Fatal("no answer")
		}
	})
}
