package sse

import (
	"math"
	"strconv"
	"strings"

	"github.com/budgetguard/budgetguard/proxy/provider"
)

const (
	// usageMax is the largest number of tokens that is believed of one answer, a hundred times what the
	// largest models take.
	usageMax = 100_000_000
	// unknownMax bounds the unknown figures that a Meter remembers, and nameMax their names.
	unknownMax = 16
)

// report reads the value of a usage field; anything but an object is none.
func (m *Meter) report(l *lexer) provider.Report {
	var r provider.Report
	if l.space() != '{' {
		l.skip()
		return r
	}
	m.figures(l, &r, "", 0)
	return r
}

// figures reads the members of a usage object, or of an object in it.
func (m *Meter) figures(l *lexer, r *provider.Report, in string, depth int) {
	const deepest = 2 // prompt_tokens_details.cache_creation_token_details
	for ok := l.enter('{', '}'); ok; ok = l.more('}') {
		key := l.key()
		if c := l.space(); c == '{' && depth < deepest {
			m.figures(l, r, string(key), depth+1)
			continue
		}
		figure, known := provider.Spelled(in, string(key))
		if !known {
			m.unknown(in, key)
			l.skip()
			continue
		}
		if figure == provider.NoFigure {
			l.skip()
			continue
		}
		name := string(key)
		if n, given := l.count(r); given {
			r.Set(in, name, n)
		}
	}
}

// unknown remembers the name of a figure in tokens that no table has: it may be billed.
func (m *Meter) unknown(in string, key []byte) {
	if len(m.unknowns) == unknownMax || len(key) > nameMax || !strings.HasSuffix(string(key), "_tokens") {
		return
	}
	name := string(key)
	if in != "" {
		name = in + "." + name
	}
	for _, known := range m.unknowns {
		if known == name {
			return
		}
	}
	m.unknowns = append(m.unknowns, name)
}

// count reads a number of tokens, also one in quotes. Null is none, a negative number is 0, and what is
// no whole number or above usageMax makes the report invalid.
func (l *lexer) count(r *provider.Report) (n int64, given bool) {
	c := l.space()
	var text string
	switch {
	case c == '-' || c >= '0' && c <= '9':
		text = string(l.number())
	case c == '"':
		text = string(l.str())
	default:
		value := l.skip()
		r.Invalid = r.Invalid || string(value) != "null"
		return 0, false
	}

	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(text, 64) // 12.0 and 1e3 are whole
		if err != nil || !(f <= usageMax) || f != math.Trunc(f) {
			r.Invalid = true
			return 0, false
		}
		n = int64(max(f, 0))
	}
	if n > usageMax {
		r.Invalid = true
		return 0, false
	}
	return max(n, 0), true
}
