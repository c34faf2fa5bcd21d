package request_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/proxy/request"
)

const chat = request.RouteChat

func parse(t *testing.T, route request.Route, body string) request.Request {
	t.Helper()
	r, err := request.Parse(route, []byte(body))
	if err != nil {
		t.Fatalf("parse %s: %v", body, err)
	}
	return r
}

// withField is a valid chat request with one more top-level field.
func withField(field string) string {
	return `{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],` + field + `}`
}

// withContent is a valid chat request but for the content of its message.
func withContent(content string) string {
	return `{"model":"gpt-4o","messages":[{"role":"user","content":` + content + `}]}`
}

func Example() {
	body := []byte(`{"model":"gpt-4o","stream":true,"max_tokens":50,"n":2,"messages":[{"role":"user","content":"hi"}]}`)
	r, err := request.Parse(request.RouteChat, body)
	if err != nil {
		fmt.Println(err)
		return
	}
	limit, _ := r.OutputCap()
	fmt.Println(r.Model, r.Choices(), limit, r.Texts)
	fmt.Println(string(request.Edit(body, r, request.Edits{IncludeUsage: true})[:58]))
	// Output:
	// gpt-4o 2 50 [user hi]
	// {"stream_options":{"include_usage":true},"model":"gpt-4o",
}

func TestWhatABodySaysAboutItsPriceIsRead(t *testing.T) {
	t.Parallel()
	r := parse(t, chat, ` {"model":"gpt-4o","n":3,"max_tokens":1e2,"max_completion_tokens":70.0,"stream":true,
		"stream_options":{"include_usage":true},"service_tier":"flex","thinking":{"a":[1,2]},
		"messages":[{"role":"system","content":"be\nbrief","name":"ops"},{"role":"user","content":[{"type":"text","text":"hi"}]}],
		"tools":[{"type":"function","function":{"name":"f","parameters":{"enum":["a","b\n"]}}}]} `)
	if r.Model != "gpt-4o" || r.N != 3 || *r.MaxTokens != 100 || *r.MaxCompletionTokens != 70 ||
		!r.Stream || !r.IncludeUsage || r.ServiceTier != "flex" {
		t.Errorf("read %+v", r)
	}
	if limit, ok := r.OutputCap(); !ok || limit != 100 {
		t.Errorf("output cap %d %t, want the larger: 100", limit, ok)
	}
	if r.Choices() != 3 {
		t.Errorf("choices %d, want 3", r.Choices())
	}
	want := []string{
		`{"a":[1,2]}`, "system", "be\nbrief", "ops", "user", "text", "hi",
		"{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"enum\":[\"a\",\"b\n\"]}}}",
	}
	// The part's own type is read, not counted: it never reaches the model as text.
	want = slices.DeleteFunc(want, func(s string) bool { return s == "text" })
	if !slices.Equal(r.Texts, want) {
		t.Errorf("texts\n got %q\nwant %q", r.Texts, want)
	}
	framing := request.Framing{Messages: 2, Names: 1, Tools: 1, Items: 2 + 2 + 1, Params: 5}
	if r.Framing != framing {
		t.Errorf("framing %+v, want %+v", r.Framing, framing)
	}
}

func TestNullIsTheSameAsAbsent(t *testing.T) {
	t.Parallel()
	r := parse(t, chat, withField(`"n":null,"best_of":null,"max_tokens":null,"max_completion_tokens":null,"stream":null,
		"stream_options":null,"service_tier":null,"tools":null,"functions":null,"modalities":null,"audio":null,
		"web_search_options":null,"response_format":null,"prediction":null`))
	if r.N != 1 || r.Choices() != 1 || r.MaxTokens != nil || r.MaxCompletionTokens != nil || r.Stream || r.IncludeUsage {
		t.Errorf("read %+v", r)
	}
	if _, ok := r.OutputCap(); ok {
		t.Error("a null cap is a cap")
	}
	if !slices.Equal(r.Texts, []string{"user", "hi"}) {
		t.Errorf("texts %q", r.Texts)
	}
}

func TestEveryPromptOfACompletionIsAChoice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fields                   string
		prompts, choices, tokens int64
		texts                    int
	}{
		{`"prompt":"hello"`, 1, 1, 0, 1},
		{`"prompt":"hello","n":2,"best_of":5`, 1, 5, 0, 1},
		{`"prompt":["a","b","c"],"n":2`, 3, 6, 0, 3},
		{`"prompt":[1,2,3]`, 1, 1, 3, 0},
		{`"prompt":[[1,2],[3],[]],"best_of":2`, 3, 6, 3, 0},
		{`"prompt":null`, 1, 1, 0, 0},
		{`"suffix":"end"`, 1, 1, 0, 1},
	} {
		r := parse(t, request.RouteCompletions, `{"model":"davinci-002",`+c.fields+`}`)
		if r.Prompts != c.prompts || r.Choices() != c.choices || r.PromptTokens != c.tokens || len(r.Texts) != c.texts {
			t.Errorf("%s: prompts %d, choices %d, tokens %d, texts %q", c.fields, r.Prompts, r.Choices(), r.PromptTokens, r.Texts)
		}
		if _, ok := r.OutputCap(); ok {
			t.Errorf("%s: the default of 16 is relied on", c.fields)
		}
	}
}

