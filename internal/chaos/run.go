package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// options say what runs, for how long, and what decides.
type options struct {
	length   time.Duration
	seed     uint64
	gateways int
	workers  int
	tenants  int
	clients  int
	// ttl is the life of a reservation, stall the time of a SIGSTOP. A stall is longer.
	ttl, stall time.Duration
	least      int  // faults at once, up to three
	skew       bool // a build with another clock is made
	disk       bool // Postgres gets a disk that can be filled, where that can be mounted
	keep       bool // the directory stays
	env        []string
	args       []string // as they were given, for the command
	now        func() time.Time
	began      time.Time
	out        io.Writer
	// command reproduces the run.
	command string
}

// A call ends before its hold does, by a margin: so it should be configured.
func (o options) upstreamTimeout() time.Duration { return o.ttl * 2 / 3 }
func (o options) drainTimeout() time.Duration    { return o.ttl / 3 }

// errViolated says that something that must be true was not.
var errViolated = errors.New("the run violates what must hold")

// chaos is one run.
type chaos struct {
	*stage
	load   *load
	dice   *dice
	cards  []maker        // what is left of the deck
	done   map[string]int // faults by kind
	rounds int
}

// run builds, starts, breaks, heals and judges.
func run(ctx context.Context, o options) (err error) {
	o.began = o.now()
	o.say("seed %d: %s of faults on %d gateways and %d workers, %d clients over %d tenants", o.seed, o.length, o.gateways, o.workers, o.clients, o.tenants)
	s, err := openStage(ctx, o)
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	if err != nil {
		return err
	}
	tenants, err := s.makeTenants(ctx)
	if err != nil {
		return err
	}
	if err := s.control(ctx, honest); err != nil {
		return err
	}
	c := &chaos{stage: s, load: newLoad(s, tenants), dice: &dice{state: o.seed}, done: map[string]int{}}
	v := &verdict{}
	seen, err := c.torment(ctx, tenants)
	if err != nil {
		return err
	}
	s.say("all is healed; waiting for rest")
	if err := s.rest(ctx, v); err != nil {
		return err
	}
	for _, p := range append(append([]*program{}, s.gateways...), s.workers...) {
		if err := p.stop(); err != nil {
			v.violated("end in order", "%v", err)
		}
	}
	if err := s.judge(ctx, v, c.load, seen); err != nil {
		return err
	}
	c.report(v)
	if v.count > 0 {
		return fmt.Errorf("%w: %d times; reproduce with: %s", errViolated, v.count, o.command)
	}
	return nil
}

// say is a line of progress.
func (o options) say(format string, args ...any) {
	_, _ = fmt.Fprintf(o.out, "%6.1fs  %s\n", o.now().Sub(o.began).Seconds(), fmt.Sprintf(format, args...))
}

// torment lets the clients call while faults come and go, heals everything and waits for the last call.
func (c *chaos) torment(ctx context.Context, tenants []*tenant) ([]*watched, error) {
	calling, stop := context.WithTimeout(ctx, c.length)
	defer stop()
	var group sync.WaitGroup
	for range c.clients {
		d := c.dice.fork()
		group.Go(func() { c.load.client(calling, d) })
	}
	operator, watcher := c.dice.fork(), c.dice.fork()
	group.Go(func() { c.raise(calling, operator, tenants) })
	var seen []*watched
	group.Go(func() { seen = c.watch(calling, watcher) })
	err := c.deal(ctx, calling)
	if err == nil {
		err = c.heal(ctx)
	}
	stop()
	group.Wait()
	return seen, errors.Join(err, ctx.Err())
}

// deal deals the deck in rounds until the time is over.
func (c *chaos) deal(ctx, calling context.Context) error {
	for calling.Err() == nil {
		r := c.draw()
		if err := c.strike(ctx, r); err != nil {
			return err
		}
		_ = sleep(calling, r.pause)
	}
	return nil
}

// round is what happens at once.
type round struct {
	faults []fault
	delays []time.Duration
	pause  time.Duration
}

// atOnce bounds the faults of a round.
const atOnce = 3

// draw takes one to three faults from the deck that do not touch the same thing. A new deck is shuffled when it is empty.
func (c *chaos) draw() round {
	var r round
	taken := map[string]bool{}
	for hand := c.least + c.dice.below(atOnce-c.least+1); len(r.faults) < hand; {
		if len(c.cards) == 0 {
			c.cards = c.deck()
			shuffle(c.dice, c.cards)
		}
		f := c.cards[0](c.stage, c.dice)
		if slices.ContainsFunc(f.where, func(w string) bool { return taken[w] }) {
			break // its kind comes first in the next round
		}
		c.cards = c.cards[1:]
		for _, w := range f.where {
			taken[w] = true
		}
		r.faults = append(r.faults, f)
		r.delays = append(r.delays, c.dice.between(0, time.Second))
	}
	r.pause = c.dice.between(500*time.Millisecond, 2500*time.Millisecond)
	return r
}

// strike lets a round of faults happen and end. Its length is theirs, whatever the time.
func (c *chaos) strike(ctx context.Context, r round) error {
	c.rounds++
	var said []string
	for _, f := range r.faults {
		said = append(said, strings.TrimSpace(f.kind+" "+f.detail))
		c.done[f.kind]++
	}
	c.say("%s; %d calls", strings.Join(said, " + "), c.load.began.Load())
	errs := make([]error, len(r.faults))
	var group sync.WaitGroup
	for i, f := range r.faults {
		group.Go(func() {
			errs[i] = errors.Join(sleep(ctx, r.delays[i]), f.begin(ctx), sleep(ctx, f.span), f.end(ctx))
			if errs[i] != nil {
				errs[i] = fmt.Errorf("%s: %w", f.kind, errs[i])
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// report prints the table.
func (c *chaos) report(v *verdict) {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	line := func(what string, value any) { _, _ = fmt.Fprintf(w, "%s\t%v\n", what, value) }
	total := 0
	for _, n := range c.done {
		total += n
	}
	line("seed", c.seed)
	line("faults, in rounds", fmt.Sprintf("%d, %d", total, c.rounds))
	counts(line, c.done)
	answered := c.load.answered()
	line("calls", c.load.began.Load())
	counts(line, answered)
	line("events", v.events)
	line("  reserved", v.reserved)
	line("  settled by the provider's usage", v.settledProvider)
	line("  settled by counting, or presumed", v.settledOtherwise)
	line("  released", v.released)
	line("  expired, charged", v.expired)
	line("  the longest past its time", v.latest.Round(time.Millisecond))
	line("  settled late", v.late)
	line("calls billed", v.billedCalls)
	line("billed USD", v.billed)
	line("charged USD", v.charged)
	line("  of it presumed USD", v.presumed)
	line("linearizability: tenants, operations", fmt.Sprintf("%d, %d (%d not decided in time)", v.linearPartitions, v.linearOperations, v.linearUndecided))
	line("errors logged", "")
	counts(line, v.errors)
	line("violations", v.count)
	_ = w.Flush() // as good as it can be said
	for _, violation := range v.violations {
		_, _ = fmt.Fprintf(c.out, "VIOLATION %s\n", violation)
	}
}

func counts(line func(string, any), of map[string]int) {
	for _, what := range slices.Sorted(maps.Keys(of)) {
		line("  "+what, of[what])
	}
}
