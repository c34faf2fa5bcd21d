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
	texts := []string{"user", "hi"}
	framing := tokens.Framing{Messages: 1}
	fmt.Println(c.Bound(tokens.O200kBase, texts, framing, 0, tokens.Allowance{}))
	fmt.Println(c.Bound(tokens.Bytes, texts, framing, 0, tokens.Allowance{Preamble: 32}))
	// Output:
	// 6
	// 13
	// 49
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
	// Chinese without punctuation needs merging everywhere; the same text again costs more once the
	// work is used up.
	part := strings.Repeat("預算是一個承諾 ", 100)
	once := counter().Count(tokens.O200kBase, part)
	texts := slices.Repeat([]string{part}, 3000)
	bound := counter().Bound(tokens.O200kBase, texts, tokens.Framing{}, 0, tokens.Allowance{})
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

func TestHarmonyCountsTextAsO200kDoes(t *testing.T) {
	t.Parallel()
	for _, text := range texts() {
		harmony := counter().Count(tokens.O200kHarmony, text)
		base := counter().Count(tokens.O200kBase, text)
		if harmony != base {
			t.Errorf("harmony %d, base %d for %.100q", harmony, base, text)
		}
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
