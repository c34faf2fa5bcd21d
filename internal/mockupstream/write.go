package mockupstream

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"time"
)

// flushBytes is how much of an unpaced stream is sent at once: about 60 chunks, so that a benchmark measures the
// gateway and not this side's system calls.
const flushBytes = 16 << 10

// meta writes the members every response object begins with.
func (a *answer) meta(b *bytes.Buffer, object string) {
	b.WriteString(`{"id":"`)
	b.WriteString(a.id)
	b.WriteString(`","object":"`)
	b.WriteString(object)
	b.WriteString(`","created":`)
	b.Write(strconv.AppendInt(b.AvailableBuffer(), a.created, 10))
	b.WriteString(`,"model":"`)
	b.WriteString(a.model)
	b.WriteByte('"')
	if a.tier != "" {
		b.WriteString(`,"service_tier":"`)
		b.WriteString(a.tier)
		b.WriteByte('"')
	}
	b.WriteString(`,"system_fingerprint":"fp_mock","choices":[`)
}

// body writes the answer to a request that is no stream.
func (a *answer) body() []byte {
	var b bytes.Buffer
	object := "text_completion"
	if a.chat {
		object = "chat.completion"
	}
	a.meta(&b, object)
	for i, r := range a.replies {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"index":` + strconv.Itoa(i))
		switch {
		case a.tool != nil:
			b.WriteString(`,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"` + a.callID(i) +
				`","type":"function","function":{"name":"` + a.tool.name + `","arguments":"` + r.whole() +
				`"}}],"refusal":null,"annotations":[]}`)
		case a.chat:
			b.WriteString(`,"message":{"role":"assistant","content":"` + r.whole() + `","refusal":null,"annotations":[]}`)
		default:
			b.WriteString(`,"text":"` + r.whole() + `"`)
		}
		b.WriteString(`,"logprobs":null,"finish_reason":"` + a.finish + `"}`)
	}
	b.WriteByte(']')
	if a.usage != nil {
		b.WriteString(`,"usage":`)
		b.Write(a.usage)
	}
	b.WriteString("}\n")
	return b.Bytes()
}

// callID names the tool call of one choice.
func (a *answer) callID(choice int) string {
	return "call_" + a.id + "_" + strconv.Itoa(choice)
}

// send writes an answer that is no stream, after the time its pieces take.
func (a *answer) send(ctx context.Context, w http.ResponseWriter, m *mode) {
	longest := 0
	for _, r := range a.replies {
		longest = max(longest, r.n)
	}
	if !pause(ctx, m.interval()*time.Duration(longest)) {
		panic(http.ErrAbortHandler) // nobody shall take an empty body for an answer
	}
	body := a.body()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if m.CutAfterChunks > 0 && a.pieces() >= m.CutAfterChunks {
		_, _ = w.Write(body[:len(body)/2])
		cut(w)
	}
	_, _ = w.Write(body) // a failed write means that the client is gone
}

// cut ends the connection without a clean end. It does not return.
func cut(w http.ResponseWriter) {
	_ = http.NewResponseController(w).Flush() // what was written shall arrive
	panic(http.ErrAbortHandler)
}

// stream writes an answer as server-sent events.
type stream struct {
	*answer
	w    http.ResponseWriter
	buf  bytes.Buffer
	head []byte // of each chunk, up to its choices
	tail string
	sent int // content pieces
	mode *mode
	gone bool // a write failed
}

func (a *answer) stream(ctx context.Context, w http.ResponseWriter, m *mode) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	s := &stream{answer: a, w: w, mode: m, tail: "]}\n\n"}
	if a.usageChunk {
		s.tail = "],\"usage\":null}\n\n"
	}
	var head bytes.Buffer
	head.WriteString("data: ")
	if a.chat {
		a.meta(&head, "chat.completion.chunk")
	} else {
		a.meta(&head, "text_completion")
	}
	s.head = head.Bytes()
	if !s.open() || !s.content(ctx) {
		panic(http.ErrAbortHandler) // the client is gone, and a clean end would be a lie
	}
	s.close()
}

// chunk writes one event with one choice. rest follows the choice's index.
func (s *stream) chunk(choice int, rest ...string) {
	s.buf.Write(s.head)
	s.buf.WriteString(`{"index":`)
	s.buf.Write(strconv.AppendInt(s.buf.AvailableBuffer(), int64(choice), 10))
	for _, part := range rest {
		s.buf.WriteString(part)
	}
	s.buf.WriteString(s.tail)
}

// push sends what is written so far. It is false when the client has gone.
func (s *stream) push() bool {
	if !s.gone {
		_, err := s.w.Write(s.buf.Bytes())
		s.gone = err != nil || http.NewResponseController(s.w).Flush() != nil
	}
	s.buf.Reset()
	return !s.gone
}

// open sends the first chunk of each choice, which carries the role and, of a tool call, the name.
func (s *stream) open() bool {
	if !s.chat {
		return true
	}
	for i := range s.replies {
		if s.tool == nil {
			s.chunk(i, `,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}`)
			continue
		}
		s.chunk(i, `,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"`, s.callID(i),
			`","type":"function","function":{"name":"`, s.tool.name,
			`","arguments":""}}],"refusal":null},"logprobs":null,"finish_reason":null}`)
	}
	return s.push()
}

// content sends the pieces of all choices in turn, one piece a chunk and one round a tick.
func (s *stream) content(ctx context.Context) bool {
	longest := 0
	for _, r := range s.replies {
		longest = max(longest, r.n)
	}
	var tick <-chan time.Time
	if interval := s.mode.interval(); interval > 0 {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		tick = ticker.C
	}
	for round := range longest {
		if tick != nil {
			select {
			case <-tick:
			case <-ctx.Done():
				return false
			}
		}
		for i, r := range s.replies {
			if round < r.n {
				s.piece(i, r.piece(round))
			}
		}
		if (tick != nil || s.buf.Len() >= flushBytes) && !s.push() {
			return false
		}
	}
	return true
}

func (s *stream) piece(choice int, piece string) {
	const rest = `,"logprobs":null,"finish_reason":null}`
	switch {
	case s.tool != nil:
		s.chunk(choice, `,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"`, piece, `"}}]}`, rest)
	case s.chat:
		s.chunk(choice, `,"delta":{"content":"`, piece, `"}`, rest)
	default:
		s.chunk(choice, `,"text":"`, piece, `"`, rest)
	}
	if s.sent++; s.sent == s.mode.CutAfterChunks {
		s.push()
		cut(s.w)
	}
}

// close sends the reasons why each choice ended, the usage where it was asked for, and the end mark.
func (s *stream) close() {
	for i := range s.replies {
		empty := `,"text":""`
		if s.chat {
			empty = `,"delta":{}`
		}
		s.chunk(i, empty, `,"logprobs":null,"finish_reason":"`, s.finish, `"}`)
	}
	if s.usageChunk {
		s.buf.Write(s.head)
		s.buf.WriteString(`],"usage":`)
		s.buf.Write(s.usage)
		s.buf.WriteString("}\n\n")
	}
	s.buf.WriteString("data: [DONE]\n\n")
	s.push()
}
