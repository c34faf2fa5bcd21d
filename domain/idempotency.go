package domain

import (
	"errors"
	"fmt"
	"time"
)

// AttemptKey is an idempotency key with its scope: the API key that sent it, or none. Adjustments have a
// scope of their own.
type AttemptKey struct {
	KeyID       KeyID
	Idempotency string
	Adjustment  bool
}

// AttemptState is what became of the request that an idempotency key stands for.
type AttemptState string

// The states of an attempt. One that was released is forgotten: nothing was billed, its key may come again.
const (
	AttemptHeld     AttemptState = "held"
	AttemptSettled  AttemptState = "settled"
	AttemptPresumed AttemptState = "presumed"
	AttemptAdjusted AttemptState = "adjusted"
)

// Attempt is the request, or the adjustment, that an idempotency key was used for.
type Attempt struct {
	AttemptKey
	// Fingerprint tells a retry from another request with the same key.
	Fingerprint string
	Reservation ReservationID
	// Version is that of usage.reserved or usage.adjusted, At its time.
	Version int64
	At      time.Time
	State   AttemptState
	Charged Amount
}

// AttemptLife is how long an idempotency key means the same request; after it the key is new again.
const AttemptLife = 7 * 24 * time.Hour

// maxIdempotency bounds an idempotency key, in bytes.
const maxIdempotency = 255

// The kinds of *IdempotencyError.
var (
	ErrIdempotencyInProgress = errors.New("a request with this idempotency key is still running")
	ErrIdempotencyCompleted  = errors.New("a request with this idempotency key has been paid for")
	ErrIdempotencyMismatch   = errors.New("the idempotency key was used for another request")
)

// IdempotencyError says what an idempotency key was used for already. Its kind says whether that is over.
type IdempotencyError struct {
	Kind    error
	Attempt Attempt
}

// Error implements error.
func (e *IdempotencyError) Error() string {
	return fmt.Sprintf("%v: reservation %s, charged %s USD", e.Kind, e.Attempt.Reservation, e.Attempt.Charged)
}

// Unwrap makes errors.Is find the kind.
func (e *IdempotencyError) Unwrap() error { return e.Kind }

// attemptKey is the scope and key of a request.
func (r *Request) attemptKey() AttemptKey {
	return AttemptKey{KeyID: r.KeyID, Idempotency: r.Idempotency}
}

// attempt is what a reservation made at a time makes of its idempotency key. It is empty where there is none, as
// most requests have it.
func (r *Request) attempt(version int64, at time.Time, state AttemptState, charged Amount) Attempt {
	if r.Idempotency == "" {
		return Attempt{}
	}
	return Attempt{
		AttemptKey: r.attemptKey(), Fingerprint: r.Fingerprint, Reservation: r.Reservation,
		Version: version, At: at, State: state, Charged: charged,
	}
}

// AttemptKeyOf is the idempotency key that a command uses, if it uses one.
func AttemptKeyOf(c Command) (AttemptKey, bool) {
	switch c := c.(type) { //nolint:gochecksumtype // the others use none
	case Reserve:
		return c.attemptKey(), c.Idempotency != ""
	case Adjust:
		return c.attemptKey(), c.Idempotency != ""
	}
	return AttemptKey{}, false
}

func (c Adjust) attemptKey() AttemptKey {
	return AttemptKey{Idempotency: c.Idempotency, Adjustment: true}
}

// fingerprint tells an adjustment from another one with the same key.
func (c Adjust) fingerprint() string {
	return fmt.Sprintf("%s|%s|%s", c.Delta, c.Reservation, c.Reason)
}

// AttemptAfter is what an event makes of the idempotency key it carries; ok is false where it carries none.
// The attempt with an empty State is forgotten.
func AttemptAfter(r Recorded) (a Attempt, ok bool) {
	switch e := r.Event.(type) { //nolint:gochecksumtype // the others carry no key
	case UsageReserved:
		a = e.attempt(r.Version, r.Time, AttemptHeld, 0)
	case UsageSettled:
		a = e.attempt(0, e.ReservedAt, e.Basis.attempt(), e.Charged)
	case ReservationExpired:
		a = e.attempt(0, e.ReservedAt, AttemptPresumed, e.Charged)
	case UsageSettledLate:
		a = e.attempt(0, e.ReservedAt, e.Basis.attempt(), e.Charged)
		if a.Idempotency != "" && e.Charged == 0 && provesNothingBilled(e.Reason) { // a release that came late
			a = e.attempt(0, e.ReservedAt, "", 0)
		}
	case ReservationReleased:
		a = e.attempt(0, e.ReservedAt, "", 0)
	case UsageAdjusted:
		c := Adjust{Delta: e.Delta, Reservation: e.Reservation, Reason: e.Reason, Idempotency: e.Idempotency}
		a = Attempt{
			AttemptKey: c.attemptKey(), Fingerprint: c.fingerprint(), Reservation: e.Reservation,
			Version: r.Version, At: r.Time, State: AttemptAdjusted, Charged: e.Delta,
		}
	}
	return a, a.Idempotency != ""
}

// attempt is what a charge of this basis makes of an attempt.
func (b Basis) attempt() AttemptState {
	if b == BasisPresumed {
		return AttemptPresumed
	}
	return AttemptSettled
}

// AdoptAttempt brings back what an idempotency key was used for.
func (s *State) AdoptAttempt(a Attempt) { s.Attempts[a.AttemptKey] = a }

// attempt takes over what an event makes of its idempotency key, before the event closes the reservation. The
// key stands for the newest request that used it: an older one can still be open when the key's life is over.
func (s *State) attempt(r Recorded) {
	a, _ := AttemptAfter(r)
	before, known := s.Attempts[a.AttemptKey]
	same := known && before.Reservation == a.Reservation
	switch {
	case a.State == AttemptAdjusted:
		s.Attempts[a.AttemptKey] = a
	case known && !same && before.At.After(a.At):
		// The key was given back, or its life was over, and it pays for another request now.
	case a.State == "":
		if same {
			delete(s.Attempts, a.AttemptKey)
		}
	default:
		a.Version = s.reservedBy(a.Reservation)
		s.Attempts[a.AttemptKey] = a
	}
}

// reservedBy is the version of a reservation's first event.
func (s *State) reservedBy(id ReservationID) int64 {
	if r, ok := s.Open[id]; ok {
		return r.Version
	}
	return s.Presumed[id].Version
}

// retry refuses a command whose idempotency key stands for an earlier one.
func (s *State) retry(key AttemptKey, fingerprint string, now time.Time) error {
	if len(key.Idempotency) > maxIdempotency {
		return invalid("an idempotency key has at most %d bytes", maxIdempotency)
	}
	a, used := s.Attempts[key]
	if !used || now.Sub(a.At) > AttemptLife {
		return nil
	}
	kind := ErrIdempotencyCompleted
	switch {
	case a.Fingerprint != fingerprint:
		kind = ErrIdempotencyMismatch
	case a.State == AttemptHeld:
		kind = ErrIdempotencyInProgress
	}
	return &IdempotencyError{Kind: kind, Attempt: a}
}
