package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

// change is what one append makes of a tenant's rows, until it is committed.
type change struct {
	tenant   domain.TenantID
	records  []domain.Recorded
	accounts map[domain.AccountID]domain.Account // as they become
	holds    map[domain.ReservationID]holdRow    // new and extended ones
	presumed map[domain.ReservationID]presumptionRow
	closed   map[domain.ReservationID]bool // of holds
	settled  map[domain.ReservationID]bool // of presumptions
	attempts map[domain.AttemptKey]domain.Attempt
	freed    map[domain.AttemptKey]bool
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
		attempts: map[domain.AttemptKey]domain.Attempt{}, freed: map[domain.AttemptKey]bool{},
	}
	if err := c.openWindows(t); err != nil {
		return nil, err
	}
	if err := c.post(t, a.Rolling, f); err != nil {
		return nil, err
	}
	if err := c.move(t); err != nil {
		return nil, err
	}
	return c, c.try(t)
}

// reservationOf is the reservation whose row an event moves.
func reservationOf(e domain.Event) (domain.ReservationID, bool) {
	switch e := e.(type) { //nolint:gochecksumtype // the others move none
	case domain.UsageReserved:
		return e.Reservation, true
	case domain.ReservationExtended:
		return e.Reservation, true
	case domain.UsageSettled:
		return e.Reservation, true
	case domain.ReservationReleased:
		return e.Reservation, true
	case domain.ReservationExpired:
		return e.Reservation, true
	case domain.UsageSettledLate:
		return e.Reservation, true
	case domain.UsageAdjusted:
		return e.Reservation, e.Confirmed
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
			Cap: max(e.Limit, e.Held+e.Settled), Version: int64(e.Account), Crossed: c.crossed(e.Account),
		}
		if e.Duration != 0 {
			opened := domain.OpenedAccount(e)
			a.Duration, a.Oldest, a.Buckets = opened.Duration, opened.Oldest, slices.Clone(opened.Buckets)
		}
		if !a.Window.Start.Before(a.Window.End) {
			return refuse("account_window")
		}
		if err := check(a); err != nil {
			return err
		}
		c.accounts[e.Account] = a
	}
	return nil
}

// crossed are the thresholds that the append says an account has reached.
func (c *change) crossed(account domain.AccountID) []domain.Threshold {
	var crossed []domain.Threshold
	for _, r := range c.records {
		if e, ok := r.Event.(domain.BudgetThresholdCrossed); ok && e.Account == account {
			crossed = append(crossed, e.Threshold)
		}
	}
	return crossed
}

// post sets each account to its last posting. The whole append counts as forced for an account if one of
// its postings was.
func (c *change) post(t *tables, rolling []domain.Account, f flaws) error {
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
		opened, inserted := c.accounts[id]
		a, ok := opened, inserted
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
		c.roll(&a, rolling, inserted)
		if err := check(a); err != nil && !f.noCheck {
			return err
		}
		c.accounts[id] = a
	}
	return nil
}

// roll gives an account that was posted to what only the append knows of it: the buckets of a rolling one, and
// the thresholds, which a rolling one says anew and another one adds. Where the append says nothing of a rolling
// account its buckets are lost, as they would be in Postgres.
func (c *change) roll(a *domain.Account, rolling []domain.Account, inserted bool) {
	a.Oldest, a.Buckets = 0, nil
	for _, r := range slices.Backward(rolling) {
		if r.ID == a.ID {
			a.Oldest, a.Buckets, a.Crossed = r.Oldest, slices.Clone(r.Buckets), slices.Clone(r.Crossed)
			if a.Buckets == nil {
				a.Buckets = []domain.Bucket{}
			}
			return
		}
	}
	if !inserted { // else openWindows has them
		a.Crossed = append(slices.Clip(a.Crossed), c.crossed(a.ID)...)
	}
}

// check is the CHECKs of table account.
func check(a domain.Account) error {
	var settled, presumed domain.Amount
	for _, b := range a.Buckets {
		settled, presumed = settled+b.Settled, presumed+b.Presumed
	}
	switch {
	case a.Limit < 0 || a.Held < 0 || a.Settled < 0 || a.Presumed < 0 || a.Presumed > a.Settled:
		return refuse("a balance of account %d is out of bounds", a.ID)
	case a.Held+a.Settled > a.Cap:
		return refuse("account_no_overspend: account %d has %s held and %s settled of %s", a.ID, a.Held, a.Settled, a.Cap)
	case a.Buckets != nil && (settled != a.Settled || presumed != a.Presumed):
		return refuse("account_buckets: account %d has %s settled, and its buckets %s", a.ID, a.Settled, settled)
	}
	return nil
}

