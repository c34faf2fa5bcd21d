package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/budgetguard/budgetguard/eventstore"
)

const (
	// beatInterval is how often a gateway says that it lives, and beatTimeout how long that may take.
	beatInterval = 5 * time.Second
	beatTimeout  = 3 * time.Second
	// beatsToDeath is how many beats a gateway may miss at least before ORPHAN_AFTER is over.
	beatsToDeath = 6
	// leastOrphanAfter leaves a gateway under load the time to beat.
	leastOrphanAfter = 2 * time.Second
)

func orphanSettings() []setting {
	return []setting{{"ORPHAN_AFTER", "30s", false, "silence after which a gateway's open holds are charged; 0 leaves them to their time"}}
}

// orphanAfter is the setting, whose zero is off.
func orphanAfter(v *values) time.Duration {
	if d, err := time.ParseDuration(v.text("ORPHAN_AFTER")); err == nil && d == 0 {
		return 0
	}
	return v.duration("ORPHAN_AFTER", leastOrphanAfter, 24*time.Hour)
}

// session is this gateway's row among the gateways of the ledger.
type session struct {
	store   *eventstore.Store
	log     *slog.Logger
	gateway string
	every   time.Duration
	stop    context.CancelFunc
	stopped chan struct{}
}

// beginSession makes the row and keeps it alive until close, through the shutdown too.
func (g *gateway) beginSession(ctx context.Context) *session {
	s := &session{store: g.store, log: g.cfg.log, gateway: g.cfg.proxy.Gateway, every: beatInterval, stopped: make(chan struct{})}
	if g.cfg.orphanAfter > 0 {
		s.every = min(s.every, g.cfg.orphanAfter/beatsToDeath)
	}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	silent := !s.beat(ctx, false)
	go func() {
		defer close(s.stopped)
		ticker := time.NewTicker(s.every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				silent = !s.beat(ctx, silent)
			case <-ctx.Done():
				return
			}
		}
	}()
	return s
}

// beat is false if it failed, which is logged once in a row.
func (s *session) beat(ctx context.Context, silent bool) bool {
	bounded, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	err := s.store.Beat(bounded, s.gateway, version)
	switch {
	case err != nil && !silent && ctx.Err() == nil:
		s.log.WarnContext(ctx, "this gateway's heart cannot be heard; its open holds are charged if that lasts, and corrected when it settles", slog.String("error", err.Error()))
	case err == nil && silent:
		s.log.InfoContext(ctx, "this gateway's heart is heard again")
	}
	return err == nil
}

// end stops the beats. A gateway that leaves nothing behind ends its session; one that does is given the time
// of a silent one, so that its recorder can be replayed first.
func (s *session) end(ctx context.Context, clean bool) {
	s.stop()
	<-s.stopped
	if !clean {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	if err := s.store.EndSession(bounded, s.gateway); err != nil {
		s.log.WarnContext(ctx, "the end of this gateway's session could not be noted", slog.String("error", err.Error()))
	}
}

// afterReplay is a store that shows no orphans before this gateway has replayed what its predecessors'
// recorders know, which is better evidence.
type afterReplay struct {
	*eventstore.Store
	replayed <-chan struct{} // nil: there is nothing to wait for
}

func (a afterReplay) Orphans(ctx context.Context, after time.Duration, limit int) ([]eventstore.OverdueHold, error) {
	if a.replayed != nil {
		select {
		case <-a.replayed:
		default:
			return nil, nil
		}
	}
	return a.Store.Orphans(ctx, after, limit)
}
