package projections

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"
)

// gaugeEvery is how often the gauges of the outbox are set.
const gaugeEvery = 2 * time.Second

// Worker runs the relay, both projectors, the reaper and the ager. Any number may run, in any number of processes.
type Worker struct {
	cfg   Config
	store Store
	parts []interface{ Run(context.Context) error }
}

// NewWorker makes a worker that reads store and closes overdue reservations through ledger. It does not
// connect yet: servers may be down when it starts and come later. Run it once, always: it disconnects.
func NewWorker(cfg Config, store Store, ledger Ledger) (*Worker, error) {
	cfg = cfg.withDefaults() // once, so that all parts are one consumer
	if _, err := cfg.options(); err != nil {
		return nil, err
	}
	relay, errRelay := NewRelay(cfg, store)
	counters, errCounters := NewCounters(cfg, store)
	usage, errUsage := NewUsage(cfg, store)
	if err := errors.Join(errRelay, errCounters, errUsage); err != nil {
		return nil, err
	}
	projectors := shared{cfg: cfg, group: streamGroup, projectors: []*Projector{counters, usage}}
	w := &Worker{cfg: cfg, store: store}
	w.parts = append(w.parts, relay, projectors, NewReaper(cfg, store, ledger), NewAger(cfg, store, ledger))
	return w, nil
}

// Run works until ctx is done and returns when everything has stopped. Outages are waited out, so its
// error is one of disconnecting at the end.
func (w *Worker) Run(ctx context.Context) error {
	var group errgroup.Group
	for _, part := range w.parts {
		group.Go(func() error { return part.Run(ctx) })
	}
	group.Go(func() error {
		w.gauge(ctx)
		return nil
	})
	return group.Wait()
}

// gauge shows the outbox in the metrics. Whoever cannot read it says so elsewhere.
func (w *Worker) gauge(ctx context.Context) {
	ticker := time.NewTicker(gaugeEvery)
	defer ticker.Stop()
	for {
		if lag, err := outboxLag(ctx, w.store.Pool()); err == nil {
			w.cfg.Metrics.outbox.Set(float64(lag.Events))
			w.cfg.Metrics.outboxAge.Set(lag.Age.Seconds())
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
