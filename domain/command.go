package domain

import "time"

// Command is what somebody wants of a tenant's stream. The set is closed.
//
//sumtype:decl
type Command interface{ isCommand() }

// CreateTenant begins a stream. The tenant must not exist.
type CreateTenant struct {
	Name            string
	Zone            Zone
	RateLimitPerMin *int64
	Actor           Actor
}

// ChangeTenant renames a tenant or moves its zone; nil leaves a field as it is. Windows that are open
// keep their bounds; the next one begins where they end.
type ChangeTenant struct {
	Name  *string
	Zone  *Zone
	Actor Actor
}

// SuspendTenant stops reservations; ResumeTenant allows them again. Both do nothing when it is so already.
type SuspendTenant struct {
	Reason string
	Actor  Actor
}

// ResumeTenant ends a suspension.
type ResumeTenant struct{ Actor Actor }

// SetRateLimit sets the tenant's own requests per minute: 0 is none, nil the installation's default.
type SetRateLimit struct {
	PerMin *int64
	Actor  Actor
}

// IssueKey records a new API key by its keyed hash.
type IssueKey struct {
	ID        KeyID
	Name      string
	Prefix    string
	Hash      string
	ExpiresAt *time.Time
	Models    []string
	Tags      map[string]string
	Actor     Actor
}

// RevokeKey ends a key; from the version of its event on it cannot reserve.
type RevokeKey struct {
	ID    KeyID
	Actor Actor
}

// DefineBudget creates the budget of a period and scope, or changes the one there is. A source of lower
// rank than the one that set it last changes nothing.
type DefineBudget struct {
	ID       BudgetID // used only if the budget is new
	Period   Period
	Scope    Scope
	Limit    Amount
	AlertsAt []Threshold
	Source   Source
	Actor    Actor
}

// RetireBudget ends a budget.
type RetireBudget struct {
	ID    BudgetID
	Actor Actor
}

// All carries out administrative commands in their order, every one or none: a tenant never exists
// without the budgets it was created with.
type All struct{ Commands []Command }

// Reserve holds Amount on every budget that applies, or is refused with *BudgetExceededError.
type Reserve struct {
	Request
	Amount Amount
	TTL    time.Duration
	// Keyless says that the tenant's id was the only credential: refused with ErrKeyUnusable once the tenant
	// has had a key.
	Keyless bool
}

// Settle charges a reservation what it really cost. On one that was charged by presumption it corrects
// the charge instead.
type Settle struct {
	Reservation   ReservationID
	Charged       Amount
	Basis         Basis
	Usage         Usage
	AnsweredModel string
	AnsweredTier  Tier
	Reason        string
}

// SettlePresumed charges a reservation its whole hold, because what it cost cannot be known now.
type SettlePresumed struct {
	Reservation ReservationID
	Reason      string
}

// Release gives a reservation back. The caller has proof that nothing was billed.
type Release struct {
	Reservation ReservationID
	Reason      string
}

// Expire closes a reservation whose time is over; early it is refused with ErrInvalid.
type Expire struct {
	Reservation ReservationID
	// Free gives the hold back instead of charging it: EXPIRY_POLICY=release, which makes budgets soft.
	Free bool
	// Orphaned says that the gateway that reserved is gone, so that nobody will settle: the hold may be charged
	// before its time. It is never given back before it, since a gateway that only stands still may spend on.
	Orphaned bool
}

func (CreateTenant) isCommand()   {}
func (ChangeTenant) isCommand()   {}
func (SuspendTenant) isCommand()  {}
func (ResumeTenant) isCommand()   {}
func (SetRateLimit) isCommand()   {}
func (IssueKey) isCommand()       {}
func (RevokeKey) isCommand()      {}
func (DefineBudget) isCommand()   {}
func (RetireBudget) isCommand()   {}
func (All) isCommand()            {}
func (Reserve) isCommand()        {}
func (Settle) isCommand()         {}
func (SettlePresumed) isCommand() {}
func (Release) isCommand()        {}
func (Expire) isCommand()         {}