func TestEverythingBilledAsInputIsInTheTexts(t *testing.T) {
	t.Parallel()
	r := parse(t, chat, `{"model":"m","messages":[
		{"role":"assistant","content":null,"refusal":"M1","reasoning_content":"M2","tool_calls":[{"id":"M3","type":"function","function":{"name":"M4","arguments":"{\"q\":\"M5\"}"}}]},
		{"role":"tool","tool_call_id":"M6","content":["M7",{"type":"text","text":"M8"},{"type":"refusal","refusal":"M9"}]},
		{"role":"assistant","function_call":{"name":"MA","arguments":"MB"},"odd":[{"deep":"MC"}]}],
		"functions":[{"name":"MD"}],"response_format":{"type":"json_schema","json_schema":{"name":"ME"}},
		"prediction":{"type":"content","content":"MF"},"documents":["MG"],"tool_choice":{"function":{"name":"MH"}},"prompt":"MI"}`)
	all := strings.Join(r.Texts, "\x00")
	for _, mark := range []string{
		"M1", "M2", "M3", "M4", "M5", "M6", "M7", "M8", "M9", "MA", "MB", "MC", "MD", "ME", "MF", "MG", "MH", "MI",
	} {
		if !strings.Contains(all, mark) {
			t.Errorf("%s is not counted", mark)
		}
	}
	if r.Framing.Tools != 1 || r.Framing.Messages != 3 {
		t.Errorf("framing %+v", r.Framing)
	}
}

func TestWhatAddsNoInputIsNotCounted(t *testing.T) {
	t.Parallel()
	r := parse(t, chat, withField(`"metadata":{"a":"b"},"user":"u","stop":["x"],"logit_bias":{"1":2},"store":true,"seed":1,"temperature":0.5`))
	if !slices.Equal(r.Texts, []string{"user", "hi"}) {
		t.Errorf("texts %q", r.Texts)
	}
}

func TestEscapesAreResolvedAndALoneSurrogateIsReplaced(t *testing.T) {
	t.Parallel()
	r := parse(t, chat, withContent(`"\ud83d\ude00 \ud800 \u00e9\/\b\f\n\r\t\"\\ \ude00\ud83d\u0041"`))
	want := "\U0001F600 \uFFFD é/\b\f\n\r\t\"\\ \uFFFD\uFFFDA"
	if got := r.Texts[1]; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
}

