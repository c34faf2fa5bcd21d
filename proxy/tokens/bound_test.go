package tokens_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/proxy/request"
	"github.com/budgetguard/budgetguard/proxy/tokens"
)

// The allowances are what recorded traffic of these families shows, with the margin of the
// catalogue.
func gpt5() tokens.Allowance {
	return tokens.Allowance{Preamble: 4, ToolPreamble: 64, PerTool: 32}
}

func gptOSS() tokens.Allowance {
	return tokens.Allowance{Preamble: 104, ToolPreamble: 64, PerTool: 32, PerMessage: 4}
}

func haiku45() tokens.Allowance {
	return tokens.Allowance{Preamble: 32, ToolPreamble: 660, PerTool: 32, PerMessage: 2}
}

func TestBoundAddsTheFraming(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		framing tokens.Framing
		want    int64
	}{
		{tokens.Framing{}, 1},
		{tokens.Framing{Messages: 2}, 1 + 2*8 + 3},
		{
			tokens.Framing{Messages: 1, Names: 1, Tools: 2, Items: 4},
			1 + 8 + 3 + 1 + 2*16 + 12 + 4*3,
		},
		{tokens.Framing{Prompts: 3}, 1 + 3},
		{tokens.Framing{Params: 5, ToolCalls: 2, ToolResults: 1}, 1 + 5 + 2*8 + 16},
	} {
		got := counter().Bound(tokens.O200kBase, []string{"hi"}, c.framing, 0, tokens.Allowance{})
		if got != c.want {
			t.Errorf("%+v: %d, want %d", c.framing, got, c.want)
		}
	}
}

func TestAnAllowanceIsAddedOnceForEachCallToolAndMessage(t *testing.T) {
	t.Parallel()
	allow := tokens.Allowance{
		Preamble: 1000, ToolPreamble: 200, PerTool: 30, PerMessage: 4, Percent: 5,
	}

	for _, c := range []struct {
		framing tokens.Framing
		want    int64
	}{
		{tokens.Framing{}, 2 + 1000},
		{tokens.Framing{Messages: 3}, 2 + 3*8 + 3 + 1000 + 3*4},
		{tokens.Framing{Tools: 2}, 2 + 2*16 + 12 + 1000 + 200 + 2*30},
	} {
		// One token of text and 5 percent of it, rounded up, are two.
		got := counter().Bound(tokens.O200kBase, []string{"hi"}, c.framing, 0, allow)
		if got != c.want {
			t.Errorf("%+v: %d, want %d", c.framing, got, c.want)
		}
	}
}

// TestBoundCoversWhatOpenAIBilled uses the prompts and the billed counts published in OpenAI's
// cookbook "How to count tokens with tiktoken" (num_tokens_from_messages: 129 for gpt-3.5-turbo and
// gpt-4, 124 for gpt-4o).
func TestBoundCoversWhatOpenAIBilled(t *testing.T) {
	t.Parallel()
	var texts []string
	for _, m := range [][3]string{
		{"system", "", "You are a helpful, pattern-following assistant that " +
			"translates corporate jargon into plain English."},
		{"system", "example_user", "New synergies will help drive top-line growth."},
		{"system", "example_assistant", "Things working well together will increase revenue."},
		{"system", "example_user", "Let's circle back when we have more bandwidth to touch " +
			"base on opportunities for increased leverage."},
		{"system", "example_assistant", "Let's talk later when we're less busy about " +
			"how to do better."},
		{"user", "", "This late pivot means we don't have time to boil the ocean for " +
			"the client deliverable."},
	} {
		texts = append(texts, m[:]...)
	}

	framing := tokens.Framing{Messages: 6, Names: 4}
	for encoding, billed := range map[string]int64{tokens.CL100kBase: 129, tokens.O200kBase: 124} {
		exact := counter().Bound(encoding, texts, tokens.Framing{}, 0, tokens.Allowance{})
		if got := exact + 6*3 + 4 + 3; got != billed {
			t.Errorf("%s: by the cookbook's rule %d, billed %d", encoding, got, billed)
		}

		bound := counter().Bound(encoding, texts, framing, 0, tokens.Allowance{})
		if bound < billed || bound > billed+6*5 {
			t.Errorf("%s: bound %d, billed %d", encoding, bound, billed)
		}
	}
}

