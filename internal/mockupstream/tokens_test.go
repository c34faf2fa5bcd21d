package mockupstream

import (
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pkoukk/tiktoken-go"
	tiktokenloader "github.com/pkoukk/tiktoken-go-loader"
)

// encodings are the true tokenizers, loaded once and only for the tests that need them.
var encodings = sync.OnceValue(func() []*tiktoken.Tiktoken {
	tiktoken.SetBpeLoader(tiktokenloader.NewOfflineLoader())
	var all []*tiktoken.Tiktoken
	for _, name := range []string{tiktoken.MODEL_CL100K_BASE, tiktoken.MODEL_O200K_BASE} {
		encoding, err := tiktoken.GetEncoding(name)
		if err != nil {
			panic(err)
		}
		all = append(all, encoding)
	}
	return all
})

// fewest is the smaller of the true token counts.
func fewest(text string) int64 {
	least := int64(math.MaxInt64)
	for _, encoding := range encodings() {
		least = min(least, int64(len(encoding.EncodeOrdinary(text))))
	}
	return least
}

func FuzzWordsNeverExceedTheTrueTokens(f *testing.F) {
	for _, seed := range []string{
		"", " ", "hello world", "don't they'll 's", "a\nb\r\n\tc", "!\n/ */\n\n/ //\n///", "x=1;\n//y", "日本語 テキスト", "a\u00a0b\u2003c\u0085d",
		"1 2 33 444 5555", "<|endoftext|> <|im_start|>", "🙂 🙂🙂 e\u0301 \u0301", "    indented\n\n\n    code", "½ ⅓ Ⅷ ① ²",
		`[{"type": "function", "function": {"name": "f"}}]`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ToValidUTF8(text, "?")
		if got, limit := words(text), fewest(text); got > limit {
			t.Errorf("%q: counted %d, the tokenizer only %d", text, got, limit)
		}
	})
}

func TestEveryPieceIsAtLeastOneToken(t *testing.T) {
	t.Parallel()
	s := newScript()
	if len(s.at)-1 < 2*DefaultAnswerTokens || strings.ContainsAny(s.text, "\"\\") {
		t.Fatalf("the prose has %d words; it needs %d, and no quotes", (len(s.at)-1)/2, DefaultAnswerTokens)
	}
	for seed := range uint64(len(s.starts)) {
		for _, n := range []int{0, 1, 2, 16, DefaultAnswerTokens} {
			r := s.reply(seed, 0, n)
			var pieces strings.Builder
			for i := range n {
				pieces.WriteString(r.piece(i))
			}
			if pieces.String() != r.whole() {
				t.Fatalf("pieces %q, whole %q", pieces.String(), r.whole())
			}
			if got := fewest(r.whole()); got < int64(n) {
				t.Errorf("seed %d: %d pieces are only %d tokens: %q", seed, n, got, r.whole())
			}
		}
		for limit := int64(1); limit < 20; limit++ {
			r := s.reply(seed, 0, 0).call(&tool{"f", `a"b\`}, limit)
			plain := strings.ReplaceAll(strings.ReplaceAll(r.whole(), `\"`, `"`), `\\`, `\`)
			if got := fewest(plain); got < int64(r.n) || int64(r.n) > limit {
				t.Errorf("limit %d: %d pieces are %d tokens: %q", limit, r.n, got, plain)
			}
		}
	}
}

func TestRepliesToOnePromptDiffer(t *testing.T) {
	t.Parallel()
	s := newScript()
	var seen []string
	for choice := range 8 {
		text := s.reply(7, choice, DefaultAnswerTokens).whole()
		if slices.Contains(seen, text) {
			t.Errorf("choice %d repeats another", choice)
		}
		seen = append(seen, text)
	}
}
