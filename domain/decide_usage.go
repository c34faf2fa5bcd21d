package domain

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

func decideReserve(s State, c Reserve, now time.Time) ([]Event, error) {
	if err := checkReserve(s, c, now); err != nil {
		return nil, err
	}
	var events []Event
	postings := make([]Posting, 0, len(s.Budgets))
	var refused *BudgetExceededError
	for _, b := range s.Budgets {
		window, account := s.windowOf(b, now)
		if account == nil {
			opened := WindowOpened{
				Account: AccountID(s.Version + int64(len(events)) + 1), Budget: b.ID, Period: b.Period,
				Start: window.Start, End: window.End, Zone: s.Zone, Limit: b.Limit,
			}
			events = append(events, opened)
			account = &Account{ID: opened.Account, Budget: b.ID, Window: window, Limit: b.Limit}
		}
		if room := account.Available(); room < c.Amount && (refused == nil || room < refused.Limit-refused.Settled-refused.Held) {
			refused = &BudgetExceededError{
				Budget: b.ID, Period: b.Period, Scope: b.Scope, Window: window,
				Limit: account.Limit, Settled: account.Settled, Held: account.Held, Requested: c.Amount, At: now,
			}
		}
		postings = append(postings, Posting{
			Account: account.ID, Budget: b.ID, Limit: account.Limit,
			Settled: account.Settled, Held: account.Held + c.Amount, Presumed: account.Presumed,
		})
	}
	if refused != nil {
		return nil, refused
	}
	return append(events, UsageReserved{
		Request: c.Request, Amount: c.Amount, ExpiresAt: now.Add(c.TTL).UTC().Truncate(time.Microsecond), Postings: postings,
	}), nil
}

func checkReserve(s State, c Reserve, now time.Time) error {
	switch {
	case s.Suspended:
		return ErrTenantSuspended
	case c.Reservation == "":
		return invalid("a reservation needs an id")
	case !c.encodable():
		return invalid("a reservation's texts must be UTF-8")
	case c.Amount < 0 || c.Amount > MaxAmount:
		return invalid("reservation of %s USD: want 0 to %s", c.Amount, MaxAmount)
	case c.TTL <= 0 || c.TTL > maxTTL:
		return invalid("reservation life of %s: want more than 0, at most %s", c.TTL, maxTTL)
	}
	_, open := s.Open[c.Reservation]
	if _, presumed := s.Presumed[c.Reservation]; open || presumed {
		return fmt.Errorf("%w: %s", ErrReservationExists, c.Reservation)
	}
	if c.Keyless && len(s.Keys) > 0 {
		return ErrKeyUnusable
	}
	if c.KeyID == "" {
		return nil
	}
	if k, ok := s.Keys[c.KeyID]; !ok || !k.usable(now) {
		return ErrKeyUnusable
	}
	return nil
}

// encodable tells whether the texts of a request survive JSON as they are. Those of a closing command are
// repaired instead (validText): a charge is never refused for the bytes of its reason.
func (r Request) encodable() bool {
	for _, text := range []string{
		string(r.Reservation), r.RequestID, r.Route, r.Provider, r.Model, string(r.Tier), string(r.KeyID),
		r.Estimate.Basis, r.Prices, r.Policy, r.Idempotency, r.Fingerprint, r.Gateway,
	} {
		if !storable(text) {
			return false
		}
	}
	for name, value := range r.Tags {
		if !storable(name) || !storable(value) {
			return false
		}
	}
	return true
}

// storable tells whether text survives JSON and Postgres, which has no NUL, as it is.
func storable(text string) bool { return utf8.ValidString(text) && !strings.ContainsRune(text, 0) }

// validText is text as it will be stored.
func validText(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

func decideSettle(s State, c Settle) ([]Event, error) {
	if c.Charged < 0 || c.Charged > MaxAmount {
		return nil, invalid("charge of %s USD: want 0 to %s", c.Charged, MaxAmount)
	}
	if p, ok := s.Presumed[c.Reservation]; ok {
		return settleLate(s, p, c)
	}
	r, ok := s.Open[c.Reservation]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrReservationUnknown, c.Reservation)
	}
	postings, err := s.postings(r.Accounts, move{held: -r.Amount, settled: c.Charged, presumed: c.presumed()})
	if err != nil {
		return nil, err
	}
	return []Event{UsageSettled{
		Request: r.Request, ReservedAt: r.At, Reserved: r.Amount, Charged: c.Charged, Overrun: max(0, c.Charged-r.Amount),
		Basis: c.Basis, Usage: c.Usage, AnsweredModel: validText(c.AnsweredModel), AnsweredTier: c.AnsweredTier, Reason: validText(c.Reason),
		Postings: postings,
	}}, nil
}

