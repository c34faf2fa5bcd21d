package tokens_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pkoukk/tiktoken-go"
	loader "github.com/pkoukk/tiktoken-go-loader"

	"github.com/budgetguard/budgetguard/proxy/tokens"
)

var encodings = []string{tokens.O200kBase, tokens.CL100kBase, tokens.P50kBase, tokens.R50kBase}

// counter is shared: it is what its doc says, safe for concurrent use.
var counter = sync.OnceValue(func() *tokens.Counter {
	c, err := tokens.New()
	if err != nil {
		panic(err)
	}
	return c
})

// reference is tiktoken-go itself.
var reference = sync.OnceValue(func() map[string]*tiktoken.Tiktoken {
	tiktoken.SetBpeLoader(loader.NewOfflineLoader())
	all := map[string]*tiktoken.Tiktoken{}
	for _, name := range encodings {
		encoding, err := tiktoken.GetEncoding(name)
		if err != nil {
			panic(err)
		}
		all[name] = encoding
	}
	return all
})

// wantExact holds the count of the text against tiktoken-go, in every encoding.
func wantExact(t *testing.T, text string) {
	t.Helper()
	for _, name := range encodings {
		want := int64(len(reference()[name].EncodeOrdinary(text)))
		if got := counter().Count(name, text); got != want {
			t.Errorf("%s: %d tokens, tiktoken-go counts %d in %.300q", name, got, want, text)
		}
	}
}

func Example() {
	c, err := tokens.New()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Count(tokens.O200kBase, "tiktoken is great!"))
	fmt.Println(c.Bound(tokens.EncodingFor("gpt-4o-mini"), []string{"user", "hi"}, tokens.Framing{Messages: 1}))
	fmt.Println(c.Bound(tokens.EncodingFor("claude-5"), []string{"user", "hi"}, tokens.Framing{Messages: 1}))
	// Output:
	// 6
	// 13
	// 17
}

func TestCountsEqualTiktokenOnTextOfManyKinds(t *testing.T) {
	t.Parallel()
	for _, text := range texts() {
		wantExact(t, text)
	}
}

func texts() []string {
	return []string{
		"", " ", "a", "\n", "tiktoken is great!", "The quick brown fox jumps over the lazy dog. It's what we'd've DONE, I'LL say; they'Re gone.",
		"<|endoftext|> and <|im_start|>system<|im_sep|>", "1234567890 3.14159 ½ ² Ⅷ ١٢٣", "  leading\n\n  lines \n \n\ttabs\t\t x \r\n\r\n end   ",
		"func main() {\n\tfmt.Println(\"hi\")\n}\n\n\n// done //\n/// x\n", "日本語のテキスト、そして中文。한국어도 있다", "😀👩‍👩‍👧‍👦🏳️‍🌈 é é ñ̃̃",
		"ǅ Ǆ ʰ ª ΑΒΓαβγ Привет МИР camelCaseWord SCREAMING_CASE", "a\u00a0b\u2003c\u0085d\u3000e\u200bf", "'s 'S 'll x's X'S '' 'ſ s'", "\ufffd\x00\x01\x7f",
		"الحقيقة هي", "ไม่มีช่องว่างระหว่างคำ", "https://example.com/a/b?c=d&e=f#g", strings.Repeat("=", 300), strings.Repeat("a", 500), strings.Repeat("é", 400), strings.Repeat(" ", 300),
		strings.Repeat("\n", 200) + "x", strings.Repeat(" \n", 200), strings.Repeat("好A", 200), "好AAAA", "A好BBB'S", "́́a", " ́A", "!́A!",
		strings.Repeat("The budget of a tenant is a promise that is kept. ", 40), "bad \xff\xfe\xc3 utf8 \xe4\xbd",
	}
}

