package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/proxy/request"
)

// call is a request to the provider that may outlive its client.
type call struct {
	ctx    context.Context //nolint:containedctx // the life of the call, not of the handler
	cancel context.CancelCauseFunc
	// sent says that the request, or a part of it, may have reached the provider.
	sent atomic.Bool
}

var (
	errUpstreamTimeout = errors.New("the provider did not finish in time")
	errDrained         = errors.New("the client has gone and the provider did not finish in time")
	errShutdown        = errors.New("the gateway is shutting down")
)

// forward sends the request to the provider and answers the client. It starts with an open reservation
// and ends with exactly one of settle, presume and release.
func (x *exchange) forward() {
	if err := x.r.Context().Err(); err != nil {
		x.release("client_gone_before_dispatch")
		return
	}
	defer x.keepHeld()()
	c := x.s.newCall(x.r.Context(), x.held.reservation)
	defer c.cancel(nil)
	began := x.s.cfg.Now()
	answer, err := x.s.client.Do(x.outgoing(c))
	x.s.Metrics.upstream(x.s.cfg.Now().Sub(began))
	if err != nil {
		x.unanswered(c, err)
		return
	}
	defer func() { _ = answer.Body.Close() }() // what was needed of it was read
	x.answer(c, answer)
}

// newCall detaches a call from its client: the provider bills what it generates whether or not anybody
// listens, so the usage at the end is read all the same, for as long as the drain bound allows.
func (s *Server) newCall(client context.Context, reservation domain.ReservationID) *call {
	c := &call{}
	bounded, done := context.WithTimeoutCause(context.WithoutCancel(client), s.cfg.UpstreamTimeout, errUpstreamTimeout)
	ctx, cancel := context.WithCancelCause(bounded)
	c.ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:      func(httptrace.GotConnInfo) { s.Recorder.Dispatched(reservation) }, // before anything is written to it
		WroteHeaders: func() { c.sent.Store(true) },
	})
	gone := context.AfterFunc(client, func() {
		timer := time.AfterFunc(s.cfg.DrainTimeout, func() { cancel(errDrained) })
		context.AfterFunc(ctx, func() { timer.Stop() })
	})
	cut := context.AfterFunc(s.cut, func() { cancel(errShutdown) }) //nolint:contextcheck // the server's life, besides the client's
	c.cancel = func(cause error) {
		gone()
		cut()
		cancel(cause)
		done()
	}
	return c
}

// outgoing is the request as the provider gets it: the client's bytes, our key, and no header that could
// move the bill, the connection or the answer's form.
func (x *exchange) outgoing(c *call) *http.Request {
	body := request.Edit(x.body, x.asked, x.edits())
	base := *x.s.cfg.Upstream
	if base.Path == "" {
		base.Path = "/" // a request line begins with a slash
	}
	target := base.JoinPath(strings.TrimPrefix(string(x.route), "/v1"))
	r := (&http.Request{
		Method: http.MethodPost, URL: target, Host: target.Host, Header: http.Header{},
		Body: nopCloser{bytes.NewReader(body)}, ContentLength: int64(len(body)),
		GetBody: func() (io.ReadCloser, error) { return nopCloser{bytes.NewReader(body)}, nil },
		Proto:   "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(c.ctx)
	for _, name := range []string{"Accept", "User-Agent", "Openai-Beta"} {
		if v := x.r.Header.Get(name); v != "" {
			r.Header.Set(name, v)
		}
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept-Encoding", "identity")
	r.Header.Set("Authorization", "Bearer "+x.held.key)
	r.Header.Set("X-Request-Id", x.id)
	return r
}

// injects reports whether the stream is asked for a usage that the client did not ask for.
func (x *exchange) injects() bool {
	return x.asked.Stream && !x.asked.IncludeUsage && x.priced.provider.TakesStreamOptions()
}

// nopCloser is a body that net/http can send again. It does so only for a POST of which nothing was written
// yet, because the provider had closed an idle connection: the very case in which it is the same call.
type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }

// unanswered ends a call that brought no answer. Only one that was certainly not sent costs nothing.
func (x *exchange) unanswered(c *call, err error) {
	cause := context.Cause(c.ctx)
	p := &problem{
		status: http.StatusBadGateway, code: "upstream_unreachable", message: "Upstream unreachable",
		detail: "the provider could not be reached or broke off", cause: err,
	}
	if errors.Is(cause, errUpstreamTimeout) {
		p = &problem{
			status: http.StatusGatewayTimeout, code: "upstream_timeout", message: "Upstream timeout",
			detail: "the provider did not answer in time; the call may have been billed", cause: err,
		}
	}
	if c.sent.Load() {
		p = mayBeBilled(p)
		x.presume(reasonOf(cause, "upstream_broke_off"))
	} else {
		x.release("not_sent")
	}
	x.refuse(p)
}

// reasonOf names why a call was cut, for the ledger.
func reasonOf(cause error, otherwise string) string {
	switch {
	case errors.Is(cause, errUpstreamTimeout):
		return "upstream_timeout"
	case errors.Is(cause, errDrained):
		return "drain_bound"
	case errors.Is(cause, errShutdown):
		return "shutdown"
	}
	return otherwise
}
