package eventstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

// rollbackTimeout bounds the end of a transaction on a connection that went silent.
const rollbackTimeout = time.Second

// Journal is the lanes' journal in Postgres. It is safe for concurrent use.
type Journal struct {
	pool *pgxpool.Pool
	now  func() time.Time
}

var _ lanes.Journal = (*Journal)(nil)

// OpenJournal connects to the database at url, which must be migrated. now is the local clock.
func OpenJournal(ctx context.Context, url string, now func() time.Time) (*Journal, error) {
	pool, err := openPool(ctx, url, lanes.Concurrency, map[string]string{
		// The append is many small statements over unnested arrays, whose plans must not be made anew
		// each time nor turn to hash joins and scans when the tables happen to be small.
		"plan_cache_mode": "force_generic_plan", "enable_hashjoin": "off", "enable_mergejoin": "off",
		"enable_seqscan": "off", "enable_bitmapscan": "off", "jit": "off",
		// A gateway that stalls with a head locked gives it back.
		"idle_in_transaction_session_timeout": "2s", "lock_timeout": "2s", "statement_timeout": "10s",
		"synchronous_commit": "on",
	})
	if err != nil {
		return nil, err
	}
	return &Journal{pool: pool, now: now}, nil
}

// Close implements lanes.Journal.
func (j *Journal) Close() { j.pool.Close() }

// Append implements lanes.Journal.
func (j *Journal) Append(ctx context.Context, appends []lanes.Append) (won []domain.TenantID, at time.Time, err error) {
	conn, err := j.pool.Acquire(ctx)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("connect: %w", errors.Join(lanes.ErrNotSent, err))
	}
	defer conn.Release()
	won, at, err = write(ctx, conn, appends)
	return won, at, classify(err)
}

// Lock implements lanes.Journal. A tenant without a head gets one at version 0; it stays only if an event does.
func (j *Journal) Lock(ctx context.Context, tenant domain.TenantID) (lanes.Locked, error) {
	tx, err := j.pool.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin: %w", errors.Join(lanes.ErrNotSent, err))
	}
	l := &lockedHead{tx: tx, tenant: tenant, now: j.now}
	err = j.lock(ctx, l)
	if errors.Is(err, pgx.ErrNoRows) {
		genesis := Genesis(tenant)
		if _, err = tx.Exec(ctx, `insert into tenant_head (tenant_id, version, last_ts, last_hash) values ($1, 0, '-infinity', $2)
			on conflict do nothing`, string(tenant), genesis[:]); err == nil {
			err = j.lock(ctx, l)
		}
	}
	if err != nil {
		l.Rollback(ctx)
		return nil, classify(fmt.Errorf("lock %s: %w", tenant, err))
	}
	return l, nil
}

// lock reads the head for update.
func (j *Journal) lock(ctx context.Context, l *lockedHead) error {
	h := &l.head
	var hash []byte
	h.Sample.Sent = j.now()
	// Materialized, so that the clock is read after the wait for the lock and not before it.
	err := l.tx.QueryRow(ctx, `with head as materialized (select version, last_hash, fence from tenant_head where tenant_id = $1 for update)
		select version, last_hash, fence, clock_timestamp() from head`,
		string(l.tenant)).Scan(&h.Version, &hash, &h.Fence, &h.Sample.At)
	h.Sample.Received = j.now()
	copy(h.Hash[:], hash)
	return err
}

// Fence implements lanes.Journal. It raises the head's fence, and tells, under the same lock, whether the
// record is in the stream. Raising it twice does no harm, so an unknown outcome of this very transaction is
// met by calling it again.
func (j *Journal) Fence(ctx context.Context, tenant domain.TenantID, first domain.Recorded) (committed bool, err error) {
	err = pgx.BeginFunc(ctx, j.pool, func(tx pgx.Tx) error {
		// An update alone would not wait for an original that is just making the head, so the fence makes
		// one too, and takes it back: who has it inserted knows that the original never will be.
		genesis := Genesis(tenant)
		var version int64
		err := tx.QueryRow(ctx, `insert into tenant_head (tenant_id, version, last_ts, last_hash) values ($1, 0, '-infinity', $2)
			on conflict (tenant_id) do update set fence = tenant_head.fence + 1 returning version`, string(tenant), genesis[:]).Scan(&version)
		if err != nil {
			return err
		}
		if version == 0 {
			_, err := tx.Exec(ctx, `delete from tenant_head where tenant_id = $1 and version = 0`, string(tenant))
			return err
		}
		var hash []byte
		err = tx.QueryRow(ctx, `select hash from event where tenant_id = $1 and version = $2`, string(tenant), first.Version).Scan(&hash)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		committed = bytes.Equal(hash, first.Hash[:])
		return err
	})
	if err != nil {
		return false, classify(fmt.Errorf("fence %s: %w", tenant, err))
	}
	return committed, nil
}

