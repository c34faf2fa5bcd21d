package eventstore_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// desk writes to one tenant's stream past every rule of Go.
type desk struct {
	tb     testing.TB
	pool   *pgxpool.Pool
	tenant domain.TenantID
	state  domain.State
	head   eventstore.Append // expected, prev and fence as they are
}

// newDesk makes a tenant with a monthly budget and an open window in which 10 of 100 are held.
func newDesk(tb testing.TB, url string) *desk {
	tb.Helper()
	l := openLedger(tb, url)
	d := &desk{tb: tb, pool: openPool(tb, url), tenant: fresh(tb, l, 100)}
	do(tb, l, d.tenant, reserve(10))
	d.reload(openStore(tb, url))
	return d
}

func (d *desk) reload(s *eventstore.Store) {
	d.tb.Helper()
	var err error
	if d.state, err = s.State(within(d.tb), d.tenant); err != nil {
		d.tb.Fatal(err)
	}
	d.head = eventstore.Append{Tenant: d.tenant}
	var hash []byte
	if err := d.pool.QueryRow(within(d.tb), `select version, last_hash, fence from tenant_head where tenant_id = $1`, string(d.tenant)).
		Scan(&d.head.Expected, &hash, &d.head.Fence); err != nil {
		d.tb.Fatal(err)
	}
	copy(d.head.Prev[:], hash)
}

// follow records events as the next ones of the stream, linked as they should be.
func (d *desk) follow(events ...domain.Event) eventstore.Append {
	d.tb.Helper()
	a := d.head
	hash := a.Prev
	var now time.Time
	if err := d.pool.QueryRow(within(d.tb), `select clock_timestamp()`).Scan(&now); err != nil {
		d.tb.Fatal(err)
	}
	for i, e := range events {
		r := domain.Recorded{Tenant: a.Tenant, Version: a.Expected + int64(i) + 1, Time: now.UTC().Add(time.Duration(i) * time.Microsecond), Event: e}
		var err error
		if r.Body, err = domain.EncodeEvent(e); err != nil {
			d.tb.Fatal(err)
		}
		hash = eventstore.Link(hash, r, domain.SchemaVersion)
		r.Hash = hash
		a.Records = append(a.Records, r)
	}
	return a
}

// account is the tenant's only one.
func (d *desk) account() domain.Account {
	for _, a := range d.state.Accounts {
		return *a
	}
	d.tb.Fatal("no account")
	return domain.Account{}
}

// posting is what the account becomes with so much held and settled.
func (d *desk) posting(held, settled domain.Amount) []domain.Posting {
	a := d.account()
	return []domain.Posting{{Account: a.ID, Budget: a.Budget, Limit: a.Limit, Held: held, Settled: settled}}
}

func (d *desk) hold(held domain.Amount) domain.UsageReserved {
	r := reserve(held - 10)
	return domain.UsageReserved{Request: r.Request, Amount: r.Amount, ExpiresAt: wall().Add(time.Minute).UTC().Truncate(time.Microsecond), Postings: d.posting(held, 0)}
}

func (d *desk) write(appends ...eventstore.Append) ([]domain.TenantID, error) {
	won, _, err := eventstore.Write(within(d.tb), d.pool, appends...)
	return won, err
}

func (d *desk) count() int64 {
	d.tb.Helper()
	return scalar(d.tb, d.pool, `select count(*) from event where tenant_id = $1`, string(d.tenant))
}

// sqlState is the code of a refusal of the database.
func sqlState(err error) string {
	var answered *pgconn.PgError
	if !errors.As(err, &answered) {
		return ""
	}
	return answered.Code
}

func TestAppendLosesUnlessHeadIsAsExpected(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	d := newDesk(t, url)
	before := d.count()
	for name, spoil := range map[string]func(*eventstore.Append){
		"an older version": func(a *eventstore.Append) { a.Expected-- },
		"a newer version":  func(a *eventstore.Append) { a.Expected++ },
		"another hash":     func(a *eventstore.Append) { a.Prev[31] ^= 1 },
		"an older fence":   func(a *eventstore.Append) { a.Fence-- },
		"a newer fence":    func(a *eventstore.Append) { a.Fence++ },
	} {
		a := d.follow(d.hold(20))
		spoil(&a)
		if won, err := d.write(a); err != nil || len(won) != 0 {
			t.Errorf("%s: won %v, %v", name, won, err)
		}
	}
	if after := d.count(); after != before {
		t.Errorf("%d events were written", after-before)
	}
	if won, err := d.write(d.follow(d.hold(20))); err != nil || len(won) != 1 {
		t.Errorf("the right one: won %v, %v", won, err)
	}
	verified(t, url)
}

