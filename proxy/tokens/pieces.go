package tokens

import "strings"

// A cutter gives the end of the piece of s that starts at i < len(s): what the first alternative of
// an encoding's pattern that matches there would match, and so always more than i. The patterns are
// those of tiktoken; each cutter quotes its own.
type cutter func(c *classes, s string, i int) int

// cutO200k is the pattern of o200k_base, its alternatives in order:
//
//	[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//	[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//	\p{N}{1,3}
//	 ?[^\s\p{L}\p{N}]+[\r\n/]*
//	\s*[\r\n]+
//	\s+(?!\S)
//	\s+
func cutO200k(c *classes, s string, i int) int {
	class, n := c.at(s, i)
	starts := [2]int{i, i} // of the word: behind the optional first rune, and without it
	if class&(letter|number|newline) == 0 {
		starts[0] = i + n
	}
	for _, start := range starts {
		if end := c.lowerWord(s, start); end > start {
			return end + contraction(s, end, true)
		}
	}
	for _, start := range starts {
		if end := c.run(s, start, upper); end > start {
			return end + contraction(s, end, true)
		}
	}
	if class&number != 0 {
		return c.upTo3(s, i)
	}
	if end := c.spacedSymbols(s, i); end > i {
		for end < len(s) && (s[end] == '\r' || s[end] == '\n' || s[end] == '/') {
			end++
		}
		return end
	}
	return c.spaces(s, i, true)
}

// lowerWord is U*L+ with U the upper half of the alphabet and L the lower, which share runes: U*
// takes all it can and gives back until L+ has one. It returns start where nothing matches.
func (c *classes) lowerWord(s string, start int) int {
	i, shared := start, start
	for {
		class, n := c.at(s, i)
		if class&upper == 0 {
			break
		}
		i += n
		if class&lower != 0 {
			shared = i
		}
	}
	if end := c.run(s, i, lower); end > i {
		return end
	}
	return shared
}

// cutCL100k is the pattern of cl100k_base:
//
//	(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
func cutCL100k(c *classes, s string, i int) int {
	if n := contraction(s, i, true); n > 0 {
		return i + n
	}
	class, n := c.at(s, i)
	start := i
	if class&(letter|number|newline) == 0 {
		start = i + n
	}
	if end := c.run(s, start, letter); end > start {
		return end
	}
	if class&number != 0 {
		return c.upTo3(s, i)
	}
	if end := c.spacedSymbols(s, i); end > i {
		return c.run(s, end, newline)
	}
	return c.spaces(s, i, true)
}

// cutP50k is the pattern of p50k_base and r50k_base:
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func cutP50k(c *classes, s string, i int) int {
	if n := contraction(s, i, false); n > 0 {
		return i + n
	}
	start := i
	if s[i] == ' ' {
		start = i + 1
	}
	if end := c.run(s, start, letter); end > start {
		return end
	}
	if end := c.run(s, start, number); end > start {
		return end
	}
	if end := c.symbols(s, start); end > start {
		return end
	}
	return c.spaces(s, i, false)
}

// upTo3 is \p{N}{1,3}.
func (c *classes) upTo3(s string, i int) int {
	for range 3 {
		class, n := c.at(s, i)
		if class&number == 0 {
			break
		}
		i += n
	}
	return i
}

// spacedSymbols is " ?[^\s\p{L}\p{N}]+"; it returns i where nothing matches.
func (c *classes) spacedSymbols(s string, i int) int {
	start := i
	if s[i] == ' ' {
		start = i + 1
	}
	if end := c.symbols(s, start); end > start {
		return end
	}
	return i
}

// spaces is \s+(?!\S)|\s+, with lines \s*[\r\n]+ before it: the run of white space up to its last
// line end, or without its last rune when something follows (that rune goes with the next word), or
// all of it.
func (c *classes) spaces(s string, i int, lines bool) int {
	end, last, afterLine := i, i, i
	for {
		class, n := c.at(s, end)
		if class&space == 0 {
			break
		}
		last = end
		end += n
		if class&newline != 0 {
			afterLine = end
		}
	}
	switch {
	case lines && afterLine > i:
		return afterLine
	case end < len(s) && last > i:
		return last
	}
	return end
}

// contraction is the length of 's, 't, 're, 've, 'm, 'll or 'd at i, or 0. Slices of equal length
// keep EqualFold to ASCII.
func contraction(s string, i int, fold bool) int {
	if i+1 >= len(s) || s[i] != '\'' {
		return 0
	}
	for _, ending := range [...]string{"s", "t", "re", "ve", "m", "ll", "d"} {
		end := i + 1 + len(ending)
		if end > len(s) {
			continue
		}
		if got := s[i+1 : end]; got == ending || fold && strings.EqualFold(got, ending) {
			return 1 + len(ending)
		}
	}
	return 0
}
