package eventstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
)

// resolve finds out what became of a turn whose commit got no answer, and ends its callers' doubt.
func (l *Ledger) resolve(ctx context.Context, s *stream) {
	bounded, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	t := s.doubt
	committed, err := l.raiseFence(bounded, t)
	if err != nil {
		s.retries++
		if s.retries == 1 {
			l.log.WarnContext(ctx, "the outcome of a commit is unknown and the database does not answer", slogTenant(s.tenant), slogErr(err))
		}
		if lost(err) {
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

// raiseFence makes every append that was decided before now fail its compare-and-set, and tells, under
// the same lock, whether the turn's first event is in the stream. Raising it twice does no harm, so an
// unknown outcome of this very transaction is met by calling it again.
func (l *Ledger) raiseFence(ctx context.Context, t *turn) (committed bool, err error) {
	err = pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		// An update alone would not wait for an original that is just making the head, so the fence makes
		// one too, and takes it back: who has it inserted knows that the original never will be.
		genesis := Genesis(t.stream.tenant)
		var version int64
		err := tx.QueryRow(ctx, `insert into tenant_head (tenant_id, version, last_ts, last_hash) values ($1, 0, '-infinity', $2)
			on conflict (tenant_id) do update set fence = tenant_head.fence + 1 returning version`, string(t.stream.tenant), genesis[:]).Scan(&version)
		if err != nil {
			return err
		}
		if version == 0 {
			_, err := tx.Exec(ctx, `delete from tenant_head where tenant_id = $1 and version = 0`, string(t.stream.tenant))
			return err
		}
		var hash []byte
		first := t.records[0]
		err = tx.QueryRow(ctx, `select hash from event where tenant_id = $1 and version = $2`, string(t.stream.tenant), first.Version).Scan(&hash)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		committed = bytes.Equal(hash, first.Hash[:])
		return err
	})
	if err != nil {
		return false, fmt.Errorf("fence %s: %w", t.stream.tenant, err)
	}
	return committed, nil
}
