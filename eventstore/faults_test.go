package eventstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

var errFault = errors.New("the fault of this test")

// faulty is a transaction that fails once: when it is used for the nth time. Each statement, each row and each end of
// the rows is a use. Postgres would fail all that comes after it too; this one goes on, so that who does not heed an
// error where it is met gets away with it.
type faulty struct {
	pgx.Tx
	uses, at int
}

func (f *faulty) fails() bool {
	f.uses++
	return f.uses == f.at
}

// Query implements pgx.Tx.
func (f *faulty) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if f.fails() {
		return nil, errFault
	}
	rows, err := f.Tx.Query(ctx, sql, args...)
	return &faultyRows{Rows: rows, of: f}, err
}

// Exec implements pgx.Tx.
func (f *faulty) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if f.fails() {
		return pgconn.CommandTag{}, errFault
	}
	return f.Tx.Exec(ctx, sql, args...)
}

// QueryRow implements pgx.Tx.
func (f *faulty) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return faultyRow{f.Tx.QueryRow(ctx, sql, args...), f}
}

// SendBatch implements pgx.Tx.
func (f *faulty) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	for _, q := range b.QueuedQueries {
		if read := q.Fn; read != nil {
			q.Fn = func(results pgx.BatchResults) error { return read(faultyResults{results, f}) }
		}
	}
	return faultyResults{f.Tx.SendBatch(ctx, b), f}
}

// faultyResults are those of a batch, or of one statement in it.
type faultyResults struct {
	pgx.BatchResults
	of *faulty
}

// Query implements pgx.BatchResults.
func (r faultyResults) Query() (pgx.Rows, error) {
	rows, err := r.BatchResults.Query()
	return &faultyRows{Rows: rows, of: r.of}, err
}

// QueryRow implements pgx.BatchResults.
func (r faultyResults) QueryRow() pgx.Row { return faultyRow{r.BatchResults.QueryRow(), r.of} }

// Close implements pgx.BatchResults.
func (r faultyResults) Close() error {
	if err := r.BatchResults.Close(); err != nil || !r.of.fails() {
		return err
	}
	return errFault
}

type faultyRow struct {
	pgx.Row
	of *faulty
}

// Scan implements pgx.Row.
func (r faultyRow) Scan(into ...any) error {
	if r.of.fails() {
		_ = r.Row.Scan() // into nothing: the next statement needs it to be done
		return errFault
	}
	return r.Row.Scan(into...)
}

type faultyRows struct {
	pgx.Rows
	of    *faulty
	ended bool
	err   error
}

// Scan implements pgx.Rows.
func (r *faultyRows) Scan(into ...any) error {
	if r.of.fails() {
		return errFault
	}
	return r.Rows.Scan(into...)
}

// Next implements pgx.Rows.
func (r *faultyRows) Next() bool {
	next := r.Rows.Next()
	if !next {
		r.end()
	}
	return next
}

// Close implements pgx.Rows.
func (r *faultyRows) Close() {
	r.Rows.Close()
	r.end()
}

func (r *faultyRows) end() {
	if !r.ended && r.of.fails() {
		r.err = errFault
	}
	r.ended = true
}

// Err implements pgx.Rows.
func (r *faultyRows) Err() error {
	if r.err != nil {
		return r.err
	}
	return r.Rows.Err()
}

func TestNoErrorOfPostgresIsLost(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := newStepped(t, url)
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	soon := wall().Add(time.Hour)
	l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	l.all(tenant, domain.IssueKey{ID: "k", Prefix: "bg_", Hash: "h:" + string(tenant), ExpiresAt: &soon, Actor: "admin"})
	l.all(tenant, domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: 1000, Source: domain.SourceAdmin, Actor: "admin"})
	held, settled, presumed := reserve(10), reserve(10), reserve(10)
	settled.Idempotency, settled.Fingerprint = "once", "f"
	l.all(tenant, held, settled, presumed)
	l.all(tenant, settle(settled.Reservation, 7))
	l.all(tenant, domain.SettlePresumed{Reservation: presumed.Reservation, Reason: "cut"})
	state, err := l.store.State(within(t), tenant)
	if err != nil {
		t.Fatal(err)
	}
	window := state.Balances(state.LastTime)[0].Window
	d := &desk{tb: t, pool: l.store.Pool(), tenant: tenant}
	d.reload(l.store)
	key, _ := domain.AttemptKeyOf(settled)
	found := func(err error, all bool) error {
		if err == nil && !all {
			return errors.New("not all is found")
		}
		return err
	}
	// What is asked of a transaction knows nothing of the tenant yet, so that all has to be read.
	for name, ask := range map[string]func(lanes.Locked, *domain.State) error{
		"load": func(tx lanes.Locked, _ *domain.State) error {
			s, hash, err := tx.Load(within(t), lanes.Mark{Version: d.head.Expected, Hash: d.head.Prev})
			return found(err, hash == d.head.Prev && len(s.Open) == 1 && len(s.Keys) == 1 && len(s.Budgets) == 1)
		},
		"tail": func(tx lanes.Locked, _ *domain.State) error {
			records, err := tx.Tail(within(t), 0, 100)
			return found(err, len(records) == int(d.head.Expected))
		},
		"presumption": func(tx lanes.Locked, s *domain.State) error {
			err := tx.Presumption(within(t), s, presumed.Reservation)
			return found(err, s.Presumed[presumed.Reservation].Charged == 10 && len(s.Accounts) == 1)
		},
		"closed": func(tx lanes.Locked, s *domain.State) error {
			err := tx.Closed(within(t), s, settled.Reservation)
			return found(err, s.Closed[settled.Reservation].Reservation == settled.Reservation && len(s.Accounts) == 1)
		},
		"closed, by presumption": func(tx lanes.Locked, s *domain.State) error {
			err := tx.Closed(within(t), s, presumed.Reservation)
			return found(err, s.Presumed[presumed.Reservation].Charged == 10 && len(s.Closed) == 0)
		},
		"attempt": func(tx lanes.Locked, s *domain.State) error {
			err := tx.Attempt(within(t), s, key)
			return found(err, s.Attempts[key].Charged == 7 && s.Attempts[key].Reservation == settled.Reservation)
		},
		"past": func(tx lanes.Locked, s *domain.State) error {
			s.Version = state.Version
			past, err := tx.Past(within(t), s, domain.Past{Window: window})
			return found(err, len(past.Spent) == 1 && past.Spent[0].Settled == 17 && len(s.Presumed) == 1)
		},
		"append": func(tx lanes.Locked, _ *domain.State) error {
			won, err := tx.Append(within(t), d.follow(domain.TenantChanged{Name: "Other", Actor: "admin"}), d.state)
			return found(err, won)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				tx, err := d.pool.Begin(within(t))
				if err != nil {
					t.Fatal(err)
				}
				f, empty := &faulty{Tx: tx, at: n}, domain.NewState(tenant)
				err = ask(eventstore.OnTransaction(f, tenant, lanes.Head{Version: d.head.Expected}), &empty)
				if err := tx.Rollback(within(t)); err != nil {
					t.Fatal(err)
				}
				if f.uses < n {
					if err != nil || n == 1 {
						t.Errorf("without a fault, of %d uses: %v", f.uses, err)
					}
					return
				}
				if !errors.Is(err, errFault) {
					t.Errorf("use %d failed, and that came to %v", n, err)
				}
			}
		})
	}
}
