package sse

import "strconv"

// choices reads the choices of a chunk or an answer.
func (m *Meter) choices(l *lexer, c *Chunk) {
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
		index := m.choice(l)
		if len(m.scratch) > 0 {
			c.Deltas++
			m.keep(index)
		}
	}
}

// choice collects the text of one choice and gives its index.
func (m *Meter) choice(l *lexer) int64 {
	var index int64
	for ok := l.enter('{', '}'); ok; ok = l.more('}') {
		switch string(l.key()) {
		case "index":
			index, _ = strconv.ParseInt(string(l.skip()), 10, 64)
		case "text":
			m.text(l)
		case "delta", "message":
			m.delta(l)
		default:
			l.skip()
		}
	}
	return index
}

// delta collects what is billed of a delta or message.
func (m *Meter) delta(l *lexer) {
	if l.space() != '{' {
		l.skip()
		return
	}
	reasoned := false
	for ok := l.enter('{', '}'); ok; ok = l.more('}') {
		switch string(l.key()) {
		case "content", "refusal":
			m.text(l)
		case "reasoning_content", "reasoning":
			if reasoned {
				l.skip() // the same text under its other name
				continue
			}
			before := len(m.scratch)
			m.text(l)
			reasoned = len(m.scratch) > before
		case "tool_calls":
			m.calls(l)
		case "function_call":
			m.call(l)
		default:
			l.skip()
		}
	}
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
		m.scratch = append(m.scratch, l.skip()...)
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
