package sse

import (
	"bytes"
	"slices"

	"github.com/budgetguard/budgetguard/proxy/provider"
)

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
	reports  []provider.Report
	suspect  bool
	unknowns []string
	model    string
	tier     string
	done     bool
	failed   bool
	deltas   int64
	after    int64 // pieces of text since the last usage
	kept     int
	dropped  int64
	order    map[int64]int // choice index to its text
	texts    [][]byte
	plain    bool   // thought is text, not parts
	scratch  []byte // the text of the choice that is being read, whose index may come behind it
	thought  []byte // the thinking of the delta that is being read
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
	for _, r := range [...]provider.Report{top.usage, top.groq, top.choice} {
		if r.Seen() {
			c.Usage = true
			m.keepReport(r)
		}
	}
	m.model = name(m.model, top.model)
	m.tier = name(m.tier, top.tier)
	return c
}

// top is what the top level of an event says, believed only when all of it is well-formed.
type top struct {
	usage, groq, choice provider.Report
	model, tier         []byte
}

func (m *Meter) field(l *lexer, c *Chunk, t *top) {
	switch string(l.key()) {
	case "choices":
		m.choices(l, c, &t.choice)
	case "usage":
		t.usage = m.report(l)
	case "x_groq":
		t.groq = m.groq(l)
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
func (m *Meter) groq(l *lexer) provider.Report {
	var r provider.Report
	if l.space() != '{' {
		l.skip()
		return r
	}
	for ok := l.enter('{', '}'); ok; ok = l.more('}') {
		if string(l.key()) == "usage" {
			r = m.report(l)
			continue
		}
		l.skip()
	}
	return r
}

// reportsMax bounds the reports that are kept apart.
const reportsMax = 4

// keepReport adds a report to those that say something of their own. Providers that report more than once
// report sums, so a report replaces one that is smaller or equal in every figure. Weaker evidence does
// not replace stronger: zeros at the end, or a part of the figures, stand beside what was said before.
func (m *Meter) keepReport(r provider.Report) {
	if r.Invalid {
		m.suspect = true
		return
	}
	for _, known := range m.reports {
		if known.Covers(r) {
			return
		}
	}
	m.after = 0
	m.reports = slices.DeleteFunc(m.reports, r.Covers)
	if len(m.reports) == reportsMax {
		r = r.Most(m.reports[reportsMax-1])
		m.reports = m.reports[:reportsMax-1]
	}
	m.reports = append(m.reports, r)
}

// name keeps the old name unless the new one is given and believable; equal ones, as in every chunk of a stream, cost nothing.
func name(old string, given []byte) string {
	if len(given) == 0 || len(given) > nameMax || string(given) == old {
		return old
	}
	return string(given)
}

// Reports are the believable usage objects of the answer, those of them that no later one covers.
func (m *Meter) Reports() []provider.Report { return m.reports }

// UnknownFigures are the names of figures in tokens that no table knows, at most sixteen.
func (m *Meter) UnknownFigures() []string { return m.unknowns }

// Later is the number of pieces of text that came after the last usage that said something new, which so
// cannot be about all of the answer: some translators send a placeholder with the first chunk.
func (m *Meter) Later() int64 { return m.after }

// Suspect reports whether a usage was there that is not believable: numbers too large, or no whole
// numbers.
func (m *Meter) Suspect() bool { return m.suspect }

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
