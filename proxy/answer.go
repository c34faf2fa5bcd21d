package proxy

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/budgetguard/budgetguard/proxy/sse"
)

// maxAnswer bounds an answer that is read whole before it is passed on. The largest output of any model
// is a tenth of it.
const maxAnswer = 64 << 20

// answer passes the provider's answer back and meters it.
func (x *exchange) answer(c *call, answer *http.Response) {
	x.copyHeaders(answer.Header)
	body, metered := decoded(answer, x.w.Header())
	kind, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if answer.StatusCode == http.StatusOK && err == nil && kind == "text/event-stream" && metered {
		x.stream(c, answer, body)
		return
	}
	whole, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
	if err == nil && len(whole) > maxAnswer {
		err = errors.New("the answer is larger than 64 MiB")
	}
	if err != nil {
		x.brokenOff(c, answer.StatusCode, err)
		return
	}
	x.conclude(answer.StatusCode, whole, metered)
	x.begin(answer.StatusCode)
	// What it cost is booked; a client that does not read must not hold up a shutdown. A writer without
	// deadlines only lacks the guard.
	_ = http.NewResponseController(x.w).SetWriteDeadline(x.s.cfg.Now().Add(writeTimeout))
	if _, err := x.w.Write(whole); err != nil {
		x.s.log.DebugContext(x.r.Context(), "the client has gone", slog.String("request_id", x.id))
	}
}

// conclude settles an answer that came whole, by its status. A success that cannot be read (a compression
// we do not know) says nothing about its cost.
func (x *exchange) conclude(status int, whole []byte, metered bool) {
	switch {
	case status >= http.StatusOK && status < http.StatusMultipleChoices && metered:
		x.concludeSuccess(whole)
	case notBilled(status):
		x.release("upstream_status_" + strconv.Itoa(status))
	default:
		x.presume("upstream_status_" + strconv.Itoa(status))
	}
}

// concludeSuccess settles by what the answer says. One that has no usage and no choices either (an error
// page, an empty body, an error under status 200) says nothing about its cost.
func (x *exchange) concludeSuccess(whole []byte) {
	var m sse.Meter
	read := m.Add(whole)
	if !x.told(&m) && (read.Malformed || read.Failed || read.Choices == 0) {
		x.presume("answer_without_cost")
		return
	}
	x.w.Header().Set("X-BudgetGuard-Cost-Usd", x.settleMetered(&m).String())
}

// notBilled is the table of statuses that, when the answer came whole, prove that nothing is billed: the
// provider refused, or failed by itself. A time-out (408, 504) or a gateway between (502, 52x) proves
// nothing about what runs behind it.
func notBilled(status int) bool {
	if status == http.StatusInternalServerError || status == http.StatusServiceUnavailable {
		return true
	}
	return status >= http.StatusBadRequest && status < http.StatusInternalServerError && status != http.StatusRequestTimeout
}

// brokenOff ends an answer that was cut before any of it was passed on.
func (x *exchange) brokenOff(c *call, status int, err error) {
	x.presume(reasonOf(context.Cause(c.ctx), "answer_cut"))
	p := &problem{
		status: http.StatusBadGateway, code: "upstream_unreachable", message: "Upstream unreachable",
		detail: "the provider broke off its answer; the call may have been billed", cause: err,
	}
	if errors.Is(context.Cause(c.ctx), errUpstreamTimeout) {
		p.status, p.code, p.message = http.StatusGatewayTimeout, "upstream_timeout", "Upstream timeout"
	}
	x.s.log.WarnContext(x.r.Context(), "answer cut", slog.String("request_id", x.id), slog.Int("upstream_status", status))
	x.w.Header().Del("Content-Encoding") // the provider's
	x.refuse(p)
}

// decoded is the answer's body without compression, which nobody asked for and some servers apply all
// the same. A form we cannot read is passed on as it is, unmetered.
func decoded(answer *http.Response, h http.Header) (body io.Reader, metered bool) {
	switch strings.ToLower(answer.Header.Get("Content-Encoding")) {
	case "", "identity":
		return answer.Body, true
	case "gzip":
		return &lazyGzip{source: answer.Body}, true
	}
	h.Set("Content-Encoding", answer.Header.Get("Content-Encoding"))
	return answer.Body, false
}

// lazyGzip reads the header with the first byte, so that an empty body is an end and no error up front.
type lazyGzip struct {
	source io.Reader
	reader *gzip.Reader
}

func (g *lazyGzip) Read(p []byte) (int, error) {
	if g.reader == nil {
		reader, err := gzip.NewReader(g.source)
		if err != nil {
			return 0, err
		}
		g.reader = reader
	}
	return g.reader.Read(p)
}

// copyHeaders passes back what clients use of the provider's headers and nothing else: no cookie, no
// hop-by-hop header, no length of a body we may shorten.
func (x *exchange) copyHeaders(from http.Header) {
	to := x.w.Header()
	for _, name := range []string{
		"Content-Type", "Openai-Processing-Ms", "Openai-Version", "Retry-After", "Retry-After-Ms", "X-Should-Retry",
		"X-Ratelimit-Limit-Requests", "X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Requests",
		"X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Requests", "X-Ratelimit-Reset-Tokens",
	} {
		if v := from.Get(name); v != "" {
			to.Set(name, v)
		}
	}
	if id := from.Get("X-Request-Id"); id != "" {
		to.Set("X-Upstream-Request-Id", id)
	}
}
