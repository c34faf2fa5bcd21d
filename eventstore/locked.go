package eventstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	// maxTail is how many events a cached state may be behind before a cold load is cheaper.
	maxTail = 500
	// retryFirst and retryMost bound the wait before a tenant is tried again.
	retryFirst = 20 * time.Millisecond
	retryMost  = time.Second
	// maxRetries is how often a command that nobody has paid for yet is tried before its caller hears no.
	maxRetries = 5
	// rollbackTimeout bounds the end of a transaction on a connection that went silent.
	rollbackTimeout = time.Second
)

func (l *Ledger) runLocked(ctx context.Context) {
	for {
		s := l.takeLocked(ctx)
		if s == nil {
			return
		}
		if s.doubt != nil {
			l.resolve(ctx, s)
			continue
		}
		l.lockedTurn(ctx, s)
	}
}

func (l *Ledger) takeLocked(ctx context.Context) *stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.locked) == 0 && ctx.Err() == nil {
		l.wake.Wait()
	}
	if ctx.Err() != nil { // what is left is answered by Close
		return nil
	}
	s := l.locked[0]
	l.locked = slices.Clone(l.locked[1:])
	s.phase, s.direct = running, false
	return s
}

// lockedTurn writes one tenant's turn under its head's lock.
func (l *Ledger) lockedTurn(ctx context.Context, s *stream) {
	bounded, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	started := l.cfg.Now()
	t, committed, err := l.tryLocked(bounded, s)
	report := Turned{Locked: true, Tenants: 1, Took: l.cfg.Now().Sub(started), Err: err}
	switch {
	case err == nil:
		report.Events = len(t.records)
		s.retries = 0
		l.learn(t, true)
		l.finish(s, nil, t.answer(), len(t.calls)+t.dropped)
	case committed && outcomeUnknown(err):
		s.cached, s.doubt = false, t
		l.finish(s, nil, nil, t.dropped)
	default:
		s.cached = false
		l.failed(ctx, t, err)
	}
	l.turned(report)
}

// tryLocked is begin, lock, catch up, decide, append, commit. committed says that a commit was sent. The
// turn it returns, never nil, holds the calls that were taken, also on an error.
func (l *Ledger) tryLocked(ctx context.Context, s *stream) (t *turn, committed bool, err error) {
	t = &turn{stream: s}
	tx, err := l.pool.Begin(ctx)
	if err != nil {
		l.takeCalls(t)
		return t, false, fmt.Errorf("begin: %w", errors.Join(errNotSent, err))
	}
	defer func() { // after a commit this does nothing
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = tx.Rollback(bounded)
	}()
	now, err := l.lock(ctx, tx, s)
	l.takeCalls(t) // what arrived while we waited for the lock joins this turn
	if err != nil {
		return t, false, err
	}
	if err := l.adopt(ctx, tx, s, t.calls); err != nil {
		return t, false, err
	}
	calls, dropped := t.calls, t.dropped
	planned, err := plan(s, calls, now)
	if err != nil {
		return t, false, err
	}
	t = planned
	t.dropped = dropped
	s.forgetPresumed()
	if len(t.records) == 0 {
		return t, false, nil
	}
	won, _, err := write(ctx, tx, []*turn{t})
	if err != nil {
		return t, false, err
	}
	if len(won) != 1 {
		return t, false, fmt.Errorf("append under the lock of %s lost its compare-and-set: a bug", s.tenant)
	}
	if err := define(ctx, tx, s.state, t.records); err != nil {
		return t, false, err
	}
	if err := tx.Commit(ctx); err != nil {
		return t, true, fmt.Errorf("commit: %w", err)
	}
	return t, true, nil
}

// forgetPresumed keeps the cached state small: the table remembers what was presumed. Accounts that only a
// presumption kept go with it.
func (s *stream) forgetPresumed() {
	for id := range s.state.Presumed {
		s.state.ForgetPresumption(id)
	}
}

func (l *Ledger) takeCalls(t *turn) {
	l.mu.Lock()
	calls := t.stream.take()
	l.mu.Unlock()
	t.calls, t.dropped = live(calls)
}