// move opens and closes reservations: first all holds are inserted and extended, then presumptions, then holds
// deleted, then late evidence counts.
func (c *change) move(t *tables) error {
	for _, r := range c.records {
		e, ok := r.Event.(domain.UsageReserved)
		if !ok {
			continue
		}
		if _, open := t.holds[e.Reservation]; open || c.holds[e.Reservation].opened > 0 {
			return refuse("hold %s is there already", e.Reservation)
		}
		h := holdRow{opened: r.Version, amount: e.Amount, expires: e.ExpiresAt}
		for _, p := range e.Postings {
			h.accounts = append(h.accounts, p.Account)
		}
		c.holds[e.Reservation] = h
	}
	for _, r := range c.records {
		if e, ok := r.Event.(domain.ReservationExtended); ok {
			h, ok := c.hold(t, e.Reservation)
			if !ok {
				return refuse("no hold %s to extend", e.Reservation)
			}
			h.amount, h.expires = e.Amount, e.ExpiresAt
			c.holds[e.Reservation] = h
		}
	}
	for _, r := range c.records {
		var err error
		switch e := r.Event.(type) { //nolint:gochecksumtype // the others close nothing
		case domain.UsageSettled:
			err = c.close(t, e.Reservation, e.Charged, e.Basis == domain.BasisPresumed, false)
		case domain.ReservationReleased:
			err = c.close(t, e.Reservation, 0, true, true)
		case domain.ReservationExpired:
			err = c.close(t, e.Reservation, e.Charged, true, false)
		}
		if err != nil {
			return err
		}
	}
	for _, r := range c.records {
		var err error
		switch e := r.Event.(type) { //nolint:gochecksumtype // the others correct nothing
		case domain.UsageSettledLate:
			err = c.late(t, e.Reservation, e.Charged, e.Basis != domain.BasisPresumed)
		case domain.UsageAdjusted:
			if e.Confirmed {
				err = c.late(t, e.Reservation, 0, true)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// hold is a hold's row as the append has left it.
func (c *change) hold(t *tables, id domain.ReservationID) (holdRow, bool) {
	if h, ok := c.holds[id]; ok {
		return h, true
	}
	h, ok := t.holds[id]
	return h, ok
}

func (c *change) close(t *tables, id domain.ReservationID, charged domain.Amount, presumed, released bool) error {
	h, ok := c.hold(t, id)
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
	c.presumed[id] = presumptionRow{holdRow: h, charged: charged, released: released}
	return nil
}

// late corrects a presumption, or ends it. Of several in an append the last one counts.
func (c *change) late(t *tables, id domain.ReservationID, charged domain.Amount, over bool) error {
	p, ok := c.presumed[id]
	if !ok {
		p, ok = t.presumed[id]
	}
	if !ok {
		return refuse("no presumption %s to correct", id)
	}
	c.settled[id] = over
	p.charged, p.released = charged, false
	c.presumed[id] = p
	return nil
}

// try is what the append makes of idempotency keys: one that is given back is forgotten, and one that pays for
// another request by now is left alone.
func (c *change) try(t *tables) error {
	for _, a := range attemptsOf(c.records) {
		old, known := t.attempts[a.AttemptKey]
		if a.State == "" {
			if known && old.Reservation == a.Reservation {
				c.freed[a.AttemptKey] = true
			}
			continue
		}
		if _, twice := c.attempts[a.AttemptKey]; twice {
			return fmt.Errorf("%w: an idempotency key cannot change twice", lanes.ErrDenied)
		}
		if known && !c.freed[a.AttemptKey] {
			same := old.Reservation == a.Reservation
			if !same && !old.At.Before(a.At.Add(-domain.AttemptLife)) {
				continue
			}
			if same {
				a.Version = max(a.Version, old.Version)
			}
		}
		c.attempts[a.AttemptKey] = a.Attempt
	}
	return nil
}

// attemptRow is what an append says of an idempotency key.
type attemptRow struct {
	domain.Attempt
	fresh bool // nobody may have used the key before
}

// attemptsOf are the rows that eventstore makes of records: those that are given back, and for each key the
// request that has it in the end.
func attemptsOf(records []domain.Recorded) []attemptRow {
	type holder struct {
		row int // that has the key, or -1
		at  time.Time
	}
	var rows []attemptRow
	holders := map[domain.AttemptKey]holder{}
	for _, r := range records {
		a, ok := domain.AttemptAfter(r)
		if !ok {
			continue
		}
		h, touched := holders[a.AttemptKey]
		has := touched && h.row >= 0
		takes := a.State == domain.AttemptHeld || a.State == domain.AttemptAdjusted
		fresh := takes && (!touched || a.At.Sub(h.at) > domain.AttemptLife)
		switch {
		case has && rows[h.row].Reservation == a.Reservation:
			rows[h.row].State, rows[h.row].Charged = a.State, a.Charged
		case has && takes:
			rows[h.row] = attemptRow{a, fresh}
		case has:
			continue
		default:
			h.row = len(rows)
			rows = append(rows, attemptRow{a, fresh})
		}
		if h.at = a.At; a.State == "" {
			h.row = -1
		}
		holders[a.AttemptKey] = h
	}
	return rows
}

// used tells whether an append takes an idempotency key for new that was used within its life.
func (t *tables) used(a lanes.Append) bool {
	for _, row := range attemptsOf(a.Records) {
		if old, known := t.attempts[row.AttemptKey]; known && row.fresh && !old.At.Before(row.At.Add(-domain.AttemptLife)) {
			return true
		}
	}
	return false
}

// define keeps what the events define. after is the state they lead to. It refuses the id of a budget that had
// windows before it was defined.
func (c *change) define(t *tables, after domain.State) error {
	for _, r := range c.records {
		e, ok := r.Event.(domain.BudgetDefined)
		if !ok {
			continue
		}
		for _, accounts := range []map[domain.AccountID]domain.Account{t.accounts, c.accounts} {
			for id, a := range accounts {
				if a.Budget == e.Budget && int64(id) < r.Version {
					return refuse("budget %s had windows before, and was retired", e.Budget)
				}
			}
		}
	}
	name, zone, rate, suspended, created := after.Name, after.Zone, after.RateLimit, after.Suspended, after.CreatedAt
	c.defines = func(t *tables) {
		t.name, t.zone, t.rateLimit, t.suspended, t.createdAt = name, zone, rate, suspended, created
		for _, r := range c.records {
			t.define(r)
		}
	}
	return nil
}

// define moves the definitions by one event.
func (t *tables) define(r domain.Recorded) {
	switch e := r.Event.(type) { //nolint:gochecksumtype // the others define nothing with a row of its own
	case domain.APIKeyIssued, domain.APIKeyRevoked, domain.APIKeySuspended, domain.APIKeyResumed, domain.APIKeyRotated:
		t.defineKey(r)
	case domain.BudgetDefined:
		t.budgets[e.Budget] = domain.Budget{
			ID: e.Budget, Period: e.Period, Span: e.Span, Scope: e.Scope, Window: domain.Window{Start: e.Start, End: e.End},
			Limit: e.Limit, AlertsAt: e.AlertsAt, Source: e.Source,
		}
	case domain.BudgetChanged:
		b := t.budgets[e.Budget]
		b.Limit, b.Raises, b.AlertsAt, b.Source = e.Limit, e.Raises, e.AlertsAt, e.Source
		t.budgets[e.Budget] = b
	case domain.BudgetRetired:
		delete(t.budgets, e.Budget)
	case domain.WindowOpened:
		t.count(e)
	}
}

func (t *tables) defineKey(r domain.Recorded) {
	switch e := r.Event.(type) { //nolint:gochecksumtype // the others are none of a key
	case domain.APIKeyIssued:
		t.keys[e.KeyID] = domain.Key{
			ID: e.KeyID, Name: e.Name, Prefix: e.Prefix, Hash: e.KeyHash, CreatedAt: r.Time,
			ExpiresAt: e.ExpiresAt, Models: e.Models, Tags: e.Tags, RequiredTags: e.RequiredTags,
		}
	case domain.APIKeyRevoked:
		k, at := t.keys[e.KeyID], r.Time
		k.RevokedAt = &at
		t.keys[e.KeyID] = k
	case domain.APIKeySuspended:
		k := t.keys[e.KeyID]
		k.Suspended = true
		t.keys[e.KeyID] = k
	case domain.APIKeyResumed:
		k := t.keys[e.KeyID]
		k.Suspended = false
		t.keys[e.KeyID] = k
	case domain.APIKeyRotated:
		k, until := t.keys[e.KeyID], e.OldUntil
		k.Prefix, k.Hash, k.OldHash, k.OldUntil = e.Prefix, e.KeyHash, e.OldKeyHash, &until
		t.keys[e.KeyID] = k
	}
}

// count makes adopted reservations count in the account of a budget that came later.
func (t *tables) count(e domain.WindowOpened) {
	for _, id := range e.Adopted {
		if h, ok := t.holds[id]; ok && !slices.Contains(h.accounts, e.Account) {
			h.accounts = append(slices.Clip(h.accounts), e.Account)
			t.holds[id] = h
		}
		if p, ok := t.presumed[id]; ok && !slices.Contains(p.accounts, e.Account) {
			p.accounts = append(slices.Clip(p.accounts), e.Account)
			t.presumed[id] = p
		}
	}
}
