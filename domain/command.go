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
	// Tags are pinned to every request of the key. RequiredTags must come with each request.
	Tags         map[string]string
	RequiredTags []string
	Actor        Actor
}

// RevokeKey ends a key; from the version of its event on it cannot reserve.
type RevokeKey struct {
	ID    KeyID
	Actor Actor
}

// SuspendKey stops a key's reservations; ResumeKey allows them again. Both do nothing when it is so already.
type SuspendKey struct {
	ID     KeyID
	Reason string
	Actor  Actor
}

// ResumeKey ends a key's suspension.
type ResumeKey struct {
	ID    KeyID
	Actor Actor
}

// RotateKey gives a key a new secret. The old one works for Grace more, at most 30 days.
type RotateKey struct {
	ID     KeyID
	Prefix string
	Hash   string
	Grace  time.Duration
	Actor  Actor
}

// DefineBudget creates the budget of a period and scope, or changes the one there is. A source of lower
// rank than the one that set it last changes nothing. A budget that is new counts what its window has
// spent and held already. One whose weeks or months shall begin on another day is retired, and a new one
// takes its place, with the raises of the old one.
type DefineBudget struct {
	ID       BudgetID // used only if the budget is new
	Period   Period
	Span     Span
	Scope    Scope
	Limit    Amount
	AlertsAt []Threshold
	Source   Source
	Actor    Actor
	// Keep leaves parts of a budget that is there already as they are. Its zero value sets them all.
	Keep Keep
}

// Keep names the parts of a budget that a command does not mention. What an operator does not mention is
// not his to change, and only Decide knows what it is at that moment.
type Keep struct {
	// Limit kept needs a budget that is there already.
	Limit     bool
	AlertsAt  bool
	WeekStart bool
	AnchorDay bool
}

// ChangeBudget changes the parts of a budget that it names; nil leaves a part as it is. Another first day
// of the week or month has the effect that it has in DefineBudget.
type ChangeBudget struct {
	ID BudgetID
	// NewID is used only if another budget takes the place of this one.
	NewID     BudgetID
	Limit     *Amount
	AlertsAt  *[]Threshold
	WeekStart *Weekday
	AnchorDay *int64
	Actor     Actor
}

// EndRaises ends all raises of a budget before their time: its limit is the base again at once. It does
// nothing where there is none.
type EndRaises struct {
	ID    BudgetID
	Actor Actor
}

// RetireBudget ends a budget.
type RetireBudget struct {
	ID    BudgetID
	Actor Actor
}

// RaiseBudget lifts a limit by an amount until an instant. The zero Until is the end of the window that is
// open: a top-up.
type RaiseBudget struct {
	ID     BudgetID
	By     Amount
	Until  time.Time
	Reason string
	Actor  Actor
}

// Age records what time alone has changed: spend that left a rolling window, raises that ended. Decide does
// the same before a reservation, so it only keeps readers of an idle tenant up to date.
type Age struct{}

// Informed is a command with the answers to what Decide asked by *PastNeededError.
type Informed struct {
	Command Command
	Past    []Past
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

// Extend makes an open reservation hold more, or live longer. It is refused like a reservation that does not
// fit, and then leaves the hold as it was.
type Extend struct {
	Reservation ReservationID
	Add         Amount
	// TTL is counted from now; the hold never ends earlier than it would have.
	TTL time.Duration
}

// Adjust corrects what was spent, up or down: in the windows of a reservation, which must be closed, or
// without one in the windows of now of the tenant-wide budgets. A key that was used already is refused
// with *IdempotencyError, which names the event.
type Adjust struct {
	Delta       Amount
	Reason      string
	Reservation ReservationID
	Idempotency string
	Actor       Actor
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

// Release gives a reservation back. Reason is the proof that nothing was billed: one of the Released
// constants, else it is refused with ErrInvalid. Where there is none, SettlePresumed is the command.
type Release struct {
	Reservation ReservationID
	Reason      string
}

// The proofs that nothing was billed.
const (
	ReleasedNeverDispatched = "never_dispatched"            // the gateway forwarded nothing
	ReleasedNotSent         = "not_sent"                    // no connection took the request
	ReleasedClientGone      = "client_gone_before_dispatch" // its client had gone before
	ReleasedStatus          = "upstream_status_"            // and the status of a complete answer that bills nothing
)

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
func (ChangeBudget) isCommand()   {}
func (EndRaises) isCommand()      {}
func (SuspendKey) isCommand()     {}
func (ResumeKey) isCommand()      {}
func (RotateKey) isCommand()      {}
func (RaiseBudget) isCommand()    {}
func (Age) isCommand()            {}
func (Informed) isCommand()       {}
func (Extend) isCommand()         {}
func (Adjust) isCommand()         {}
func (All) isCommand()            {}
func (Reserve) isCommand()        {}
func (Settle) isCommand()         {}
func (SettlePresumed) isCommand() {}
func (Release) isCommand()        {}
func (Expire) isCommand()         {}
