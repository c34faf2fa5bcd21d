package eventstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// turnTimeout bounds one append, so that a connection that hangs becomes an unknown outcome to be fenced.
const turnTimeout = 5 * time.Second

// runFast is the fast lane: one goroutine, one append in flight. More lanes would make smaller turns:
// measured, one connection writes the most commands a second.
func (l *Ledger) runFast(ctx context.Context) {
	for {
		streams, calls := l.takeFast(ctx)
		if streams == nil {
			return
		}
		l.fastTurn(ctx, streams, calls)
	}
}

// takeFast waits for streams with work. It is nil when the ledger stops.
func (l *Ledger) takeFast(ctx context.Context) ([]*stream, [][]*call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.fast) == 0 && ctx.Err() == nil {
		l.wake.Wait()
	}
	if ctx.Err() != nil { // what is left is answered by Close
		return nil, nil
	}
	n := min(len(l.fast), maxTenantsPerTurn)
	var streams []*stream
	var calls [][]*call
	for _, s := range l.fast[:n] {
		if !s.fits(l.cfg.Now()) { // what was queued since may need the locked path
			l.locked = append(l.locked, s)
			l.wake.Broadcast()
			continue
		}
		s.phase = running
		streams = append(streams, s)
		calls = append(calls, s.take())
	}
	l.fast = slices.Clone(l.fast[n:])
	if streams == nil {
		streams = []*stream{}
	}
	return streams, calls
}

func (l *Ledger) fastTurn(ctx context.Context, streams []*stream, calls [][]*call) {
	var turns []*turn
	now := l.clock.database()
	for i, s := range streams {
		wanted, dropped := live(calls[i])
		t, err := plan(s, wanted, now)
		if err != nil {
			l.log.ErrorContext(ctx, "a turn cannot be decided, its commands go on one by one", slogTenant(s.tenant), slogErr(err))
			s.cached, s.direct, s.careful = false, true, len(wanted)
			l.finish(s, wanted, nil, dropped)
			continue
		}
		refused := t.setAsideRefused()
		if len(t.records) == 0 {
			l.reply(t, refused, dropped)
			continue
		}
		t.aside, t.dropped = refused, dropped
		turns = append(turns, t)
	}
	if len(turns) > 0 {
		l.appendFast(ctx, turns)
	}
}

// setAsideRefused takes the refused calls out of a turn that was decided on a cached state: another
// gateway may have given room since, so they are confirmed through the locked path.
func (t *turn) setAsideRefused() []*call {
	var refused, kept []*call
	var outcomes []outcome
	for i, c := range t.calls {
		if t.outcomes[i].err != nil {
			refused = append(refused, c)
			continue
		}
		kept, outcomes = append(kept, c), append(outcomes, t.outcomes[i])
	}
	t.calls, t.outcomes = kept, outcomes
	return refused
}

func (l *Ledger) appendFast(ctx context.Context, turns []*turn) {
	started := l.cfg.Now()
	bounded, cancel := context.WithTimeout(ctx, turnTimeout)
	won, at, err := l.writeFast(bounded, turns)
	cancel()
	ended := l.cfg.Now()
	report := Turned{Tenants: len(turns), Took: ended.Sub(started), Err: err}
	switch {
	case err == nil:
		l.clock.observe(at, started, ended)
		for _, t := range turns {
			if slices.Contains(won, string(t.stream.tenant)) {
				report.Events += len(t.records)
				t.stream.contended, t.stream.retries = 0, 0
				l.learn(t, false)
				l.reply(t, t.aside, t.dropped)
				continue
			}
			report.Conflicts++
			l.conflict(t)
		}
	case outcomeUnknown(err):
		for _, t := range turns {
			l.inDoubt(t)
		}
	default:
		l.log.WarnContext(ctx, "append refused, every tenant goes on alone", slogErr(err))
		for _, t := range turns {
			l.again(t)
		}
	}
	l.turned(report)
}

func (l *Ledger) writeFast(ctx context.Context, turns []*turn) ([]string, time.Time, error) {
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("connect: %w", errors.Join(errNotSent, err))
	}
	defer conn.Release()
	return write(ctx, conn, turns)
}

// reply answers a turn's callers. Refused calls go back to be confirmed under the lock.
func (l *Ledger) reply(t *turn, refused []*call, dropped int) {
	t.stream.forgetPresumed()
	undo := t.answer()
	if len(refused) > 0 {
		t.stream.direct = true
	}
	l.finish(t.stream, refused, undo, len(t.calls)+dropped)
}

const (
	hotFirst = 250 * time.Millisecond
	hotMost  = 4 * time.Second
)

// conflict sends a tenant that another gateway writes too through the locked path for a while.
func (l *Ledger) conflict(t *turn) {
	s := t.stream
	s.cached = false
	s.hotUntil = l.cfg.Now().Add(min(hotFirst<<min(s.contended, 8), hotMost))
	s.contended++
	l.finish(s, append(t.calls, t.aside...), nil, t.dropped)
}

// again runs a turn's calls once more through the locked path, alone.
func (l *Ledger) again(t *turn) {
	t.stream.cached, t.stream.direct = false, true
	l.finish(t.stream, append(t.calls, t.aside...), nil, t.dropped)
}

// inDoubt keeps a turn whose commit may or may not have happened, until the fence has told.
func (l *Ledger) inDoubt(t *turn) {
	t.stream.cached = false
	t.stream.doubt = t
	l.finish(t.stream, t.aside, nil, t.dropped)
}

// outcomeUnknown tells whether a failed statement may have been committed all the same. Postgres saying
// no is an answer; a session that is being ended, or a broken connection, is none. pgconn.SafeToRetry is
// not asked: it calls a commit safe whose answer was lost ("conn closed", pgx 5.12, simple protocol).
func outcomeUnknown(err error) bool {
	var answered *pgconn.PgError
	if errors.As(err, &answered) {
		return ended(answered)
	}
	return !errors.Is(err, errNotSent) && !errors.Is(err, errUndecidable)
}

// errNotSent marks failures before anything was sent.
var errNotSent = errors.New("not sent")

// guarded tells whether what was decided can never be written: a constraint or a count refused it, the
// database cannot hold its values, or deciding failed. It is a bug or a hostile input, never load.
func guarded(err error) bool {
	var answered *pgconn.PgError
	if !errors.As(err, &answered) {
		return errors.Is(err, errUndecidable)
	}
	// Classes of SQLSTATE: 22 data exception, 23 integrity constraint violation, 54 program limit exceeded.
	return answered.Code == "BG002" || slices.Contains([]string{"22", "23", "54"}, answered.Code[:min(2, len(answered.Code))])
}

// lost tells whether the database cannot be reached at all.
func lost(err error) bool {
	var answered *pgconn.PgError
	return !errors.As(err, &answered) || ended(answered)
}

// ended tells whether an error is the end of the session. The severity is in the server's language; the
// one that is not translated exists since Postgres 9.6.
func ended(e *pgconn.PgError) bool {
	severity := cmp.Or(e.SeverityUnlocalized, e.Severity)
	return severity == "FATAL" || severity == "PANIC"
}