// lockedHead is a transaction that holds the lock of a head.
type lockedHead struct {
	tx     pgx.Tx
	tenant domain.TenantID
	head   lanes.Head
	now    func() time.Time
}

// Head implements lanes.Locked.
func (l *lockedHead) Head() lanes.Head { return l.head }

// Load implements lanes.Locked.
func (l *lockedHead) Load(ctx context.Context, seen lanes.Mark) (domain.State, Hash, error) {
	state, hash, err := loadState(ctx, l.tx, l.tenant)
	if err != nil {
		return state, hash, classify(err)
	}
	return state, hash, classify(recognise(ctx, l.tx, l.tenant, seen, l.head.Version, hash))
}

// Tail implements lanes.Locked.
func (l *lockedHead) Tail(ctx context.Context, after int64, limit int) ([]domain.Recorded, error) {
	records, err := readEvents(ctx, l.tx, l.tenant, after, limit)
	return records, classify(err)
}

// Presumption implements lanes.Locked.
func (l *lockedHead) Presumption(ctx context.Context, state *domain.State, id domain.ReservationID) error {
	return classify(recallPresumption(ctx, l.tx, state, id))
}

// Closed implements lanes.Locked.
func (l *lockedHead) Closed(ctx context.Context, state *domain.State, id domain.ReservationID) error {
	return classify(recallClosed(ctx, l.tx, state, id))
}

// Attempt implements lanes.Locked.
func (l *lockedHead) Attempt(ctx context.Context, state *domain.State, key domain.AttemptKey) error {
	return classify(recallAttempt(ctx, l.tx, state, key))
}

// Past implements lanes.Locked.
func (l *lockedHead) Past(ctx context.Context, state *domain.State, past domain.Past) (domain.Past, error) {
	past, err := l.patiently(ctx, state, past)
	return past, classify(err)
}

// Append implements lanes.Locked.
func (l *lockedHead) Append(ctx context.Context, a lanes.Append, after domain.State) (bool, error) {
	won, _, err := write(ctx, l.tx, []lanes.Append{a})
	if err != nil || len(won) == 0 {
		return false, classify(err)
	}
	return true, classify(define(ctx, l.tx, after, a.Records))
}

// Commit implements lanes.Locked.
func (l *lockedHead) Commit(ctx context.Context) error {
	if err := l.tx.Commit(ctx); err != nil {
		return classify(fmt.Errorf("commit: %w", err))
	}
	return nil
}

// Rollback implements lanes.Locked.
func (l *lockedHead) Rollback(ctx context.Context) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_ = l.tx.Rollback(bounded)
}

// refusal is an answer of Postgres with what it means to the lanes.
type refusal struct {
	kind, err error
}

// Error implements error.
func (r *refusal) Error() string { return r.err.Error() }

// Unwrap makes it both.
func (r *refusal) Unwrap() []error { return []error{r.kind, r.err} }

// classify marks what Postgres answered. Postgres saying no is an answer; a session that is being ended, or
// a broken connection, is none. pgconn.SafeToRetry is not asked: it calls a commit safe whose answer was
// lost ("conn closed", pgx 5.12, simple protocol).
func classify(err error) error {
	var answered *pgconn.PgError
	if !errors.As(err, &answered) || ended(answered) {
		return err
	}
	if refusesForGood(answered) {
		return &refusal{kind: lanes.ErrRefusedByDatabase, err: err}
	}
	return &refusal{kind: lanes.ErrDenied, err: err}
}

// refusesForGood tells whether the same can never be written: a constraint or a count refused it, or the
// database cannot hold its values.
func refusesForGood(e *pgconn.PgError) bool {
	// Classes of SQLSTATE: 22 data exception, 23 integrity constraint violation, 54 program limit exceeded.
	return e.Code == "BG002" || slices.Contains([]string{"22", "23", "54"}, e.Code[:min(2, len(e.Code))])
}

// ended tells whether an error is the end of the session. The severity is in the server's language; the
// one that is not translated exists since Postgres 9.6.
func ended(e *pgconn.PgError) bool {
	severity := cmp.Or(e.SeverityUnlocalized, e.Severity)
	return severity == "FATAL" || severity == "PANIC"
}
