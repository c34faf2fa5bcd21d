package request

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// escapeLen is the length of the escape sequence that s starts with, or 0 if it is none.
func escapeLen(s string) int {
	if len(s) < 2 {
		return 0
	}
	switch s[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
	default:
		return 0
	}
	if len(s) < 6 {
		return 0
	}
	for _, c := range []byte(s[2:6]) {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
			return 0
		}
	}
	return 6
}

// unescape resolves the (valid) escape sequences in s. A lone surrogate becomes U+FFFD, as in every reader that counts
// in UTF-8; the body itself is forwarded with the escape as it was.
func unescape(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i:]
		if s[1] == 'u' {
			r, n := unescapeRune(s)
			b.WriteRune(r)
			s = s[n:]
			continue
		}
		b.WriteByte(unescapeByte(s[1]))
		s = s[2:]
	}
}

func unescapeByte(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	default:
		return c
	}
}

// unescapeRune resolves one \uXXXX, or two that make a surrogate pair, and gives the bytes it used.
func unescapeRune(s string) (rune, int) {
	r := hex4(s[2:6])
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(s) >= 12 && s[6] == '\\' && s[7] == 'u' {
		if pair := utf16.DecodeRune(r, hex4(s[8:12])); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return utf8.RuneError, 6
}

func hex4(s string) rune {
	n, _ := strconv.ParseUint(s, 16, 16) // the scanner has checked the digits
	return rune(n)
}

// integerMax is the largest integer that every JSON reader agrees on (2^53-1); beyond it the provider might read
// another number than we do.
const integerMax = 1<<53 - 1

// integer gives the value of a JSON number that is a whole number from 0 to integerMax in any spelling: providers take
// 1e2 and 1.0 for 100 and 1, so we do too.
func integer(number string) (int64, bool) {
	digits, negative := strings.CutPrefix(number, "-")
	exponent := 0
	if i := strings.IndexAny(digits, "eE"); i >= 0 {
		e, err := strconv.Atoi(digits[i+1:])
		if err != nil || e > len(number)+20 || e < -len(number) {
			e = len(number) + 20 // out of range whatever the digits, unless they are all zeros
		}
		digits, exponent = digits[:i], e
	}
	whole, fraction, _ := strings.Cut(digits, ".")
	digits = strings.TrimLeft(whole+fraction, "0")
	exponent -= len(fraction)
	if digits == "" {
		return 0, true
	}
	significant := strings.TrimRight(digits, "0")
	exponent += len(digits) - len(significant)
	if negative || exponent < 0 || len(significant)+exponent > 16 {
		return 0, false
	}
	n, err := strconv.ParseInt(significant+strings.Repeat("0", exponent), 10, 64)
	return n, err == nil && n <= integerMax
}