func TestAppendLosesIfAnAdjustmentsKeyWasUsed(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	d, s := newDesk(t, url), openStore(t, url)
	for i, want := range []int{1, 0} {
		adjusted := domain.UsageAdjusted{Delta: 1, Reason: "bill", Idempotency: "once", Actor: "admin", Postings: d.posting(10, domain.Amount(i)+1)}
		if won, err := d.write(d.follow(adjusted)); err != nil || len(won) != want {
			t.Errorf("use %d of the key: won %v, %v", i+1, won, err)
		}
		d.reload(s)
	}
}

func TestAppendOfAStaleTenantLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	stale, other := newDesk(t, url), newDesk(t, url)
	old := stale.follow(stale.hold(20))
	if _, err := stale.write(stale.follow(stale.hold(30))); err != nil {
		t.Fatal(err)
	}
	before := stale.count()
	won, err := other.write(old, other.follow(other.hold(20)))
	if err != nil || !slices.Equal(won, []domain.TenantID{other.tenant}) {
		t.Fatalf("won %v, %v; want %s alone", won, err, other.tenant)
	}
	if after := stale.count(); after != before {
		t.Errorf("%d events of the stale tenant were written", after-before)
	}
	verified(t, url)
}

// TestDatabaseRefusesWhatGoMustNotDecide asks each time alone, where every tenant wins, and beside a
// tenant that loses: ledger_append has a half for either.
func TestDatabaseRefusesWhatGoMustNotDecide(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	d, stale := newDesk(t, url), newDesk(t, url)
	losing := stale.follow(stale.hold(20))
	if _, err := stale.write(stale.follow(stale.hold(30))); err != nil {
		t.Fatal(err)
	}
	var open domain.Reservation
	for _, r := range d.state.Open {
		open = r
	}
	closing := func(id domain.ReservationID) domain.ReservationReleased {
		of := open.Request
		of.Reservation = id
		return domain.ReservationReleased{Request: of, ReservedAt: open.At, Reserved: 10, Reason: "x", Postings: d.posting(0, 0)}
	}
	unknownAccount := d.hold(20)
	unknownAccount.Postings = []domain.Posting{{Account: 99, Budget: "month", Limit: 100, Held: 20}}
	for _, c := range []struct {
		name, code string
		make       func() eventstore.Append
	}{
		{"an overspend", "23514", func() eventstore.Append { return d.follow(d.hold(101)) }},
		{"an overspend in two steps of one turn", "23514", func() eventstore.Append { return d.follow(d.hold(60), d.hold(101)) }},
		{"a balance below zero", "23514", func() eventstore.Append { return d.follow(d.hold(-1)) }},
		{"more presumed than settled", "23514", func() eventstore.Append {
			e := d.hold(20)
			e.Postings[0].Presumed = 1
			return d.follow(e)
		}},
		{"closing a hold that is not there", "BG002", func() eventstore.Append { return d.follow(closing(newID())) }},
		{"closing a hold twice", "23505", func() eventstore.Append { return d.follow(closing(open.Reservation), closing(open.Reservation)) }},
		{"opening a hold twice", "23505", func() eventstore.Append {
			e := d.hold(20)
			e.Reservation = open.Reservation
			return d.follow(e)
		}},
		{"an account that is not there", "BG002", func() eventstore.Append { return d.follow(unknownAccount) }},
		{"a gap", "BG002", func() eventstore.Append {
			a := d.follow(d.hold(20), d.hold(30), d.hold(40))
			a.Records = slices.Delete(a.Records, 1, 2)
			return a
		}},
		{"a gap before the only event", "BG002", func() eventstore.Append {
			a := d.follow(d.hold(20), d.hold(30))
			a.Records = a.Records[1:]
			return a
		}},
		{"a version twice", "BG002", func() eventstore.Append {
			a := d.follow(d.hold(20), d.hold(30), d.hold(40))
			a.Records[1].Version--
			return a
		}},
		{"a time far from the database's", "BG003", func() eventstore.Append {
			a := d.follow(d.hold(20))
			a.Records[0].Time = a.Records[0].Time.Add(time.Minute)
			return a
		}},
		{"late evidence for what was not presumed", "BG002", func() eventstore.Append {
			return d.follow(domain.UsageSettledLate{Request: open.Request, ReservedAt: open.At, Basis: domain.BasisProvider, Postings: d.posting(10, 0)})
		}},
	} {
		before := d.count() + stale.count()
		if _, err := d.write(c.make()); sqlState(err) != c.code {
			t.Errorf("%s: %v; want %s", c.name, err, c.code)
		}
		if _, err := d.write(losing, c.make()); sqlState(err) != c.code {
			t.Errorf("%s, beside a tenant that loses: %v; want %s", c.name, err, c.code)
		}
		if after := d.count() + stale.count(); after != before {
			t.Errorf("%s: %d events were written", c.name, after-before)
		}
	}
	verified(t, url)
}

