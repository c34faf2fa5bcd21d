package main

import (
	"context"
	"fmt"
	"io"
	"time"
)

const (
	// warmRate and warmFor fill caches, pools and plans before anything counts.
	warmRate = 100
	warmFor  = time.Second
)

// bench is one run.
type bench struct {
	options
	out      io.Writer
	progress io.Writer
	now      func() time.Time
	stage    *stage
	targets  []*target
}

// target is one way to the provider.
type target struct {
	name    string
	guarded bool
	proxy   *process // nil: none
	chat    load
	stream  load

	open    map[int]*figures // by rate
	closed  figures
	rates   []float64 // of the closed loop's rounds, answers per second
	behind  time.Duration
	counts  counts // of the closed loop
	flowing streamed
}

// figures are an outcome with what it cost.
type figures struct {
	outcome
	proxyCPU, postgresCPU, redisCPU, workerCPU time.Duration
}

func (b *bench) run(ctx context.Context) error {
	b.say("building budgetguard, starting Postgres, Redis, provider, gateway, worker and plain proxy")
	var err error
	if b.stage, err = openStage(ctx, b.options); err != nil {
		return err
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	lines, err := b.header(ctx)
	if err != nil {
		return err
	}
	b.showHeader(lines)
	for round := range b.rounds {
		if err := b.round(ctx, round); err != nil {
			return err
		}
	}
	if err := b.runStreams(ctx); err != nil {
		return err
	}
	b.showLatencies()
	b.showThroughput()
	b.showCounts()
	b.showStreams()
	if err := b.reconcile(ctx); err != nil {
		return err
	}
	return b.runMicro(ctx)
}

// close ends everything that run started.
func (b *bench) close(ctx context.Context) error {
	if b.stage == nil {
		return nil
	}
	return b.stage.close(ctx)
}

func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.progress, "bench: "+format+"\n", args...)
}

// prepare makes the tenants and the targets and warms them up.
func (b *bench) prepare(ctx context.Context) error {
	keys, err := b.stage.issueTenants(ctx, b.tenants)
	if err != nil {
		return err
	}
	s := b.stage
	other := []string{otherKey}
	b.targets = []*target{
		b.target("direct", nil, s.mock.address(), "Authorization: Bearer KEY", other),
		b.target("plain reverse proxy", s.plain, s.plain.address(), "Authorization: Bearer KEY", other),
		b.target(fmt.Sprintf("BudgetGuard, %d tenants", b.tenants), s.gateway, s.gateway.address(), "X-API-Key: KEY", keys),
		b.target("BudgetGuard, one tenant", s.gateway, s.gateway.address(), "X-API-Key: KEY", keys[:1]),
	}
	for _, t := range b.targets {
		b.say("warming up: %s", t.name)
		o := t.chat.open(ctx, warmRate, warmFor)
		if err := interrupted(ctx); err != nil {
			return err
		}
		if o.errors > 0 {
			return fmt.Errorf("%s does not answer: %d of %d requests failed, the first with: %w", t.name, o.errors, o.errors+len(o.latencies), o.first)
		}
	}
	_, err = s.quiet(ctx, b.now)
	return err
}

func (b *bench) target(name string, proxy *process, address, header string, keys []string) *target {
	t := &target{name: name, proxy: proxy, guarded: proxy == b.stage.gateway, open: map[int]*figures{}}
	t.chat = load{address: address, requests: requestsTo(address, header, keys, bodies(b.tenants, false)), now: b.now}
	t.stream = load{address: address, requests: requestsTo(address, header, keys, bodies(b.tenants, true)), now: b.now}
	for _, rate := range b.rates {
		t.open[rate] = &figures{}
	}
	return t
}

