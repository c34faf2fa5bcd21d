package domain

import (
	"slices"
	"time"
)

// actorClock caused what time alone has changed.
const actorClock Actor = "clock"

// due is the account a budget has at an instant, and the events that must come before anything is posted to
// it: what aged says, or a window that opens. next is the version of the first of them. It is nil where the
// budget has no window; it may be the state's own, so it is not for changing.
func (s *State) due(b *Budget, now time.Time, next int64) (*Account, []Event) {
	b, account, events := s.aged(b, now)
	if account != nil {
		return account, events
	}
	window, _, ok := s.windowOf(b, now)
	if !ok {
		return nil, nil
	}
	opened := s.opening(b, window, next+int64(len(events)))
	return &Account{
		ID: opened.Account, Budget: b.ID, Period: b.Period, Window: window, Limit: b.Limit,
		Duration: opened.Duration, Oldest: opened.Duration.bucketIn(window),
	}, append(events, opened)
}

// aged is a budget and the account of its open window, if one is, with what time alone has changed in them:
// spend that left a rolling window, then raises that ended. The events say so. Neither is for changing.
func (s *State) aged(b *Budget, now time.Time) (*Budget, *Account, []Event) {
	account := s.Accounts[s.Current[b.ID]]
	if !account.openAt(now) {
		account = nil
	}
	var events []Event
	if account != nil && len(account.Buckets) > 0 {
		var slid Account
		if slid, events = account.slide(now); events != nil {
			account = &slid
		}
	}
	if len(b.Raises) == 0 {
		return b, account, events
	}
	lowered := b.at(now)
	if len(lowered.Raises) == len(b.Raises) {
		return b, account, events
	}
	changed, ended := s.change(account, b, &lowered, raiseEnded, actorClock)
	return &lowered, changed, append(events, ended...)
}

// change is the event that makes one budget of another, in the window that is open too, if one is, and what
// its spend crosses by it. The account is then another.
func (s *State) change(account *Account, b, changed *Budget, reason string, actor Actor) (*Account, []Event) {
	e := BudgetChanged{
		Budget: b.ID, Limit: changed.Limit, OldLimit: b.Limit, AlertsAt: changed.AlertsAt, Source: changed.Source,
		Raises: changed.Raises, Reason: reason, Actor: actor,
	}
	if account == nil {
		return nil, []Event{e}
	}
	a := *account
	a.Limit = changed.Limit
	p := a.posting(move{})
	p.Forced = a.Use() > a.Limit
	e.Postings = []Posting{p}
	crossed := s.crossings(changed, &a, "")
	a.Crossed = slices.Clip(a.Crossed)
	for _, c := range crossed {
		a.Crossed = append(a.Crossed, c.(BudgetThresholdCrossed).Threshold)
	}
	return &a, append([]Event{e}, crossed...)
}

// bucketIn is the first bucket of a rolling window, 0 of another.
func (l Length) bucketIn(w Window) int64 {
	if l == 0 {
		return 0
	}
	return l.bucketOf(w.Start)
}

// opening is the event that opens an empty window under a version.
func (s *State) opening(b *Budget, window Window, version int64) WindowOpened {
	return WindowOpened{
		Account: AccountID(version), Budget: b.ID, Period: b.Period, Start: window.Start, End: window.End,
		Zone: s.Zone, Limit: b.Limit, Duration: b.Span.Duration,
	}
}

// decideAge says what time alone has changed. What is left beyond what one turn may say is still due, and so asked
// for again.
func decideAge(s State, now time.Time) []Event {
	const most = 500 // each a microsecond after the one before: well within turnSlack
	var events []Event
	for i := range s.Budgets {
		if len(events) > most {
			break
		}
		_, _, changed := s.aged(&s.Budgets[i], now)
		events = append(events, changed...)
	}
	return events
}
