package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/proxy/request"
)

// problem is an answer of ours, before it is put into one of the dialects.
type problem struct {
	status  int
	code    string
	message string // the plain dialect's "error"
	detail  string
	param   string
	budget  *domain.BudgetExceededError
	// fits is what would fit the budget, nil where that is not known.
	fits *fits
	// attempt is what the request's idempotency key was used for.
	attempt *domain.Attempt
	// messages are a policy's.
	messages []string
	nearest  []string
	// retryAfter is a hint for the client; 0 for none.
	retryAfter time.Duration
	// retry is what the header x-should-retry says, nil to say nothing.
	retry *bool
	cause error
}

// Error makes a problem an error; the text is for logs.
func (p *problem) Error() string {
	if p.cause != nil {
		return p.code + ": " + p.cause.Error()
	}
	return p.code + ": " + p.detail
}

func (p *problem) Unwrap() error { return p.cause }

// level is what a refusal means to an operator: a bug of ours or a stream that does not verify, which are internal;
// something that is away and comes back, the ledger or the provider; or a client that asked for what it cannot have.
func (p *problem) level() slog.Level {
	switch {
	case p.status == http.StatusInternalServerError:
		return slog.LevelError
	case p.status > http.StatusInternalServerError:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func noRetry(p *problem) *problem {
	no := false
	p.retry = &no
	return p
}

func badRequest(code, param, detail string) *problem {
	return &problem{status: http.StatusBadRequest, code: code, message: "Invalid request", detail: detail, param: param}
}

// unauthorized is the one answer to a missing, malformed, unknown, expired or revoked key.
func unauthorized(cause error) *problem {
	return &problem{
		status: http.StatusUnauthorized, code: "invalid_api_key", message: "Invalid API key",
		detail: "send a valid tenant key in X-API-Key or in Authorization: Bearer", cause: cause,
	}
}

func unavailable(cause error) *problem {
	return &problem{
		status: http.StatusServiceUnavailable, code: "ledger_unavailable", message: "Ledger unavailable",
		detail: "the ledger cannot commit; nothing was forwarded", retryAfter: time.Second, cause: cause,
	}
}

// clientClosed is for a client that left, or closed its side, before anything was forwarded. One that only
// closed its side still reads it. 499 is nginx' status for this; it has none of HTTP's own.
func clientClosed(cause error) *problem {
	const status = 499
	return &problem{
		status: status, code: "client_closed_request", message: "Client closed request",
		detail: "the client closed its side of the connection before the request was forwarded; nothing was billed",
		cause:  cause,
	}
}

func internal(cause error) *problem {
	return &problem{status: http.StatusInternalServerError, code: "internal", message: "Internal error", detail: "an internal error; nothing else is known about it here", cause: cause}
}

// problemOf maps every error that can reach a handler to its answer. What is not known is internal.
func problemOf(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	var refused *request.Error
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &refused):
		return badRequest(string(refused.Code), refused.Param, refused.Message)
	case errors.As(err, &large):
		return &problem{
			status: http.StatusRequestEntityTooLarge, code: "request_too_large", message: "Request too large",
			detail: fmt.Sprintf("the body is larger than %d bytes", large.Limit),
		}
	case errors.Is(err, context.Canceled) && !errors.Is(err, domain.ErrUnavailable):
		return clientClosed(err)
	}
	return problemOfLedger(err)
}

// problemOfLedger maps the kinds of package domain.
func problemOfLedger(err error) *problem {
	var exceeded *domain.BudgetExceededError
	var used *domain.IdempotencyError
	switch {
	case errors.As(err, &exceeded):
		return budgetExceeded(exceeded, nil)
	case errors.As(err, &used):
		return attempted(used)
	case errors.Is(err, domain.ErrKeyUnusable), errors.Is(err, domain.ErrKeyUnknown), errors.Is(err, domain.ErrTenantUnknown):
		return unauthorized(err)
	case errors.Is(err, domain.ErrTenantSuspended):
		return &problem{
			status: http.StatusForbidden, code: "tenant_suspended", message: "Tenant suspended",
			detail: "the tenant is suspended; an operator can resume it",
		}
	case errors.Is(err, domain.ErrUnavailable):
		return unavailable(err)
	case errors.Is(err, domain.ErrInvalid):
		return badRequest("invalid_request", "", strings.TrimPrefix(err.Error(), domain.ErrInvalid.Error()+": "))
	}
	return internal(err)
}

