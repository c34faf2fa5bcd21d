package eventstore

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

// maxSkew is how far the time of an event may be from the database's clock when it is written. A batch
// may have waited for a lock that long; a gateway whose clock is further off takes the locked path.
const maxSkew = 2 * time.Second

// querier is a connection, a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

//go:embed queries/append.sql
var appendSQL string

// columns are the parallel arrays of ledger_append, in its order.
type columns struct {
	heads struct {
		tenant         []string
		expected       []int64
		prev           [][]byte
		fence, version []int64
		hash           [][]byte
		ts             []time.Time
	}
	opened struct {
		tenant                         []string
		account                        []int64
		budget, period                 []string
		start, end                     []time.Time
		limit, held, settled, presumed []int64
	}
	accounts struct {
		tenant                                  []string
		account, limit, held, settled, presumed []int64
		forced                                  []bool
		version                                 []int64
	}
	holds struct {
		tenant   []string
		id       [][16]byte
		opened   []int64
		ts       []time.Time
		amount   []int64
		from, to []int32
		expires  []time.Time
		accounts []int64
	}
	presumed struct {
		tenant  []string
		id      [][16]byte
		charged []int64
	}
	closed struct {
		tenant []string
		id     [][16]byte
	}
	late struct {
		tenant  []string
		id      [][16]byte
		charged []*int64 // nil ends the presumption, else it stays with this charge
	}
	events struct {
		tenant  []string
		version []int64
		ts      []time.Time
		kind    []string
		body    [][]byte
		hash    [][]byte
	}
}

// write appends the turns in one call. It returns the tenants whose compare-and-set won and the
// database's time. Turns are sorted by tenant, so that two gateways lock heads in the same order.
func write(ctx context.Context, q querier, turns []lanes.Append) (won []domain.TenantID, at time.Time, err error) {
	slices.SortFunc(turns, func(a, b lanes.Append) int { return strings.Compare(string(a.Tenant), string(b.Tenant)) })
	var c columns
	for i := range turns {
		if err := c.add(&turns[i]); err != nil {
			return nil, time.Time{}, fmt.Errorf("%w: %w", lanes.ErrUndecidable, err)
		}
	}
	if err := q.QueryRow(ctx, appendSQL, c.args()...).Scan(&won, &at); err != nil {
		return nil, time.Time{}, fmt.Errorf("append: %w", err)
	}
	return won, at, nil
}

func (c *columns) add(t *lanes.Append) error {
	last := t.Records[len(t.Records)-1]
	tenant := string(t.Tenant)
	h := &c.heads
	h.tenant = append(h.tenant, tenant)
	h.expected = append(h.expected, t.Expected)
	h.prev = append(h.prev, t.Prev[:])
	h.fence = append(h.fence, t.Fence)
	h.version = append(h.version, last.Version)
	h.hash = append(h.hash, last.Hash[:])
	h.ts = append(h.ts, last.Time)
	for i := range t.Records {
		if err := c.addRecord(tenant, &t.Records[i]); err != nil {
			return err
		}
	}
	c.addBalances(tenant, t.Records)
	return nil
}

func (c *columns) addRecord(tenant string, r *domain.Recorded) error {
	ev := &c.events
	ev.tenant = append(ev.tenant, tenant)
	ev.version = append(ev.version, r.Version)
	ev.ts = append(ev.ts, r.Time)
	ev.kind = append(ev.kind, string(domain.TypeOf(r.Event)))
	ev.body = append(ev.body, r.Body)
	ev.hash = append(ev.hash, r.Hash[:])
	switch e := r.Event.(type) { //nolint:gochecksumtype // the others open no window and move no reservation
	case domain.WindowOpened:
		c.addOpened(tenant, e)
	case domain.UsageReserved:
		return c.addHold(tenant, r, e)
	case domain.UsageSettled:
		return c.addClosed(tenant, e.Reservation, e.Charged, e.Basis == domain.BasisPresumed)
	case domain.ReservationReleased:
		return c.addClosed(tenant, e.Reservation, 0, false)
	case domain.ReservationExpired:
		return c.addClosed(tenant, e.Reservation, e.Charged, true)
	case domain.UsageSettledLate:
		return c.addLate(tenant, e)
	}
	return nil
}

func (c *columns) addOpened(tenant string, e domain.WindowOpened) {
	o := &c.opened
	o.tenant = append(o.tenant, tenant)
	o.account = append(o.account, int64(e.Account))
	o.budget = append(o.budget, string(e.Budget))
	o.period = append(o.period, string(e.Period))
	o.start = append(o.start, e.Start)
	o.end = append(o.end, e.End)
	o.limit = append(o.limit, int64(e.Limit))
	o.held = append(o.held, int64(e.Held))
	o.settled = append(o.settled, int64(e.Settled))
	o.presumed = append(o.presumed, int64(e.Presumed))
}

