package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/proxy/provider"
	"github.com/budgetguard/budgetguard/proxy/sse"
)

// writeTimeout is how long one event may take to reach a client that does not read.
const writeTimeout = 60 * time.Second

// listen begins the answer as a stream. From here on, reading the body lets the client have what
// came.
func (x *exchange) listen(body *incoming) *listener {
	if !x.answering { // blanks that came by themselves have begun it already
		h := x.w.Header()
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no")
		x.begin(http.StatusOK)
	}
	body.source.to = &listener{
		w: x.w, control: http.NewResponseController(x.w), now: x.s.cfg.Now, ctx: x.r.Context(), unsent: true,
		keepAlive: x.s.cfg.KeepAlive,
	}
	return body.source.to
}

// stream passes a stream on event by event and meters it. When the client has gone it reads on:
// what the provider says at the end is what it bills.
func (x *exchange) stream(c *call, answer *http.Response, body io.Reader, client *listener) {
	var meter sse.Meter
	reader := sse.NewReader(body)
	usageLast, injected, lost := false, x.injects(), false
	var rest []byte // what stands at the end without its blank line
	for {
		event, err := reader.Next()
		if errors.Is(err, sse.ErrTooLong) {
			// Too large to look into, but what comes behind it may say what was billed.
			client.write(rest)
			reader = sse.NewReader(skipEvent(body, client, rest))
			rest, lost = nil, true
			continue
		}
		if err != nil {
			x.streamEnded(c, &meter, client, rest, endOf(err, answer, &meter, usageLast), lost)
			return
		}
		var chunk sse.Chunk
		if len(event.Data) > 0 {
			chunk = meter.Add(event.Data)
			if !chunk.Done {
				usageLast = chunk.UsageOnly()
			}
		}
		if lost && chunk.Usage {
			lost = !covers(event.Data)
		}
		if chunk.UsageOnly() && injected {
			continue // it is there because we asked
		}
		if !event.Complete {
			rest = event.Raw // to be told from a broken piece by what follows
			continue
		}
		raw := event.Raw
		if injected {
			raw = sse.StripNullUsage(raw)
		}
		client.write(raw)
	}
}

// covers reports whether an event's usage can be about all that came before it, seen or not.
func covers(data []byte) bool {
	var alone sse.Meter
	alone.Add(data)
	return generated(&alone)
}

// skipEvent passes on the rest of an event up to its blank line, and gives what follows.
func skipEvent(from io.Reader, to *listener, begun []byte) io.Reader {
	keepAlive := to.keepAlive
	to.keepAlive = 0 // a comment within an event would be part of it
	defer func() { to.keepAlive = keepAlive }()

	buffer := make([]byte, peekSize)
	line := !bytes.HasSuffix(bytes.TrimRight(begun, "\r"), []byte("\n")) // it has begun with something
	for {
		n, err := from.Read(buffer)
		for i, b := range buffer[:n] {
			if b == '\r' {
				continue
			}
			if b == '\n' && !line {
				to.write(buffer[:i+1])
				return io.MultiReader(bytes.NewReader(bytes.Clone(buffer[i+1:n])), from)
			}
			line = b != '\n'
		}
		to.write(buffer[:n])
		if err != nil {
			return from // which fails again
		}
	}
}

// ending is how a stream ended.
type ending int

const (
	clean ending = iota // whole, as far as the transport can tell
	cut                 // broken off: what was billed is not known
)

// endOf judges the end of a stream. Usage in a chunk of its own is the last thing a provider says, so a
// stream that breaks after it, or after [DONE], is whole; unless nothing is generated yet: some providers
// begin with the prompt's. Without a length or chunks a regular end of the connection looks like a broken one.
func endOf(err error, answer *http.Response, meter *sse.Meter, usageLast bool) ending {
	if meter.Done() || usageLast && generated(meter) {
		return clean
	}
	delimited := answer.ContentLength >= 0 || len(answer.TransferEncoding) > 0 || answer.ProtoMajor >= 2
	if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && delimited {
		return clean
	}
	return cut
}

// generated reports whether a usage says that something was generated.
func generated(meter *sse.Meter) bool {
	return slices.ContainsFunc(meter.Reports(), func(r provider.Report) bool {
		return slices.ContainsFunc(r.Readings(), func(u domain.Usage) bool { return u.Completion > 0 })
	})
}

