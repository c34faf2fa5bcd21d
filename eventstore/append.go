package eventstore

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"slices"
	"strconv"
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
		crossed                        []*string
		duration, oldest               []int64
		buckets                        []*string
		slides                         []*time.Time
	}
	accounts struct {
		tenant                                  []string
		account, limit, held, settled, presumed []int64
		forced                                  []bool
		version                                 []int64
		crossed                                 []*string // thresholds to add; all of a rolling account
		rolls                                   []bool
		oldest                                  []int64
		buckets                                 []*string // nil but for a rolling account
		slides                                  []*time.Time
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
	extended struct {
		tenant  []string
		id      [][16]byte
		amount  []int64
		expires []time.Time
	}
	presumed struct {
		tenant   []string
		id       [][16]byte
		charged  []int64
		released []bool
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
	attempts struct {
		tenant      []string
		key         [][]byte
		fingerprint []string
		reservation []string
		version     []int64
		at          []time.Time
		state       []string // empty: the key is given back
		charged     []int64
		fresh       []bool // nobody may have used the key before
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
	c.addCrossed(tenant, t.Records)
	c.addRolling(tenant, t.Rolling)
	c.addAttempts(tenant, t.Records)
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
	case domain.ReservationExtended:
		return c.addExtended(tenant, e)
	case domain.UsageSettled:
		return c.addClosed(tenant, e.Reservation, e.Charged, e.Basis == domain.BasisPresumed, false)
	case domain.ReservationReleased:
		return c.addClosed(tenant, e.Reservation, 0, true, true)
	case domain.ReservationExpired:
		return c.addClosed(tenant, e.Reservation, e.Charged, true, false)
	case domain.UsageSettledLate:
		var still *int64
		if e.Basis == domain.BasisPresumed {
			charged := int64(e.Charged)
			still = &charged
		}
		return c.addLate(tenant, e.Reservation, still)
	case domain.UsageAdjusted:
		if e.Confirmed {
			return c.addLate(tenant, e.Reservation, nil)
		}
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
	o.crossed = append(o.crossed, nil)
	o.duration = append(o.duration, minutes(e.Duration))
	opened := domain.OpenedAccount(e)
	oldest, buckets, slides := rolling(&opened)
	o.oldest, o.buckets, o.slides = append(o.oldest, oldest), append(o.buckets, buckets), append(o.slides, slides)
}

func minutes(l domain.Length) int64 { return int64(time.Duration(l) / time.Minute) }

// rolling is what the columns of a rolling account hold: an array of triples, as Postgres reads it, and
// when the first of them leaves the window. Of another account they hold nothing.
func rolling(a *domain.Account) (oldest int64, buckets *string, slides *time.Time) {
	if a.Duration == 0 {
		return 0, nil, nil
	}
	triples := make([]int64, 0, 3*len(a.Buckets))
	for _, b := range a.Buckets {
		triples = append(triples, b.Number, int64(b.Settled), int64(b.Presumed))
	}
	if at := a.SlidesAt(); !at.IsZero() {
		slides = &at
	}
	return a.Oldest, array(triples), slides
}

// array is a list of numbers as Postgres reads it.
func array(numbers []int64) *string {
	b := []byte{'{'}
	for i, n := range numbers {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, n, 10)
	}
	text := string(append(b, '}'))
	return &text
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

// addExtended adds what an open reservation holds now. Of several extensions in a turn the last one counts.
func (c *columns) addExtended(tenant string, e domain.ReservationExtended) error {
	id, err := uuid.Parse(string(e.Reservation))
	if err != nil {
		return fmt.Errorf("reservation id: %w", err)
	}
	x := &c.extended
	for i := len(x.tenant) - 1; i >= 0 && x.tenant[i] == tenant; i-- {
		if x.id[i] == id {
			x.amount[i], x.expires[i] = int64(e.Amount), e.ExpiresAt
			return nil
		}
	}
	x.tenant, x.id = append(x.tenant, tenant), append(x.id, id)
	x.amount, x.expires = append(x.amount, int64(e.Amount)), append(x.expires, e.ExpiresAt)
	return nil
}

func (c *columns) addClosed(tenant string, reservation domain.ReservationID, charged domain.Amount, presumed, released bool) error {
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
		c.presumed.released = append(c.presumed.released, released)
	}
	return nil
}

// addLate adds a correction of a presumed charge: what is still presumed, or nil. Of several in a turn the
// last one counts.
func (c *columns) addLate(tenant string, reservation domain.ReservationID, charged *int64) error {
	id, err := uuid.Parse(string(reservation))
	if err != nil {
		return fmt.Errorf("reservation id: %w", err)
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
				a.crossed, a.rolls = append(a.crossed, nil), append(a.rolls, false)
				a.oldest, a.buckets, a.slides = append(a.oldest, 0), append(a.buckets, nil), append(a.slides, nil)
			}
			a.limit[i], a.held[i] = int64(p.Limit), int64(p.Held)
			a.settled[i], a.presumed[i] = int64(p.Settled), int64(p.Presumed)
			a.forced[i], a.version[i] = a.forced[i] || p.Forced, r.Version
		}
	}
}

