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

// Holds lists open reservations that nobody will resolve, by the database's clock.
type Holds interface {
	// Overdue lists those past their time.
	Overdue(ctx context.Context, limit int) ([]eventstore.OverdueHold, error)
	// Orphans lists those of gateways that are gone, or silent for the time given.
	Orphans(ctx context.Context, after time.Duration, limit int) ([]eventstore.OverdueHold, error)
}

// Reaper closes reservations that nobody resolved in time, or will. Any number may run: whoever comes second
// finds the reservation closed.
type Reaper struct {
	cfg    Config
	holds  Holds
	ledger Ledger
	outage outage
	// patience is the number of sweeps until orphans are looked for again: behind an outage of the database
	// the gateways need the time to beat.
	patience int
}

// NewReaper makes a reaper. It does not use Redis.
func NewReaper(cfg Config, holds Holds, ledger Ledger) *Reaper {
	cfg = cfg.withDefaults()
	return &Reaper{cfg: cfg, holds: holds, ledger: ledger, outage: outage{log: cfg.Logger, what: "reaper"}}
}

// Run closes overdue and orphaned reservations until ctx is done.
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

// sweep closes what is overdue now, and what is orphaned.
func (r *Reaper) sweep(ctx context.Context) error {
	err := r.rounds(ctx, r.holds.Overdue, false)
	if err == nil && r.orphansWanted() {
		err = r.rounds(ctx, r.orphans, true)
	}
	if err != nil {
		r.patience = int(r.cfg.OrphanAfter / r.cfg.Reap)
	}
	return err
}

func (r *Reaper) orphansWanted() bool {
	if r.patience > 0 {
		r.patience--
		return false
	}
	return r.cfg.OrphanAfter > 0 && !r.cfg.FreeExpired
}

func (r *Reaper) orphans(ctx context.Context, limit int) ([]eventstore.OverdueHold, error) {
	return r.holds.Orphans(ctx, r.cfg.OrphanAfter, limit)
}

// rounds closes what list shows. It stops where nothing could be closed: those would only be read again.
func (r *Reaper) rounds(ctx context.Context, list func(context.Context, int) ([]eventstore.OverdueHold, error), orphaned bool) error {
	for range reapRounds {
		holds, err := list(ctx, reapBatch)
		if err != nil {
			return err
		}
		closed := r.expire(ctx, holds, orphaned)
		if len(holds) < reapBatch || closed == 0 {
			return nil
		}
	}
	return nil
}

func (r *Reaper) expire(ctx context.Context, holds []eventstore.OverdueHold, orphaned bool) int64 {
	var closed atomic.Int64
	var group errgroup.Group
	group.SetLimit(reapAtOnce)
	for _, hold := range holds {
		group.Go(func() error {
			if r.close(ctx, hold, orphaned) {
				closed.Add(1)
			}
			return nil
		})
	}
	_ = group.Wait() // no call returns an error
	return closed.Load()
}

// close tells whether the hold was closed here.
func (r *Reaper) close(ctx context.Context, hold eventstore.OverdueHold, orphaned bool) bool {
	ctx, cancel := context.WithTimeout(ctx, reapWithin)
	defer cancel()
	_, err := r.ledger.Do(ctx, hold.Tenant, domain.Expire{Reservation: hold.Reservation, Free: r.cfg.FreeExpired, Orphaned: orphaned})
	switch {
	case err == nil && orphaned:
		r.cfg.Metrics.orphans.Inc()
		return true
	case err == nil:
		r.cfg.Metrics.expired.Inc()
		return true
	case errors.Is(err, domain.ErrReservationUnknown): // somebody else closed it
	case errors.Is(err, domain.ErrInvalid): // the ledger's idea of the database's clock is a little behind
	default:
		r.cfg.Metrics.reapFailed.Inc()
		r.cfg.Logger.WarnContext(ctx, "overdue reservation not closed", slog.Bool("orphan", orphaned), slog.String("tenant", string(hold.Tenant)),
			slog.String("reservation", string(hold.Reservation)), slog.String("error", err.Error()))
	}
	return false
}
