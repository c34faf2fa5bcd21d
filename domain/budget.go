package domain

import (
	"strings"
	"time"
)

// BudgetID names a budget of a tenant.
type BudgetID string

// AccountID names the balance of a budget in one window: it is the version of the event that opened the
// window, so it is unique in the tenant and the same on every replay.
type AccountID int64

// Source says who set a budget's limit. One set through the admin API wins over one from the
// environment, which wins over the demo's.
type Source string

// The sources of a limit.
const (
	SourceAdmin       Source = "admin"
	SourceEnvironment Source = "environment"
	SourceDemo        Source = "demo"
)

// Budget is a limit for what a tenant, or a part of it, spends in each window of a period.
type Budget struct {
	ID     BudgetID
	Period Period
	Span   Span
	Scope  Scope
	// Window is the only one of a custom budget: its dates were read once, in the zone of that time.
	Window Window
	// Limit is the one in force, Raises included.
	Limit    Amount
	Raises   []Raise
	AlertsAt []Threshold
	Source   Source
}

// Raise lifts a limit until an instant.
type Raise struct {
	By    Amount    `json:"byUsd"`
	Until time.Time `json:"until"`
}

// Base is the limit without raises.
func (b Budget) Base() Amount {
	base := b.Limit
	for _, r := range b.Raises {
		base -= r.By
	}
	return base
}

// at is the budget without the raises that have ended by an instant.
func (b Budget) at(now time.Time) Budget {
	for i, r := range b.Raises {
		if now.Before(r.Until) {
			continue
		}
		kept := append([]Raise(nil), b.Raises[:i]...)
		b.Limit -= r.By
		for _, r := range b.Raises[i+1:] {
			if now.Before(r.Until) {
				kept = append(kept, r)
			} else {
				b.Limit -= r.By
			}
		}
		b.Raises = kept
		return b
	}
	return b
}

// WindowAt is the budget's window at an instant in the tenant's zone; false outside a custom one. That of a
// rolling budget begins with the oldest part that counts, and does not end.
func (b Budget) WindowAt(t time.Time, zone *time.Location) (Window, bool) {
	switch b.Period { //nolint:exhaustive // the others follow the calendar
	case Custom:
		return b.Window, b.Window.Contains(t)
	case Rolling:
		return Window{Start: b.Span.Duration.begins(b.Span.Duration.oldest(t)), End: totalWindow().End}, true
	}
	c := calendar{period: b.Period, anchor: max(1, int(b.Span.AnchorDay)), weekStart: time.Monday}
	if b.Span.WeekStart != "" {
		c.weekStart = b.Span.WeekStart.day()
	}
	return c.at(t, zone), true
}

// Scope narrows a budget to the requests of a key, for a model, or with a tag. The zero Scope is the whole
// tenant.
type Scope struct {
	APIKey KeyID  `json:"apiKey,omitempty"`
	Model  string `json:"model,omitempty"`
	// A tag as name=value, or the name alone for any value.
	Tag string `json:"tag,omitempty"`
}

// Matches tells whether a request counts in a budget of this scope.
func (s Scope) Matches(r Request) bool {
	if s.APIKey != "" && s.APIKey != r.KeyID || s.Model != "" && s.Model != r.Model {
		return false
	}
	if s.Tag == "" {
		return true
	}
	name, want, valued := strings.Cut(s.Tag, "=")
	value, ok := r.Tags[name]
	return ok && (!valued || value == want)
}

const (
	// maxTag bounds the name, and the value, of a tag of a request.
	maxTag = 64
	// maxModel bounds the name of a model in a scope.
	maxModel = 200
)

// whole tells whether it is the whole tenant, as most are.
func (s *Scope) whole() bool { return s.APIKey == "" && s.Model == "" && s.Tag == "" }