func TestAppendRefusesRowsOfATenantWithoutAHead(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	d, other := newDesk(t, url), newDesk(t, url)
	if err := eventstore.WriteAstray(within(t), d.pool, d.follow(d.hold(20)), other.tenant); sqlState(err) != "BG002" {
		t.Errorf("balances of another tenant: %v; want BG002", err)
	}
	verified(t, url)
}

func TestAppendOfSeveralEventsBesideOneWritesBoth(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	d, other := newDesk(t, url), newDesk(t, url)
	before := d.count() + other.count()
	if won, err := d.write(d.follow(d.hold(20)), other.follow(other.hold(20), other.hold(30))); err != nil || len(won) != 2 {
		t.Fatalf("won %v, %v; want both", won, err)
	}
	if after := d.count() + other.count(); after != before+3 {
		t.Errorf("%d events were written, want 3", after-before)
	}
}

func TestCapFallsWithUseAndRisesByForceOnly(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := openLedger(t, url)
	tenant := fresh(t, l, 100)
	pool := openPool(t, url)
	top := func(want int64) {
		t.Helper()
		if got := scalar(t, pool, `select cap from account where tenant_id = $1`, string(tenant)); got != want {
			t.Errorf("cap %d, want %d", got, want)
		}
	}
	a, b := reserve(60), reserve(30)
	do(t, l, tenant, a)
	do(t, l, tenant, b)
	top(100)
	define := domain.DefineBudget{ID: "x", Period: domain.Monthly, Limit: 50, Source: domain.SourceAdmin}
	do(t, l, tenant, define) // a cut below use
	top(90)
	do(t, l, tenant, domain.Release{Reservation: b.Reservation, Reason: domain.ReleasedNotSent})
	top(60)
	if _, err := l.Do(within(t), tenant, reserve(1)); !errors.Is(err, domain.ErrBudgetExceeded) {
		t.Errorf("a reservation above the limit: %v", err)
	}
	do(t, l, tenant, settle(a.Reservation, 20))
	top(50)
	do(t, l, tenant, reserve(30))
	top(50)
	// Go that is wrong cannot use what the cap once was.
	d := &desk{tb: t, pool: pool, tenant: tenant}
	d.reload(openStore(t, url))
	e := d.hold(40)
	e.Postings[0].Settled = 20
	if _, err := d.write(d.follow(e)); sqlState(err) != "23514" {
		t.Errorf("a reservation up to the old cap: %v", err)
	}
	verified(t, url)
}

func TestAppendIsTheOnlyChangeToEvents(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := openLedger(t, url)
	tenant := fresh(t, l, 100)
	do(t, l, tenant, reserve(1))
	pool := openPool(t, url)
	if made := scalar(t, pool, `select event_partitions_ahead(now(), 6)`); made == 0 {
		t.Error("no partition was made ahead")
	}
	// A row in each partition, so that row triggers have something to refuse.
	if _, err := pool.Exec(within(t), `insert into event (tenant_id, version, ts, type, body, hash)
		select 'probe', n, date_trunc('month', now()) + make_interval(months => n - 2), 'x', '{}', sha256('x') from generate_series(1, 8) n`); err != nil {
		t.Fatal(err)
	}
	rows, err := pool.Query(within(t), `select 'event' union all select inhrelid::regclass::text from pg_inherits where inhparent = 'event'::regclass`)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil || len(names) < 8 {
		t.Fatalf("partitions %v, %v", names, err)
	}
	before := scalar(t, pool, `select count(*) from event`)
	for _, name := range names {
		if scalar(t, pool, `select count(*) from `+name) == 0 {
			continue // a month between the ones probed has no row to refuse
		}
		for _, sql := range []string{"update " + name + " set body = '{}'", "delete from " + name, "truncate " + name, "truncate " + name + " cascade"} {
			if _, err := pool.Exec(within(t), sql); sqlState(err) != "BG001" {
				t.Errorf("%s: %v; want BG001", sql, err)
			}
		}
	}
	if after := scalar(t, pool, `select count(*) from event`); after != before {
		t.Errorf("%d events before, %d after", before, after)
	}
}