// addCrossed adds the thresholds that an account has crossed in the turn: it was posted to or opened in it.
func (c *columns) addCrossed(tenant string, records []domain.Recorded) {
	var crossed map[int64][]int64
	for _, r := range records {
		if e, ok := r.Event.(domain.BudgetThresholdCrossed); ok {
			if crossed == nil {
				crossed = map[int64][]int64{}
			}
			crossed[int64(e.Account)] = append(crossed[int64(e.Account)], int64(e.Threshold))
		}
	}
	a, o := &c.accounts, &c.opened
	for account, thresholds := range crossed {
		if i := last(a.tenant, a.account, tenant, account); i >= 0 {
			a.crossed[i] = array(thresholds)
		} else if i := last(o.tenant, o.account, tenant, account); i >= 0 {
			o.crossed[i] = array(thresholds)
		}
	}
}

// last is the index of a tenant's account among those added last, or -1.
func last(tenants []string, accounts []int64, tenant string, account int64) int {
	for i := len(tenants) - 1; i >= 0 && tenants[i] == tenant; i-- {
		if accounts[i] == account {
			return i
		}
	}
	return -1
}

// addRolling adds what the rolling accounts that were posted to have come to.
func (c *columns) addRolling(tenant string, accounts []domain.Account) {
	a := &c.accounts
	for k := range accounts {
		i := last(a.tenant, a.account, tenant, int64(accounts[k].ID))
		if i < 0 {
			continue
		}
		thresholds := make([]int64, len(accounts[k].Crossed))
		for n, t := range accounts[k].Crossed {
			thresholds[n] = int64(t)
		}
		a.rolls[i], a.crossed[i] = true, array(thresholds)
		a.oldest[i], a.buckets[i], a.slides[i] = rolling(&accounts[k])
	}
}

// addAttempts adds what the turn makes of the idempotency keys it touches: those that are given back, and
// for each key the request that has it in the end. A key that the turn is the first to use is fresh, and so is one
// whose life was over when the turn used it: what the turn knows of is then not all that it may have paid for since.
func (c *columns) addAttempts(tenant string, records []domain.Recorded) {
	type holder struct {
		row int // of the request that has the key, or -1
		at  time.Time
	}
	var holders map[domain.AttemptKey]holder
	for _, r := range records {
		a, ok := domain.AttemptAfter(r)
		if !ok {
			continue
		}
		if holders == nil {
			holders = map[domain.AttemptKey]holder{}
		}
		h, touched := holders[a.AttemptKey]
		has := touched && h.row >= 0
		takes := a.State == domain.AttemptHeld || a.State == domain.AttemptAdjusted
		fresh := takes && (!touched || a.At.Sub(h.at) > domain.AttemptLife)
		t := &c.attempts
		switch {
		case has && t.reservation[h.row] == string(a.Reservation):
			t.state[h.row], t.charged[h.row] = string(a.State), int64(a.Charged)
		case has && takes: // one statement writes a row once
			t.fingerprint[h.row], t.reservation[h.row], t.version[h.row] = a.Fingerprint, string(a.Reservation), a.Version
			t.at[h.row], t.state[h.row], t.charged[h.row], t.fresh[h.row] = a.At, string(a.State), int64(a.Charged), fresh
		case has: // the key pays for another request by now
			continue
		default:
			h.row = c.addAttempt(tenant, a, fresh)
		}
		if h.at = a.At; a.State == "" {
			h.row = -1
		}
		holders[a.AttemptKey] = h
	}
}

func (c *columns) addAttempt(tenant string, a domain.Attempt, fresh bool) int {
	t := &c.attempts
	key := AttemptDigest(a.AttemptKey)
	t.tenant, t.key = append(t.tenant, tenant), append(t.key, key[:])
	t.fingerprint, t.reservation = append(t.fingerprint, a.Fingerprint), append(t.reservation, string(a.Reservation))
	t.version, t.at = append(t.version, a.Version), append(t.at, a.At)
	t.state, t.charged, t.fresh = append(t.state, string(a.State)), append(t.charged, int64(a.Charged)), append(t.fresh, fresh)
	return len(t.tenant) - 1
}

// AttemptDigest stands for an idempotency key and its scope in the database.
func AttemptDigest(k domain.AttemptKey) [sha256.Size]byte {
	scope := "request"
	if k.Adjustment {
		scope = "adjustment"
	}
	return sha256.Sum256([]byte(scope + "\x00" + string(k.KeyID) + "\x00" + k.Idempotency))
}

func (c *columns) args() []any {
	h, o, a, r, x, t := &c.heads, &c.opened, &c.accounts, &c.holds, &c.extended, &c.attempts
	return []any{
		h.tenant, h.expected, h.prev, h.fence, h.version, h.hash, h.ts,
		o.tenant, o.account, o.budget, o.period, o.start, o.end, o.limit, o.held, o.settled, o.presumed,
		o.crossed, o.duration, o.oldest, o.buckets, o.slides,
		a.tenant, a.account, a.limit, a.held, a.settled, a.presumed, a.forced, a.version,
		a.crossed, a.rolls, a.oldest, a.buckets, a.slides,
		r.tenant, r.id, r.opened, r.ts, r.amount, r.from, r.to, r.expires, r.accounts,
		x.tenant, x.id, x.amount, x.expires,
		c.presumed.tenant, c.presumed.id, c.presumed.charged, c.presumed.released,
		c.closed.tenant, c.closed.id,
		c.late.tenant, c.late.id, c.late.charged,
		t.tenant, t.key, t.fingerprint, t.reservation, t.version, t.at, t.state, t.charged, t.fresh,
		c.events.tenant, c.events.version, c.events.ts, c.events.kind, c.events.body, c.events.hash,
		maxSkew,
	}
}
