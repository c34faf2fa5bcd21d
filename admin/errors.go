package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/budgetguard/budgetguard/domain"
)

// code is the stable name of a problem, for programs; detail is for people.
type code string

const (
	codeInvalid     code = "invalid_request"
	codeAdminKey    code = "invalid_admin_key"
	codePolicy      code = "policy_denied"
	codeNotFound    code = "not_found"
	codeMethod      code = "method_not_allowed"
	codeExists      code = "tenant_exists"
	codeInProgress  code = "idempotency_in_progress"
	codeCompleted   code = "idempotency_completed"
	codeMismatch    code = "idempotency_mismatch"
	codeTooLarge    code = "request_too_large"
	codeMediaType   code = "unsupported_media_type"
	codeTooMany     code = "rate_limit_exceeded"
	codeInternal    code = "internal"
	codeUnavailable code = "ledger_unavailable"
	codeDisabled    code = "admin_disabled"
	codeNotReady    code = "not_ready"
)

// shape is what is the same in every problem of a code.
func (c code) shape() (status int, title string) {
	switch c {
	case codeInvalid:
		return http.StatusBadRequest, "Invalid request"
	case codeAdminKey:
		return http.StatusUnauthorized, "Invalid admin key"
	case codePolicy:
		return http.StatusForbidden, "Forbidden by policy"
	case codeNotFound:
		return http.StatusNotFound, "Not found"
	case codeMethod:
		return http.StatusMethodNotAllowed, "Method not allowed"
	case codeExists:
		return http.StatusConflict, "Tenant exists"
	case codeInProgress:
		return http.StatusConflict, "Still running"
	case codeCompleted:
		return http.StatusConflict, "Done already"
	case codeMismatch:
		return http.StatusUnprocessableEntity, "Idempotency key of another request"
	case codeTooLarge:
		return http.StatusRequestEntityTooLarge, "Request too large"
	case codeMediaType:
		return http.StatusUnsupportedMediaType, "Unsupported media type"
	case codeTooMany:
		return http.StatusTooManyRequests, "Too many failed attempts"
	case codeUnavailable:
		return http.StatusServiceUnavailable, "Ledger unavailable"
	case codeDisabled:
		return http.StatusServiceUnavailable, "Admin API disabled"
	case codeNotReady:
		return http.StatusServiceUnavailable, "Not ready"
	case codeInternal:
	}
	return http.StatusInternalServerError, "Internal error"
}

// problem is an error that the client is told about.
type problem struct {
	code       code
	detail     string
	violations []violation
	messages   []string // of the policy
	retryAfter time.Duration
}

// Error implements error.
func (p *problem) Error() string { return string(p.code) + ": " + p.detail }

// violation is one thing that is wrong with a request. Pointer is a JSON Pointer into the body as a URI
// fragment, as RFC 9457 shows it; Parameter names one of the query instead, Header a header.
type violation struct {
	Pointer   string `json:"pointer,omitempty"`
	Parameter string `json:"parameter,omitempty"`
	Header    string `json:"header,omitempty"`
	Detail    string `json:"detail"`
}

func invalidRequest(detail string, violations ...violation) *problem {
	return &problem{code: codeInvalid, detail: detail, violations: violations}
}

func notFound(detail string) *problem { return &problem{code: codeNotFound, detail: detail} }

// ledgerRetry is how long a client should wait when Postgres cannot commit: a failover takes seconds,
// and a retry costs little.
const ledgerRetry = time.Second

// problemOf maps every error of a handler to what the client sees. What is not known here is a bug: the
// client gets the request id, the log gets the error.
func problemOf(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	var routing *echo.HTTPError
	if errors.As(err, &routing) {
		return problemOfRouting(routing)
	}
	return problemOfLedger(err)
}

// problemOfLedger maps the kinds of package domain. What a gateway alone can be told, such as that a budget is
// exceeded, and what only a bug of the store can cause is internal here.
func problemOfLedger(err error) *problem {
	switch {
	case errors.Is(err, domain.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return &problem{code: codeUnavailable, detail: "Postgres cannot commit or answer now; try again. A change may have been made all the same.", retryAfter: ledgerRetry}
	case errors.Is(err, domain.ErrTenantUnknown):
		return notFound("There is no such tenant.")
	case errors.Is(err, domain.ErrKeyUnknown):
		return notFound("The tenant has no such API key, or it is revoked. GET /admin/tenant/:id lists them.")
	case errors.Is(err, domain.ErrBudgetUnknown):
		return notFound("The tenant has no such budget. GET /admin/tenant/:id lists them.")
	case errors.Is(err, domain.ErrReservationUnknown):
		return notFound("The tenant has no such reservation that was charged. Its id is in X-BudgetGuard-Reservation and in the UsageLedger; leave it out to adjust the present windows.")
	case errors.Is(err, domain.ErrTenantExists):
		return &problem{code: codeExists, detail: "A tenant with this id exists already."}
	case errors.Is(err, domain.ErrIdempotencyMismatch):
		return &problem{code: codeMismatch, detail: "The Idempotency-Key was used for something else. Send another one for a new request, or the first body again to see what it did."}
	case errors.Is(err, domain.ErrIdempotencyInProgress):
		return &problem{code: codeInProgress, detail: "A request with this Idempotency-Key is still running; ask again.", retryAfter: ledgerRetry}
	case errors.Is(err, domain.ErrIdempotencyCompleted):
		return &problem{code: codeCompleted, detail: "A request with this Idempotency-Key was carried out already."}
	case errors.Is(err, domain.ErrInvalid), errors.Is(err, domain.ErrPeriod), errors.Is(err, domain.ErrAmount):
		return refusedFields(reason(err))
	}
	return &problem{code: codeInternal, detail: "This is a bug. The log has it under the request id."}
}

// reading says what was read when it failed. Whatever keeps a read from being answered is the ledger
// being unavailable, except what the ledger itself says of its streams.
func reading(what string, err error) error {
	if errors.Is(err, domain.ErrTenantUnknown) || errors.Is(err, domain.ErrUnknownEvent) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return fmt.Errorf("read %s: %w: %w", what, domain.ErrUnavailable, err)
}

// problemOfRouting is for what echo itself answers: no route, or no such method on it.
func problemOfRouting(err *echo.HTTPError) *problem {
	switch err.Code {
	case http.StatusNotFound:
		return notFound("There is nothing at this path. /docs lists what there is.")
	case http.StatusMethodNotAllowed:
		return &problem{code: codeMethod, detail: "This path has other methods; see the Allow header."}
	}
	return &problem{code: codeInternal, detail: "This is a bug. The log has it under the request id."}
}

// refusedFields is a refusal of package domain, which begins with the fields that it is about where it is
// about any: "limitUsd: want ...", "startDate, endDate: want ...".
func refusedFields(text string) *problem {
	p := invalidRequest(text)
	names, _, ok := strings.Cut(text, ": ")
	if !ok {
		return p
	}
	for name := range strings.SplitSeq(names, ", ") {
		if name == "" || strings.ContainsFunc(name, notOfAName) {
			return invalidRequest(text)
		}
		p.violations = append(p.violations, violation{Pointer: "#/" + name, Detail: text})
	}
	return p
}

// notOfAName reports whether a character is in no name of a field of this API.
func notOfAName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}

// reason is what a refusal of package domain says to the person who caused it, without its kind.
func reason(err error) string {
	_, text, ok := strings.Cut(err.Error(), domain.ErrInvalid.Error()+": ")
	if !ok {
		return err.Error()
	}
	return text
}
