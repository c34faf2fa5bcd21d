package sim

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

// maxSkew is that of package eventstore.
const maxSkew = 2 * time.Second

// tables are one tenant's rows.
type tables struct {
	tenant  domain.TenantID
	version int64
	hash    lanes.Hash
	fence   int64
	lock    *session

	events    []domain.Recorded
	accounts  map[domain.AccountID]domain.Account
	holds     map[domain.ReservationID]holdRow
	presumed  map[domain.ReservationID]presumptionRow
	attempts  map[domain.AttemptKey]domain.Attempt
	rolling   []domain.AccountID
	keys      map[domain.KeyID]domain.Key
	budgets   map[domain.BudgetID]domain.Budget
	name      string
	zone      domain.Zone
	rateLimit *int64
	suspended bool
	createdAt time.Time
}

type holdRow struct {
	opened   int64
	amount   domain.Amount
	accounts []domain.AccountID
	expires  time.Time
}

type presumptionRow struct {
	holdRow
	charged  domain.Amount
	released bool
}

func newTables(tenant domain.TenantID) *tables {
	return &tables{
		tenant: tenant, hash: lanes.Genesis(tenant),
		accounts: map[domain.AccountID]domain.Account{}, holds: map[domain.ReservationID]holdRow{},
		presumed: map[domain.ReservationID]presumptionRow{}, attempts: map[domain.AttemptKey]domain.Attempt{},
		keys: map[domain.KeyID]domain.Key{}, budgets: map[domain.BudgetID]domain.Budget{},
	}
}

// exists tells whether the tenant has a head.
func (t *tables) exists() bool { return t.version > 0 }

// expects is the compare of the compare-and-set.
func (t *tables) expects(a lanes.Append, f flaws) bool {
	if !f.noCompare && (t.version != a.Expected || t.hash != a.Prev) {
		return false
	}
	return f.noFence || t.fence == a.Fence
}

// apply makes a change visible.
func (t *tables) apply(c *change) {
	for id, a := range c.accounts {
		if _, known := t.accounts[id]; !known && a.Duration != 0 {
			t.rolling = append(t.rolling, id)
		}
		t.accounts[id] = a
	}
	maps.Copy(t.holds, c.holds)
	for id := range c.closed {
		delete(t.holds, id)
	}
	maps.Copy(t.presumed, c.presumed)
	for id, over := range c.settled {
		if over {
			delete(t.presumed, id)
		}
	}
	for key := range c.freed {
		delete(t.attempts, key)
	}
	maps.Copy(t.attempts, c.attempts)
	t.events = append(t.events, c.records...)
	last := c.records[len(c.records)-1]
	t.version, t.hash = last.Version, last.Hash
	if c.defines != nil {
		c.defines(t)
	}
}

// read is the events after a version, at most limit.
func (t *tables) read(after int64, limit int) []domain.Recorded {
	if after >= int64(len(t.events)) {
		return nil
	}
	tail := t.events[after:]
	return slices.Clone(tail[:min(len(tail), limit)])
}

// load rebuilds the state from the rows, as eventstore does.
func (t *tables) load() domain.State {
	s := domain.NewState(t.tenant)
	if !t.exists() {
		return s
	}
	s.Version, s.LastTime, s.Used = t.version, t.events[t.version-1].Time, true // or not: nobody remembers
	s.Name, s.Zone, s.RateLimit, s.Suspended, s.CreatedAt = t.name, t.zone, t.rateLimit, t.suspended, t.createdAt
	s.Keys = maps.Clone(t.keys)
	for _, b := range t.budgets {
		s.Budgets = append(s.Budgets, b)
	}
	slices.SortFunc(s.Budgets, func(a, b domain.Budget) int { return strings.Compare(string(a.ID), string(b.ID)) })
	wanted := map[domain.AccountID]bool{}
	for _, h := range t.holds {
		s.AdoptReservation(t.reserved(h))
		for _, id := range h.accounts {
			wanted[id] = true
		}
	}
	for _, b := range s.Budgets {
		if a, ok := t.newest(b.ID); ok {
			wanted[a.ID] = true
		}
	}
	for id := range wanted {
		a := t.accounts[id]
		if len(a.Buckets) == 0 {
			a.Buckets = nil
		}
		s.AdoptAccount(a)
	}
	return s
}

// newest is a budget's account whose window begins last.
func (t *tables) newest(budget domain.BudgetID) (newest domain.Account, ok bool) {
	for _, a := range t.accounts {
		if a.Budget == budget && (!ok || a.Window.Start.After(newest.Window.Start)) {
			newest, ok = a, true
		}
	}
	return newest, ok
}

// ages tells whether time alone has changed something.
func (t *tables) ages(now time.Time) bool {
	for _, b := range t.budgets {
		for _, r := range b.Raises {
			if !r.Until.After(now) {
				return true
			}
		}
	}
	for _, id := range t.rolling {
		a := t.accounts[id]
		if _, live := t.budgets[a.Budget]; live && len(a.Buckets) > 0 && !a.SlidesAt().After(now) {
			return true
		}
	}
	return false
}

func (t *tables) reserved(h holdRow) domain.Reservation {
	r := t.events[h.opened-1]
	e, ok := r.Event.(domain.UsageReserved)
	if !ok {
		panic("a hold was opened by another event")
	}
	return domain.Reservation{Request: e.Request, Amount: h.amount, Version: r.Version, At: r.Time, Accounts: slices.Clone(h.accounts), ExpiresAt: h.expires}
}

// adopt puts a presumption into the state, if there is one.
func (t *tables) adopt(s *domain.State, id domain.ReservationID) {
	if p, ok := t.presumed[id]; ok {
		s.AdoptPresumption(domain.Presumption{Reservation: t.reserved(p.holdRow), Charged: p.charged, Released: p.released}, t.rows(p.accounts))
	}
}

// rows are accounts.
func (t *tables) rows(ids []domain.AccountID) []domain.Account {
	var accounts []domain.Account
	for _, id := range ids {
		if a, ok := t.accounts[id]; ok {
			accounts = append(accounts, a)
		}
	}
	return accounts
}

// adoptClosed puts a reservation that is to be adjusted into the state: its presumption, or what charged it last.
func (t *tables) adoptClosed(s *domain.State, id domain.ReservationID) {
	if t.adopt(s, id); s.Presumed[id].Version > 0 {
		return
	}
	for _, r := range slices.Backward(t.events) {
		if of, ok := reservationOf(r.Event); !ok || of != id {
			continue
		}
		if closed, ok := domain.ClosedBy(r); ok {
			s.AdoptClosed(closed, t.rows(closed.Accounts))
			return
		}
	}
}

// adoptAttempt puts what an idempotency key was used for into the state.
func (t *tables) adoptAttempt(s *domain.State, key domain.AttemptKey) {
	a, ok := t.attempts[key]
	if known, knows := s.Attempts[key]; ok && (!knows || a.At.After(known.At)) {
		s.AdoptAttempt(a)
	}
}

// past answers what a window had cost, and puts its presumptions of the scope into the state, but for what was given back.
func (t *tables) past(s *domain.State, past domain.Past) domain.Past {
	for _, r := range t.events {
		past.Add(r)
	}
	for id, p := range t.presumed {
		if !p.released && past.Window.Contains(t.events[p.opened-1].Time) && past.Scope.Matches(t.reserved(p.holdRow).Request) {
			t.adopt(s, id)
		}
	}
	return past
}
