package lanes

import (
	"context"
	"fmt"

	"github.com/budgetguard/budgetguard/domain"
)

// resolve finds out what became of a turn whose commit got no answer, and ends its callers' doubt.
func (l *Ledger) resolve(ctx context.Context, s *stream) {
	bounded, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	t := s.doubt
	committed, err := l.journal.Fence(bounded, s.tenant, t.records[0])
	if err != nil {
		s.retries++
		if s.retries == 1 {
			l.log.WarnContext(ctx, "the outcome of a commit is unknown and the database does not answer", slogTenant(s.tenant), slogErr(err))
		}
		if Lost(err) {
			l.dismiss(s, fmt.Errorf("%w: %w", domain.ErrUnavailable, err))
		}
		l.later(ctx, s, nil, 0)
		return
	}
	s.doubt, s.retries = nil, 0
	l.log.WarnContext(ctx, "the outcome of a commit was unknown and is settled", slogTenant(s.tenant), slogCommitted(committed))
	if committed {
		l.learn(t, false)
		l.turned(Turned{Locked: true, Tenants: 1, Events: len(t.records)})
		l.finish(s, nil, t.answer(), len(t.calls))
		return
	}
	wanted, dropped := live(t.calls)
	l.finish(s, wanted, nil, dropped)
}

// dismiss answers those of a stream in doubt who need not wait until the database is back: those in the
// queue, and those whose command is in doubt. What of theirs is committed will be undone.
func (l *Ledger) dismiss(s *stream, err error) {
	for _, c := range s.doubt.calls {
		if !c.patient {
			c.giveUp(err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var patient []*call
	for _, c := range s.queue {
		if c.patient {
			patient = append(patient, c)
			continue
		}
		c.answer(nil, err)
		l.waiting--
	}
	s.queue = patient
}
