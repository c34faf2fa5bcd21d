package domain

import "time"

// actorClock caused what time alone has changed.
const actorClock Actor = "clock"

// due is the account a budget has at an instant, and the events that must come before anything is posted to
// it: raises that ended, spend that left a rolling window, a window that opens. next is the version of the
// first of them. It is false where the budget has no window.
func (s State) due(b Budget, now time.Time, next int64) (account Account, events []Event, ok bool) {
	b, events = s.lowered(b, now)
	window, current, ok := s.windowOf(b, now)
	if current == nil {
		opened := s.opening(b, window, next+int64(len(events)))
		return Account{
			ID: opened.Account, Budget: b.ID, Period: b.Period, Window: window, Limit: b.Limit,
			Duration: opened.Duration, Oldest: opened.Duration.bucketIn(window),
		}, append(events, opened), ok
	}
	account = *current
	account.Limit = b.Limit
	account, slid := account.slide(now)
	return account, append(events, slid...), true
}

// bucketIn is the first bucket of a rolling window, 0 of another.
func (l Length) bucketIn(w Window) int64 {
	if l == 0 {
		return 0
	}
	return l.bucketOf(w.Start)
}

// opening is the event that opens an empty window under a version.
func (s State) opening(b Budget, window Window, version int64) WindowOpened {
	return WindowOpened{
		Account: AccountID(version), Budget: b.ID, Period: b.Period, Start: window.Start, End: window.End,
		Zone: s.Zone, Limit: b.Limit, Duration: b.Span.Duration,
	}
}

// lowered is a budget without the raises that have ended, and the events that say so.
func (s State) lowered(b Budget, now time.Time) (Budget, []Event) {
	if len(b.Raises) == 0 {
		return b, nil
	}
	lowered := b.at(now)
	if len(lowered.Raises) == len(b.Raises) {
		return b, nil
	}
	return lowered, s.change(b, lowered, "raise_ended", actorClock, now)
}

func decideAge(s State, now time.Time) []Event {
	var events []Event
	for _, b := range s.Budgets {
		lowered, ended := s.lowered(b, now)
		events = append(events, ended...)
		if _, account, _ := s.windowOf(lowered, now); account != nil && account.rolls() {
			a := *account
			a.Limit = lowered.Limit
			_, slid := a.slide(now)
			events = append(events, slid...)
		}
	}
	return events
}
