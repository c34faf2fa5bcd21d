package lanes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

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
)

func (l *Ledger) runLocked(ctx context.Context) {
	for {
		s := l.takeLocked(ctx)
		if s == nil {
			return
		}
		l.runOne(ctx, s)
	}
}

// runOne does what a stream in the locked path needs: an end of its doubt, or a turn.
func (l *Ledger) runOne(ctx context.Context, s *stream) {
	if s.doubt != nil {
		l.resolve(ctx, s)
		return
	}
	l.lockedTurn(ctx, s)
}

// StepLocked carries out one turn of the locked path, or one fence, if there is one to do: for a Ledger
// that was not started. Several may overlap; each concerns another tenant.
func (l *Ledger) StepLocked(ctx context.Context) (did bool) {
	l.mu.Lock()
	if len(l.locked) == 0 {
		l.mu.Unlock()
		return false
	}
	s := l.nextLocked()
	l.mu.Unlock()
	l.runOne(ctx, s)
	return true
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
	return l.nextLocked()
}

// nextLocked takes the next stream. The caller holds the mutex.
func (l *Ledger) nextLocked() *stream {
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
		s.direct = len(t.aside) > 0
		l.finish(s, t.aside, t.answer(), len(t.calls)+t.dropped)
	case committed && OutcomeUnknown(err):
		s.cached, s.doubt = false, t
		l.finish(s, t.aside, nil, t.dropped)
	default:
		s.cached = false
		l.failed(ctx, t, err)
	}
	l.turned(report)
}

// tryLocked is lock, catch up, decide, append, commit. committed says that a commit was sent. The turn it
// returns, never nil, holds the calls that were taken, also on an error.
func (l *Ledger) tryLocked(ctx context.Context, s *stream) (t *turn, committed bool, err error) {
	t = &turn{stream: s}
	tx, err := l.journal.Lock(ctx, s.tenant)
	if err != nil {
		l.takeCalls(t)
		return t, false, err
	}
	defer tx.Rollback(ctx) // after a commit this does nothing
	now, err := l.catchUp(ctx, tx, s)
	l.takeCalls(t) // what arrived while we waited for the lock joins this turn
	if err != nil {
		return t, false, err
	}
	if err := adopt(ctx, tx, s, t.calls); err != nil {
		return t, false, err
	}
	calls, dropped := t.calls, t.dropped
	planned, err := l.plan(s, calls, now, func(past domain.Past) (domain.Past, error) { return tx.Past(ctx, &s.state, past) })
	if err != nil {
		return t, false, err
	}
	t = planned
	t.dropped = dropped
	s.state.ForgetClosed()
	if len(t.records) == 0 {
		return t, false, nil
	}
	won, err := tx.Append(ctx, t.append(), s.state)
	if err != nil {
		return t, false, err
	}
	if !won {
		return t, false, fmt.Errorf("append under the lock of %s lost its compare-and-set: a bug", s.tenant)
	}
	if err := tx.Commit(ctx); err != nil {
		return t, true, err
	}
	return t, true, nil
}

func (l *Ledger) takeCalls(t *turn) {
	l.mu.Lock()
	calls := t.stream.take()
	l.mu.Unlock()
	t.calls, t.dropped = live(calls)
}

// catchUp makes the cached state that of the locked head. It returns the journal's time, read after the
// lock was had.
func (l *Ledger) catchUp(ctx context.Context, tx Locked, s *stream) (time.Time, error) {
	head := tx.Head()
	// The locked path teaches the clock too, or a gateway whose own is off would never leave it.
	l.clock.observe(head.Sample)
	// A fence that moved was raised because an outcome was unknown, or because the tables were repaired: what was
	// loaded from them before may be wrong.
	s.cached = s.cached && s.fence == head.Fence
	if err := readUpTo(ctx, tx, s, head.Version); err != nil {
		s.cached = false
		return head.Sample.At, err
	}
	if s.hash != head.Hash {
		s.cached = false
		return head.Sample.At, fmt.Errorf("%w: tenant %s version %d: the head's hash is not that of its last event", ErrTampered, s.tenant, head.Version)
	}
	s.fence, s.cached = head.Fence, true
	return head.Sample.At, nil
}

// readUpTo makes the cached state that of a version: by the events since, or from the tables.
func readUpTo(ctx context.Context, tx Locked, s *stream, version int64) error {
	if s.cached && s.state.Version == version {
		return nil
	}
	if s.cached && version > s.state.Version && version-s.state.Version <= maxTail {
		records, err := tx.Tail(ctx, s.state.Version, int(version-s.state.Version))
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
	state, hash, err := tx.Load(ctx, s.seen)
	if err != nil {
		return err
	}
	s.state, s.hash = state, hash
	return nil
}

// adopt loads what the calls need of reservations that are closed already.
func adopt(ctx context.Context, tx Locked, s *stream, calls []*call) error {
	for _, c := range calls {
		if err := recall(ctx, tx, s, c.command); err != nil {
			return err
		}
	}
	return nil
}

// recall loads what one command needs.
func recall(ctx context.Context, tx Locked, s *stream, c domain.Command) error {
	if key, ok := domain.AttemptKeyOf(c); ok {
		if err := tx.Attempt(ctx, &s.state, key); err != nil {
			return err
		}
	}
	if adjust, ok := c.(domain.Adjust); ok && adjust.Reservation != "" {
		return tx.Closed(ctx, &s.state, adjust.Reservation)
	}
	if s.needsPresumption(c) {
		id, _ := closing(c)
		return tx.Presumption(ctx, &s.state, id)
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
	case RefusedForGood(err) && len(calls) > 1:
		l.log.ErrorContext(ctx, "a turn was refused, trying its commands one by one", slogTenant(s.tenant), slogErr(err))
		s.careful = len(calls)
		l.finish(s, calls, nil, t.dropped)
		return
	case RefusedForGood(err), errors.Is(err, ErrTampered):
		l.log.ErrorContext(ctx, "a command failed for good", slogTenant(s.tenant), slogErr(err))
		fail(calls, fmt.Errorf("%w: %w", ErrRefusedByDatabase, err))
		s.retries = 0
		l.finish(s, nil, nil, len(calls)+t.dropped)
		return
	}
	// All else may pass: a lost connection, a lock that was not had in time, a full disk, an event that only
	// a newer build can read. What closes a reservation waits for that; the others hear no, at once if the
	// database does not answer.
	hopeless := Lost(err) || errors.Is(err, domain.ErrUnknownEvent) || s.retries > maxRetries
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
	l.after(ctx, min(retryFirst<<min(s.retries, 10), retryMost), func() { l.finish(s, nil, nil, 0) })
}

// after does something later, or at once when the ledger stops.
func (l *Ledger) after(ctx context.Context, wait time.Duration, then func()) {
	if l.cfg.After != nil {
		l.cfg.After(wait, then)
		return
	}
	timer := time.NewTimer(wait)
	l.workers.Go(func() {
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		then()
	})
}

func slogTenant(t domain.TenantID) slog.Attr { return slog.String("tenant", string(t)) }

func slogErr(err error) slog.Attr { return slog.String("error", err.Error()) }

func slogCommitted(committed bool) slog.Attr { return slog.Bool("committed", committed) }