// check tells whether a scope can be a budget's: at most one of its parts, as requests can have them.
func (s Scope) check() error {
	set := 0
	for _, part := range []string{string(s.APIKey), s.Model, s.Tag} {
		if part != "" {
			set++
		}
		if !storable(part) {
			return invalid("scope: want UTF-8")
		}
	}
	name, value, _ := strings.Cut(s.Tag, "=")
	switch {
	case set > 1:
		return invalid("scope: want one of apiKey, model and tag")
	case len(s.APIKey) > maxTag || len(s.Model) > maxModel || len(name) > maxTag || len(value) > maxTag:
		return invalid("scope: that is longer than a key's id, a model's name or a tag can be")
	case s.Tag != "" && name == "":
		return invalid("scope: want a tag as name=value, or its name")
	}
	return nil
}

// String names the scope as budgets are shown to people.
func (s Scope) String() string {
	switch {
	case s.APIKey != "":
		return "apiKey:" + string(s.APIKey)
	case s.Model != "":
		return "model:" + s.Model
	case s.Tag != "":
		return "tag:" + s.Tag
	}
	return "tenant"
}

// Threshold is a share of a limit at which somebody wants to be told, in parts per million.
type Threshold int64

// Account is the balance of one budget in one window.
type Account struct {
	ID     AccountID
	Budget BudgetID
	Period Period
	Window Window
	Limit  Amount
	// Held is the sum of the open reservations, Settled what was charged, Presumed the part of Settled
	// that no provider has confirmed.
	Held, Settled, Presumed Amount
	// Cap is what Held+Settled may reach: the limit, or more after a forced posting. It falls back to
	// the limit with use and never rises by a reservation.
	Cap Amount
	// Version is the last event that touched the account.
	Version int64
	// Crossed are the thresholds that were told of in this window.
	Crossed []Threshold

	// Duration, Buckets and Oldest are of a rolling account: Settled and Presumed are the sums of its buckets,
	// and what was reserved before the oldest that counts moves nothing any more.
	Duration Length
	Buckets  []Bucket
	Oldest   int64

	open int // reservations still open on it; a closed window's account leaves the state with its last
}

// Use is what the window has spent and promised.
func (a Account) Use() Amount { return a.Held + a.Settled }

// Available is what a new reservation may take. It is negative after an overrun or a limit cut.
func (a Account) Available() Amount { return a.Limit - a.Held - a.Settled }

// openAt tells whether there is an account, and its window holds an instant.
func (a *Account) openAt(at time.Time) bool { return a != nil && a.Window.Contains(at) }

// posting is the balance after a move, which must not overflow.
func (a *Account) posting(m move) Posting {
	return Posting{
		Account: a.ID, Budget: a.Budget, Limit: a.Limit,
		Settled: a.Settled + m.settled, Held: a.Held + m.held, Presumed: a.Presumed + m.presumed,
	}
}

// post assigns the balances an event recorded, and moves the cap by the rule the database repeats.
func (a *Account) post(p *Posting, version int64) {
	a.Limit, a.Held, a.Settled, a.Presumed = p.Limit, p.Held, p.Settled, p.Presumed
	a.Cap = max(a.Limit, min(a.Cap, a.Use()))
	if p.Forced {
		a.Cap = max(a.Limit, a.Use())
	}
	a.Version = version
}

// Balance is an account as people see it: with its budget, also before the first request of a window.
type Balance struct {
	Budget  Budget
	Window  Window
	Account AccountID // 0: nothing was reserved in this window yet

	Limit, Held, Settled, Presumed Amount
}

// Available is what a new reservation may take.
func (b Balance) Available() Amount { return b.Limit - b.Held - b.Settled }

// Reservation is an open hold.
type Reservation struct {
	Request
	Amount    Amount
	Version   int64 // of its usage.reserved event
	At        time.Time
	Accounts  []AccountID
	ExpiresAt time.Time
}

// Presumption is a closed reservation whose real cost nobody reported: what it was charged stands until
// late evidence corrects it.
type Presumption struct {
	Reservation
	Charged Amount
	// Released says that it was given back, because nothing seemed to be billed.
	Released bool
}
