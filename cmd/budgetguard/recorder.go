package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/proxy/flight"
)

const (
	// noRecorder in the place of a directory keeps no flight recorder.
	noRecorder = "off"
	// replayTimeout bounds the replay of one file. What is not written by then stays for the next start.
	replayTimeout = time.Minute
	// replayAtOnce is how many commands of a replay wait at once; the ledger puts them into few transactions.
	replayAtOnce = 64
)

// recorderConfig is where the flight recorder is.
type recorderConfig struct {
	dir string // empty is off
	// optional makes a directory that cannot be used a warning: it is the default, nobody asked for it.
	optional bool
}

func readRecorderConfig(v *values) recorderConfig {
	dir := v.text("RECORDER_DIR")
	if dir == noRecorder {
		dir = ""
	}
	return recorderConfig{dir: dir, optional: v.isDefault("RECORDER_DIR")}
}

// blackBox is the flight recorder of this process and the replay of those of others.
type blackBox struct {
	cfg      recorderConfig
	log      *slog.Logger
	store    *eventstore.Store
	ledger   *eventstore.Ledger
	header   flight.Header
	recorder *flight.Recorder // nil is off
	replays  *prometheus.CounterVec
	failures prometheus.Counter

	stop     context.CancelFunc
	replayed chan struct{} // closed when the replay is over
}

// openBlackBox begins this process's file.
func (g *gateway) openBlackBox(ctx context.Context) (*blackBox, error) {
	b := &blackBox{
		cfg: g.cfg.recorder, log: g.cfg.log, store: g.store, ledger: g.ledger, replayed: make(chan struct{}), stop: func() {},
		header: flight.Header{Gateway: g.cfg.proxy.Gateway, Boot: flight.Boot(), Build: version},
		replays: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "budgetguard_recorder_replayed_total", Help: "Calls of dead gateways by what their flight recorder made of them: settled, presumed, released, known (closed before), refused.",
		}, []string{"outcome"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "budgetguard_recorder_failures_total", Help: "Failures to write the flight recorder; meanwhile a killed gateway's calls are charged whole.",
		}),
	}
	g.cfg.registry.MustRegister(b.replays, b.failures)
	if b.cfg.dir == "" {
		b.log.InfoContext(ctx, "no flight recorder: if this process is killed, its calls under way are charged whole")
		return b, nil
	}
	var err error
	b.recorder, err = flight.Open(flight.Config{Dir: b.cfg.dir, Header: b.header, Now: time.Now, Failed: b.failed})
	switch {
	case err != nil && b.cfg.optional:
		b.cfg.dir = ""
		b.log.WarnContext(ctx, "no flight recorder: set RECORDER_DIR to a directory that can be written, or to off", slog.String("error", err.Error()))
	case err != nil:
		return b, configError("RECORDER_DIR: %w", err)
	}
	return b, nil
}

func (b *blackBox) failed(err error) {
	b.failures.Inc()
	b.log.Warn("the flight recorder cannot write", slog.String("error", err.Error()))
}

// start replays the files of dead gateways beside whatever else happens.
func (b *blackBox) start(ctx context.Context) {
	ctx, b.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(b.replayed)
		if b.cfg.dir == "" {
			return
		}
		if err := b.replayAll(ctx); err != nil && ctx.Err() == nil {
			b.log.WarnContext(ctx, "flight recorders could not all be replayed; what they know is tried again at the next start", slog.String("error", err.Error()))
		}
	}()
}

// close ends this process's file, after the ledger: what it did not take is left to the next start.
func (b *blackBox) close(ctx context.Context) (left int, err error) {
	left, err = b.recorder.Close()
	if left > 0 {
		b.log.WarnContext(ctx, "calls are left in the flight recorder for the next start", slog.Int("calls", left))
	}
	return left, err
}

// halt ends a replay that is under way, before the ledger is closed.
func (b *blackBox) halt() {
	b.stop()
	<-b.replayed
}

func (b *blackBox) replayAll(ctx context.Context) error {
	found, err := flight.Search(b.cfg.dir)
	errs := []error{err}
	for _, lost := range found {
		errs = append(errs, b.replay(ctx, lost))
	}
	return errors.Join(errs...)
}

