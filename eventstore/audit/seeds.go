package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
)

// seed is a window that opened with spend in it. What it should have been is read again once the stream is
// known, so that no memory is spent on charges that nobody asks for.
type seed struct {
	version int64
	scope   domain.Scope
	event   domain.WindowOpened
}

// checkSeeds adds up, for each seeded window, what was charged before it opened for reservations made in it.
func checkSeeds(ctx context.Context, tx pgx.Tx, f *fold) error {
	for _, s := range f.seeds {
		sums, err := f.charged(ctx, tx, s)
		if err != nil {
			return fmt.Errorf("add up what account %d began with: %w", s.version, err)
		}
		if want := s.spent(sums); want != s.event.Settled {
			f.violated(s.version, LawSeed, "it opens with %s USD spent; the window had cost %s USD", s.event.Settled, want)
		}
		for _, b := range s.event.Buckets {
			if want := max(sums[b.Number], b.Presumed); want != b.Settled {
				f.violated(s.version, LawSeed, "part %d begins with %s USD spent; it had cost %s USD", b.Number, b.Settled, want)
			}
		}
	}
	return nil
}

// spent is what the window begins with: of each part its charges, and no less than what is presumed of it. More
// may have been given back than spent while no budget was there to refuse it.
func (s seed) spent(sums map[int64]domain.Amount) domain.Amount {
	if s.event.Duration == 0 {
		return max(sums[0], s.event.Presumed)
	}
	presumed := map[int64]domain.Amount{}
	for _, b := range s.event.Buckets {
		presumed[b.Number] = b.Presumed
		sums[b.Number] += 0 // so that it is among them
	}
	total := domain.Amount(0)
	for number, sum := range sums {
		total += max(sum, presumed[number])
	}
	return total
}

// charged are the charges that a seed is made of, by the part of a rolling window, else all in part 0.
func (f *fold) charged(ctx context.Context, tx pgx.Tx, s seed) (map[int64]domain.Amount, error) {
	rows, err := tx.Query(ctx, `select version, ts, type, schema_version, body from event
		where tenant_id = $1 and version < $2 and ts >= $3
			and type in ('usage.settled', 'usage.settled_late', 'reservation.expired', 'usage.adjusted')`, string(f.tenant), s.version, s.event.Start)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	sums := map[int64]domain.Amount{}
	window := domain.Window{Start: s.event.Start, End: s.event.End}
	for rows.Next() {
		var version int64
		var at time.Time
		var kind string
		var schema int
		var body []byte
		if err := rows.Scan(&version, &at, &kind, &schema, &body); err != nil {
			return nil, err
		}
		e, err := domain.DecodeEvent(domain.EventType(kind), schema, body)
		if err != nil {
			continue // it is a violation already
		}
		of, reserved, amount := chargeOf(e, at)
		if !window.Contains(reserved) || !s.scope.Matches(of) {
			continue
		}
		number := int64(0)
		if s.event.Duration != 0 {
			number = partOf(reserved, s.event.Duration)
		}
		sums[number] += amount
	}
	return sums, rows.Err()
}

// chargeOf is what an event charges, for what, and when that was reserved.
func chargeOf(e domain.Event, at time.Time) (of domain.Request, reserved time.Time, amount domain.Amount) {
	switch e := e.(type) { //nolint:gochecksumtype // the others charge nothing
	case domain.UsageSettled:
		return e.Request, e.ReservedAt, e.Charged
	case domain.ReservationExpired:
		return e.Request, e.ReservedAt, e.Charged
	case domain.UsageSettledLate:
		return e.Request, e.ReservedAt, e.Delta
	case domain.UsageAdjusted:
		of = domain.Request{KeyID: e.KeyID, Model: e.Model, Tags: e.Tags}
		if e.ReservedAt.IsZero() {
			return of, at, e.Delta
		}
		return of, e.ReservedAt, e.Delta
	}
	return of, reserved, 0
}