// lock takes the head's lock and brings the cached state up to it. It returns the database's time, read
// after the lock was had. A tenant without a head gets one at version 0; it stays only if an event does.
func (l *Ledger) lock(ctx context.Context, tx pgx.Tx, s *stream) (time.Time, error) {
	genesis := Genesis(s.tenant)
	var version, fence int64
	var hash []byte
	var now time.Time
	read := func() error {
		sent := l.cfg.Now()
		defer func() {
			if !now.IsZero() { // the locked path teaches the clock too, or a gateway whose own is off would never leave it
				l.clock.observe(now, sent, l.cfg.Now())
			}
		}()
		// Materialized, so that the clock is read after the wait for the lock and not before it.
		return tx.QueryRow(ctx, `with head as materialized (select version, last_hash, fence from tenant_head where tenant_id = $1 for update)
			select version, last_hash, fence, clock_timestamp() from head`,
			string(s.tenant)).Scan(&version, &hash, &fence, &now)
	}
	err := read()
	if errors.Is(err, pgx.ErrNoRows) {
		if _, err = tx.Exec(ctx, `insert into tenant_head (tenant_id, version, last_ts, last_hash) values ($1, 0, '-infinity', $2)
			on conflict do nothing`, string(s.tenant), genesis[:]); err == nil {
			err = read()
		}
	}
	if err != nil {
		return now, fmt.Errorf("lock %s: %w", s.tenant, err)
	}
	if err := l.catchUp(ctx, tx, s, version); err != nil {
		s.cached = false
		return now, err
	}
	if s.hash != Hash(hash) {
		s.cached = false
		return now, fmt.Errorf("%w: tenant %s version %d: the head's hash is not that of its last event", ErrTampered, s.tenant, version)
	}
	s.fence, s.cached = fence, true
	return now, nil
}

// catchUp makes the cached state that of a version: by the events since, or from the tables.
func (l *Ledger) catchUp(ctx context.Context, tx pgx.Tx, s *stream, version int64) error {
	if s.cached && s.state.Version == version {
		return nil
	}
	if s.cached && version > s.state.Version && version-s.state.Version <= maxTail {
		records, err := readEvents(ctx, tx, s.tenant, s.state.Version, int(version-s.state.Version))
		if err != nil {
			return err
		}
		for _, r := range records {
			if r.Hash != Link(s.hash, r, domain.SchemaVersion) {
				return fmt.Errorf("%w: tenant %s version %d", ErrTampered, s.tenant, r.Version)
			}
			s.state = domain.Evolve(s.state, r)
			s.hash = r.Hash
		}
		if s.state.Version == version {
			return nil
		}
	}
	state, hash, err := loadState(ctx, tx, s.tenant)
	if err != nil {
		return err
	}
	if err := recognise(ctx, tx, s, version, hash); err != nil {
		return err
	}
	s.state, s.hash = state, hash
	return nil
}

// adopt loads what the calls need of reservations that are closed already.
func (l *Ledger) adopt(ctx context.Context, tx pgx.Tx, s *stream, calls []*call) error {
	for _, c := range calls {
		if !s.needsPresumption(c.command) {
			continue
		}
		id, _ := closing(c.command)
		if _, err := uuid.Parse(string(id)); err != nil {
			continue // no such reservation was ever made; asking would fail the whole turn
		}
		if err := loadPresumption(ctx, tx, &s.state, id); err != nil {
			return err
		}
	}
	return nil
}

// failed decides what becomes of the calls of a locked turn that was certainly not committed.
func (l *Ledger) failed(ctx context.Context, t *turn, err error) {
	s := t.stream
	calls := append(t.calls, t.aside...)
	s.retries++
	s.direct = true
	switch {
	case guarded(err) && len(calls) > 1:
		l.log.ErrorContext(ctx, "a turn was refused, trying its commands one by one", slogTenant(s.tenant), slogErr(err))
		s.careful = len(calls)
		l.finish(s, calls, nil, t.dropped)
		return
	case guarded(err), errors.Is(err, ErrTampered):
		l.log.ErrorContext(ctx, "a command failed for good", slogTenant(s.tenant), slogErr(err))
		fail(calls, fmt.Errorf("%w: %w", ErrRefusedByDatabase, err))
		s.retries = 0
		l.finish(s, nil, nil, len(calls)+t.dropped)
		return
	}
	// All else may pass: a lost connection, a lock that was not had in time, a full disk, an event that only
	// a newer build can read. What closes a reservation waits for that; the others hear no, at once if the
	// database does not answer.
	hopeless := lost(err) || errors.Is(err, domain.ErrUnknownEvent) || s.retries > maxRetries
	var patient, other []*call
	for _, c := range calls {
		if c.patient || !hopeless {
			patient = append(patient, c)
			continue
		}
		other = append(other, c)
	}
	fail(other, fmt.Errorf("%w: %w", domain.ErrUnavailable, err))
	if s.retries == 1 {
		l.log.WarnContext(ctx, "ledger turn failed, trying again", slogTenant(s.tenant), slogErr(err))
	}
	l.later(ctx, s, patient, len(other)+t.dropped)
}

// later ends a turn now and schedules the stream again after a while that doubles.
func (l *Ledger) later(ctx context.Context, s *stream, back []*call, done int) {
	l.mu.Lock()
	s.queue = append(back, s.queue...)
	l.waiting -= done
	l.mu.Unlock()
	wait := min(retryFirst<<min(s.retries, 10), retryMost)
	timer := time.NewTimer(wait)
	l.workers.Go(func() {
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		l.finish(s, nil, nil, 0)
	})
}

func slogTenant(t domain.TenantID) slog.Attr { return slog.String("tenant", string(t)) }

func slogErr(err error) slog.Attr { return slog.String("error", err.Error()) }

func slogCommitted(committed bool) slog.Attr { return slog.Bool("committed", committed) }
