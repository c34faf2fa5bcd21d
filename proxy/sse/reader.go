package sse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

const (
	// EventMax bounds one event in bytes: events with images are megabytes, and OpenAI's own Go client stops at 32 MiB.
	EventMax = 32 << 20
	// bufferMin holds some ten chat chunks; the buffer grows to the largest event.
	bufferMin = 4 << 10
	// bufferKept is the largest buffer that [Reader.Reset] keeps, so that one huge event does not cost memory for ever.
	bufferKept = 256 << 10
	// readsEmpty is how many reads in a row may give nothing and no error; io.Reader discourages even one.
	readsEmpty = 100
)

// ErrTooLong is returned for an event of more than [EventMax] bytes.
var ErrTooLong = errors.New("event stream: event too long")

// Event is one event of the stream, or a piece between events that goes with none: a comment line in front of an event
// is given out by itself, at once, because it is there to keep the connection alive.
type Event struct {
	// Raw is what was read, terminator included. The Raws of a stream, concatenated, are the stream.
	Raw []byte
	// Data is the payload: the data lines joined with LF, nil if there is none. It is text in UTF-8 only if the provider says so.
	Data []byte
	// Name is the value of the event line, nil if there is none.
	Name []byte
	// Complete is false for what stands at the end of the stream without its blank line. A client may ignore such an
	// event, and its Data may be cut off anywhere.
	Complete bool
}

// Reader cuts a byte stream into events. It is not safe for concurrent use. Reuse it with [Reader.Reset]: that saves the buffer.
type Reader struct {
	src        io.Reader
	buf        []byte
	start, end int // of what is read and not given out
	err        error
	// The last line end was a bare CR; and it ended an event without a look at the byte behind it, which may be the LF of CRLF.
	bareCR, skipLF bool
	started        bool   // the first event has been given out: only in front of it a byte order mark is ignored
	joined         []byte // the Data of events with several data lines
}

// NewReader reads events from src.
func NewReader(src io.Reader) *Reader {
	return &Reader{src: src, buf: make([]byte, bufferMin)}
}

// Reset makes the Reader read from src, as if new.
func (r *Reader) Reset(src io.Reader) {
	buf, joined := r.buf, r.joined[:0]
	if len(buf) > bufferKept {
		buf = make([]byte, bufferMin)
	}
	if cap(joined) > bufferKept {
		joined = nil
	}
	*r = Reader{src: src, buf: buf, joined: joined}
}

// Next gives the next event, valid until the following call. It reads no more than it needs to: an event is returned
// without waiting for the one after it.
//
// At the end of the source, or when it fails, what is left is returned as an incomplete event and the next call
// returns the error: io.EOF at a regular end. An event above [EventMax] is returned as far as it was read, incomplete, and the
// next call returns [ErrTooLong]; the rest of the source is untouched, and may be copied. Errors stay.
func (r *Reader) Next() (Event, error) {
	n, err := r.scan()
	complete := err == nil
	if !complete {
		if n = r.end - r.start; n == 0 {
			return Event{}, r.err
		}
	}
	raw := r.buf[r.start : r.start+n : r.start+n]
	r.start += n
	ev := r.parse(raw)
	ev.Complete = complete
	return ev, nil
}

// scan finds the length of the next event, reading on as needed. The rules depend on the bytes alone, never on how they were cut
// into reads.
func (r *Reader) scan() (int, error) {
	i := 0
	if r.skipLF {
		c, err := r.at(0)
		if err != nil {
			return 0, err
		}
		if r.skipLF = false; c == '\n' {
			i = 1
		}
	}
	for first := true; ; first = false {
		line := i
		var c byte
		var err error
		for c, err = r.at(i); err == nil && c != '\n' && c != '\r'; c, err = r.at(i) {
			i += r.plain(i)
		}
		if err != nil {
			return 0, err
		}
		blank := i == line
		i++
		if c == '\r' && blank && r.bareCR {
			// In a stream of bare CRs, waiting for the byte behind the blank line would hold the event back.
			r.skipLF = true
			return i, nil
		}
		lf := c == '\n'
		if !lf {
			// A CR is most likely half of a CRLF, whose other half has arrived or is about to.
			c, err = r.at(i)
			if lf = err == nil && c == '\n'; lf {
				i++
			}
		}
		r.bareCR = !lf
		if blank || first && r.buf[r.start+line] == ':' {
			return i, nil
		}
	}
}

// plain counts the bytes from i on, all of them read, that end no line.
func (r *Reader) plain(i int) int {
	rest := r.buf[r.start+i : r.end]
	for n, c := range rest {
		if c == '\n' || c == '\r' {
			return n
		}
	}
	return len(rest)
}

// at gives byte i of the event, reading until it is there.
func (r *Reader) at(i int) (byte, error) {
	for empty := 0; r.start+i >= r.end; empty++ {
		if r.err != nil {
			return 0, r.err
		}
		if i >= EventMax {
			r.err = fmt.Errorf("%w: more than %d bytes", ErrTooLong, EventMax)
			return 0, r.err
		}
		if empty == readsEmpty {
			r.err = io.ErrNoProgress
			return 0, r.err
		}
		r.room()
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		if err != nil {
			r.err = err
		}
		if n > 0 {
			empty = 0
		}
	}
	return r.buf[r.start+i], nil
}

// room makes space behind end for at least one byte.
func (r *Reader) room() {
	if r.start == r.end {
		r.start, r.end = 0, 0
	}
	if r.end < len(r.buf) {
		return
	}
	to := r.buf
	if r.start < len(r.buf)/2 {
		to = make([]byte, min(2*len(r.buf), EventMax+bufferMin))
	}
	r.end = copy(to, r.buf[r.start:r.end])
	r.start = 0
	r.buf = to
}

// parse reads the fields of an event's lines.
func (r *Reader) parse(raw []byte) Event {
	ev := Event{Raw: raw}
	if !r.started {
		raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
		r.started = true
	}
	joining := false
	for len(raw) > 0 {
		line := raw
		if i := bytes.IndexAny(raw, "\r\n"); i >= 0 {
			line, raw = raw[:i], raw[i+1:]
		} else {
			raw = nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch {
		case string(name) == "event":
			ev.Name = value
		case string(name) != "data":
		case ev.Data == nil:
			ev.Data = value[:len(value):len(value)]
			if value == nil {
				ev.Data = []byte{}
			}
		default:
			if !joining {
				joining = true
				r.joined = append(r.joined[:0], ev.Data...)
			}
			r.joined = append(append(r.joined, '\n'), value...)
			ev.Data = r.joined
		}
	}
	return ev
}
