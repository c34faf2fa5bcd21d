package tokens

import (
	"unicode/utf8"

	"golang.org/x/sync/errgroup"
)

const (
	// pieceMax bounds one merge. No word is so long; text without any break for 4 KiB is data, or
	// made to be slow.
	pieceMax = 4 << 10
	// mergeMax bounds all merging of one call to about a second at worst (250 ns for a byte).
	// English needs it for an eighth of its bytes, Chinese for most of them.
	mergeMax = 4 << 20
	// textMax bounds the text of one call that is looked at: some two million tokens of English,
	// more than any model takes.
	textMax = 8 << 20
)

// Counter counts tokens. It is immutable and safe for concurrent use.
type Counter struct {
	classes      *classes
	vocabularies map[string]*vocabulary
}

// New loads the embedded vocabularies, two at a time, in about a third of a second and 45 MB; make
// one for the process.
func New() (*Counter, error) {
	var o200k, cl100k, p50k, r50k *vocabulary
	var group errgroup.Group
	for _, one := range []struct {
		name string
		cut  cutter
		to   **vocabulary
	}{
		{O200kBase, cutO200k, &o200k},
		{CL100kBase, cutCL100k, &cl100k},
		{P50kBase, cutP50k, &p50k},
		{R50kBase, cutP50k, &r50k},
	} {
		group.Go(func() (err error) {
			*one.to, err = load(one.name, one.cut)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return &Counter{classes: newClasses(), vocabularies: map[string]*vocabulary{
		O200kBase: o200k, O200kHarmony: o200k, CL100kBase: cl100k, P50kBase: p50k, P50kEdit: p50k, R50kBase: r50k,
	}}, nil
}

// Exact reports whether the tokens of an encoding are counted, not bounded by bytes.
func (c *Counter) Exact(encoding string) bool {
	_, known := c.vocabularies[encoding]
	return known
}

// Count is the number of tokens of the text as ordinary text: exact up to the bounds of the package
// comment, more than exact beyond, and the number of bytes for an unknown encoding.
func (c *Counter) Count(encoding, text string) int64 {
	t := tally{mergeLeft: mergeMax, textLeft: textMax}
	c.count(&t, encoding, text)
	return t.tokens
}

// tally is the count so far of one call, and the work it may still do.
type tally struct {
	tokens              int64
	mergeLeft, textLeft int
}

func (c *Counter) count(t *tally, encoding, text string) {
	v, known := c.vocabularies[encoding]
	if known && !utf8.ValidString(text) {
		text = string([]rune(text)) // tiktoken, too, sees U+FFFD for each byte that is no UTF-8
	}
	if !known {
		t.tokens += int64(len(text))
		return
	}
	for i := 0; i < len(text); {
		if t.textLeft <= 0 {
			t.tokens += int64(len(text) - i)
			return
		}
		end := v.cut(c.classes, text, i)
		t.textLeft -= end - i
		v.piece(t, text[i:end])
		i = end
	}
}

// piece adds the tokens of one piece, or its bytes where merging it is not affordable.
func (v *vocabulary) piece(t *tally, piece string) {
	n := len(piece)
	if n > 1 {
		if _, whole := v.ranks[piece]; !whole {
			t.tokens += int64(v.parts(t, piece))
			return
		}
	}
	t.tokens++
}

func (v *vocabulary) parts(t *tally, piece string) int {
	n := len(piece)
	if n > pieceMax || n > t.mergeLeft {
		return n
	}
	t.mergeLeft -= n
	return v.merged(piece)
}
