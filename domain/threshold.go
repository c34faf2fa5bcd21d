package domain

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

const (
	thresholdPlaces = 6
	wholeThreshold  = 1_000_000
	// maxThresholdText is more than any share needs: two digits, a point and six places.
	maxThresholdText = 16
)

// ParseThreshold reads a plain decimal of at most six places, such as 0.8. Signs and exponents are
// ErrInvalid; so is a share above what fits, and which shares make sense is for Decide to say.
func ParseThreshold(text string) (Threshold, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	if whole+fraction == "" || len(text) > maxThresholdText || len(fraction) > thresholdPlaces {
		return 0, invalidShare()
	}
	ppm, err := strconv.ParseUint(whole+fraction+strings.Repeat("0", thresholdPlaces-len(fraction)), 10, 63)
	if err != nil {
		return 0, invalidShare()
	}
	return Threshold(ppm), nil
}

func invalidShare() error {
	return invalid("want shares of the limit such as 0.8, with at most %d places", thresholdPlaces)
}

// MarshalJSON writes the shortest decimal, digit by digit, so that 0.1 stays 0.1.
func (t Threshold) MarshalJSON() ([]byte, error) {
	text := fmt.Sprintf("%d.%06d", int64(t)/wholeThreshold, int64(t)%wholeThreshold)
	return []byte(strings.TrimSuffix(strings.TrimRight(text, "0"), ".")), nil
}

// UnmarshalJSON reads a JSON number exactly. See ParseThreshold.
func (t *Threshold) UnmarshalJSON(data []byte) error {
	parsed, err := ParseThreshold(string(data))
	if err != nil {
		return err
	}
	*t = parsed
	return nil
}

// reached tells whether what was spent is the share of a limit, or more. Nothing spent reaches nothing.
func (t Threshold) reached(settled, limit Amount) bool {
	if settled <= 0 {
		return false
	}
	spentHigh, spentLow := bits.Mul64(uint64(settled), wholeThreshold)
	wantHigh, wantLow := bits.Mul64(uint64(max(limit, 0)), uint64(max(t, 0)))
	return spentHigh > wantHigh || (spentHigh == wantHigh && spentLow >= wantLow)
}

// crossings are the thresholds of a budget that an account has reached and nobody was told of, as events. They
// say all that an alert needs, so that who gets one need not ask: by then the balance may be another.
func (s *State) crossings(b *Budget, a *Account, cause ReservationID) []Event {
	var events []Event
	for i, t := range b.AlertsAt {
		if !t.reached(a.Settled, a.Limit) || slices.Contains(a.Crossed, t) || slices.Contains(b.AlertsAt[:i], t) {
			continue
		}
		events = append(events, BudgetThresholdCrossed{
			Budget: b.ID, Account: a.ID, Threshold: t, Limit: a.Limit, Use: a.Settled,
			TenantName: s.Name, Period: b.Period, Scope: b.Scope, Start: a.Window.Start, End: a.Window.End,
			Held: a.Held, Reservation: cause,
		})
	}
	return events
}

// rearm lets the thresholds above what is left of the spend be crossed again. Clones share the old list.
func (a *Account) rearm() {
	a.Crossed = slices.DeleteFunc(slices.Clone(a.Crossed), func(t Threshold) bool { return !t.reached(a.Settled, a.Limit) })
	if len(a.Crossed) == 0 {
		a.Crossed = nil
	}
}

// told adds to events the thresholds that their postings cross.
func (s *State) told(events []Event, postings []Posting) []Event {
	next := 0
	cause := causeOf(events)
	for i := range postings {
		p := &postings[i]
		// Postings mostly have the order of the budgets: nothing is searched then.
		if next >= len(s.Budgets) || s.Budgets[next].ID != p.Budget {
			found, ok := s.indexOf(p.Budget)
			if !ok {
				continue
			}
			next = found
		}
		b := &s.Budgets[next]
		next++
		if len(b.AlertsAt) == 0 {
			continue
		}
		account := Account{ID: p.Account, Limit: p.Limit, Settled: p.Settled, Held: p.Held}
		if a, ok := s.Accounts[p.Account]; ok {
			account.Crossed, account.Window = a.Crossed, a.Window
		} else {
			account.Window = openedIn(events, p.Account)
		}
		events = append(events, s.crossings(b, &account, cause)...)
	}
	return events
}

// openedIn is the window of an account that the same decision opens.
func openedIn(events []Event, account AccountID) Window {
	for _, e := range events {
		if opened, ok := e.(WindowOpened); ok && opened.Account == account {
			return Window{Start: opened.Start, End: opened.End}
		}
	}
	return Window{}
}

// causeOf is the reservation whose money the last event moves, if it is one's.
func causeOf(events []Event) ReservationID {
	if len(events) == 0 {
		return ""
	}
	switch e := events[len(events)-1].(type) { //nolint:gochecksumtype // the others are no reservation's
	case UsageSettled:
		return e.Reservation
	case ReservationExpired:
		return e.Reservation
	case UsageSettledLate:
		return e.Reservation
	case UsageAdjusted:
		return e.Reservation
	}
	return ""
}