// TestBoundCoversWhatToolsAndTemplatesAdd has one body for each shape in which recorded traffic was
// above the bound. The counted tokens beyond those of the text are a fact of the shape: 124 counted
// for 55 of text, and so on.
func TestBoundCoversWhatToolsAndTemplatesAdd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, encoding, body string
		allow                tokens.Allowance
		// beyond is what the provider counted beyond the tokens of the text.
		beyond int64
	}{
		{"gpt-5-mini, no parameters: 124 for 55", tokens.O200kBase, noParameters, gpt5(), 69},
		{"gpt-5-mini, one parameter: 132 for 60", tokens.O200kBase, oneParameter, gpt5(), 72},
		{"gpt-5, a grammar: 241 for 104", tokens.O200kBase, grammar, gpt5(), 137},
		{"gpt-oss, one message: 84 for 15", tokens.O200kHarmony, oneMessage, gptOSS(), 69},
		{"gpt-oss, a function: 157 for 78", tokens.O200kHarmony, oneParameter, gptOSS(), 79},
	} {
		asked := parse(t, c.body)
		text := counter().Bound(c.encoding, asked.Texts, tokens.Framing{}, 0, tokens.Allowance{})
		counted := text + c.beyond

		bound := counter().Bound(c.encoding, asked.Texts, framing(asked), 0, c.allow)
		if bound < counted {
			t.Errorf("%s: bound %d, counted %d", c.name, bound, counted)
		}
		if most := counted + counted/2 + 150; bound > most {
			t.Errorf("%s: bound %d for %d, which holds too much", c.name, bound, counted)
		}
	}
}

func TestBoundCoversTheHiddenToolPromptOfClaude(t *testing.T) {
	t.Parallel()
	asked := parse(t, `{"model":"claude-haiku-4-5","max_tokens":40,
		"messages":[{"role":"user","content":"What time is it?"}],
		"tools":[{"type":"function","function":{"name":"now","parameters":{"type":"object"}}}]}`)

	// 403 were billed, nearly all of them for a prompt that explains tools to the model.
	const billed = 403
	var none tokens.Allowance
	text := counter().Bound(tokens.Bytes, asked.Texts, framing(asked), 0, none)
	if text >= billed {
		t.Errorf("the text alone is bounded at %d: the case shows nothing", text)
	}

	bound := counter().Bound(tokens.Bytes, asked.Texts, framing(asked), 0, haiku45())
	if bound < billed {
		t.Errorf("bound %d, billed %d", bound, billed)
	}
}

func TestParallelToolResultsAreHeldAsEscapedJSON(t *testing.T) {
	t.Parallel()
	row := `{"name":"a\"b","path":"C:\\x","note":"one\ntwo"},`
	result := `{"rows":[` + strings.Repeat(row, 400) + `{}]}`
	quoted := escape(t, result)
	extra := 2 * int64(len(quoted)-len(result))
	bound := func(results, escaped int64) int64 {
		framing := tokens.Framing{Messages: 2, ToolResults: results}
		texts := []string{result, result}
		return counter().Bound(tokens.O200kBase, texts, framing, escaped, tokens.Allowance{})
	}

	// Recorded: 64,273 tokens where the text and its framing made 59,504.
	counted := 2 * counter().Count(tokens.O200kBase, quoted)
	if got := bound(2, 0); got >= counted {
		t.Errorf("without escapes the bound is %d for %d: the case shows nothing", got, counted)
	}
	if got := bound(2, extra); got < counted {
		t.Errorf("bound %d, counted %d", got, counted)
	}

	// A single result is counted as it is.
	if got, want := bound(1, extra), bound(1, 0); got != want {
		t.Errorf("a single result: %d, want %d", got, want)
	}
}

func TestEscapingAddsAtMostTwoTokensForEachCharacter(t *testing.T) {
	t.Parallel()
	all := texts()
	random := dice(3)
	alphabet := append(
		strings.Split(`"|\|{"a":"|"},{"|":[{"|"]}|\n|the| word`, "|"),
		"\n", "\t", "\r\n", "\n\n\n", "  ",
	)
	for range 2000 {
		var b strings.Builder
		for range 1 + random.upTo(60) {
			b.WriteString(alphabet[random.upTo(len(alphabet))])
		}
		all = append(all, b.String())
	}

	for _, text := range all {
		text = strings.ToValidUTF8(text, "?")
		quoted := escape(t, text)
		extra := int64(len(quoted) - len(text))
		for _, encoding := range []string{tokens.O200kBase, tokens.CL100kBase} {
			most := counter().Count(encoding, text) + 2*extra
			if got := counter().Count(encoding, quoted); got > most {
				t.Errorf("%s: %d tokens, at most %d for %.200q", encoding, got, most, text)
			}
		}
	}
}

