package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

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
	accounts []domain.AccountID
	expires  time.Time
}

type presumptionRow struct {
	holdRow
	charged domain.Amount
}

func newTables(tenant domain.TenantID) *tables {
	return &tables{
		tenant: tenant, hash: lanes.Genesis(tenant),
		accounts: map[domain.AccountID]domain.Account{}, holds: map[domain.ReservationID]holdRow{},
		presumed: map[domain.ReservationID]presumptionRow{},
		keys:     map[domain.KeyID]domain.Key{}, budgets: map[domain.BudgetID]domain.Budget{},
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

// change is what one append makes of a tenant's rows, until it is committed.
type change struct {
	tenant   domain.TenantID
	records  []domain.Recorded
	accounts map[domain.AccountID]domain.Account // as they become
	holds    map[domain.ReservationID]holdRow    // new ones
	presumed map[domain.ReservationID]presumptionRow
	closed   map[domain.ReservationID]bool // of holds
	settled  map[domain.ReservationID]bool // of presumptions
	defines  func(*tables)
}

// refuse is an error that a constraint or a count of ledger_append raises.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", lanes.ErrRefusedByDatabase, fmt.Sprintf(format, args...))
}

// change checks everything that ledger_append does, in its order.
func (t *tables) change(a lanes.Append, f flaws) (*change, error) {
	for i, r := range a.Records {
		if r.Version != a.Expected+int64(i)+1 {
			return nil, refuse("the events do not lead to the heads")
		}
		if id, ok := reservationOf(r.Event); ok {
			if _, err := uuid.Parse(string(id)); err != nil {
				return nil, fmt.Errorf("%w: reservation id: %w", lanes.ErrUndecidable, err)
			}
		}
	}
	c := &change{
		tenant: a.Tenant, records: a.Records,
		accounts: map[domain.AccountID]domain.Account{}, holds: map[domain.ReservationID]holdRow{},
		presumed: map[domain.ReservationID]presumptionRow{},
		closed:   map[domain.ReservationID]bool{}, settled: map[domain.ReservationID]bool{},
	}
	if err := c.openWindows(t); err != nil {
		return nil, err
	}
	if err := c.post(t, f); err != nil {
		return nil, err
	}
	return c, c.move(t)
}

// reservationOf is the reservation whose row an event moves.
func reservationOf(e domain.Event) (domain.ReservationID, bool) {
	switch e := e.(type) { //nolint:gochecksumtype // the others move none
	case domain.UsageReserved:
		return e.Reservation, true
	case domain.UsageSettled:
		return e.Reservation, true
	case domain.ReservationReleased:
		return e.Reservation, true
	case domain.ReservationExpired:
		return e.Reservation, true
	case domain.UsageSettledLate:
		return e.Reservation, true
	}
	return "", false
}

// openWindows inserts accounts.
func (c *change) openWindows(t *tables) error {
	for _, r := range c.records {
		e, ok := r.Event.(domain.WindowOpened)
		if !ok {
			continue
		}
		if _, taken := t.accounts[e.Account]; taken || c.accounts[e.Account].ID != 0 {
			return refuse("account %d is there already", e.Account)
		}
		for _, old := range t.accounts {
			if old.Budget == e.Budget && old.Window.Start.Equal(e.Start) {
				return refuse("budget %s has a window at %s already", e.Budget, e.Start)
			}
		}
		a := domain.Account{
			ID: e.Account, Budget: e.Budget, Period: e.Period, Window: domain.Window{Start: e.Start, End: e.End},
			Limit: e.Limit, Held: e.Held, Settled: e.Settled, Presumed: e.Presumed,
			Cap: max(e.Limit, e.Held+e.Settled), Version: int64(e.Account),
		}
		if !a.Window.Start.Before(a.Window.End) {
			return refuse("account_window")
		}
		c.accounts[e.Account] = a
	}
	return nil
}

// post sets each account to its last posting. The whole append counts as forced for an account if one of
// its postings was.
func (c *change) post(t *tables, f flaws) error {
	last := map[domain.AccountID]domain.Posting{}
	version := map[domain.AccountID]int64{}
	for _, r := range c.records {
		for _, p := range domain.Postings(r.Event) {
			p.Forced = p.Forced || last[p.Account].Forced
			last[p.Account], version[p.Account] = p, r.Version
		}
	}
	for _, id := range slices.Sorted(maps.Keys(last)) {
		p := last[id]
		a, ok := c.accounts[id]
		if !ok {
			a, ok = t.accounts[id]
		}
		if !ok || a.Version >= version[id] {
			return refuse("no account %d to update", id)
		}
		a.Limit, a.Held, a.Settled, a.Presumed, a.Version = p.Limit, p.Held, p.Settled, p.Presumed, version[id]
		use := a.Held + a.Settled
		switch {
		case p.Forced:
			a.Cap = max(a.Limit, use)
		case f.noRatchet:
			a.Cap = max(a.Limit, a.Cap)
		default:
			a.Cap = max(a.Limit, min(a.Cap, use))
		}
		if err := check(a); err != nil && !f.noCheck {
			return err
		}
		c.accounts[id] = a
	}
	return nil
}

// check is the CHECKs of table account.
func check(a domain.Account) error {
	switch {
	case a.Limit < 0 || a.Held < 0 || a.Settled < 0 || a.Presumed < 0 || a.Presumed > a.Settled:
		return refuse("a balance of account %d is out of bounds", a.ID)
	case a.Held+a.Settled > a.Cap:
		return refuse("account_no_overspend: account %d has %s held and %s settled of %s", a.ID, a.Held, a.Settled, a.Cap)
	}
	return nil
}

// move opens and closes reservations: first all holds are inserted, then presumptions, then holds deleted,
// then late evidence counts.
func (c *change) move(t *tables) error {
	for _, r := range c.records {
		e, ok := r.Event.(domain.UsageReserved)
		if !ok {
			continue
		}
		if _, open := t.holds[e.Reservation]; open || c.holds[e.Reservation].opened > 0 {
			return refuse("hold %s is there already", e.Reservation)
		}
		h := holdRow{opened: r.Version, expires: e.ExpiresAt}
		for _, p := range e.Postings {
			h.accounts = append(h.accounts, p.Account)
		}
		c.holds[e.Reservation] = h
	}
	for _, r := range c.records {
		var err error
		switch e := r.Event.(type) { //nolint:gochecksumtype // the others close nothing
		case domain.UsageSettled:
			err = c.close(t, e.Reservation, e.Charged, e.Basis == domain.BasisPresumed)
		case domain.ReservationReleased:
			err = c.close(t, e.Reservation, 0, false)
		case domain.ReservationExpired:
			err = c.close(t, e.Reservation, e.Charged, true)
		}
		if err != nil {
			return err
		}
	}
	for _, r := range c.records {
		if e, ok := r.Event.(domain.UsageSettledLate); ok {
			if err := c.late(t, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *change) close(t *tables, id domain.ReservationID, charged domain.Amount, presumed bool) error {
	h, ok := c.holds[id]
	if !ok {
		h, ok = t.holds[id]
	}
	if !ok || c.closed[id] {
		return refuse("no hold %s to close", id)
	}
	c.closed[id] = true
	if !presumed {
		return nil
	}
	if _, taken := t.presumed[id]; taken {
		return refuse("presumption %s is there already", id)
	}
	c.presumed[id] = presumptionRow{holdRow: h, charged: charged}
	return nil
}

func (c *change) late(t *tables, e domain.UsageSettledLate) error {
	p, ok := c.presumed[e.Reservation]
	if !ok {
		p, ok = t.presumed[e.Reservation]
	}
	if !ok {
		return refuse("no presumption %s to correct", e.Reservation)
	}
	c.settled[e.Reservation] = e.Basis != domain.BasisPresumed // of several in a turn the last one counts
	p.charged = e.Charged
	c.presumed[e.Reservation] = p
	return nil
}

// define keeps what the events define. after is the state they lead to.
func (c *change) define(after domain.State) {
	name, zone, rate, suspended, created := after.Name, after.Zone, after.RateLimit, after.Suspended, after.CreatedAt
	c.defines = func(t *tables) {
		t.name, t.zone, t.rateLimit, t.suspended, t.createdAt = name, zone, rate, suspended, created
		for _, r := range c.records {
			switch e := r.Event.(type) { //nolint:gochecksumtype // the others define nothing with a row of its own
			case domain.APIKeyIssued:
				t.keys[e.KeyID] = domain.Key{
					ID: e.KeyID, Name: e.Name, Prefix: e.Prefix, Hash: e.KeyHash, CreatedAt: r.Time,
					ExpiresAt: e.ExpiresAt, Models: e.Models, Tags: e.Tags,
				}
			case domain.APIKeyRevoked:
				k, at := t.keys[e.KeyID], r.Time
				k.RevokedAt = &at
				t.keys[e.KeyID] = k
			case domain.BudgetDefined:
				t.budgets[e.Budget] = domain.Budget{ID: e.Budget, Period: e.Period, Scope: e.Scope, Limit: e.Limit, AlertsAt: e.AlertsAt, Source: e.Source}
			case domain.BudgetChanged:
				b := t.budgets[e.Budget]
				b.Limit, b.AlertsAt, b.Source = e.Limit, e.AlertsAt, e.Source
				t.budgets[e.Budget] = b
			case domain.BudgetRetired:
				delete(t.budgets, e.Budget)
			}
		}
	}
}

// apply makes a change visible.
func (t *tables) apply(c *change) {
	maps.Copy(t.accounts, c.accounts)
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
	s.Version, s.LastTime = t.version, t.events[t.version-1].Time
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
		s.AdoptAccount(t.accounts[id])
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

func (t *tables) reserved(h holdRow) domain.Reservation {
	r := t.events[h.opened-1]
	e, ok := r.Event.(domain.UsageReserved)
	if !ok {
		panic("a hold was opened by another event")
	}
	return domain.Reservation{Request: e.Request, Amount: e.Amount, Version: r.Version, At: r.Time, Accounts: slices.Clone(h.accounts), ExpiresAt: e.ExpiresAt}
}

// adopt puts a presumption into the state, if there is one.
func (t *tables) adopt(s *domain.State, id domain.ReservationID) {
	p, ok := t.presumed[id]
	if !ok {
		return
	}
	var accounts []domain.Account
	for _, a := range p.accounts {
		accounts = append(accounts, t.accounts[a])
	}
	s.AdoptPresumption(domain.Presumption{Reservation: t.reserved(p.holdRow), Charged: p.charged}, accounts)
}
