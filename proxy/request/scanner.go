package request

import (
	"fmt"
	"hash/maphash"
	"strings"
)

const (
	// depthMax bounds nesting, and with it recursion. It is the limit of serde_json, far above what any API schema needs.
	depthMax = 128
	// keysMax bounds the names of all objects open at one time (16 MiB of string headers), so that a hostile body cannot
	// make the duplicate check cost many times its own size.
	keysMax = 1 << 20
	// keysPairwise is the size up to which comparing all pairs is cheaper than hashing; most objects are below.
	keysPairwise = 8
)

// scanner walks JSON text strictly (RFC 8259, no duplicate names) in one pass. Every method that reads a value starts at
// its first byte and leaves pos just behind its last.
type scanner struct {
	s        string
	pos      int
	depth    int
	keys     []string // names of the open objects, innermost last
	table    []int32  // hash table of the duplicate check, reused
	seed     maphash.Seed
	cache    func() error // reads the value of every cache_control, at any depth
	objects  int64        // objects seen so far
	elements int64        // array elements seen so far
	escapes  int64        // escape sequences seen so far
	members  int64        // members of objects seen so far
}

func (p *scanner) fail(what string) error {
	return invalid("", fmt.Sprintf("the body is not valid JSON: %s at byte %d", what, p.pos))
}

// peek is the byte at pos, or 0 at the end; a NUL is not JSON either, so the two need no telling apart.
func (p *scanner) peek() byte {
	if p.pos < len(p.s) {
		return p.s[p.pos]
	}
	return 0
}

func (p *scanner) space() {
	for p.pos < len(p.s) {
		switch p.s[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// value skips one value of any type, checking all of it.
func (p *scanner) value() error {
	switch c := p.peek(); {
	case c == '{':
		return p.object(nil)
	case c == '[':
		return p.array(nil)
	case c == '"':
		_, _, err := p.str()
		return err
	case c == '-' || c >= '0' && c <= '9':
		_, err := p.number()
		return err
	}
	for _, word := range [...]string{"true", "false", "null"} {
		if p.word(word) {
			return nil
		}
	}
	return p.fail("expected a value")
}

// word consumes a literal if it is next.
func (p *scanner) word(w string) bool {
	if len(p.s)-p.pos >= len(w) && p.s[p.pos:p.pos+len(w)] == w {
		p.pos += len(w)
		return true
	}
	return false
}

// object reads an object; field, if not nil, must consume the value of the name it is given.
func (p *scanner) object(field func(name string) error) error {
	if p.depth++; p.depth > depthMax {
		return p.fail(fmt.Sprintf("nesting deeper than %d levels", depthMax))
	}
	p.pos++
	p.objects++
	base := len(p.keys)
	for first := true; ; first = false {
		p.space()
		if first && p.peek() == '}' {
			break
		}
		if err := p.member(field); err != nil {
			return err
		}
		p.space()
		if p.peek() == '}' {
			break
		}
		if p.peek() != ',' {
			return p.fail("expected , or }")
		}
		p.pos++
	}
	p.pos++
	if p.repeats(p.keys[base:]) {
		return invalid("", fmt.Sprintf("an object that ends at byte %d has a duplicate name", p.pos))
	}
	p.keys = p.keys[:base]
	p.depth--
	return nil
}

func (p *scanner) member(field func(name string) error) error {
	if p.peek() != '"' {
		return p.fail("expected a name")
	}
	name, err := p.text()
	if err != nil {
		return err
	}
	if len(p.keys) == keysMax {
		return invalid("", fmt.Sprintf("the body has objects with more than %d names", keysMax))
	}
	p.members++
	p.keys = append(p.keys, name)
	p.space()
	if p.peek() != ':' {
		return p.fail("expected :")
	}
	p.pos++
	p.space()
	if p.cache != nil && strings.EqualFold(name, "cache_control") {
		return p.cache()
	}
	if field != nil {
		return field(name)
	}
	return p.value()
}

// array reads an array; element, if not nil, must consume the element it is called at.
func (p *scanner) array(element func() error) error {
	if p.depth++; p.depth > depthMax {
		return p.fail(fmt.Sprintf("nesting deeper than %d levels", depthMax))
	}
	if element == nil {
		element = p.value
	}
	p.pos++
	for first := true; ; first = false {
		p.space()
		if first && p.peek() == ']' {
			break
		}
		p.elements++
		if err := element(); err != nil {
			return err
		}
		p.space()
		if p.peek() == ']' {
			break
		}
		if p.peek() != ',' {
			return p.fail("expected , or ]")
		}
		p.pos++
	}
	p.pos++
	p.depth--
	return nil
}

// str reads a string and gives what stands between its quotes, escapes unresolved.
func (p *scanner) str() (raw string, escaped bool, err error) {
	start := p.pos + 1
	for i := start; i < len(p.s); i++ {
		c := p.s[i]
		if c == '"' {
			p.pos = i + 1
			return p.s[start:i], escaped, nil
		}
		if c < 0x20 {
			p.pos = i
			return "", false, p.fail("control character in a string")
		}
		if c != '\\' {
			continue
		}
		n := escapeLen(p.s[i:])
		if n == 0 {
			p.pos = i
			return "", false, p.fail("unknown escape")
		}
		escaped = true
		p.escapes++
		i += n - 1
	}
	p.pos = len(p.s)
	return "", false, p.fail("unfinished string")
}

// text reads a string and resolves its escapes; without any it allocates nothing.
func (p *scanner) text() (string, error) {
	raw, escaped, err := p.str()
	if err != nil || !escaped {
		return raw, err
	}
	return unescape(raw), nil
}

// number reads a number by the grammar and gives its text.
func (p *scanner) number() (string, error) {
	start := p.pos
	if p.peek() == '-' {
		p.pos++
	}
	if p.peek() == '0' {
		p.pos++
	} else if !p.digits() {
		return "", p.fail("expected a digit")
	}
	if p.peek() == '.' {
		p.pos++
		if !p.digits() {
			return "", p.fail("expected a digit")
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.pos++
		if c := p.peek(); c == '+' || c == '-' {
			p.pos++
		}
		if !p.digits() {
			return "", p.fail("expected a digit")
		}
	}
	return p.s[start:p.pos], nil
}

func (p *scanner) digits() bool {
	start := p.pos
	for c := p.peek(); c >= '0' && c <= '9'; c = p.peek() {
		p.pos++
	}
	return p.pos > start
}

// repeats reports whether two of the names are equal, in time linear in their number.
func (p *scanner) repeats(names []string) bool {
	if len(names) <= keysPairwise {
		for i := 1; i < len(names); i++ {
			for _, before := range names[:i] {
				if before == names[i] {
					return true
				}
			}
		}
		return false
	}
	size := 1
	for size < 2*len(names) {
		size *= 2
	}
	if size > len(p.table) {
		p.table = make([]int32, size)
	}
	table, mask := p.table[:size], uint64(size-1) //nolint:gosec // size is a positive power of two
	clear(table)
	for i, name := range names {
		slot := maphash.String(p.seed, name) & mask
		for ; table[slot] != 0; slot = (slot + 1) & mask {
			if names[table[slot]-1] == name {
				return true
			}
		}
		table[slot] = int32(i + 1)
	}
	return false
}
