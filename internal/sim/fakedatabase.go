package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

const (
	lockTimeout   = 2 * time.Second // as the lanes' sessions set them in Postgres
	idleTimeout   = 2 * time.Second
	clientTimeout = 5 * time.Second // after which the lanes give a call up
)

// World is where a Database lives: it has a clock, and it decides what happens when.
type World interface {
	// Now is the database's time.
	Now() time.Time
	// Until lets the others go on until cond holds, at most for so long. It tells whether cond holds.
	Until(cond func() bool, most time.Duration) bool
}

// Database has the semantics of the ledger's tables and of ledger_append, in memory. It is used by one
// goroutine at a time: the World says whose turn it is. The conformance suite holds it against Postgres.
type Database struct {
	world   World
	tenants map[domain.TenantID]*tables
	names   []domain.TenantID // sorted, of those that have a head
	outbox  []outboxRow
	lastRow int64
	restart int // sessions of an earlier start are gone
	// committed is called with what each tenant's transaction added, when it is visible.
	committed func(tenant domain.TenantID, records []domain.Recorded, at time.Time)
	// flaws are the guards a seeded bug takes away.
	flaws flaws
}

// flaws switch guards of the database off.
type flaws struct {
	noCheck, noCompare, noFence, noSkew, noRatchet, noFresh bool
}

type outboxRow struct {
	id          int64
	tenant      domain.TenantID
	after, upto int64
}

// NewDatabase makes an empty one.
func NewDatabase(world World) *Database {
	return &Database{world: world, tenants: map[domain.TenantID]*tables{}}
}

// session is a connection to the database, as the server sees it.
type session struct {
	start int
	idle  time.Time // in a transaction, since then; zero: at work
	ended bool      // killed for idling
}

func (d *Database) open() *session { return &session{start: d.restart} }

var errGone = errors.New("the session is gone")

// alive says whether the server still knows the session.
func (d *Database) alive(s *session) error {
	if s.ended || s.start != d.restart {
		return errGone
	}
	return nil
}

// crash restarts the server: transactions that are open are gone, with their locks.
func (d *Database) crash() {
	d.restart++
	for _, t := range d.tenants {
		t.lock = nil
	}
}

// table finds or makes the place of a tenant.
func (d *Database) table(tenant domain.TenantID) *tables {
	t, ok := d.tenants[tenant]
	if !ok {
		t = newTables(tenant)
		d.tenants[tenant] = t
	}
	return t
}

// acquire waits until a head's lock is free, or the session's.
func (d *Database) acquire(s *session, t *tables) error {
	free := func() bool {
		if h := t.lock; h != nil && h != s && !h.idle.IsZero() && d.world.Now().Sub(h.idle) >= idleTimeout {
			h.ended = true // the server ends a session that idles in its transaction
			t.lock = nil
		}
		return t.lock == nil || t.lock == s || d.alive(s) != nil
	}
	held := free() || d.world.Until(free, lockTimeout)
	if err := d.alive(s); err != nil {
		return err
	}
	if !held {
		return fmt.Errorf("%w: lock timeout", lanes.ErrDenied)
	}
	return nil
}

func (d *Database) release(s *session) {
	for _, t := range d.tenants {
		if t.lock == s {
			t.lock = nil
		}
	}
}

// stage is ledger_append without the commit: what the winners' tables become. It leaves the session with the
// winners' locks.
func (d *Database) stage(s *session, appends []lanes.Append) ([]*change, time.Time, error) {
	appends = slices.Clone(appends)
	slices.SortFunc(appends, func(a, b lanes.Append) int { return strings.Compare(string(a.Tenant), string(b.Tenant)) })
	used := map[domain.TenantID]bool{} // as seen before any lock is waited for
	for _, a := range appends {
		used[a.Tenant] = d.table(a.Tenant).used(a) && !d.flaws.noFresh
	}
	var won []lanes.Append
	for _, a := range appends {
		t := d.table(a.Tenant)
		if !t.exists() && t.lock != s {
			continue // an update waits for no row that is not there
		}
		if err := d.acquire(s, t); err != nil {
			return nil, time.Time{}, err
		}
		if t.expects(a, d.flaws) && !used[a.Tenant] {
			t.lock = s
			won = append(won, a)
		}
	}
	at := d.world.Now()
	for _, a := range won {
		last := a.Records[len(a.Records)-1].Time
		if off := last.Sub(at).Abs(); off > maxSkew && !d.flaws.noSkew {
			return nil, at, fmt.Errorf("%w: clock skew of %s", lanes.ErrDenied, off)
		}
	}
	changes := make([]*change, 0, len(won))
	for _, a := range won {
		c, err := d.tenants[a.Tenant].change(a, d.flaws)
		if err != nil {
			return nil, at, err
		}
		changes = append(changes, c)
	}
	return changes, at, nil
}

// commit makes changes visible, and ends the session's transaction.
func (d *Database) commit(s *session, changes []*change) {
	for _, c := range changes {
		t := d.tenants[c.tenant]
		if !t.exists() {
			i, _ := slices.BinarySearch(d.names, c.tenant)
			d.names = slices.Insert(d.names, i, c.tenant)
		}
		after := t.version
		t.apply(c)
		d.lastRow++
		d.outbox = append(d.outbox, outboxRow{id: d.lastRow, tenant: c.tenant, after: after, upto: t.version})
	}
	d.release(s)
	for _, c := range changes {
		if d.committed != nil {
			d.committed(c.tenant, c.records, d.world.Now())
		}
	}
}

// append is a call of ledger_append outside a transaction.
func (d *Database) append(s *session, appends []lanes.Append) (won []domain.TenantID, at time.Time, err error) {
	changes, at, err := d.stage(s, appends)
	if err != nil {
		d.release(s)
		return nil, at, err
	}
	for _, c := range changes {
		won = append(won, c.tenant)
	}
	d.commit(s, changes)
	return won, at, nil
}

// fence raises a head's fence under its lock and says whether the stream has the record.
func (d *Database) fence(s *session, tenant domain.TenantID, first domain.Recorded) (bool, error) {
	t := d.table(tenant)
	if err := d.acquire(s, t); err != nil {
		return false, err
	}
	if !t.exists() {
		return false, nil // it made a head, saw that it was the first, and took it back
	}
	t.fence++
	return first.Version <= t.version && t.events[first.Version-1].Hash == first.Hash, nil
}

// overdue lists holds past their time: the oldest of each tenant first.
func (d *Database) overdue(now time.Time, limit int) []overdueHold {
	var due []overdueHold
	for _, tenant := range d.names {
		from := len(due)
		for id, h := range d.tenants[tenant].holds {
			if !h.expires.After(now) {
				due = append(due, overdueHold{tenant: tenant, id: id, expires: h.expires})
			}
		}
		slices.SortFunc(due[from:], func(a, b overdueHold) int {
			if c := a.expires.Compare(b.expires); c != 0 {
				return c
			}
			return strings.Compare(string(a.id), string(b.id))
		})
	}
	return due[:min(len(due), limit)]
}

// aging lists tenants of which time alone has changed something: spend left a rolling window, a raise ended.
func (d *Database) aging(now time.Time) []domain.TenantID {
	var due []domain.TenantID
	for _, tenant := range d.names {
		if d.tenants[tenant].ages(now) {
			due = append(due, tenant)
		}
	}
	return due
}

type overdueHold struct {
	tenant  domain.TenantID
	id      domain.ReservationID
	expires time.Time
}