func TestCountsEqualTiktokenOnRandomText(t *testing.T) {
	t.Parallel()
	alphabet := strings.Split(`a|b|Z|Q|e|é|Ü|ß|'|'s|'LL|'re|d|t| |  |`+"\n|\r|\r\n|\t|\u00a0|\u2028|\u0085"+`|0|7|42|½|٣|.|,|!|/|//|-|_|"|{|}|<|endoftext|好|語|の|한|😀|👩|`+
		"\u200d|\u0301|\u093f|ǅ|ʰ|ª|ſ|K|\x00|\ufffd|the| word|ing|tion|ABC|xyz", "|")
	random := dice(1)
	for range 1500 {
		var b strings.Builder
		for range 1 + random.upTo(40) {
			b.WriteString(alphabet[random.upTo(len(alphabet))])
		}
		wantExact(t, b.String())
	}
}

func TestCountsEqualTiktokenOnRandomRunes(t *testing.T) {
	t.Parallel()
	random := dice(2)
	for range 500 {
		runes := make([]rune, 1+random.upTo(30))
		for i := range runes {
			runes[i] = rune(random.upTo([]int{0x80, 0x800, 0x3000, 0x110000}[random.upTo(4)]))
		}
		wantExact(t, string(runes))
	}
}

// dice throws the same numbers in every run (Knuth's MMIX generator).
type dice uint64

func (d *dice) upTo(n int) int {
	*d = *d*6364136223846793005 + 1442695040888963407
	return int(uint64(*d)>>33) % n
}

func FuzzCount(f *testing.F) {
	for _, text := range texts() {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1000 {
			text = text[:1000] // the reference is quadratic; invalid bytes become three each, still below pieceMax
		}
		wantExact(t, text)
	})
}

func TestTextThatIsTooDearToCountIsCountedInBytes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 5000)
	for _, name := range encodings {
		if got := counter().Count(name, long); got != 5000 {
			t.Errorf("%s: a word of 5000 letters is %d tokens", name, got)
		}
	}
	// Chinese without punctuation needs merging everywhere; the same text again costs more once the work is used up.
	part := strings.Repeat("預算是一個承諾 ", 100)
	once := counter().Count(tokens.O200kBase, part)
	texts := slices.Repeat([]string{part}, 3000)
	bound := counter().Bound(tokens.O200kBase, texts, tokens.Framing{})
	if exact, bytes := once*3000, int64(len(part))*3000; bound <= exact || bound > bytes {
		t.Errorf("bound %d of text of %d tokens and %d bytes", bound, exact, bytes)
	}
	// Prose is exact far beyond the largest context window, and a bound beyond that.
	prose := strings.Repeat("The budget of a tenant is a promise. ", 200_000)
	if got := counter().Count(tokens.O200kBase, prose); got != 9*200_000+1 && got != 9*200_000 {
		t.Errorf("7.4 MB of prose are %d tokens", got)
	}
	if got := counter().Count(tokens.O200kBase, prose+prose); got < 2*9*200_000 || got > int64(2*len(prose)) {
		t.Errorf("15 MB of prose are %d tokens", got)
	}
}

func TestUnknownEncodingsCountBytes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{tokens.Bytes, "", "claude"} {
		if got := counter().Count(name, "é 好\xff"); got != 7 {
			t.Errorf("%q: %d tokens, want 7", name, got)
		}
	}
}

func TestBoundAddsTheFraming(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		framing tokens.Framing
		want    int64
	}{
		{tokens.Framing{}, 1},
		{tokens.Framing{Messages: 2}, 1 + 2*8 + 3},
		{tokens.Framing{Messages: 1, Names: 1, Tools: 2, Items: 4}, 1 + 8 + 3 + 1 + 2*16 + 12 + 4*3},
		{tokens.Framing{Prompts: 3}, 1 + 3},
	} {
		if got := counter().Bound(tokens.O200kBase, []string{"hi"}, c.framing); got != c.want {
			t.Errorf("%+v: %d, want %d", c.framing, got, c.want)
		}
	}
}

