package projections

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
)

const (
	// reapBatch is how many overdue reservations are read at once.
	reapBatch = 500
	// reapAtOnce is how many are closed at once; the ledger puts them into few transactions.
	reapAtOnce = 64
	// reapRounds bounds one tick, so that a ledger that cannot keep up is not the reaper's alone.
	reapRounds = 20
	// reapWithin bounds one command. It is carried out even when nobody waits for it any more.
	reapWithin = 5 * time.Second
)

// OverdueHolds lists reservations past their time by the database's clock.
type OverdueHolds interface {
	Overdue(ctx context.Context, limit int) ([]eventstore.OverdueHold, error)
}

// Reaper closes reservations that nobody resolved in time. Any number may run: whoever comes second finds
// the reservation closed.
type Reaper struct {
	cfg    Config
	holds  OverdueHolds
	ledger Ledger
	outage outage
}

// NewReaper makes a reaper. It does not use Redis.
func NewReaper(cfg Config, holds OverdueHolds, ledger Ledger) *Reaper {
	cfg = cfg.withDefaults()
	return &Reaper{cfg: cfg, holds: holds, ledger: ledger, outage: outage{log: cfg.Logger, what: "reaper"}}
}

// Run closes overdue reservations until ctx is done.
func (r *Reaper) Run(ctx context.Context) error {
	ticker := time.NewTicker(r.cfg.Reap)
	defer ticker.Stop()
	for {
		r.outage.note(ctx, r.sweep(ctx))
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// sweep closes what is overdue now. It stops where nothing could be closed: those would only be read again.
func (r *Reaper) sweep(ctx context.Context) error {
	for range reapRounds {
		overdue, err := r.holds.Overdue(ctx, reapBatch)
		if err != nil {
			return err
		}
		closed := r.expire(ctx, overdue)
		if len(overdue) < reapBatch || closed == 0 {
			return nil
		}
	}
	return nil
}

func (r *Reaper) expire(ctx context.Context, overdue []eventstore.OverdueHold) int64 {
	var closed atomic.Int64
	var group errgroup.Group
	group.SetLimit(reapAtOnce)
	for _, hold := range overdue {
		group.Go(func() error {
			if r.close(ctx, hold) {
				closed.Add(1)
			}
			return nil
		})
	}
	_ = group.Wait() // no call returns an error
	return closed.Load()
}

// close tells whether the hold was closed here.
func (r *Reaper) close(ctx context.Context, hold eventstore.OverdueHold) bool {
	ctx, cancel := context.WithTimeout(ctx, reapWithin)
	defer cancel()
	_, err := r.ledger.Do(ctx, hold.Tenant, domain.Expire{Reservation: hold.Reservation, Free: r.cfg.FreeExpired})
	switch {
	case err == nil:
		r.cfg.Metrics.expired.Inc()
		return true
	case errors.Is(err, domain.ErrReservationUnknown): // somebody else closed it
	case errors.Is(err, domain.ErrInvalid): // the ledger's idea of the database's clock is a little behind
	default:
		r.cfg.Metrics.reapFailed.Inc()
		r.cfg.Logger.WarnContext(ctx, "overdue reservation not closed", slog.String("tenant", string(hold.Tenant)),
			slog.String("reservation", string(hold.Reservation)), slog.String("error", err.Error()))
	}
	return false
}
