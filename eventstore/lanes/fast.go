package lanes

import (
	"context"
	"slices"
	"time"
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
	return l.nextFast()
}

// StepFast carries out one turn of the fast lane, if there is one to do: for a Ledger that was not started.
// Turns may overlap only as they do in a started one, one fast turn at a time.
func (l *Ledger) StepFast(ctx context.Context) (did bool) {
	l.mu.Lock()
	if len(l.fast) == 0 {
		l.mu.Unlock()
		return false
	}
	streams, calls := l.nextFast()
	l.mu.Unlock()
	l.fastTurn(ctx, streams, calls)
	return true
}

// nextFast takes the streams of the next turn, and their calls. The caller holds the mutex.
func (l *Ledger) nextFast() ([]*stream, [][]*call) {
	n := min(len(l.fast), maxTenantsPerTurn)
	streams := []*stream{}
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
	return streams, calls
}

func (l *Ledger) fastTurn(ctx context.Context, streams []*stream, calls [][]*call) {
	var turns []*turn
	now := l.clock.database()
	for i, s := range streams {
		wanted, dropped := live(calls[i])
		t, err := l.plan(s, wanted, now, nil)
		if err != nil {
			l.log.ErrorContext(ctx, "a turn cannot be decided, its commands go on one by one", slogTenant(s.tenant), slogErr(err))
			s.cached, s.direct, s.careful = false, true, len(wanted)
			l.finish(s, wanted, nil, dropped)
			continue
		}
		t.dropped = dropped
		if redefines(t.records) {
			l.again(t)
			continue
		}
		refused := t.setAsideRefused()
		if len(t.records) == 0 {
			l.reply(t, refused, dropped)
			continue
		}
		t.aside = refused
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
	won, at, err := l.journal.Append(bounded, appends(turns))
	cancel()
	ended := l.cfg.Now()
	report := Turned{Tenants: len(turns), Took: ended.Sub(started), Err: err}
	switch {
	case err == nil:
		l.clock.observe(Sample{At: at, Sent: started, Received: ended})
		for _, t := range turns {
			if slices.Contains(won, t.stream.tenant) {
				report.Events += len(t.records)
				t.stream.contended, t.stream.retries = 0, 0
				l.learn(t, false)
				l.reply(t, t.aside, t.dropped)
				continue
			}
			report.Conflicts++
			l.conflict(t)
		}
	case OutcomeUnknown(err):
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

func appends(turns []*turn) []Append {
	list := make([]Append, len(turns))
	for i, t := range turns {
		list[i] = t.append()
	}
	return list
}

// reply answers a turn's callers. Refused calls go back to be confirmed under the lock.
func (l *Ledger) reply(t *turn, refused []*call, dropped int) {
	t.stream.state.ForgetClosed()
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