// TestBoundCoversWhatOpenAIBilled uses the prompts and the billed counts published in OpenAI's cookbook "How to count tokens
// with tiktoken" (num_tokens_from_messages: 129 for gpt-3.5-turbo and gpt-4, 124 for gpt-4o and gpt-4o-mini).
func TestBoundCoversWhatOpenAIBilled(t *testing.T) {
	t.Parallel()
	var texts []string
	for _, m := range [][3]string{
		{"system", "", "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."},
		{"system", "example_user", "New synergies will help drive top-line growth."},
		{"system", "example_assistant", "Things working well together will increase revenue."},
		{"system", "example_user", "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."},
		{"system", "example_assistant", "Let's talk later when we're less busy about how to do better."},
		{"user", "", "This late pivot means we don't have time to boil the ocean for the client deliverable."},
	} {
		texts = append(texts, m[:]...)
	}
	for model, billed := range map[string]int64{"gpt-3.5-turbo": 129, "gpt-4-0613": 129, "gpt-4o": 124, "gpt-4o-mini": 124} {
		exact := counter().Bound(tokens.EncodingFor(model), texts, tokens.Framing{})
		if got := exact + 6*3 + 4 + 3; got != billed {
			t.Errorf("%s: by the cookbook's rule %d, billed %d", model, got, billed)
		}
		bound := counter().Bound(tokens.EncodingFor(model), texts, tokens.Framing{Messages: 6, Names: 4})
		if bound < billed || bound > billed+6*5 {
			t.Errorf("%s: bound %d, billed %d", model, bound, billed)
		}
	}
}

func TestEncodingsOfModels(t *testing.T) {
	t.Parallel()
	for model, want := range map[string]string{
		"gpt-4o": tokens.O200kBase, "gpt-4o-2024-08-06": tokens.O200kBase, "chatgpt-4o-latest": tokens.O200kBase, "gpt-4.1-mini": tokens.O200kBase,
		"gpt-4.5-preview": tokens.O200kBase, "gpt-5": tokens.O200kBase, "gpt-6.2-astra": tokens.O200kBase, "o1-mini": tokens.O200kBase, "o3": tokens.O200kBase,
		"o4-mini": tokens.O200kBase, "gpt-4": tokens.CL100kBase, "gpt-4-turbo": tokens.CL100kBase, "gpt-4-0314": tokens.CL100kBase, "gpt-3.5-turbo": tokens.CL100kBase,
		"gpt-35-turbo": tokens.CL100kBase, "ft:gpt-3.5-turbo:acme::x": tokens.CL100kBase, "ft:gpt-4o-mini:a": tokens.O200kBase, "openai/gpt-4": tokens.CL100kBase,
		"davinci-002": tokens.CL100kBase, "babbage-002": tokens.CL100kBase, "text-embedding-3-small": tokens.CL100kBase, "gpt-oss-120b": tokens.O200kHarmony,
		"text-davinci-003": tokens.P50kBase, "text-davinci-001": tokens.R50kBase, "text-davinci-edit-001": tokens.P50kEdit, "code-cushman-001": tokens.P50kBase,
		"davinci": tokens.R50kBase, "gpt2": tokens.R50kBase, "claude-5": tokens.Bytes, "gemini-3": tokens.Bytes, "": tokens.Bytes, "GPT-4": tokens.Bytes,
	} {
		if got := tokens.EncodingFor(model); got != want {
			t.Errorf("%s: %s, want %s", model, got, want)
		}
	}
	if a, b := counter().Count(tokens.O200kHarmony, "tiktoken is great!"), counter().Count(tokens.O200kBase, "tiktoken is great!"); a != b {
		t.Errorf("harmony %d, base %d", a, b)
	}
}

func TestOneCounterServesManyGoroutines(t *testing.T) {
	t.Parallel()
	text := strings.Join(texts(), " ")
	want := counter().Count(tokens.O200kBase, text)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 20 {
				if got := counter().Count(tokens.O200kBase, text); got != want {
					t.Errorf("%d tokens, want %d", got, want)
				}
			}
		})
	}
	group.Wait()
}
