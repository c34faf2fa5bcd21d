package domain

import "time"

// Event is what has happened in a tenant's stream. The set is closed: codec.go lists it, and reading any
// other type is an error. A schema never changes; a new one gets a new version.
//
//sumtype:decl
type Event interface{ eventType() EventType }

// EventType names an event's kind: noun.verb-ed.
type EventType string

// SchemaVersion is the version of every event schema here; the stream shows it as the suffix ".v1".
const SchemaVersion = 1

// The types of events.
const (
	TypeTenantCreated          EventType = "tenant.created"
	TypeTenantChanged          EventType = "tenant.changed"
	TypeTenantSuspended        EventType = "tenant.suspended"
	TypeTenantResumed          EventType = "tenant.resumed"
	TypeAPIKeyIssued           EventType = "apikey.issued"
	TypeAPIKeyRotated          EventType = "apikey.rotated"
	TypeAPIKeyRevoked          EventType = "apikey.revoked"
	TypeAPIKeySuspended        EventType = "apikey.suspended"
	TypeAPIKeyResumed          EventType = "apikey.resumed"
	TypeRateLimitChanged       EventType = "ratelimit.changed"
	TypeBudgetDefined          EventType = "budget.defined"
	TypeBudgetChanged          EventType = "budget.changed"
	TypeBudgetRetired          EventType = "budget.retired"
	TypeBudgetThresholdCrossed EventType = "budget.threshold_crossed"
	TypeWindowOpened           EventType = "window.opened"
	TypeWindowSlid             EventType = "window.slid"
	TypeUsageReserved          EventType = "usage.reserved"
	TypeReservationExtended    EventType = "reservation.extended"
	TypeUsageSettled           EventType = "usage.settled"
	TypeReservationReleased    EventType = "reservation.released"
	TypeReservationExpired     EventType = "reservation.expired"
	TypeUsageSettledLate       EventType = "usage.settled_late"
	TypeUsageAdjusted          EventType = "usage.adjusted"
)

// Recorded is an event as the stream holds it.
type Recorded struct {
	Tenant  TenantID
	Version int64 // dense, 1-based
	Time    time.Time
	Event   Event
	// Body is the exact bytes stored and hashed. Hash links it to the event before.
	Body []byte
	Hash [32]byte
}

// Posting is what an event made of one account: resulting balances, so a reader assigns and a register
// needs only the newest version.
type Posting struct {
	Account  AccountID `json:"account"`
	Budget   BudgetID  `json:"budgetId"`
	Limit    Amount    `json:"limitUsd"`
	Settled  Amount    `json:"spentUsd"`
	Held     Amount    `json:"reservedUsd"`
	Presumed Amount    `json:"presumedUsd"`
	// Forced marks a posting that may leave use above the limit: an overrun, a limit cut below use, a
	// late settlement, an adjustment.
	Forced bool `json:"forced,omitempty"`
}

// Actor is who caused an administrative event: "admin", "environment", "gateway:<id>".
type Actor string

// TenantCreated begins a stream.
type TenantCreated struct {
	Name            string `json:"name"`
	Zone            Zone   `json:"timezone"`
	RateLimitPerMin *int64 `json:"rateLimitPerMin,omitempty"`
	Actor           Actor  `json:"actor"`
}

// TenantChanged carries the resulting name and zone.
type TenantChanged struct {
	Name  string `json:"name"`
	Zone  Zone   `json:"timezone"`
	Actor Actor  `json:"actor"`
}

// TenantSuspended stops every further reservation.
type TenantSuspended struct {
	Reason string `json:"reason"`
	Actor  Actor  `json:"actor"`
}

// TenantResumed ends a suspension.
type TenantResumed struct {
	Actor Actor `json:"actor"`
}

// APIKeyIssued records a key's keyed hash, never the key.
type APIKeyIssued struct {
	KeyID     KeyID             `json:"apiKeyId"`
	Name      string            `json:"name"`
	Prefix    string            `json:"prefix"`
	KeyHash   string            `json:"keyHash"`
	ExpiresAt *time.Time        `json:"expiresAt,omitempty"`
	Models    []string          `json:"models,omitempty"`
	Tags      map[string]string `json:"tags,omitempty"`
	// Names of tags that each request of the key must bring.
	RequiredTags []string `json:"requiredTags,omitempty"`
	Actor        Actor    `json:"actor"`
}

// APIKeySuspended stops the key's reservations.
type APIKeySuspended struct {
	KeyID  KeyID  `json:"apiKeyId"`
	Reason string `json:"reason"`
	Actor  Actor  `json:"actor"`
}

// APIKeyResumed ends a suspension of the key.
type APIKeyResumed struct {
	KeyID KeyID `json:"apiKeyId"`
	Actor Actor `json:"actor"`
}

