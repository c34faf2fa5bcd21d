package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/proxy/provider"
	"github.com/budgetguard/budgetguard/proxy/sse"
)

const (
	// maxAnswer bounds an answer that is read whole before it is passed on. The largest output of any model
	// is a tenth of it.
	maxAnswer = 64 << 20
	// maxBlanks bounds the blanks in front of an answer that are passed on by themselves, which some
	// providers send to keep the connection alive: one each second for more than a day.
	maxBlanks = 100_000
)

// answer passes the provider's answer back and meters it.
func (x *exchange) answer(c *call, answer *http.Response) {
	if answer.StatusCode < http.StatusOK || answer.StatusCode > 999 {
		// No answer that can be passed on: 101 would turn the connection into one that is not asked for.
		x.brokenOff(c, answer.StatusCode, fmt.Errorf("the provider's status is %d", answer.StatusCode))
		return
	}
	x.copyHeaders(answer.Header)
	x.tellKeys(answer.StatusCode)
	body := receive(answer)
	kind := answer.Header.Get("Content-Type")
	streamable := answer.StatusCode == http.StatusOK

	// Where the labels agree with what was asked, the answer begins before its first byte: a model may
	// think for minutes, and a client may not wait that long for headers.
	var client *listener
	if streamable && x.asked.Stream && body.coding == "" && labelled(kind) {
		client = x.listen(body)
	}
	body.open(x.w.Header())
	blanks, err := x.passBlanks(answer.StatusCode, body)
	if streamable && body.metered && (err == nil || client != nil) && body.streams(kind) {
		if client == nil {
			client = x.listen(body)
		}
		client.write(blanks)
		x.stream(c, answer, body, client)
		return
	}
	body.source.to = nil // no comments within what is no stream
	x.whole(c, answer.StatusCode, body, blanks, err)
}

// whole passes on an answer that is no stream, behind the blanks and the error that its beginning
// gave.
func (x *exchange) whole(c *call, status int, body *incoming, blanks []byte, err error) {
	var rest []byte
	if err == nil {
		rest, err = io.ReadAll(io.LimitReader(body, maxAnswer+1))
	}
	if err == nil && len(rest) > maxAnswer {
		err = errors.New("the answer is larger than 64 MiB")
	}
	if err != nil && x.priced.provider.Ended(status, nil) == provider.Unproven {
		x.brokenOff(c, status, err)
		return
	}
	x.conclude(status, rest, body.metered)
	x.passOn(status, append(blanks, rest...))
}

// passOn answers the client. What the call cost is booked by now; a client that does not read must not
// hold up a shutdown.
func (x *exchange) passOn(status int, whole []byte) {
	if !x.answering {
		x.begin(status)
	}
	// A writer without deadlines only lacks the guard.
	_ = http.NewResponseController(x.w).SetWriteDeadline(x.s.cfg.Now().Add(writeTimeout))
	if _, err := x.w.Write(whole); err != nil {
		x.s.log.DebugContext(x.r.Context(), "the client has gone", slog.String("request_id", x.id))
	}
}

// passBlanks reads the blanks in front of a plain answer. Those that come by themselves are a provider's
// way to keep the connection alive while a model thinks, and are passed on at once; the rest is returned.
// From then on the answer has begun, and no header can be set any more.
func (x *exchange) passBlanks(status int, body *incoming) ([]byte, error) {
	var blanks []byte
	for n := 0; ; n++ {
		b, err := body.ReadByte()
		if errors.Is(err, io.EOF) {
			return blanks, nil
		}
		if err != nil {
			return nil, err
		}
		if b != ' ' && b != '\n' && b != '\r' && b != '\t' || n == maxBlanks {
			return blanks, body.UnreadByte()
		}
		blanks = append(blanks, b)
		if body.Buffered() > 0 {
			continue
		}
		x.passOn(status, blanks)
		_ = http.NewResponseController(x.w).Flush() // a client that has gone is noticed later
		blanks = blanks[:0]
	}
}