// replay closes what a dead gateway left open. A file of another ledger's gateway is not ours to judge until it is so
// old that one of ours could be forgotten by now: then nothing of it is held any more, here or there. What it knows
// still corrects what this ledger charged by presumption, and means nothing to a ledger that does not know the calls.
func (b *blackBox) replay(ctx context.Context, lost *flight.Lost) error {
	ctx, cancel := context.WithTimeout(ctx, replayTimeout)
	defer cancel()
	if lost.Err != nil {
		b.log.ErrorContext(ctx, "a flight recorder cannot be read to its end; it is kept beside the others, and calls it does not show are charged whole",
			slog.String("file", lost.Name()), slog.String("error", lost.Err.Error()))
	}
	if lost.Header.Gateway == "" {
		return lost.SetAside()
	}
	ours, err := b.store.HasSession(ctx, lost.Header.Gateway)
	switch {
	case err != nil:
		return errors.Join(err, lost.Keep())
	case !ours && time.Since(lost.Written) < eventstore.SessionLife:
		b.log.InfoContext(ctx, "a flight recorder of a gateway that this ledger does not know is left alone", slog.String("file", lost.Name()))
		return lost.Keep()
	case !ours:
		b.log.WarnContext(ctx, "a flight recorder of a gateway that is long forgotten is replayed and removed",
			slog.String("file", lost.Name()), slog.Time("written", lost.Written), slog.Int("calls", len(lost.Calls)))
	}
	if err := b.closeCalls(ctx, lost); err != nil {
		return errors.Join(err, lost.Keep())
	}
	if lost.Err != nil {
		err = lost.SetAside()
	} else {
		err = lost.Remove()
	}
	return errors.Join(err, b.store.EndSession(ctx, lost.Header.Gateway))
}

// closeCalls closes each call; an error is one of the ledger that asks to try again.
func (b *blackBox) closeCalls(ctx context.Context, lost *flight.Lost) error {
	whole := lost.Whole(b.header.Boot)
	count := tallies{}
	var group errgroup.Group
	group.SetLimit(replayAtOnce)
	for _, call := range lost.Calls {
		group.Go(func() error {
			outcome, err := b.closeCall(ctx, call.Tenant, call.Command(whole))
			if err == nil {
				b.replays.WithLabelValues(outcome).Inc()
				count.add(outcome)
			}
			return err
		})
	}
	err := group.Wait()
	b.log.InfoContext(ctx, "flight recorder replayed", append([]any{slog.String("gateway", lost.Header.Gateway), slog.Int("calls", len(lost.Calls))}, count.attrs()...)...)
	return err
}

func (b *blackBox) closeCall(ctx context.Context, tenant domain.TenantID, c domain.Command) (outcome string, err error) {
	_, err = b.ledger.Do(ctx, tenant, c)
	switch {
	case errors.Is(err, domain.ErrReservationUnknown), errors.Is(err, domain.ErrTenantUnknown): // closed, or never made
		return "known", nil
	case errors.Is(err, domain.ErrInvalid), errors.Is(err, domain.ErrAmount):
		b.log.ErrorContext(ctx, "the ledger refuses what a flight recorder says; the hold is left to the reaper", slog.String("tenant", string(tenant)), slog.String("error", err.Error()))
		return "refused", nil
	case err != nil:
		return "", fmt.Errorf("tenant %s: %w", tenant, err)
	}
	switch c.(type) { //nolint:gochecksumtype // a recorder closes with these
	case domain.Settle:
		return "settled", nil
	case domain.Release:
		return "released", nil
	}
	return "presumed", nil
}

// tallies counts outcomes.
type tallies struct {
	mu sync.Mutex
	of map[string]int
}

func (t *tallies) add(outcome string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[string]int{}
	}
	t.of[outcome]++
}

func (t *tallies) attrs() []any {
	t.mu.Lock()
	defer t.mu.Unlock()
	var attrs []any
	for _, outcome := range []string{"settled", "presumed", "released", "known", "refused"} {
		attrs = append(attrs, slog.Int(outcome, t.of[outcome]))
	}
	return attrs
}
