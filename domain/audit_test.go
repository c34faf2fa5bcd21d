package domain_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

// audit is the naive model of the laws: it sees recorded events only, keeps a list of reservations and
// adds everything up anew after each event.
type audit struct {
	version  int64
	time     time.Time
	zone     Zone
	limits   map[BudgetID]Amount
	periods  map[BudgetID]Period
	accounts map[AccountID]*audited
	newest   map[BudgetID]AccountID
	holds    []*hold
}

type audited struct {
	budget     BudgetID
	window     Window
	limit, use Amount
}

type hold struct {
	id       ReservationID
	amount   Amount
	charged  Amount
	state    holdState
	accounts []AccountID
}

type holdState int

const (
	holdOpen holdState = iota
	holdPresumed
	holdClosed
)

func newAudit() *audit {
	return &audit{
		limits: map[BudgetID]Amount{}, periods: map[BudgetID]Period{}, accounts: map[AccountID]*audited{}, newest: map[BudgetID]AccountID{},
	}
}

// see tells which law a recorded event breaks, if any.
func (a *audit) see(r Recorded) error {
	if r.Version != a.version+1 || !r.Time.After(a.time) || r.Time.Location() != time.UTC || !r.Time.Truncate(time.Microsecond).Equal(r.Time) {
		return fmt.Errorf("version %d at %s after version %d at %s", r.Version, r.Time, a.version, a.time)
	}
	a.version, a.time = r.Version, r.Time
	switch e := r.Event.(type) { //nolint:gochecksumtype // the others change nothing that the laws speak of
	case TenantCreated:
		a.zone = e.Zone
	case TenantChanged:
		a.zone = e.Zone
	case BudgetDefined:
		a.limits[e.Budget], a.periods[e.Budget] = e.Limit, e.Period
	case BudgetChanged:
		return a.changed(e)
	case BudgetRetired:
		delete(a.limits, e.Budget)
	case WindowOpened:
		return a.opened(e)
	case UsageReserved:
		return a.reserved(e)
	case UsageSettled:
		if e.Overrun != max(0, e.Charged-e.Reserved) {
			return fmt.Errorf("charged %s of %s, overrun %s", e.Charged, e.Reserved, e.Overrun)
		}
		return a.closed(e.Reservation, holdOpen, e.Reserved, e.Charged, e.Basis == BasisPresumed, e.Postings)
	case ReservationReleased:
		return a.closed(e.Reservation, holdOpen, e.Reserved, 0, false, e.Postings)
	case ReservationExpired:
		return a.closed(e.Reservation, holdOpen, e.Reserved, e.Charged, true, e.Postings)
	case UsageSettledLate:
		if e.Delta != e.Charged-e.WasCharged {
			return fmt.Errorf("late: %s to %s is not %s", e.WasCharged, e.Charged, e.Delta)
		}
		return a.closed(e.Reservation, holdPresumed, e.WasCharged, e.Charged, e.Basis == BasisPresumed, e.Postings)
	}
	return nil
}

func (a *audit) changed(e BudgetChanged) error {
	if e.OldLimit != a.limits[e.Budget] {
		return fmt.Errorf("the old limit was %s, not %s", a.limits[e.Budget], e.OldLimit)
	}
	a.limits[e.Budget] = e.Limit
	account, ok := a.accounts[a.newest[e.Budget]]
	if open := ok && account.window.Contains(a.time); open != (len(e.Postings) == 1) {
		return fmt.Errorf("window open: %v, postings: %d", open, len(e.Postings))
	} else if !open {
		return nil
	}
	account.limit = e.Limit
	if forced := account.use > e.Limit; forced != e.Postings[0].Forced {
		return fmt.Errorf("limit %s, use %s, forced %v", e.Limit, account.use, e.Postings[0].Forced)
	}
	return a.posted([]AccountID{a.newest[e.Budget]}, e.Postings, true)
}

func (a *audit) opened(e WindowOpened) error {
	want := WindowAt(a.periods[e.Budget], a.time, a.zone.Location())
	if before, ok := a.accounts[a.newest[e.Budget]]; ok && want.Start.Before(before.window.End) {
		want.Start = before.window.End // windows never overlap, even after a change of zone
	}
	if e.Start != want.Start || e.End != want.End || !want.Contains(a.time) || e.Zone.String() != a.zone.String() {
		return fmt.Errorf("window %s..%s in %s; want %s..%s in %s", e.Start, e.End, e.Zone, want.Start, want.End, a.zone)
	}
	if int64(e.Account) != a.version || e.Limit != a.limits[e.Budget] || e.Held != 0 || e.Settled != 0 || e.Presumed != 0 {
		return fmt.Errorf("account %+v; want number %d with limit %s, empty", e, a.version, a.limits[e.Budget])
	}
	a.accounts[e.Account] = &audited{budget: e.Budget, window: want, limit: e.Limit}
	a.newest[e.Budget] = e.Account
	return nil
}

func (a *audit) reserved(e UsageReserved) error {
	if a.find(e.Reservation) != nil {
		return fmt.Errorf("reservation %s exists", e.Reservation)
	}
	var accounts []AccountID
	for _, budget := range slices.Sorted(maps.Keys(a.limits)) {
		id := a.newest[budget]
		if account, ok := a.accounts[id]; !ok || !account.window.Contains(a.time) {
			return fmt.Errorf("reserved at %s, outside the window of %s", a.time, budget)
		}
		accounts = append(accounts, id)
	}
	a.holds = append(a.holds, &hold{id: e.Reservation, amount: e.Amount, accounts: accounts})
	for _, p := range e.Postings {
		if p.Forced || p.Settled+p.Held > p.Limit {
			return fmt.Errorf("a reservation left %s+%s of %s, forced %v", p.Settled, p.Held, p.Limit, p.Forced)
		}
	}
	return a.posted(accounts, e.Postings, false)
}

