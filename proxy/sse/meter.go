package sse

import "bytes"

const (
	// textMax bounds the text that a Meter keeps, in bytes: four million tokens of English, more than any answer has.
	textMax = 16 << 20
	// choicesMax bounds the answers whose text is kept apart: 128 choices for each of 512 prompts.
	choicesMax = 1 << 16
	// nameMax bounds the model and tier that are believed, in bytes.
	nameMax = 256
)

// Chunk is what one event says.
type Chunk struct {
	// Done is the event [DONE].
	Done bool
	// Malformed is an event that is not one JSON object. Its usage is not believed; its text, as far as it went, is counted.
	Malformed bool
	// Failed is an event with an error that is not null.
	Failed bool
	// Usage is an event with a usage object, believable or not.
	Usage bool
	// Choices is the number of choices in it, Deltas the number of those that bring text.
	Choices, Deltas int
}

// UsageOnly tells the event that exists because usage was asked for: it has usage and no choices. It is dropped
// when the client has not asked.
func (c Chunk) UsageOnly() bool {
	return c.Usage && c.Choices == 0 && !c.Failed && !c.Malformed
}

// Meter reads what was billed out of an answer. Feed it the Data of every event of a stream, or the one body of an answer
// that is no stream. It never panics on what a provider sends and is not safe for concurrent use. The zero Meter is ready.
type Meter struct {
	last    report
	model   string
	tier    string
	done    bool
	failed  bool
	deltas  int64
	after   int64 // pieces of text since the last usage
	kept    int
	dropped int64
	order   map[int64]int // choice index to its text
	texts   [][]byte
	scratch []byte // the text of the choice that is being read, whose index may come behind it
}

// Add reads one event or body. Its bytes are not kept.
func (m *Meter) Add(data []byte) Chunk {
	data = bytes.TrimSpace(data)
	if string(data) == "[DONE]" {
		m.done = true
		return Chunk{Done: true}
	}
	var c Chunk
	if len(data) == 0 || data[0] != '{' {
		c.Malformed = true
		return c
	}
	l := &lexer{b: data}
	var top top
	for ok := l.enter('{', '}'); ok; ok = l.more('}') {
		m.field(l, &c, &top)
	}
	l.space()
	c.Malformed = l.bad || l.i != len(data)
	m.deltas += int64(c.Deltas)
	m.after += int64(c.Deltas)
	m.failed = m.failed || c.Failed
	if c.Malformed {
		return c
	}
	if !top.usage.seen {
		top.usage = top.groq
	}
	if c.Usage = top.usage.seen; c.Usage {
		m.last = top.usage // cumulative where it comes more than once: the last one counts
		m.after = 0
	}
	m.model = name(m.model, top.model)
	m.tier = name(m.tier, top.tier)
	return c
}

// top is what the top level of an event says, believed only when all of it is well-formed.
type top struct {
	usage, groq report
	model, tier []byte
}

func (m *Meter) field(l *lexer, c *Chunk, t *top) {
	switch string(l.key()) {
	case "choices":
		m.choices(l, c)
	case "usage":
		t.usage = l.report()
	case "x_groq":
		t.groq = l.groq()
	case "model":
		t.model = l.string()
	case "service_tier":
		t.tier = l.string()
	case "error":
		c.Failed = string(l.skip()) != "null"
	default:
		l.skip()
	}
}

// string reads a string, or nil for anything else.
func (l *lexer) string() []byte {
	if l.space() != '"' {
		l.skip()
		return nil
	}
	return l.str()
}

// groq reads {"usage":…}, where Groq puts it.
func (l *lexer) groq() report {
	var r report
	if l.space() != '{' {
		l.skip()
		return r
	}
	for ok := l.enter('{', '}'); ok; ok = l.more('}') {
		if string(l.key()) == "usage" {
			r = l.report()
			continue
		}
		l.skip()
	}
	return r
}

// name keeps the old name unless the new one is given and believable; equal ones, as in every chunk of a stream, cost nothing.
func name(old string, given []byte) string {
	if len(given) == 0 || len(given) > nameMax || string(given) == old {
		return old
	}
	return string(given)
}

// Usage is the last usage of the answer, false if there was none or the last one is not believable.
func (m *Meter) Usage() (Usage, bool) {
	if !m.last.seen || m.last.invalid {
		return Usage{}, false
	}
	return m.last.usage(), true
}

// Outrun tells that text came after the last usage, which so cannot be about all of it: some translators send a
// placeholder with the first chunk.
func (m *Meter) Outrun() bool { return m.after > 0 }

// Suspect tells that the last usage was there and is not believable: numbers too large, or no whole numbers.
func (m *Meter) Suspect() bool { return m.last.invalid }

// Model is the model that says it answered, empty if none did.
func (m *Meter) Model() string { return m.model }

// ServiceTier is the tier that was billed, empty if the answer does not say.
func (m *Meter) ServiceTier() string { return m.tier }

// Done tells that [DONE] has come.
func (m *Meter) Done() bool { return m.done }

// Failed tells that an event carried an error.
func (m *Meter) Failed() bool { return m.failed }

// Deltas is the number of pieces of text that came; each is a token at least.
func (m *Meter) Deltas() int64 { return m.deltas }

// Texts is the text of the answer, for counting when no usage came: one string for each choice, its content, refusal,
// reasoning and tool calls in the order they came.
func (m *Meter) Texts() []string {
	texts := make([]string, len(m.texts))
	for i, text := range m.texts {
		texts[i] = string(text)
	}
	return texts
}

// Overflow is the number of bytes of text beyond the 16 MiB that Texts holds; each is a token at most.
func (m *Meter) Overflow() int64 { return m.dropped }
