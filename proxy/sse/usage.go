package sse

import (
	"math"
	"strconv"
)

// usageMax is the largest number of tokens that is believed of one answer, a thousand times what the largest models take.
const usageMax = 1_000_000_000

// Usage is what a provider says it will bill, made consistent: nothing is negative, and parts are not larger than what they are
// part of. All are tokens.
type Usage struct {
	// Prompt includes Cached, CacheWrite and AudioIn.
	Prompt, Cached, CacheWrite, AudioIn int64
	// Completion includes Reasoning and AudioOut, and what total_tokens says beyond prompt and completion: some providers
	// count hidden thinking only there.
	Completion, Reasoning, AudioOut int64
}

// count is a number as it stood in a usage object.
type count struct {
	n     int64
	given bool
}

// report is a usage object as it was sent.
type report struct {
	prompt, completion, total                        count
	cached, cacheWrite, audioIn, reasoning, audioOut count
	seen, invalid                                    bool
}

// report reads the value of a usage field; anything but an object is none.
func (l *lexer) report() report {
	var r report
	if l.space() != '{' {
		l.skip()
		return r
	}
	for ok := l.enter('{', '}'); ok; ok = l.more('}') {
		switch string(l.key()) {
		case "prompt_tokens":
			l.count(&r, &r.prompt)
		case "completion_tokens":
			l.count(&r, &r.completion)
		case "total_tokens":
			l.count(&r, &r.total)
		case "prompt_tokens_details":
			l.promptDetails(&r)
		case "completion_tokens_details":
			l.completionDetails(&r)
		default:
			l.skip()
		}
	}
	r.seen = r.prompt.given || r.completion.given || r.total.given || r.invalid
	return r
}

func (l *lexer) promptDetails(r *report) {
	r.cached, r.cacheWrite, r.audioIn = count{}, count{}, count{}
	if l.space() != '{' {
		l.skip()
		return
	}
	for ok := l.enter('{', '}'); ok; ok = l.more('}') {
		switch string(l.key()) {
		case "cached_tokens":
			l.count(r, &r.cached)
		case "cache_write_tokens":
			l.count(r, &r.cacheWrite)
		case "audio_tokens":
			l.count(r, &r.audioIn)
		default:
			l.skip()
		}
	}
}

func (l *lexer) completionDetails(r *report) {
	r.reasoning, r.audioOut = count{}, count{}
	if l.space() != '{' {
		l.skip()
		return
	}
	for ok := l.enter('{', '}'); ok; ok = l.more('}') {
		switch string(l.key()) {
		case "reasoning_tokens":
			l.count(r, &r.reasoning)
		case "audio_tokens":
			l.count(r, &r.audioOut)
		default:
			l.skip()
		}
	}
}

// count reads a number of tokens. Null is none, a negative number is 0, and what is no whole number or above usageMax
// makes the report invalid.
func (l *lexer) count(r *report, to *count) {
	c := l.space()
	*to = count{}
	if c != '-' && (c < '0' || c > '9') {
		value := l.skip()
		r.invalid = r.invalid || string(value) != "null"
		return
	}
	text := string(l.number())
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(text, 64) // 12.0 and 1e3 are whole
		if err != nil || f > usageMax || f != math.Trunc(f) {
			r.invalid = true
			return
		}
		n = int64(max(f, 0))
	}
	if n > usageMax {
		r.invalid = true
		return
	}
	*to = count{max(n, 0), true}
}

// usage makes a report consistent.
func (r report) usage() Usage {
	prompt, completion := r.prompt.n, r.completion.n
	if !r.prompt.given && r.completion.given {
		prompt = max(0, r.total.n-completion)
	}
	u := Usage{Prompt: prompt, Completion: max(completion, r.total.n-prompt)}
	u.Cached = min(r.cached.n, u.Prompt)
	u.CacheWrite = min(r.cacheWrite.n, u.Prompt-u.Cached)
	u.AudioIn = min(r.audioIn.n, u.Prompt-u.Cached-u.CacheWrite)
	u.Reasoning = min(r.reasoning.n, u.Completion)
	u.AudioOut = min(r.audioOut.n, u.Completion)
	return u
}