// conclude settles an answer that came whole, by its status. A success that cannot be read (a compression
// we do not know) says nothing about its cost.
func (x *exchange) conclude(status int, whole []byte, metered bool) {
	reason := "upstream_status_" + strconv.Itoa(status)
	if status >= http.StatusOK && status < http.StatusMultipleChoices {
		if metered {
			x.concludeSuccess(whole)
			return
		}
		x.presume(reason)
		return
	}
	if !metered {
		whole = nil
	}
	switch x.priced.provider.Ended(status, whole) {
	case provider.NotBilled:
		x.release(reason)
	case provider.PromptBilled:
		x.settlePrompt(reason)
	case provider.Unproven:
		x.presume(reason)
	}
}

// concludeSuccess settles by what the answer says. One that has no usage and no choices either (an error
// page, an empty body, an error under status 200) says nothing about its cost; and the text of a
// model that may reason does not bound it: hidden tokens are billed, too.
func (x *exchange) concludeSuccess(whole []byte) {
	var m sse.Meter
	read := m.Add(whole)
	told := x.told(&m)
	switch {
	case !told && (read.Malformed || read.Failed || read.Choices == 0):
		x.presume("answer_without_cost")
		return
	case !told && x.priced.model.Reasoning:
		x.presume("reasoning_without_usage")
		return
	}
	x.w.Header().Set("X-BudgetGuard-Cost-Usd", x.settleMetered(&m).String())
}

// settlePrompt charges the bound of the prompt, which was read and not answered.
func (x *exchange) settlePrompt(reason string) {
	usage := domain.Usage{Prompt: x.priced.estimate.PromptTokens}
	d := x.priced.demand
	cost, err := x.priced.model.Cost(d.Tier, usage, x.started, x.s.cfg.Now())
	if err != nil {
		x.presume(reason)
		return
	}
	x.send(domain.Settle{
		Reservation: x.held.reservation, Charged: min(cost, x.priced.bound), Basis: domain.BasisCounted, Usage: usage,
		AnsweredTier: d.Tier, Reason: reason,
	})
}

// brokenOff ends an answer that was cut. Where a part of it was passed on, the connection breaks, so that
// it is not taken for the whole.
func (x *exchange) brokenOff(c *call, status int, err error) {
	x.presume(reasonOf(context.Cause(c.ctx), "answer_cut"))
	x.s.log.WarnContext(x.r.Context(), "the provider's answer was cut; the whole hold is charged",
		slog.String("request_id", x.id), slog.Int("upstream_status", status), slog.String("error", err.Error()))
	if x.answering {
		panic(http.ErrAbortHandler)
	}
	p := mayBeBilled(&problem{
		status: http.StatusBadGateway, code: "upstream_unreachable", message: "Upstream unreachable",
		detail: "the provider broke off its answer; the call may have been billed", cause: err,
	})
	if errors.Is(context.Cause(c.ctx), errUpstreamTimeout) {
		p.status, p.code, p.message = http.StatusGatewayTimeout, "upstream_timeout", "Upstream timeout"
	}
	x.w.Header().Del("Content-Encoding") // the provider's
	x.refuse(p)
}

// mayBeBilled tells clients not to send a request again by themselves whose first try is paid for.
func mayBeBilled(p *problem) *problem { return noRetry(p) }

// tellKeys tells a provider's refusal of its key from a refusal of ours, to the client and to the operator.
func (x *exchange) tellKeys(status int) {
	if status != http.StatusUnauthorized && status != http.StatusForbidden {
		return
	}
	x.w.Header().Set("X-BudgetGuard-Upstream-Refused", strconv.Itoa(status))
	if status == http.StatusForbidden || x.r.Header.Get("X-OpenAI-Key") != "" {
		return // a 403 may be about the request; and the caller's own key is the caller's to mend
	}
	x.s.Metrics.upstreamRefused()
	if x.s.keyWarning.due(x.s.cfg.Now()) {
		x.s.log.WarnContext(x.r.Context(), "the provider refuses the installation's key: check OPENAI_KEY and OPENAI_BASE_URL",
			slog.Int("upstream_status", status), slog.String("request_id", x.id), slog.String("provider", string(x.priced.provider)))
	}
}

// warningEvery is how often the same warning is worth a line.
const warningEvery = time.Minute

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