// FuzzBound holds the bound against its parts: it is never below the sum of the exact counts, it
// never falls when a count grows, and it does not overflow.
func FuzzBound(f *testing.F) {
	f.Add("hi", "{\"a\":1}", int64(1), int64(2), int64(3), uint8(0))
	f.Add("", "\xff", int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MaxInt64), uint8(5))
	f.Add("x", "y", int64(-1), int64(math.MinInt64), int64(0), uint8(11))

	f.Fuzz(func(t *testing.T, a, b string, n, more, escaped int64, which uint8) {
		few := make([]int64, 14)
		for i := range few {
			few[i] = n
		}
		many := append([]int64(nil), few...)
		many[int(which)%len(many)] = max(n, more)

		for _, encoding := range append(encodings, tokens.Bytes) {
			exact := counter().Count(encoding, a) + counter().Count(encoding, b)
			small := boundOf(encoding, []string{a, b}, few, escaped)
			if small < exact || small < framingOf(few).Messages {
				t.Errorf("%s: bound %d is below %d of text with %d", encoding, small, exact, n)
			}
			if large := boundOf(encoding, []string{a, b}, many, escaped); large < small {
				t.Errorf("%s: %d falls to %d where a count grows", encoding, small, large)
			}
			if large := boundOf(encoding, []string{a, b}, few, max(escaped, more)); large < small {
				t.Errorf("%s: %d falls to %d with more escapes", encoding, small, large)
			}
		}
	})
}

func boundOf(encoding string, texts []string, n []int64, escaped int64) int64 {
	allow := tokens.Allowance{
		Preamble: n[8], ToolPreamble: n[9], PerTool: n[10], PerMessage: n[11], Percent: n[12],
	}
	return counter().Bound(encoding, texts, framingOf(n), escaped, allow)
}

func framingOf(n []int64) tokens.Framing {
	return tokens.Framing{
		Messages: n[0], Names: n[1], Tools: n[2], Items: n[3],
		Prompts: n[4], ToolResults: n[5], ToolCalls: n[6], Params: n[7],
	}
}

func parse(t *testing.T, body string) request.Request {
	t.Helper()
	asked, err := request.Parse(request.RouteChat, []byte(body))
	if err != nil {
		t.Fatalf("the body of the test is refused: %v", err)
	}
	return asked
}

// framing has what these bodies need: they hold no tool results.
func framing(asked request.Request) tokens.Framing {
	return tokens.Framing{
		Messages: asked.Framing.Messages,
		Names:    asked.Framing.Names,
		Tools:    asked.Framing.Tools,
		Items:    asked.Framing.Items,
		Prompts:  asked.Framing.Prompts,
	}
}

// escape is the text as the inside of a JSON string, with no more escapes than JSON asks for.
func escape(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String()[1:], "\"\n")
}

const (
	noParameters = `{"model":"m","messages":[{"role":"user","content":"Ring the bell, please."}],
		"tools":[{"type":"function","function":{"name":"ring_the_bell","description":"",
		"parameters":{"type":"object","properties":{},"additionalProperties":false}}}]}`
	oneParameter = `{"model":"m","messages":[{"role":"user","content":"Who lives at number nine?"}],
		"tools":[{"type":"function","function":{"name":"find_house","description":"Finds a house.",
		"parameters":{"type":"object","properties":{"number":{"type":"string"}},
		"required":["number"],"additionalProperties":false}}}]}`
	grammar = `{"model":"m","messages":[{"role":"user","content":"Draw a line of three dashes."}],
		"tools":[{"type":"custom","custom":{"name":"draw","description":"Draws lines",
		"format":{"type":"grammar","grammar":{"syntax":"lark",
		"definition":"start: line\nline: dash (SP dash)*\n| dash\ndash: \"-\"\nSP: \" \"\n"}}}}]}`
	oneMessage = `{"model":"m","messages":[{"role":"user","content":"Name the largest planet."}]}`
)