func (a *audit) closed(id ReservationID, from holdState, was, charged Amount, presumed bool, postings []Posting) error {
	h := a.find(id)
	if h == nil || h.state != from {
		return fmt.Errorf("reservation %s is not in state %d: %+v", id, from, h)
	}
	if known := map[holdState]Amount{holdOpen: h.amount, holdPresumed: h.charged}[from]; known != was {
		return fmt.Errorf("reservation %s stood at %s, not %s", id, known, was)
	}
	h.charged, h.state = charged, holdClosed
	if presumed {
		h.state = holdPresumed
	}
	return a.posted(h.accounts, postings, false)
}

func (a *audit) find(id ReservationID) *hold {
	for _, h := range a.holds {
		if h.id == id {
			return h
		}
	}
	return nil
}

// posted checks that postings are to these accounts, carry the sums over all reservations, and leave use
// above the limit only where they are forced or do not raise it.
func (a *audit) posted(accounts []AccountID, postings []Posting, limitMoved bool) error {
	if !slices.EqualFunc(accounts, postings, func(id AccountID, p Posting) bool { return p.Account == id }) {
		return fmt.Errorf("postings %+v; want accounts %v", postings, accounts)
	}
	for _, p := range postings {
		account := a.accounts[p.Account]
		held, settled, presumed := a.sums(p.Account)
		if p.Held != held || p.Settled != settled || p.Presumed != presumed || p.Limit != account.limit || p.Budget != account.budget {
			return fmt.Errorf("posting %+v; want %s+%s, %s presumed, of %s in %s", p, settled, held, presumed, account.limit, account.budget)
		}
		use := held + settled
		if held < 0 || presumed < 0 || settled < presumed {
			return fmt.Errorf("a negative balance: %+v", p)
		}
		if use > p.Limit && !p.Forced && use > account.use {
			return fmt.Errorf("use rose from %s to %s above %s without being forced", account.use, use, p.Limit)
		}
		if p.Forced && (use <= p.Limit || (use <= account.use && !limitMoved)) {
			return fmt.Errorf("forced without need: %+v after %s", p, account.use)
		}
		account.use = use
	}
	return nil
}

func (a *audit) sums(id AccountID) (held, settled, presumed Amount) {
	for _, h := range a.holds {
		if !slices.Contains(h.accounts, id) {
			continue
		}
		switch h.state {
		case holdOpen:
			held += h.amount
		case holdPresumed:
			settled, presumed = settled+h.charged, presumed+h.charged
		case holdClosed:
			settled += h.charged
		}
	}
	return held, settled, presumed
}

// agrees tells where a state differs from what the events add up to.
func (a *audit) agrees(s State) error {
	needed := map[AccountID]bool{}
	for budget := range a.limits {
		if id, ok := a.newest[budget]; ok {
			needed[id] = true
		}
	}
	open, presumed := 0, 0
	for _, h := range a.holds {
		r, isOpen := s.Open[h.id]
		p, isPresumed := s.Presumed[h.id]
		if isOpen != (h.state == holdOpen) || isPresumed != (h.state == holdPresumed) || (isOpen && r.Amount != h.amount) || (isPresumed && p.Charged != h.charged) {
			return fmt.Errorf("reservation %+v: open %v, presumed %v", h, isOpen, isPresumed)
		}
		if h.state == holdClosed {
			continue
		}
		if open++; isPresumed {
			open, presumed = open-1, presumed+1
		}
		for _, id := range h.accounts {
			needed[id] = true
		}
	}
	if len(s.Open) != open || len(s.Presumed) != presumed {
		return fmt.Errorf("%d open and %d presumed; want %d and %d", len(s.Open), len(s.Presumed), open, presumed)
	}
	return a.agreesOnAccounts(s, needed)
}

func (a *audit) agreesOnAccounts(s State, needed map[AccountID]bool) error {
	if len(s.Accounts) != len(needed) || len(s.Budgets) != len(a.limits) || len(s.Current) > len(a.limits) {
		return fmt.Errorf("accounts %v, budgets %v, current %v; want accounts %v of %v", slices.Sorted(maps.Keys(s.Accounts)), s.Budgets, s.Current, needed, a.limits)
	}
	for id := range needed {
		got, ok := s.Accounts[id]
		if !ok {
			return fmt.Errorf("account %d is missing", id)
		}
		want := a.accounts[id]
		held, settled, presumed := a.sums(id)
		if got.Held != held || got.Settled != settled || got.Presumed != presumed || got.Limit != want.limit || got.Window != want.window {
			return fmt.Errorf("account %+v; want %s+%s, %s presumed, of %+v", *got, settled, held, presumed, *want)
		}
		if got.Cap != max(got.Limit, got.Use()) || got.Available() != got.Limit-held-settled {
			return fmt.Errorf("account %+v: the cap is the limit, or use where that is forced above it", *got)
		}
	}
	if !slices.IsSortedFunc(s.Budgets, func(x, y Budget) int { return cmp.Compare(x.ID, y.ID) }) {
		return fmt.Errorf("budgets are not sorted: %v", s.Budgets)
	}
	return nil
}
