package domain

import "time"

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

// Budget is a limit for everything a tenant spends in each window of a period.
type Budget struct {
	ID       BudgetID
	Period   Period
	Scope    Scope
	Limit    Amount
	AlertsAt []Threshold
	Source   Source
}

// Scope narrows a budget to a part of the tenant's requests. The zero Scope is the whole tenant, which
// is all that Decide accepts today.
type Scope struct {
	APIKey KeyID  `json:"apiKey,omitempty"`
	Model  string `json:"model,omitempty"`
	Tag    string `json:"tag,omitempty"`
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

	open int // reservations still open on it; a closed window's account leaves the state with its last
}

// Use is what the window has spent and promised.
func (a Account) Use() Amount { return a.Held + a.Settled }

// Available is what a new reservation may take. It is negative after an overrun or a limit cut.
func (a Account) Available() Amount { return a.Limit - a.Held - a.Settled }

// post assigns the balances an event recorded, and moves the cap by the rule the database repeats.
func (a *Account) post(p Posting, version int64) {
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
}
