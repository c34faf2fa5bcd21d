package domain

import (
	"errors"
	"fmt"
	"time"
)

// Why a command is refused. Every refusal wraps one of these kinds, which the edges map to a status.
var (
	ErrInvalid            = errors.New("invalid")
	ErrTenantUnknown      = errors.New("unknown tenant")
	ErrTenantExists       = errors.New("tenant exists")
	ErrTenantSuspended    = errors.New("tenant suspended")
	ErrKeyUnusable        = errors.New("unknown, expired or revoked api key")
	ErrKeyUnknown         = errors.New("unknown api key")
	ErrBudgetUnknown      = errors.New("unknown budget")
	ErrBudgetExceeded     = errors.New("budget exceeded")
	ErrReservationUnknown = errors.New("no such reservation, or it is closed")
	ErrReservationExists  = errors.New("reservation exists")
)

// ErrUnavailable says that the ledger cannot commit now. Nothing was decided, or whether it was is not
// known yet; the caller must not act as if it had been.
var ErrUnavailable = errors.New("ledger unavailable")

// invalid is an ErrInvalid that says what is wrong, for the person who sent it.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// BudgetExceededError says which budget has no room, and what it looked like at the decision. Its kind
// is ErrBudgetExceeded.
type BudgetExceededError struct {
	Budget  BudgetID
	Period  Period
	Scope   Scope
	Window  Window
	Limit   Amount
	Settled Amount
	Held    Amount
	// Presumed is the part of Settled that holds without a known outcome were charged.
	Presumed  Amount
	Requested Amount
	At        time.Time
}

// room is the amount that the budget had left, negative after an overrun.
func (e *BudgetExceededError) room() Amount { return e.Limit - e.Settled - e.Held }

// Error implements error.
func (e *BudgetExceededError) Error() string {
	return fmt.Sprintf("budget exceeded: %s budget of %s USD has %s spent and %s reserved; %s requested",
		e.Period, e.Limit, e.Settled, e.Held, e.Requested)
}

// Unwrap makes errors.Is(err, ErrBudgetExceeded) true.
func (e *BudgetExceededError) Unwrap() error { return ErrBudgetExceeded }
