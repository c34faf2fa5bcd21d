package domain

import "time"

// ReservationID is a UUID made by the gateway before its first attempt, so a retry names the same hold.
type ReservationID string

// Request is what every event of a reservation says about the call it pays for. No prompt, no answer
// and no credential is ever part of it.
type Request struct {
	Reservation ReservationID     `json:"reservationId"`
	RequestID   string            `json:"requestId,omitempty"`
	Route       string            `json:"route"`
	Provider    string            `json:"provider"`
	Model       string            `json:"model"`
	Tier        Tier              `json:"serviceTier,omitempty"`
	KeyID       KeyID             `json:"apiKeyId,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Stream      bool              `json:"stream,omitempty"`
	Estimate    Estimate          `json:"estimate"`
	Prices      string            `json:"priceVersion"`
	Policy      string            `json:"policyRevision"`
	Idempotency string            `json:"idempotencyKey,omitempty"`
	Fingerprint string            `json:"fingerprint,omitempty"`
	Gateway     string            `json:"gateway"`
}

// Estimate is what the held amount was computed from: upper bounds, and how they were found.
type Estimate struct {
	PromptTokens     int64  `json:"promptTokens"`
	CompletionTokens int64  `json:"completionTokens"`
	Basis            string `json:"basis"`
}

// UsageReserved holds an amount on every account that applies.
type UsageReserved struct {
	Request
	Amount    Amount    `json:"reservedUsd"`
	ExpiresAt time.Time `json:"expiresAt"`
	Postings  []Posting `json:"postings"`
}

// ReservationExtended holds more, or longer.
type ReservationExtended struct {
	Request
	ReservedAt time.Time `json:"reservedAt"`
	Added      Amount    `json:"addedUsd"`
	Amount     Amount    `json:"reservedUsd"`
	ExpiresAt  time.Time `json:"expiresAt"`
	Postings   []Posting `json:"postings"`
}

// Basis says what a charge rests on.
type Basis string

// The bases of a charge.
const (
	BasisProvider Basis = "provider" // usage the provider reported
	BasisCounted  Basis = "counted"  // a clean end without usage: counted here, never below the provider
	BasisPresumed Basis = "presumed" // nobody knows: the whole hold
)

// UsageSettled charges a reservation.
type UsageSettled struct {
	Request
	ReservedAt    time.Time `json:"reservedAt"`
	Reserved      Amount    `json:"reservedUsd"`
	Charged       Amount    `json:"chargedUsd"`
	Overrun       Amount    `json:"overrunUsd"`
	Basis         Basis     `json:"basis"`
	Usage         Usage     `json:"usage"`
	AnsweredModel string    `json:"answeredModel,omitempty"`
	AnsweredTier  Tier      `json:"answeredTier,omitempty"`
	Reason        string    `json:"reason,omitempty"`
	Postings      []Posting `json:"postings"`
}

// ReservationReleased gives a hold back: there is proof that nothing was billed.
type ReservationReleased struct {
	Request
	ReservedAt time.Time `json:"reservedAt"`
	Reserved   Amount    `json:"reservedUsd"`
	Reason     string    `json:"reason"`
	Postings   []Posting `json:"postings"`
}

// ReasonOrphaned is the reason of an expiry that did not wait for the hold's time: its gateway was gone.
const ReasonOrphaned = "orphaned"

// ReservationExpired closes a hold nobody resolved in time; by default it is charged whole.
type ReservationExpired struct {
	Request
	ReservedAt time.Time `json:"reservedAt"`
	Reserved   Amount    `json:"reservedUsd"`
	Charged    Amount    `json:"chargedUsd"`
	// Absent: the hold's time was over. orphaned: its gateway was gone, and the hold was charged before its time.
	Reason   string    `json:"reason,omitempty"`
	Postings []Posting `json:"postings"`
}

// UsageSettledLate corrects a presumed charge by evidence that came later.
type UsageSettledLate struct {
	Request
	ReservedAt    time.Time `json:"reservedAt"`
	WasCharged    Amount    `json:"wasChargedUsd"`
	Charged       Amount    `json:"chargedUsd"`
	Delta         Amount    `json:"deltaUsd"`
	Basis         Basis     `json:"basis"`
	Usage         Usage     `json:"usage"`
	AnsweredModel string    `json:"answeredModel,omitempty"`
	AnsweredTier  Tier      `json:"answeredTier,omitempty"`
	Reason        string    `json:"reason,omitempty"`
	Postings      []Posting `json:"postings"`
}

// UsageAdjusted is a correction by an operator or a reconciler. One of a reservation counts in the windows
// of that reservation, repeats what it was for and confirms a charge that was presumed; another counts in the
// windows of its own time.
type UsageAdjusted struct {
	Reservation ReservationID     `json:"reservationId,omitempty"`
	ReservedAt  time.Time         `json:"reservedAt,omitzero"`
	Route       string            `json:"route,omitempty"`
	Model       string            `json:"model,omitempty"`
	KeyID       KeyID             `json:"apiKeyId,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	// Whether the charge was a presumption until now, which this confirms.
	Confirmed bool `json:"confirmed,omitempty"`
	// The charge that was presumed until now, and is confirmed with the difference.
	WasPresumed Amount    `json:"wasPresumedUsd,omitempty"`
	Delta       Amount    `json:"deltaUsd"`
	Reason      string    `json:"reason"`
	Idempotency string    `json:"idempotencyKey"`
	Postings    []Posting `json:"postings"`
	Actor       Actor     `json:"actor"`
}

// request is what was adjusted, as far as budgets and reports ask.
func (e UsageAdjusted) request() Request {
	return Request{Reservation: e.Reservation, Route: e.Route, Model: e.Model, KeyID: e.KeyID, Tags: e.Tags}
}

// at is the time that decides which windows it counts in; its own is the given one.
func (e UsageAdjusted) at(own time.Time) time.Time {
	if e.ReservedAt.IsZero() {
		return own
	}
	return e.ReservedAt
}