// openAIType is the error type OpenAI's clients know a status by.
func openAIType(status int) string {
	switch status {
	case http.StatusPaymentRequired:
		return "insufficient_quota"
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	}
	if status >= http.StatusInternalServerError {
		return "server_error"
	}
	return "invalid_request_error"
}

// dialectOf chooses the form of a request's errors.
func (s *Server) dialectOf(r *http.Request) Dialect {
	if s.cfg.Errors != DialectAuto {
		return s.cfg.Errors
	}
	if r.Header.Get("Authorization") != "" {
		return DialectOpenAI
	}
	return DialectPlain
}

// writeProblem answers with a problem in the request's dialect.
func (s *Server) writeProblem(w http.ResponseWriter, r *http.Request, id string, p *problem) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if p.retry != nil {
		h.Set("X-Should-Retry", strconv.FormatBool(*p.retry))
	}
	if r := p.reservation(); r != nil {
		h.Set("X-BudgetGuard-Reservation", string(r.ID))
		if r.Charged != nil {
			h.Set("X-BudgetGuard-Cost-Usd", r.Charged.String())
		}
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}
	var body any = p.plain(id)
	if s.dialectOf(r) == DialectOpenAI {
		body = p.openAI(id)
	}
	text, err := json.Marshal(body)
	if err != nil {
		text = []byte(`{"error":"Internal error","code":"internal"}`)
	}
	w.WriteHeader(p.status)
	_, _ = w.Write(append(text, '\n')) // the client may have gone; there is nobody else to tell
}

type plainProblem struct {
	Error     string       `json:"error"` // first, and a string
	Code      string       `json:"code"`
	RequestID string       `json:"requestId"`
	Detail    string       `json:"detail,omitempty"`
	Param     string       `json:"param,omitempty"`
	Messages  []string     `json:"messages,omitempty"`
	Nearest   []string     `json:"nearest,omitempty"`
	Budget    *plainBudget `json:"budget,omitempty"`
	Fits      *plainFits   `json:"fits,omitempty"`
	InFlight  bool         `json:"inFlight,omitempty"`

	Reservation *plainReservation `json:"reservation,omitempty"`
}

type plainBudget struct {
	ID        domain.BudgetID `json:"id"`
	Period    domain.Period   `json:"period"`
	Scope     string          `json:"scope"`
	Limit     domain.Amount   `json:"limitUsd"`
	Spent     domain.Amount   `json:"spentUsd"`
	Presumed  domain.Amount   `json:"presumedUsd"`
	Reserved  domain.Amount   `json:"reservedUsd"`
	Requested domain.Amount   `json:"requestedUsd"`
	ResetsAt  time.Time       `json:"resetsAt"`
}

func (p *problem) plain(id string) plainProblem {
	body := plainProblem{
		Error: p.message, Code: p.code, RequestID: id, Detail: p.detail, Param: p.param, Messages: p.messages, Nearest: p.nearest,
		Reservation: p.reservation(),
	}
	if b := p.budget; b != nil {
		body.Budget = &plainBudget{
			ID: b.Budget, Period: b.Period, Scope: b.Scope.String(), Limit: b.Limit, Spent: b.Settled,
			Presumed: b.Presumed, Reserved: b.Held,
			Requested: b.Requested, ResetsAt: b.Window.End,
		}
	}
	if f := p.fits; f != nil {
		body.Fits, body.InFlight = &plainFits{f.output}, f.inFlight
	}
	return body
}

// openAI is the form every OpenAI client decodes: all four keys, code a string (API reference, Errors).
func (p *problem) openAI(id string) any {
	message := p.message + ": "
	if p.param != "" && !strings.Contains(p.detail, p.param) {
		message += p.param + ": " // most clients show nothing but the message
	}
	message += p.detail
	if len(p.messages) > 0 {
		message += ": " + strings.Join(p.messages, "; ")
	}
	if len(p.nearest) > 0 {
		message += "; known names like it: " + strings.Join(p.nearest, ", ")
	}
	if p.status >= http.StatusInternalServerError {
		message += " (request " + id + ")"
	}
	var param *string
	if p.param != "" {
		param = &p.param
	}
	type openAIError struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    string  `json:"code"`
	}
	return map[string]openAIError{"error": {Message: message, Type: openAIType(p.status), Param: param, Code: p.code}}
}