// presumed is the part of the charge that rests on no evidence: all of it or nothing.
func (c Settle) presumed() Amount {
	if c.Basis == BasisPresumed {
		return c.Charged
	}
	return 0
}

// settleLate replaces a presumed charge by what evidence says; the windows are those of the reservation.
func settleLate(s State, p Presumption, c Settle) ([]Event, error) {
	if c.Basis == BasisPresumed && c.Charged == p.Charged {
		return nil, nil // expired meanwhile, and charged the same: no evidence, nothing new
	}
	delta := c.Charged - p.Charged // both are within ±MaxAmount
	postings, err := s.postings(p.Accounts, move{settled: delta, presumed: c.presumed() - p.Charged})
	if err != nil {
		return nil, err
	}
	return []Event{UsageSettledLate{
		Request: p.Request, ReservedAt: p.At, WasCharged: p.Charged, Charged: c.Charged, Delta: delta,
		Basis: c.Basis, Usage: c.Usage, AnsweredModel: validText(c.AnsweredModel), AnsweredTier: c.AnsweredTier,
		Reason: validText(c.Reason), Postings: postings,
	}}, nil
}

func decideSettlePresumed(s State, c SettlePresumed) ([]Event, error) {
	if p, ok := s.Presumed[c.Reservation]; ok {
		return settleLate(s, p, Settle{Reservation: c.Reservation, Charged: p.Amount, Basis: BasisPresumed, Reason: c.Reason})
	}
	r, ok := s.Open[c.Reservation]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrReservationUnknown, c.Reservation)
	}
	postings, err := s.postings(r.Accounts, move{held: -r.Amount, settled: r.Amount, presumed: r.Amount})
	if err != nil {
		return nil, err
	}
	return []Event{UsageSettled{
		Request: r.Request, ReservedAt: r.At, Reserved: r.Amount, Charged: r.Amount, Basis: BasisPresumed,
		Reason: validText(c.Reason), Postings: postings,
	}}, nil
}

func decideRelease(s State, c Release) ([]Event, error) {
	if p, ok := s.Presumed[c.Reservation]; ok {
		return settleLate(s, p, Settle{Reservation: c.Reservation, Basis: BasisProvider, Reason: c.Reason})
	}
	r, ok := s.Open[c.Reservation]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrReservationUnknown, c.Reservation)
	}
	postings, err := s.postings(r.Accounts, move{held: -r.Amount})
	if err != nil {
		return nil, err
	}
	return []Event{ReservationReleased{
		Request: r.Request, ReservedAt: r.At, Reserved: r.Amount, Reason: validText(c.Reason), Postings: postings,
	}}, nil
}

func decideExpire(s State, c Expire, now time.Time) ([]Event, error) {
	r, ok := s.Open[c.Reservation]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrReservationUnknown, c.Reservation)
	}
	if now.Before(r.ExpiresAt) && (!c.Orphaned || c.Free) {
		return nil, invalid("reservation %s lives until %s", c.Reservation, r.ExpiresAt)
	}
	charged, reason := r.Amount, ""
	if c.Free {
		charged = 0
	}
	if c.Orphaned {
		reason = ReasonOrphaned
	}
	postings, err := s.postings(r.Accounts, move{held: -r.Amount, settled: charged, presumed: charged})
	if err != nil {
		return nil, err
	}
	return []Event{ReservationExpired{
		Request: r.Request, ReservedAt: r.At, Reserved: r.Amount, Charged: charged, Reason: reason, Postings: postings,
	}}, nil
}

// maxBalance bounds held and settled of one account, so that limit, held and settled can be added and
// subtracted in any order within an int64.
const maxBalance = 4 * MaxAmount

// move is what a closing event adds to each account it touches.
type move struct{ held, settled, presumed Amount }

// postings are the balances that result from a move on each account, checked for overflow. One that
// leaves use above the limit is forced: closing a reservation records the truth and is never refused.
func (s State) postings(accounts []AccountID, m move) ([]Posting, error) {
	postings := make([]Posting, 0, len(accounts))
	for _, id := range accounts {
		a, ok := s.Accounts[id]
		if !ok {
			return nil, fmt.Errorf("account %d of tenant %s is not loaded: a bug, not an input", id, s.Tenant)
		}
		held, errHeld := a.Held.Plus(m.held)
		settled, errSettled := a.Settled.Plus(m.settled)
		if errHeld != nil || errSettled != nil || held > maxBalance || settled > maxBalance {
			return nil, fmt.Errorf("%w: account %d of tenant %s overflows", ErrAmount, id, s.Tenant)
		}
		postings = append(postings, Posting{
			Account: id, Budget: a.Budget, Limit: a.Limit, Settled: settled, Held: held,
			Presumed: a.Presumed + m.presumed, Forced: settled+held > a.Limit && m.settled > -m.held,
		})
	}
	return postings, nil
}