// APIKeyRotated replaces a key's secret; the old one works until its grace ends.
type APIKeyRotated struct {
	KeyID      KeyID     `json:"apiKeyId"`
	Prefix     string    `json:"prefix"`
	KeyHash    string    `json:"keyHash"`
	OldUntil   time.Time `json:"oldUntil"`
	OldKeyHash string    `json:"oldKeyHash"`
	Actor      Actor     `json:"actor"`
}

// APIKeyRevoked ends a key for ever.
type APIKeyRevoked struct {
	KeyID KeyID `json:"apiKeyId"`
	Actor Actor `json:"actor"`
}

// RateLimitChanged carries the resulting limit; nil falls back to the installation's.
type RateLimitChanged struct {
	RateLimitPerMin *int64 `json:"rateLimitPerMin"`
	Actor           Actor  `json:"actor"`
}

// BudgetDefined adds a budget.
type BudgetDefined struct {
	Budget BudgetID `json:"budgetId"`
	Period Period   `json:"period"`
	Span
	Scope Scope `json:"scope"`
	// First instant of a custom window.
	Start time.Time `json:"windowStart,omitzero"`
	// First instant after a custom window.
	End      time.Time   `json:"windowEnd,omitzero"`
	Limit    Amount      `json:"limitUsd"`
	AlertsAt []Threshold `json:"alertsAt,omitempty"`
	Source   Source      `json:"source"`
	Actor    Actor       `json:"actor"`
}

// BudgetChanged moves a limit at once, in the window that is open too.
type BudgetChanged struct {
	Budget   BudgetID    `json:"budgetId"`
	Limit    Amount      `json:"limitUsd"`
	OldLimit Amount      `json:"oldLimitUsd"`
	AlertsAt []Threshold `json:"alertsAt,omitempty"`
	Source   Source      `json:"source"`
	// Raises that are part of the limit until they end.
	Raises   []Raise   `json:"raises,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Postings []Posting `json:"postings,omitempty"`
	Actor    Actor     `json:"actor"`
}

// BudgetRetired ends a budget; its accounts stay until their last reservation closes.
type BudgetRetired struct {
	Budget BudgetID `json:"budgetId"`
	Actor  Actor    `json:"actor"`
}

// BudgetThresholdCrossed says that what was spent reached a share of the limit, once per window and
// threshold. In a rolling window it can come again after spend that left it brought the sum below the share.
type BudgetThresholdCrossed struct {
	Budget    BudgetID  `json:"budgetId"`
	Account   AccountID `json:"account"`
	Threshold Threshold `json:"threshold"`
	Limit     Amount    `json:"limitUsd"`
	Use       Amount    `json:"usedUsd"`
	// Name of the tenant at that time.
	TenantName string `json:"tenantName,omitempty"`
	Period     Period `json:"period,omitempty"`
	// Absent: the whole tenant.
	Scope Scope     `json:"scope,omitzero"`
	Start time.Time `json:"windowStart,omitzero"`
	End   time.Time `json:"windowEnd,omitzero"`
	// What open reservations hold beside it; absent: nothing.
	Held Amount `json:"reservedUsd,omitempty"`
	// Reservation whose charge or correction crossed it; absent: a limit that changed, or an adjustment of none.
	Reservation ReservationID `json:"reservationId,omitempty"`
}

// WindowOpened creates an account. Its bounds are recorded here and never computed again, whatever a
// later time-zone database says.
type WindowOpened struct {
	Account  AccountID `json:"account"`
	Budget   BudgetID  `json:"budgetId"`
	Period   Period    `json:"period"`
	Start    time.Time `json:"windowStart"`
	End      time.Time `json:"windowEnd"`
	Zone     Zone      `json:"timezone"`
	Limit    Amount    `json:"limitUsd"`
	Settled  Amount    `json:"spentUsd"`
	Held     Amount    `json:"reservedUsd"`
	Presumed Amount    `json:"presumedUsd"`
	// Adopted lists reservations, open or charged by presumption, that count here although they were made
	// before the budget was.
	Adopted []ReservationID `json:"adopted,omitempty"`
	// Length of a rolling window.
	Duration Length `json:"duration,omitempty"`
	// What a rolling window had spent already, by part.
	Buckets []Bucket `json:"buckets,omitempty"`
}

// WindowSlid takes spend that left a rolling window out of its account.
type WindowSlid struct {
	Account  AccountID `json:"account"`
	Budget   BudgetID  `json:"budgetId"`
	Aged     Amount    `json:"agedUsd"`
	Oldest   int64     `json:"oldestBucket"`
	Postings []Posting `json:"postings"`
}
