package tokens

import (
	"unicode"
	"unicode/utf8"
)

// The classes of runes that the patterns of the encodings tell apart. A rune without any is
// punctuation, a symbol or unassigned.
const (
	// upper and lower are the two halves of the o200k word pattern; modifiers, other letters and
	// marks are in both.
	upper   uint8 = 1 << iota // \p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}
	lower                     // \p{Ll}\p{Lm}\p{Lo}\p{M}
	letter                    // \p{L}
	number                    // \p{N}
	space                     // \s
	newline                   // \r\n
)

// classes maps every rune to its classes. Looking one up in unicode's range tables costs thirty
// times as much.
type classes [unicode.MaxRune + 1]uint8

func newClasses() *classes {
	c := new(classes)
	c.set(unicode.Lu, upper|letter)
	c.set(unicode.Lt, upper|letter)
	c.set(unicode.Lm, upper|lower|letter)
	c.set(unicode.Lo, upper|lower|letter)
	c.set(unicode.Ll, lower|letter)
	c.set(unicode.M, upper|lower)
	c.set(unicode.N, number)
	c.set(unicode.White_Space, space)
	c['\r'] |= newline
	c['\n'] |= newline
	return c
}

func (c *classes) set(table *unicode.RangeTable, bits uint8) {
	for _, r := range table.R16 {
		for i := uint32(r.Lo); i <= uint32(r.Hi); i += uint32(r.Stride) {
			c[i] |= bits
		}
	}
	for _, r := range table.R32 {
		for i := r.Lo; i <= r.Hi; i += r.Stride {
			c[i] |= bits
		}
	}
}

// at gives the classes of the rune at i and its length in bytes, which is 0 at the end of s.
func (c *classes) at(s string, i int) (uint8, int) {
	if i >= len(s) {
		return 0, 0
	}
	if b := s[i]; b < utf8.RuneSelf {
		return c[b], 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	return c[r], n
}

// run gives the end of the runes from i on that have one of the classes.
func (c *classes) run(s string, i int, bits uint8) int {
	for {
		class, n := c.at(s, i)
		if class&bits == 0 {
			return i
		}
		i += n
	}
}

// symbols gives the end of the run of [^\s\p{L}\p{N}] from i on.
func (c *classes) symbols(s string, i int) int {
	for {
		class, n := c.at(s, i)
		if n == 0 || class&(space|letter|number) != 0 {
			return i
		}
		i += n
	}
}
