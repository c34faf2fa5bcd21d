package proxy

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	idempotencyHeader = "Idempotency-Key"
	// maxAttemptKey bounds an idempotency key, in bytes.
	maxAttemptKey = 255
	// attemptRetry is how long a client should wait for the request that runs with its key.
	attemptRetry = time.Second
)

// attemptKey is the idempotency key of a request, empty if it has none.
func attemptKey(headers []string) (string, error) {
	if len(headers) == 0 {
		return "", nil
	}
	invisible := func(c rune) bool { return c <= ' ' || c > '~' }
	if key := headers[0]; len(headers) == 1 && key != "" && len(key) <= maxAttemptKey && strings.IndexFunc(key, invisible) < 0 {
		return key, nil
	}
	return "", badRequest("invalid_request", "", fmt.Sprintf("%s: want it once, with 1 to %d visible ASCII characters", idempotencyHeader, maxAttemptKey))
}

// fingerprint tells a retry from another request: by method, path, API key and the exact bytes of the body, each
// with its length, so that nothing can move from one into the next.
func (x *exchange) fingerprint() string {
	hash := sha256.New()
	for _, part := range [][]byte{[]byte(x.r.Method), []byte(x.route), []byte(x.who.key), x.body} {
		_, _ = hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part)))) // a hash never fails
		_, _ = hash.Write(part)
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// attempted is the answer to a request whose idempotency key was used already.
func attempted(e *domain.IdempotencyError) *problem {
	switch {
	case errors.Is(e.Kind, domain.ErrIdempotencyMismatch):
		return &problem{
			status: http.StatusUnprocessableEntity, code: "idempotency_mismatch", message: "Idempotency key reused",
			detail: "the idempotency key was used for another request; send a new one with each new request",
		}
	case errors.Is(e.Kind, domain.ErrIdempotencyInProgress):
		return noRetry(&problem{
			status: http.StatusConflict, code: "idempotency_in_progress", message: "Request in progress", retryAfter: attemptRetry,
			detail: fmt.Sprintf("a request with this idempotency key is still running: reservation %s", e.Attempt.Reservation), attempt: &e.Attempt,
		})
	}
	presumed := ""
	if e.Attempt.State == domain.AttemptPresumed {
		presumed = " by presumption"
	}
	return noRetry(&problem{
		status: http.StatusConflict, code: "idempotency_completed", message: "Request completed", attempt: &e.Attempt,
		detail: fmt.Sprintf("a request with this idempotency key was paid for: reservation %s was charged %s USD%s; answers are not kept, so send a new key to pay for a new one",
			e.Attempt.Reservation, e.Attempt.Charged, presumed),
	})
}

// plainReservation is what became of the request that an idempotency key was used for.
type plainReservation struct {
	ID       domain.ReservationID `json:"id"`
	Charged  *domain.Amount       `json:"chargedUsd,omitempty"`
	Presumed *bool                `json:"presumed,omitempty"`
}

// reservation is nil for a problem about no attempt. One that runs has not been charged yet.
func (p *problem) reservation() *plainReservation {
	if p.attempt == nil {
		return nil
	}
	r := &plainReservation{ID: p.attempt.Reservation}
	if p.attempt.State != domain.AttemptHeld {
		presumed := p.attempt.State == domain.AttemptPresumed
		r.Charged, r.Presumed = &p.attempt.Charged, &presumed
	}
	return r
}