// round gives every target its turn at everything. Who begins changes from round to round.
func (b *bench) round(ctx context.Context, round int) error {
	for _, rate := range b.rates {
		b.say("round %d of %d: latency at %d/s", round+1, b.rounds, rate)
		for _, t := range b.turns(round) {
			f, _, err := b.measure(ctx, t, func() outcome { return t.chat.open(ctx, rate, b.span()) })
			if err != nil {
				return err
			}
			t.open[rate].join(f)
		}
	}
	b.say("round %d of %d: throughput with %d clients", round+1, b.rounds, b.clients)
	for _, t := range b.turns(round) {
		before, err := b.stage.count(ctx)
		if err != nil {
			return err
		}
		f, behind, err := b.measure(ctx, t, func() outcome { return b.saturate(ctx, t, round) })
		if err != nil {
			return err
		}
		after, err := b.stage.count(ctx)
		if err != nil {
			return err
		}
		t.counts.add(before, after)
		t.rates = append(t.rates, f.rate())
		t.closed.join(f)
		t.behind = max(t.behind, behind)
	}
	return nil
}

func (b *bench) span() time.Duration { return time.Duration(b.seconds) * time.Second }

func (b *bench) turns(round int) []*target {
	first := round % len(b.targets)
	return append(append([]*target(nil), b.targets[first:]...), b.targets[:first]...)
}

// saturate runs the closed loop, in the first round with profiles if they are wanted.
func (b *bench) saturate(ctx context.Context, t *target, round int) outcome {
	var o outcome
	use := func() { o = t.chat.closed(ctx, b.clients, b.span()) }
	if b.profile == "" || !t.guarded || len(t.chat.requests) == 0 || round > 0 || t != b.targets[2] {
		use()
		return o
	}
	if err := b.stage.takeProfiles(ctx, b.profile, b.span(), use); err != nil {
		b.say("no profile: %v", err)
	}
	return o
}

// measure runs one turn of a target and waits until its work is done, whose cost it counts. It also says how long
// the worker needed after the last answer.
func (b *bench) measure(ctx context.Context, t *target, use func() outcome) (figures, time.Duration, error) {
	before := b.usage(t)
	f := figures{outcome: use()}
	if err := interrupted(ctx); err != nil {
		return f, 0, err
	}
	if err := b.stage.alive(); err != nil {
		return f, 0, err
	}
	var behind time.Duration
	if t.guarded {
		var err error
		if behind, err = b.stage.quiet(ctx, b.now); err != nil {
			return f, 0, err
		}
	}
	after := b.usage(t)
	f.proxyCPU, f.workerCPU = after.proxyCPU-before.proxyCPU, after.workerCPU-before.workerCPU
	f.postgresCPU, f.redisCPU = after.postgresCPU-before.postgresCPU, after.redisCPU-before.redisCPU
	return f, behind, nil
}

// usage is the CPU time used so far by what a target consists of.
func (b *bench) usage(t *target) figures {
	var f figures
	if t.proxy != nil {
		f.proxyCPU = cpuTime(t.proxy.cmd.Process.Pid)
	}
	if t.guarded {
		f.postgresCPU, f.redisCPU = cpuTime(b.stage.postgres.PID()), cpuTime(b.stage.redis.PID())
		f.workerCPU = cpuTime(b.stage.worker.cmd.Process.Pid)
	}
	return f
}

func (f *figures) join(other figures) {
	f.outcome.join(other.outcome)
	f.proxyCPU += other.proxyCPU
	f.postgresCPU += other.postgresCPU
	f.redisCPU += other.redisCPU
	f.workerCPU += other.workerCPU
}

// runStreams reads paced streams through every target but the one tenant's.
func (b *bench) runStreams(ctx context.Context) error {
	if b.streams == 0 {
		return nil
	}
	if err := b.stage.control(ctx, fmt.Sprintf(`{"tokensPerSecond":%d}`, chunksPerSecond)); err != nil {
		return fmt.Errorf("pace the provider: %w", err)
	}
	for _, t := range b.targets[:3] {
		b.say("%d concurrent streams: %s", b.streams, t.name)
		t.flowing = t.stream.streams(ctx, b.streams)
		if err := interrupted(ctx); err != nil {
			return err
		}
	}
	return b.stage.control(ctx, `{"tokensPerSecond":0}`)
}

// reconcile is the last word: whether the books are right.
func (b *bench) reconcile(ctx context.Context) error {
	b.say("comparing the books")
	if _, err := b.stage.quiet(ctx, b.now); err != nil {
		return err
	}
	v, err := b.stage.reconcile(ctx)
	if err != nil {
		return err
	}
	b.showVerdict(v)
	return v.err()
}
