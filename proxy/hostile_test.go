package proxy_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/internal/mockupstream"
	"github.com/budgetguard/budgetguard/proxy"
)

func TestHostileBodiesAreRefusedAndNothingIsForwardedOrHeld(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	messages := `"messages":[{"role":"user","content":"hi"}]`
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, _ = w.Write([]byte(chat("")))
	check(t, w.Close())
	for name, body := range map[string]string{
		"a duplicate model":        `{"model":"gpt-3.5-turbo","model":"gpt-4",` + messages + `}`,
		"a duplicate by an escape": `{"model":"gpt-3.5-turbo","mod\u0065l":"gpt-4",` + messages + `}`,
		"a nested duplicate":       `{"model":"gpt-3.5-turbo","messages":[{"role":"user","content":"a","content":"b"}]}`,
		"a case variant":           `{"model":"gpt-3.5-turbo","Model":"gpt-4",` + messages + `}`,
		"a case variant of a cap":  chat(`"Max_Tokens":1,`),
		"a Kelvin sign":            chat(`"max_to\u212Aens":1,`),
		"a case variant of usage":  chat(`"stream":true,"stream_options":{"Include_Usage":true},`),
		"deep nesting":             chat(`"x":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `,`),
		"unclosed nesting":         strings.Repeat(`{"a":`, 100_000),
		"invalid UTF-8":            chat("\"x\":\"\xff\","),
		"overlong UTF-8":           chat("\"x\":\"\xc0\xaf\","),
		"a byte order mark":        "\ufeff" + chat(""),
		"UTF-16":                   "{\x00\"\x00}\x00",
		"trailing data":            chat("") + chat(""),
		"a trailing comma":         `{"model":"gpt-3.5-turbo",` + messages + `,}`,
		"an array":                 "[" + chat("") + "]",
		"a string":                 `"hello"`,
		"nothing":                  "",
		"white space":              " \n",
		"NaN":                      chat(`"temperature":NaN,`),
		"a comment":                chat(`/* x */`),
		"a control character":      chat("\"x\":\"\n\","),
		"a NUL":                    "{\"model\":\"gpt-3.5-turbo\x00\"," + messages + "}",
		"a NUL in the model":       `{"model":"gpt-3.5-turbo\u0000",` + messages + `}`,
		"a huge model name":        `{"model":"` + strings.Repeat("x", 1<<20) + `",` + messages + `}`,
		"no messages":              `{"model":"gpt-3.5-turbo"}`,
		"a model that is a number": `{"model":3,` + messages + `}`,
		"a negative cap":           chat(`"max_tokens":-1,`),
		"a fraction of a cap":      chat(`"max_tokens":1.5,`),
		"a cap beyond all numbers": chat(`"max_tokens":1e999,`),
		"a cap that is text":       chat(`"max_tokens":"5",`),
		"no choices":               chat(`"n":0,`),
		"too many choices":         chat(`"n":129,`),
		"stream as a number":       chat(`"stream":1,`),
		"a part of unknown type":   `{"model":"gpt-4o","messages":[{"role":"user","content":[{"type":"video","video":"x"}]}]}`,
		"web search":               chat(`"web_search_options":{},`),
		"other models":             chat(`"models":["gpt-4"],`),
		"spoken answers":           chat(`"modalities":["audio"],`),
		"a paid tool":              chat(`"tools":[{"type":"web_search"}],`),
		"gzip without saying so":   gz.String(),
	} {
		r := post(t, g.url+chatPath, body, "X-API-Key", key)
		if r.status != 400 || r.code() == "" || r.header.Get("X-Request-Id") == "" {
			t.Errorf("%s: got %d %s %v", name, r.status, r.body, r.err)
		}
		if len(r.body) > 2000 {
			t.Errorf("%s: the refusal has %d bytes", name, len(r.body))
		}
	}
	g.nothingForwarded()
}

func TestHostileHeadersAreRefusedAndNothingIsForwardedOrHeld(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	other := g.tenant("other", "100")
	tag := "X-BudgetGuard-Tags"
	for name, c := range map[string]struct {
		status int
		header []string
	}{
		"no content type":            {415, []string{"X-API-Key", key, "Content-Type", ""}},
		"a form":                     {415, []string{"X-API-Key", key, "Content-Type", "application/x-www-form-urlencoded"}},
		"almost JSON":                {415, []string{"X-API-Key", key, "Content-Type", "application/jsonx"}},
		"no media type":              {415, []string{"X-API-Key", key, "Content-Type", ";;"}},
		"a body in gzip":             {415, []string{"X-API-Key", key, "Content-Encoding", "gzip"}},
		"a body in br":               {415, []string{"X-API-Key", key, "Content-Encoding", "br"}},
		"two API keys":               {401, []string{"X-API-Key", key, "X-API-Key", other}},
		"two Authorization headers":  {401, []string{"Authorization", "Bearer " + key, "Authorization", "Bearer " + other}},
		"an equal second one":        {401, []string{"Authorization", "Bearer " + key, "Authorization", "Bearer " + key}},
		"two different keys":         {401, []string{"Authorization", "Bearer " + key, "X-API-Key", other}},
		"Basic":                      {401, []string{"Authorization", "Basic " + key}},
		"no scheme":                  {401, []string{"Authorization", key}},
		"an oversized key":           {401, []string{"X-API-Key", "bgk_" + strings.Repeat("x", 10_000)}},
		"two tenants":                {403, []string{"X-API-Key", key, "X-Tenant-Id", "acme", "X-Tenant-Id", "other"}},
		"a tag without a value":      {400, []string{"X-API-Key", key, tag, "team"}},
		"a tag without a name":       {400, []string{"X-API-Key", key, tag, "=search"}},
		"a tag twice":                {400, []string{"X-API-Key", key, tag, "a=1,a=2"}},
		"a tag twice, two headers":   {400, []string{"X-API-Key", key, tag, "a=1", tag, "a=2"}},
		"a tag too long":             {400, []string{"X-API-Key", key, tag, "a=" + strings.Repeat("x", 63)}},
		"a tag that is no UTF-8":     {400, []string{"X-API-Key", key, tag, "a=\xff"}},
		"a tag that hides text":      {400, []string{"X-API-Key", key, tag, "a=\u202e"}},
		"too many tags":              {400, []string{"X-API-Key", key, tag, manyTags(17)}},
		"a tag with a soft hyphen":   {400, []string{"X-API-Key", key, tag, "a=b\u00adc"}},
		"a lone comma is no tag but": {400, []string{"X-API-Key", key, tag, ",,x,,"}},
	} {
		r := post(t, g.url+chatPath, chat(""), c.header...)
		if r.status != c.status || r.code() == "" {
			t.Errorf("%s: got %d %s %v", name, r.status, r.body, r.err)
		}
	}
	g.nothingForwarded()
	g.chat(key, "", tag, manyTags(16)).want(t, 200)
	if n := len(g.settled("acme").Tags); n != 16 {
		t.Errorf("%d tags are recorded", n)
	}
}

func manyTags(n int) string {
	var tags []string
	for i := range n {
		tags = append(tags, fmt.Sprintf("t%d=%s", i, strings.Repeat("ü", 30)))
	}
	return strings.Join(tags, " , ")
}

func TestABodyOf50MegabytesIsRefusedBeforeTheUpload(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	head := "POST " + chatPath + " HTTP/1.1\r\nHost: x\r\nX-API-Key: " + key + "\r\nContent-Type: application/json\r\nContent-Length: 52428800\r\nExpect: 100-continue\r\n\r\n"
	answer := rawExchange(t, g.url, head)
	if !strings.HasPrefix(answer, "HTTP/1.1 413 ") {
		t.Errorf("got %s", answer)
	}
	g.nothingForwarded()
}

func TestABodyOfUnknownLengthIsCutAtTheLimit(t *testing.T) {
	t.Parallel()
	g := start(t, setup{config: func(c *proxy.Config) { c.MaxBody = 1 << 16 }})
	key := g.tenant("acme", "100")
	body := struct{ *strings.Reader }{strings.NewReader(strings.Repeat(" ", 1<<16) + chat(""))} // of a type without a length
	send(request(t, http.MethodPost, g.url+chatPath, body, "X-API-Key", key)).want(t, 413)
	g.nothingForwarded()
}

// raw is a request as it goes over the wire.
func raw(version, key, more, body string, length int) string {
	return "POST " + chatPath + " " + version + "\r\nHost: x\r\nX-API-Key: " + key + "\r\nContent-Type: application/json\r\n" + more +
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", length, body)
}

func TestARefusalComesBeforeTheUpload(t *testing.T) {
	t.Parallel()
	g := start(t, setup{config: func(c *proxy.Config) { c.BodyTimeout = 300 * time.Millisecond }})
	for name, c := range map[string]struct {
		key, more, want string
	}{
		"a bad key":  {"bgk_nobodys", "Expect: 100-continue\r\n", "401"},
		"a bad type": {g.tenant("acme", "100"), "Expect: 100-continue\r\nContent-Encoding: gzip\r\n", "415"},
	} {
		answer := rawExchange(t, g.url, raw("HTTP/1.1", c.key, c.more, "", 1000))
		if !strings.HasPrefix(answer, "HTTP/1.1 "+c.want) || strings.Contains(answer, "100 Continue") {
			t.Errorf("%s: got %s", name, answer)
		}
	}
	g.nothingForwarded()
}

func TestATruncatedBodyIs400(t *testing.T) {
	t.Parallel()
	g := start(t, setup{config: func(c *proxy.Config) { c.BodyTimeout = 300 * time.Millisecond }})
	key := g.tenant("acme", "100")
	began := time.Now()
	answer := rawExchange(t, g.url, raw("HTTP/1.1", key, "", chat(""), 1000)) // and then silence
	if !strings.HasPrefix(answer, "HTTP/1.1 400 ") || !strings.Contains(answer, `"code":"invalid_request"`) {
		t.Errorf("got %s", answer)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("a slow body held the connection for %s", took)
	}
	g.nothingForwarded()
}

func TestARefusedRequestDoesNotWaitForItsBody(t *testing.T) {
	t.Parallel()
	g := start(t, setup{config: func(c *proxy.Config) { c.BodyTimeout = 300 * time.Millisecond }})
	began := time.Now()
	for path, want := range map[string]string{chatPath: "401", "/v1/models": "405", "/v1/other": "404"} {
		text := strings.Replace(raw("HTTP/1.1", "bgk_nobodys", "", "", 1000), chatPath, path, 1)
		if answer := rawExchange(t, g.url, text); !strings.HasPrefix(answer, "HTTP/1.1 "+want) {
			t.Errorf("%s: got %q", path, answer)
		}
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("three requests without their bodies held connections for %s", took)
	}
	g.nothingForwarded()
}

func TestTheNextRequestOfAConnectionHasItsOwnTime(t *testing.T) {
	t.Parallel()
	g := start(t, setup{config: func(c *proxy.Config) { c.BodyTimeout = time.Second }})
	key := g.tenant("acme", "100")
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for _, secret := range []string{"bgk_nobodys", key, "bgk_nobodys", key} {
		r := sendBy(client, request(t, http.MethodPost, g.url+chatPath, strings.NewReader(chat("")), "X-API-Key", secret))
		if r.err != nil || (r.status == 200) != (secret == key) {
			t.Errorf("got %d %v", r.status, r.err)
		}
		timer := time.NewTimer(1200 * time.Millisecond) // longer than a body may take
		<-timer.C
	}
}

func TestASlowAnswerIsNotCutByTheBodysTimeout(t *testing.T) {
	t.Parallel()
	g := start(t, setup{config: func(c *proxy.Config) { c.BodyTimeout = time.Second }})
	key := g.tenant("acme", "100")
	g.settings(t, func(s *mockupstream.Settings) { s.LatencyMs = 1500 })
	g.chat(key, "").want(t, 200)
	g.chat(key, `"stream":true,`).want(t, 200)
}

func TestHTTP10IsServed(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	for _, more := range []string{"", `"stream":true,`} {
		body := chat(more)
		answer := rawExchange(t, g.url, raw("HTTP/1.0", key, "", body, len(body)))
		if !strings.HasPrefix(answer, "HTTP/1.0 200 ") || !strings.Contains(answer, "choices") {
			t.Errorf("got %s", answer)
		}
	}
}

func TestOversizedHeadersAndSmuggledLengthsAreRefused(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	for name, c := range map[string]struct{ more, want string }{
		"oversized headers":   {"X-Filler: " + strings.Repeat("x", 100<<10) + "\r\n", "431"},
		"two lengths":         {"Content-Length: 5\r\n", "400"},
		"a strange coding":    {"Transfer-Encoding: chunked, identity\r\n", "501"},
		"a header with a NUL": {"X-Filler: \x00\r\n", "400"},
	} {
		answer := rawExchange(t, g.url, raw("HTTP/1.1", key, c.more, chat(""), len(chat(""))))
		if !strings.HasPrefix(answer, "HTTP/1.1 "+c.want) {
			t.Errorf("%s: got %.200s", name, answer)
		}
	}
	g.nothingForwarded()
}