func TestAmbiguousOrMalformedBodiesAreInvalid(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`[`, 128)
	for _, body := range []string{
		"", " ", "null", `"s"`, "[]", "{", "{}", "{}{}", "\ufeff" + withContent(`"a"`), withContent(`"a"`) + "x", withContent(`"a"`) + "\x00",
		withContent("\"\xff\""), withContent("\"a\nb\""), withContent(`"\x"`), withContent(`"\u12g4"`), withContent(`"\u12`), withContent(`"\`),
		withField(`"a":01`), withField(`"a":1.`), withField(`"a":.5`), withField(`"a":1e`), withField(`"a":+1`), withField(`"a":-`), withField(`"a":NaN`),
		withField(`"a":tru`), withField(`"a":[1,]`), withField(`"a":{"b":1,}`), withField(`"a":{b:1}`), withField(`"a" 1`), withField(`"a":[1 2]`),
		withField(`"a":`), withField(`,`), withField(`"a":1 "b":2`), withField(`"a":` + deep + strings.Repeat(`]`, 128)), withField(`"a":` + deep),
		// Equal names, also by an escape, at any depth, in small and in large objects.
		withField(`"model":"gpt-4"`), withField(`"\u006dodel":"gpt-4"`), withField(`"x":1,"x":1`), withField(`"a":[{"b":{"c":1,"c":1}}]`),
		withField(`"o":{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"d":1}`), withContent(`[{"type":"text","type":"text"}]`),
		// Case variants of names we act on.
		withField(`"Model":"gpt-3.5-turbo"`), withField(`"STREAM":true`), withField(`"Max_Tokens":1`), withField(`"\u004d\u006fdel":"x"`),
		withField(`"N":1`), withField(`"ſtream":true`), withField(`"Audio":null`), withField(`"stream_options":{"Include_Usage":true}`),
		// Values of the wrong type or out of range.
		`{"messages":[]}`, `{"model":"","messages":[]}`, `{"model":null,"messages":[]}`, `{"model":1,"messages":[]}`, `{"model":["m"],"messages":[]}`,
		`{"model":"` + strings.Repeat("m", 257) + `","messages":[]}`,
		`{"model":"m"}`, `{"model":"m","messages":null}`, `{"model":"m","messages":{}}`, `{"model":"m","messages":["hi"]}`, `{"model":"m","messages":[null]}`,
		withField(`"n":0`), withField(`"n":129`), withField(`"n":-1`), withField(`"n":1.5`), withField(`"n":"2"`), withField(`"best_of":21`), withField(`"best_of":true`),
		withField(`"max_tokens":-1`), withField(`"max_tokens":0.5`), withField(`"max_tokens":1e-1`), withField(`"max_tokens":1e99999999999999999999`),
		withField(`"max_tokens":9007199254740992`), withField(`"max_tokens":"5"`), withField(`"max_tokens":[]`), withField(`"max_completion_tokens":{}`),
		withField(`"stream":1`), withField(`"stream":"true"`), withField(`"stream_options":true`), withField(`"stream_options":[]`),
		withField(`"stream_options":{"include_usage":1}`), withField(`"service_tier":1`), withField(`"tools":{}`), withField(`"tools":[1]`), withField(`"modalities":"text"`),
	} {
		wantCode(t, chat, body, request.InvalidRequest)
	}
	for _, prompt := range []string{`["a",1]`, `[1,"a"]`, `[[1],2]`, `[["a"]]`, `[[[1]]]`, `[1.5]`, `[-1]`, `[null]`, `[true]`, `5`, `true`} {
		wantCode(t, request.RouteCompletions, `{"model":"m","prompt":`+prompt+`}`, request.InvalidRequest)
	}
	wantCode(t, "/v1/embeddings", withContent(`"a"`), request.InvalidRequest)
}

func TestWhatCountingTextCannotBoundIsNotEstimable(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		withContent(`[{"type":"image_url"}]`), withContent(`[{"type":"input_audio","input_audio":{}}]`),
		withContent(`[{"type":"file","file":{}}]`), withContent(`[{"type":"new"}]`), withContent(`[{"text":"no type"}]`), withContent(`[{"type":null}]`),
		withContent(`[{"type":"text","text":"a","image_url":{}}]`), withContent(`[{"type":"text","Image_URL":{}}]`), withContent(`{"type":"image_url","image_url":null}`),
		`{"model":"m","messages":[{"role":"assistant","audio":{"id":"a"}}]}`, `{"model":"m","messages":[{"role":"user","content":"","images":["x"]}]}`,
		withField(`"audio":{"voice":"alloy"}`), withField(`"modalities":["text","audio"]`), withField(`"web_search_options":{}`),
		withField(`"tools":[{"type":"web_search"}]`), withField(`"tools":[{"google_search":{}}]`), withField(`"tools":[{"type":"function"},{"type":"mcp"}]`),
		withField(`"previous_response_id":"r"`), withField(`"prompt":{"id":"p"}`), withField(`"background":true`), withField(`"plugins":[{"id":"web"}]`),
		withField(`"models":["a","b"]`), withField(`"data_sources":[{}]`),
	} {
		wantCode(t, chat, body, request.NotEstimable)
	}
	wantCode(t, request.RouteCompletions, `{"model":"m","prompt":{"id":"p"}}`, request.NotEstimable)
	// Switched off, they are nothing to refuse.
	parse(t, chat, withField(`"background":false,"plugins":[],"modalities":["text"],"previous_response_id":null,"models":[]`))
	parse(t, chat, withContent(`[{"type":"text","text":"a","image_url":null}]`))
}

func wantCode(t *testing.T, route request.Route, body string, code request.Code) {
	t.Helper()
	_, err := request.Parse(route, []byte(body))
	var refused *request.Error
	if !errors.As(err, &refused) || refused.Code != code || refused.Message == "" || refused.Error() == "" {
		t.Errorf("parse %.100q: %v, want %s", body, err, code)
	}
}

func TestWholeNumbersAreAcceptedInAnySpelling(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]int64{
		"0": 0, "-0": 0, "0.000": 0, "0e5": 0, "0e-99999999999999999999": 0, "1e2": 100, "1E+2": 100, "100e-2": 1, "1.50e1": 15, "0.001e3": 1,
		"9007199254740991": 9007199254740991, "4096": 4096, "1000000000000000000000e-20": 10,
	} {
		if r := parse(t, chat, withField(`"max_tokens":`+number)); *r.MaxTokens != want {
			t.Errorf("%s read as %d, want %d", number, *r.MaxTokens, want)
		}
	}
}

func TestNestingUpToTheLimitIsAccepted(t *testing.T) {
	t.Parallel()
	parse(t, chat, withField(`"a":`+strings.Repeat(`[`, 127)+strings.Repeat(`]`, 127)))
}
