package sse

import (
	"strconv"

	"github.com/budgetguard/budgetguard/proxy/provider"
)

// choices reads the choices of a chunk or an answer.
func (m *Meter) choices(l *lexer, c *Chunk, usage *provider.Report) {
	if l.space() != '[' {
		l.skip()
		return
	}
	for ok := l.enter('[', ']'); ok; ok = l.more(']') {
		c.Choices++
		if l.space() != '{' {
			l.skip()
			continue
		}
		m.scratch = m.scratch[:0]
		index := m.choice(l, usage)
		if len(m.scratch) > 0 {
			c.Deltas++
			m.keep(index)
		}
	}
}

// choice collects the text of one choice and gives its index.
func (m *Meter) choice(l *lexer, usage *provider.Report) int64 {
	var index int64
	for ok := l.enter('{', '}'); ok; ok = l.more('}') {
		switch string(l.key()) {
		case "index":
			index, _ = strconv.ParseInt(string(l.skip()), 10, 64)
		case "text":
			m.text(l)
		case "usage": // Moonshot, and translators
			if r := m.report(l); r.Seen() {
				*usage = r
			}
		case "delta", "message":
			m.delta(l)
		default:
			l.skip()
		}
	}
	return index
}

// delta collects what is billed of a delta or message: every text in it, whatever its field is called,
// but what is known to be something else.
func (m *Meter) delta(l *lexer) {
	if l.space() != '{' {
		l.skip()
		return
	}
	m.thought, m.plain = m.thought[:0], false
	for ok := l.enter('{', '}'); ok; ok = l.more('}') {
		switch key := l.key(); string(key) {
		case "reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks":
			m.think(l)
		case "tool_calls":
			m.calls(l)
		case "function_call":
			m.call(l)
		case "role", "id", "type", "index", "object", "name", "tool_call_id", "finish_reason", "logprobs",
			"annotations", "signature", "encrypted_content", "audio", "images", "usage", "provider_metadata",
			"provider_specific_fields":
			l.skip()
		default:
			m.text(l)
		}
	}
	m.scratch = append(m.scratch, m.thought...)
}

// think collects thinking, which some send under two names at once: it counts once. Plain text is
// preferred to the same in parts, and of two plain texts the longer one.
func (m *Meter) think(l *lexer) {
	plain := l.space() == '"'
	before := len(m.scratch)
	m.text(l)
	thought := m.scratch[before:]
	m.scratch = m.scratch[:before]
	if plain == m.plain && len(thought) <= len(m.thought) || m.plain && !plain || len(thought) == 0 {
		return
	}
	m.thought, m.plain = append(m.thought[:0], thought...), plain
}

// calls collects the names and arguments of tool calls.
func (m *Meter) calls(l *lexer) {
	if l.space() != '[' {
		l.skip()
		return
	}
	for ok := l.enter('[', ']'); ok; ok = l.more(']') {
		if l.space() != '{' {
			l.skip()
			continue
		}
		for ok := l.enter('{', '}'); ok; ok = l.more('}') {
			switch string(l.key()) {
			case "function", "custom":
				m.call(l)
			default:
				l.skip()
			}
		}
	}
}

// call collects one name and its arguments (input, for custom tools).
func (m *Meter) call(l *lexer) {
	if l.space() != '{' {
		l.skip()
		return
	}
	for ok := l.enter('{', '}'); ok; ok = l.more('}') {
		switch string(l.key()) {
		case "name", "arguments", "input":
			m.text(l)
		default:
			l.skip()
		}
	}
}

// text collects a string; of providers that send parts or objects in its place, all of their JSON, which is never less.
func (m *Meter) text(l *lexer) {
	switch l.space() {
	case '"':
		text, escaped := l.raw()
		if escaped {
			m.scratch = appendText(m.scratch, text)
			return
		}
		m.scratch = append(m.scratch, text...)
	case '{', '[':
		if parts := l.skip(); string(parts) != "[]" && string(parts) != "{}" {
			m.scratch = append(m.scratch, parts...)
		}
	default:
		l.skip()
	}
}

// keep moves the collected text to that of its choice, as far as the bounds allow.
func (m *Meter) keep(index int64) {
	at, known := m.order[index]
	if !known && len(m.texts) == choicesMax || m.kept+len(m.scratch) > textMax {
		m.dropped += int64(len(m.scratch))
		return
	}
	if !known {
		if m.order == nil {
			m.order = make(map[int64]int)
		}
		at = len(m.texts)
		m.order[index] = at
		m.texts = append(m.texts, nil)
	}
	m.kept += len(m.scratch)
	m.texts[at] = append(m.texts[at], m.scratch...)
}