func (c *columns) addHold(tenant string, r *domain.Recorded, e domain.UsageReserved) error {
	id, err := uuid.Parse(string(e.Reservation))
	if err != nil {
		return fmt.Errorf("reservation id: %w", err)
	}
	h := &c.holds
	h.tenant = append(h.tenant, tenant)
	h.id = append(h.id, id)
	h.opened = append(h.opened, r.Version)
	h.ts = append(h.ts, r.Time)
	h.amount = append(h.amount, int64(e.Amount))
	h.from = append(h.from, int32(len(h.accounts)+1)) //nolint:gosec // a turn has at most 64 × 256 commands of 16 accounts
	for _, p := range e.Postings {
		h.accounts = append(h.accounts, int64(p.Account))
	}
	h.to = append(h.to, int32(len(h.accounts))) //nolint:gosec // as above
	h.expires = append(h.expires, e.ExpiresAt)
	return nil
}

func (c *columns) addClosed(tenant string, reservation domain.ReservationID, charged domain.Amount, presumed bool) error {
	id, err := uuid.Parse(string(reservation))
	if err != nil {
		return fmt.Errorf("reservation id: %w", err)
	}
	c.closed.tenant = append(c.closed.tenant, tenant)
	c.closed.id = append(c.closed.id, id)
	if presumed {
		c.presumed.tenant = append(c.presumed.tenant, tenant)
		c.presumed.id = append(c.presumed.id, id)
		c.presumed.charged = append(c.presumed.charged, int64(charged))
	}
	return nil
}

// addLate adds a correction of a presumed charge. Of several in a turn the last one counts.
func (c *columns) addLate(tenant string, e domain.UsageSettledLate) error {
	id, err := uuid.Parse(string(e.Reservation))
	if err != nil {
		return fmt.Errorf("reservation id: %w", err)
	}
	var charged *int64
	if e.Basis == domain.BasisPresumed {
		still := int64(e.Charged)
		charged = &still
	}
	l := &c.late
	for i := len(l.tenant) - 1; i >= 0 && l.tenant[i] == tenant; i-- {
		if l.id[i] == id {
			l.charged[i] = charged
			return nil
		}
	}
	l.tenant, l.id, l.charged = append(l.tenant, tenant), append(l.id, id), append(l.charged, charged)
	return nil
}

// addBalances adds the last posting of each account. The whole turn counts as forced for an account if
// one of its postings was: whatever is not forced can only have brought use down again.
func (c *columns) addBalances(tenant string, records []domain.Recorded) {
	a := &c.accounts
	from := len(a.tenant)
	for _, r := range records {
		for _, p := range domain.Postings(r.Event) {
			i := slices.Index(a.account[from:], int64(p.Account)) + from
			if i < from {
				i = len(a.account)
				a.tenant = append(a.tenant, tenant)
				a.account = append(a.account, int64(p.Account))
				a.limit, a.held = append(a.limit, 0), append(a.held, 0)
				a.settled, a.presumed = append(a.settled, 0), append(a.presumed, 0)
				a.forced, a.version = append(a.forced, false), append(a.version, 0)
			}
			a.limit[i], a.held[i] = int64(p.Limit), int64(p.Held)
			a.settled[i], a.presumed[i] = int64(p.Settled), int64(p.Presumed)
			a.forced[i], a.version[i] = a.forced[i] || p.Forced, r.Version
		}
	}
}

func (c *columns) args() []any {
	h, o, a, r := &c.heads, &c.opened, &c.accounts, &c.holds
	return []any{
		h.tenant, h.expected, h.prev, h.fence, h.version, h.hash, h.ts,
		o.tenant, o.account, o.budget, o.period, o.start, o.end, o.limit, o.held, o.settled, o.presumed,
		a.tenant, a.account, a.limit, a.held, a.settled, a.presumed, a.forced, a.version,
		r.tenant, r.id, r.opened, r.ts, r.amount, r.from, r.to, r.expires, r.accounts,
		c.presumed.tenant, c.presumed.id, c.presumed.charged,
		c.closed.tenant, c.closed.id,
		c.late.tenant, c.late.id, c.late.charged,
		c.events.tenant, c.events.version, c.events.ts, c.events.kind, c.events.body, c.events.hash,
		maxSkew,
	}
}
