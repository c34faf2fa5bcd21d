package tokens_test

import (
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/proxy/tokens"
)

const sentence = "A request reaches the provider only after the most it can cost is reserved, durably, inside every budget that applies to it. "

func fill(size int, s string) string {
	return strings.Repeat(s, size/len(s)+1)[:size]
}

func BenchmarkEstimate(b *testing.B) {
	c := counter()
	for _, one := range []struct{ name, text string }{
		{"200B", fill(200, sentence)},
		{"4KB", fill(4<<10, sentence)},
		{"100KB", fill(100<<10, sentence)},
		{"100KB_a", fill(100<<10, "a")},
		{"100KB_CJK", fill(99<<10, "在請求到達供應商之前，先保留它可能花費的最高金額，而且必須寫入資料庫。預算是一個承諾")},
		{"8MB", fill(8<<20, sentence)},
		// Made to be slow: words just short enough to be merged, text of bytes that never form a
		// token.
		{"32MB_words", fill(32<<20, fill(4095, "xqzjwvkpf")+" ")},
		{"32MB_short_words", fill(32<<20, fill(95, "xqzjwvkpf")+" ")},
		{"32MB_a", fill(32<<20, fill(4095, "a")+" ")},
		{"32MB_spaces", fill(32<<20, " ")},
	} {
		b.Run(one.name, func(b *testing.B) {
			b.SetBytes(int64(len(one.text)))
			b.ReportAllocs()
			for b.Loop() {
				c.Bound(tokens.O200kBase, []string{one.text}, tokens.Framing{Messages: 1},
					0, tokens.Allowance{})
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		if _, err := tokens.New(); err != nil {
			b.Fatal(err)
		}
	}
}
