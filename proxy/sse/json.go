package sse

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// depthMax bounds recursion into a provider's answer; real ones have some ten levels.
const depthMax = 200

// lexer walks JSON that a provider sent, in one pass and without allocating on plain input. It is lenient about what does not
// matter here (duplicate names, control characters, unknown escapes); what it cannot follow sets bad, after which all
// loops end. Each method starts at the first byte of what it reads and ends behind its last.
type lexer struct {
	b     []byte
	i     int
	depth int
	bad   bool
}

// space skips white space and gives the byte behind it, 0 at the end or when bad.
func (l *lexer) space() byte {
	for ; l.i < len(l.b) && !l.bad; l.i++ {
		switch c := l.b[l.i]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// enter steps into an object or array and tells whether it has an element. The pattern is
//
//	for ok := l.enter('{', '}'); ok; ok = l.more('}') { … read one element … }
func (l *lexer) enter(opening, closing byte) bool {
	if l.space() != opening {
		l.bad = true
		return false
	}
	l.i++
	if l.depth++; l.depth > depthMax {
		l.bad = true
	}
	if l.space() == closing {
		l.i++
		l.depth--
		return false
	}
	return !l.bad
}

// more steps to the next element, or out of the object or array.
func (l *lexer) more(closing byte) bool {
	switch l.space() {
	case ',':
		l.i++
		l.space()
		return !l.bad
	case closing:
		l.i++
		l.depth--
		return false
	}
	l.bad = true
	return false
}

// key reads a name and its colon.
func (l *lexer) key() []byte {
	name := l.str()
	if l.space() != ':' {
		l.bad = true
		return nil
	}
	l.i++
	l.space()
	return name
}

// raw reads a string and gives what is between its quotes, with escapes.
func (l *lexer) raw() (text []byte, escaped bool) {
	if l.space() != '"' {
		l.bad = true
		return nil, false
	}
	l.i++
	for start := l.i; l.i < len(l.b); l.i++ {
		switch l.b[l.i] {
		case '"':
			l.i++
			return l.b[start : l.i-1], escaped
		case '\\':
			escaped = true
			l.i++
		}
	}
	l.bad = true
	return nil, false
}

// str reads a string and resolves its escapes.
func (l *lexer) str() []byte {
	text, escaped := l.raw()
	if !escaped {
		return text
	}
	return appendText(nil, text)
}

// word reads a literal if it is next.
func (l *lexer) word(w string) bool {
	if l.bad || !bytes.HasPrefix(l.b[l.i:], []byte(w)) {
		return false
	}
	l.i += len(w)
	return true
}

// number reads the characters of a number.
func (l *lexer) number() []byte {
	start := l.i
	for ; l.i < len(l.b); l.i++ {
		if c := l.b[l.i]; (c < '0' || c > '9') && c != '-' && c != '+' && c != '.' && c != 'e' && c != 'E' {
			break
		}
	}
	l.bad = l.bad || l.i == start
	return l.b[start:l.i]
}

// skip reads any value and gives its bytes.
func (l *lexer) skip() []byte {
	c := l.space()
	start := l.i
	switch {
	case c == '{':
		for ok := l.enter('{', '}'); ok; ok = l.more('}') {
			l.key()
			l.skip()
		}
	case c == '[':
		for ok := l.enter('[', ']'); ok; ok = l.more(']') {
			l.skip()
		}
	case c == '"':
		l.raw()
	case l.word("true"), l.word("false"), l.word("null"):
	default:
		l.number()
	}
	if l.bad {
		return nil
	}
	return l.b[start:l.i]
}

// appendText appends a string with its escapes resolved; a lone surrogate is U+FFFD.
func appendText(to, s []byte) []byte {
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 || i+1 == len(s) {
			return append(to, s...)
		}
		to = append(to, s[:i]...)
		s = s[i:]
		n := 2
		switch s[1] {
		case 'n':
			to = append(to, '\n')
		case 't':
			to = append(to, '\t')
		case 'r':
			to = append(to, '\r')
		case 'b':
			to = append(to, '\b')
		case 'f':
			to = append(to, '\f')
		case 'u':
			var r rune
			r, n = escapedRune(s)
			to = utf8.AppendRune(to, r)
		default:
			to = append(to, s[1])
		}
		s = s[n:]
	}
}

// escapedRune reads \uXXXX, or two of them that make a pair, and gives the bytes used.
func escapedRune(s []byte) (rune, int) {
	r, ok := hex4(s)
	if !ok {
		return utf8.RuneError, 2
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if low, ok := hex4(s[6:]); ok {
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return utf8.RuneError, 6
}

func hex4(s []byte) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(s[2:6]), 16, 16)
	return rune(n), err == nil
}
