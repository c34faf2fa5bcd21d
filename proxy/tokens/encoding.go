package tokens

import (
	"fmt"

	loader "github.com/pkoukk/tiktoken-go-loader"
)

// The encodings that are counted exactly, as the price catalogue names them.
const (
	O200kBase    = "o200k_base"
	O200kHarmony = "o200k_harmony" // o200k_base with more special tokens, which text never becomes
	CL100kBase   = "cl100k_base"
	P50kBase     = "p50k_base"
	P50kEdit     = "p50k_edit" // p50k_base with more special tokens
	R50kBase     = "r50k_base"
	// Bytes is the encoding of models without a public tokenizer: one token for each byte is the
	// only bound that holds for all of them. Every name that is not one of the above means the
	// same.
	Bytes = "bytes"
)

// vocabulary is one encoding: how text is cut, and which byte sequences are tokens, in the order
// they are merged. It is not changed after it is loaded.
type vocabulary struct {
	cut   cutter
	ranks map[string]int
	// pairs are the ranks of the two-byte tokens: every merge starts with these.
	pairs []int32
}

// load reads an embedded vocabulary.
func load(name string, cut cutter) (*vocabulary, error) {
	ranks, err := loader.NewOfflineLoader().LoadTiktokenBpe(name + ".tiktoken")
	if err != nil {
		return nil, fmt.Errorf("load vocabulary %s: %w", name, err)
	}
	v := &vocabulary{cut: cut, ranks: ranks, pairs: make([]int32, 1<<16)}
	for a := range 256 {
		for b := range 256 {
			v.pairs[a<<8|b] = noRank
			if rank, ok := ranks[string([]byte{byte(a), byte(b)})]; ok {
				v.pairs[a<<8|b] = int32(rank) //nolint:gosec // vocabularies have some 200,000 tokens
			}
		}
	}
	return v, nil
}

// rank is that of the token s, of two bytes or more, or noRank.
func (v *vocabulary) rank(s string) int32 {
	if len(s) == 2 {
		return v.pairs[int(s[0])<<8|int(s[1])]
	}
	if rank, ok := v.ranks[s]; ok {
		return int32(rank) //nolint:gosec // vocabularies have some 200,000 tokens
	}
	return noRank
}