// streamEnded settles a stream and, if it was cut while the client still listens, says so to the client:
// in place of the rest, which would spoil the event that says it. Lost reports that an event was too large
// to look into and that no usage came behind it.
func (x *exchange) streamEnded(c *call, meter *sse.Meter, client *listener, rest []byte, end ending, lost bool) {
	if end == clean {
		if len(rest) > 0 {
			client.write(rest)
		}
		x.concludeStream(meter, lost)
		return
	}

	reason := reasonOf(context.Cause(c.ctx), "stream_cut")
	x.presume(reason)
	x.s.log.WarnContext(x.r.Context(), "stream cut; the whole hold is charged", slog.String("request_id", x.id), slog.String("reason", reason))
	message, code := "the provider broke off the stream", "upstream_unreachable"
	switch {
	case errors.Is(context.Cause(c.ctx), errShutdown):
		message, code = "the gateway is shutting down", "shutting_down"
	case errors.Is(context.Cause(c.ctx), errUpstreamTimeout):
		message, code = "the provider did not finish in time", "upstream_timeout"
	}
	client.write(fmt.Appendf(nil, `data: {"error":{"message":%q,"type":"server_error","param":null,"code":%q}}`+"\n\n", message, code))
	client.flush()

	// A client that does not know the event must not take half an answer for a whole one: a response that
	// ends in order would look like one.
	panic(http.ErrAbortHandler)
}

// concludeStream settles a stream that came to its end. Without a usage, text bounds what a model can have
// generated only if it does not reason: hidden tokens are billed, too.
func (x *exchange) concludeStream(meter *sse.Meter, lost bool) {
	switch {
	case lost: // also where an earlier usage is there: it is not about what the event brought
		x.presume("event_too_large")
	case x.told(meter):
		x.settleMetered(meter)
	case !meter.Failed() && !meter.Done() && meter.Deltas() == 0: // not a word of an answer
		x.presume("answer_without_cost")
	case x.priced.model.Reasoning && meter.Failed():
		x.presume("upstream_error_in_stream")
	case x.priced.model.Reasoning:
		x.presume("reasoning_without_usage")
	default:
		x.settleMetered(meter)
	}
}

// listener writes to a client until it has gone. Between events it can be written to by a timer, which
// keeps the connection alive.
type listener struct {
	w         http.ResponseWriter
	control   *http.ResponseController
	now       func() time.Time
	ctx       context.Context //nolint:containedctx // the client's, to notice that it has gone
	keepAlive time.Duration

	mu     sync.Mutex
	gone   bool
	unsent bool // something waits in the writer's buffer
	idle   bool // nothing is written until the provider says more
	timer  *time.Timer
}

func (l *listener) write(b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.put(b)
}

func (l *listener) put(b []byte) {
	if l.gone || l.ctx.Err() != nil {
		l.gone = true
		return
	}
	if len(b) == 0 {
		return
	}
	l.bound()
	l.unsent = true
	if _, err := l.w.Write(b); err != nil {
		l.gone = true
	}
}

func (l *listener) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.send()
}

func (l *listener) send() {
	if !l.unsent || l.gone {
		return
	}
	l.bound()
	l.unsent = false
	if err := l.control.Flush(); err != nil {
		l.gone = true
	}
}

// bound gives the client its time; a writer without deadlines only lacks the guard.
func (l *listener) bound() {
	_ = l.control.SetWriteDeadline(l.now().Add(writeTimeout))
}

// wait keeps the connection alive until it is told that the provider has said more. A comment has one line
// end, because some clients take an empty line behind it for an event.
func (l *listener) wait() (over func()) {
	if l.keepAlive <= 0 {
		return func() {}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle = true
	l.timer = time.AfterFunc(l.keepAlive, l.ping)
	return l.heard
}

func (l *listener) ping() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.idle {
		l.put([]byte(": ping\n"))
		l.send()
		l.timer.Reset(l.keepAlive)
	}
}

// heard ends a wait.
func (l *listener) heard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle = false
	l.timer.Stop()
}

// relay reads from the provider and, before it waits for more, lets the client have what came: events that
// arrive together leave together, and none waits for the next. With no listener it only reads.
type relay struct {
	from io.Reader
	to   *listener
}

func (r *relay) Read(p []byte) (int, error) {
	if r.to == nil {
		return r.from.Read(p)
	}
	r.to.flush()
	defer r.to.wait()()
	return r.from.Read(p)
}
