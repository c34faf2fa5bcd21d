package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/proxy/provider"
	"github.com/budgetguard/budgetguard/proxy/sse"
)

// writeTimeout is how long one event may take to reach a client that does not read.
const writeTimeout = 60 * time.Second

// stream passes a stream on event by event and meters it. When the client has gone it reads on: what the
// provider says at the end is what it bills.
func (x *exchange) stream(c *call, answer *http.Response, body io.Reader) {
	h := x.w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no")
	x.begin(http.StatusOK)
	client := &listener{w: x.w, control: http.NewResponseController(x.w), now: x.s.cfg.Now, ctx: x.r.Context(), unsent: true}
	var meter sse.Meter
	reader := sse.NewReader(&relay{from: body, to: client})
	usageLast := false
	var rest []byte // what stands at the end without its blank line
	for {
		event, err := reader.Next()
		if err != nil {
			x.streamEnded(c, &meter, client, rest, endOf(err, answer, &meter, usageLast))
			return
		}
		var chunk sse.Chunk
		if len(event.Data) > 0 {
			chunk = meter.Add(event.Data)
			if !chunk.Done {
				usageLast = chunk.UsageOnly()
			}
		}
		if chunk.UsageOnly() && !x.asked.IncludeUsage {
			continue // it is there because we asked
		}
		if !event.Complete {
			rest = event.Raw // to be told from a broken piece by what follows
			continue
		}
		client.write(event.Raw)
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
	generated := slices.ContainsFunc(meter.Reports(), func(r provider.Report) bool {
		return slices.ContainsFunc(r.Readings(), func(u domain.Usage) bool { return u.Completion > 0 })
	})
	if meter.Done() || usageLast && generated {
		return clean
	}
	delimited := answer.ContentLength >= 0 || len(answer.TransferEncoding) > 0 || answer.ProtoMajor >= 2
	if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && delimited {
		return clean
	}
	return cut
}

// streamEnded settles a stream and, if it was cut while the client still listens, says so to the client:
// in place of the rest, which would spoil the event that says it.
func (x *exchange) streamEnded(c *call, meter *sse.Meter, client *listener, rest []byte, end ending) {
	told := x.told(meter)
	if end == clean && len(rest) > 0 {
		client.write(rest)
	}
	switch {
	case end == clean && !told && meter.Failed():
		x.presume("upstream_error_in_stream")
		return
	case end == clean && !told && !meter.Done() && meter.Deltas() == 0: // not a word of an answer
		x.presume("answer_without_cost")
		return
	case end == clean:
		x.settleMetered(meter)
		return
	}
	reason := reasonOf(context.Cause(c.ctx), "stream_cut")
	x.presume(reason)
	x.s.log.WarnContext(x.r.Context(), "stream cut", slog.String("request_id", x.id), slog.String("reason", reason))
	message, code := "the provider broke off the stream", "upstream_unreachable"
	switch {
	case errors.Is(context.Cause(c.ctx), errShutdown):
		message, code = "the gateway is shutting down", "shutting_down"
	case errors.Is(context.Cause(c.ctx), errUpstreamTimeout):
		message, code = "the provider did not finish in time", "upstream_timeout"
	}
	client.write(fmt.Appendf(nil, `data: {"error":{"message":%q,"type":"server_error","param":null,"code":%q}}`+"\n\n", message, code))
}

// listener writes to a client until it has gone.
type listener struct {
	w       http.ResponseWriter
	control *http.ResponseController
	now     func() time.Time
	ctx     context.Context //nolint:containedctx // the client's, to notice that it has gone
	gone    bool
	unsent  bool // something waits in the writer's buffer
}

func (l *listener) write(b []byte) {
	if l.gone || l.ctx.Err() != nil {
		l.gone = true
		return
	}
	l.bound()
	l.unsent = true
	if _, err := l.w.Write(b); err != nil {
		l.gone = true
	}
}

func (l *listener) flush() {
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

// relay reads from the provider and, before it waits for more, lets the client have what came: events that
// arrive together leave together, and none waits for the next.
type relay struct {
	from io.Reader
	to   *listener
}

func (r *relay) Read(p []byte) (int, error) {
	r.to.flush()
	return r.from.Read(p)
}
