package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// fault is one thing that goes wrong, and right again.
type fault struct {
	kind   string // its row in the report
	detail string
	// where is what no other fault may touch at the same time.
	where []string
	span  time.Duration
	begin func(context.Context) error
	end   func(context.Context) error
}

// maker draws a fault of a kind.
type maker func(*stage, *dice) fault

// deck is one card of each kind; what hits the money hardest is in it twice.
func (s *stage) deck() []maker {
	cards := []maker{
		killGateway, killGateway, killWorker, stallGateway, stallWorker, stopGateway, crashPostgres, crashPostgres, readOnly, fullDisk,
		flushRedis, crashRedis, staleRedis, killProvider, provider(slow), provider(cut), provider(noUsage), provider(wrongUsage), provider(failing),
	}
	for _, hurt := range []func(*dice) toxic{latency, reset, slicer, silence, trickle} {
		cards = append(cards, wire(hurt))
	}
	cards = append(cards, refused, refused)
	if s.skewed != "" {
		cards = append(cards, wrongClock)
	}
	return cards
}

func nothing(context.Context) error { return nil }

func killed(kind string, p *program, span time.Duration) fault {
	return fault{
		kind: kind, detail: p.name, where: []string{p.name}, span: span,
		begin: func(context.Context) error { p.kill(); return nil }, end: p.start,
	}
}

func killGateway(s *stage, d *dice) fault {
	return killed("gateway kill -9", oneOf(d, s.gateways), d.between(0, 3*time.Second))
}

func killWorker(s *stage, d *dice) fault {
	return killed("worker kill -9", oneOf(d, s.workers), d.between(0, 3*time.Second))
}

func killProvider(s *stage, d *dice) fault {
	f := killed("provider kill -9", s.mock, d.between(0, 2*time.Second))
	f.where = append(f.where, "provider")
	f.end = func(ctx context.Context) error {
		if err := s.mock.start(ctx); err != nil {
			return err
		}
		return s.control(ctx, honest) // it has forgotten its settings, not its bill
	}
	return f
}

func stopGateway(s *stage, d *dice) fault {
	p := oneOf(d, s.gateways)
	return fault{
		kind: "gateway stopped in order", detail: p.name, where: []string{p.name},
		// Faults of other parts may keep it from ending in order; that it ends is enough here.
		begin: func(context.Context) error { _ = p.end(syscall.SIGTERM); return nil }, end: p.start,
	}
}

func stalled(kind string, p *program, span time.Duration) fault {
	return fault{
		kind: kind, detail: p.name, where: []string{p.name}, span: span,
		begin: func(context.Context) error { return p.signal(syscall.SIGSTOP) },
		end:   func(context.Context) error { return p.signal(syscall.SIGCONT) },
	}
}

func stallGateway(s *stage, d *dice) fault {
	return stalled("gateway SIGSTOP", oneOf(d, s.gateways), s.stall)
}

func stallWorker(s *stage, d *dice) fault {
	return stalled("worker SIGSTOP", oneOf(d, s.workers), s.stall)
}

// wrongClock restarts a gateway with a clock that is off by seconds to a day, and later with the right one.
func wrongClock(s *stage, d *dice) fault {
	p := oneOf(d, s.gateways)
	offset := oneOf(d, []time.Duration{300 * time.Millisecond, 3 * time.Second, time.Minute, 2 * time.Hour, 26 * time.Hour})
	if d.chance(50) {
		offset = -offset
	}
	return fault{
		kind: "gateway clock off", detail: p.name + " by " + offset.String(), where: []string{p.name}, span: d.between(3*time.Second, 8*time.Second),
		begin: func(ctx context.Context) error {
			p.kill()
			p.as(s.skewed, "CHAOS_CLOCK="+offset.String())
			return p.start(ctx)
		},
		end: func(ctx context.Context) error {
			p.kill()
			p.as(s.binary)
			return p.start(ctx)
		},
	}
}

func crashPostgres(s *stage, d *dice) fault {
	f := fault{
		kind: "postgres kill -9", where: []string{"postgres"}, span: d.between(0, 3*time.Second), end: s.startPostgres,
		begin: func(context.Context) error { return syscall.Kill(s.postgres.PID(), syscall.SIGKILL) },
	}
	if d.chance(50) {
		f.kind, f.begin = "postgres immediate stop", s.postgres.StopImmediate
	}
	return f
}

// readOnly is what a failover to a standby that nobody promoted looks like.
func readOnly(s *stage, d *dice) fault {
	set := func(sql string) func(context.Context) error {
		return func(ctx context.Context) error {
			if _, err := s.pool.Exec(ctx, sql); err != nil {
				return err
			}
			_, err := s.pool.Exec(ctx, `select pg_reload_conf()`)
			return err
		}
	}
	return fault{
		kind: "postgres read-only", where: []string{"postgres"}, span: d.between(time.Second, 4*time.Second),
		begin: set(`alter system set default_transaction_read_only = on`), end: set(`alter system reset default_transaction_read_only`),
	}
}

// fullDisk takes the room of Postgres away. Where no disk could be mounted, a trigger says what a full disk says.
func fullDisk(s *stage, d *dice) fault {
	f := fault{kind: "postgres disk full", where: []string{"postgres"}, span: d.between(time.Second, 4*time.Second)}
	if !s.mounted {
		f.kind = "postgres disk full (by trigger)"
		f.begin = func(ctx context.Context) error {
			_, err := s.pool.Exec(ctx, `create or replace function full_disk() returns trigger language plpgsql as $$
				begin raise exception 'disk full' using errcode = '53100'; end $$;
				create trigger full_disk before insert on outbox for each row execute function full_disk()`)
			return err
		}
		f.end = func(ctx context.Context) error {
			_, err := s.pool.Exec(ctx, `drop trigger if exists full_disk on outbox`)
			return err
		}
		return f
	}
	disk := s.dir + "/disk"
	f.begin = func(ctx context.Context) error {
		const tries = 40 // while Postgres writes, what is used is more by the time it is the limit
		full := 0
		for range tries {
			err := fillDisk(disk)
			if err == nil {
				full++
			}
			if full == 3 { // what was deleted since is room again
				return nil
			}
			if err := sleep(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
		if full > 0 {
			return nil
		}
		return errors.New("the disk could not be filled")
	}
	f.end = func(ctx context.Context) error {
		if err := resizeDisk(disk, diskSize); err != nil {
			return err
		}
		return s.startPostgres(ctx) // it has ended if it could not write its log
	}
	return f
}

func flushRedis(s *stage, _ *dice) fault {
	return fault{
		kind: "redis FLUSHALL", where: []string{"redis"}, end: nothing,
		begin: func(ctx context.Context) error { return s.client.FlushAll(ctx).Err() },
	}
}

func crashRedis(s *stage, d *dice) fault {
	return fault{
		kind: "redis kill -9", where: []string{"redis"}, span: d.between(0, 3*time.Second), begin: s.redis.StopImmediate, end: s.startRedis,
	}
}

// staleRedis comes back as it was some seconds ago, as after a failover to a replica that was behind.
func staleRedis(s *stage, d *dice) fault {
	old := s.dir + "/redis-old"
	return fault{
		kind: "redis comes back with old data", where: []string{"redis"}, span: d.between(time.Second, 5*time.Second),
		begin: func(ctx context.Context) error { return shell(ctx, "rm -rf "+old+" && cp -Rp "+s.redis.Data()+" "+old) },
		end: func(ctx context.Context) error {
			if err := s.redis.StopImmediate(ctx); err != nil {
				return err
			}
			if err := shell(ctx, "rm -rf "+s.redis.Data()+" && mv "+old+" "+s.redis.Data()); err != nil {
				return err
			}
			return s.startRedis(ctx)
		},
	}
}

func shell(ctx context.Context, line string) error {
	if out, err := exec.CommandContext(ctx, "sh", "-c", line).CombinedOutput(); err != nil { //nolint:gosec // paths of ours
		return fmt.Errorf("%s: %w: %s", line, err, out)
	}
	return nil
}

// wire hurts one connection of one program.
func wire(draw func(*dice) toxic) maker {
	return func(s *stage, d *dice) fault {
		name := s.aWire(d)
		t := draw(d)
		return fault{
			kind: "wire " + t.Type, detail: name, where: []string{name}, span: d.between(time.Second, 6*time.Second),
			begin: func(context.Context) error { return s.wires.hurt(name, t) },
			end:   func(ctx context.Context) error { return s.wires.heal(ctx, name) },
		}
	}
}

func refused(s *stage, d *dice) fault {
	name := s.aWire(d)
	return fault{
		kind: "wire down", detail: name, where: []string{name}, span: d.between(time.Second, 6*time.Second),
		begin: func(context.Context) error { s.wires.cut(name); return nil },
		end:   func(ctx context.Context) error { return s.wires.heal(ctx, name) },
	}
}

// aWire is Postgres' half of the time: that is where money is decided.
func (s *stage) aWire(d *dice) string {
	p := oneOf(d, append(append([]*program{}, s.gateways...), s.workers...))
	suffix := suffixPostgres
	if d.chance(50) {
		suffix = suffixRedis
		if strings.HasPrefix(p.name, "gateway") && d.chance(50) {
			suffix = suffixUpstream
		}
	}
	return p.name + suffix
}

func direction(d *dice) string { return oneOf(d, []string{"upstream", "downstream"}) }

func latency(d *dice) toxic {
	return toxic{Type: "latency", Stream: direction(d), Attributes: map[string]int{"latency": 20 + d.below(800), "jitter": d.below(200)}}
}

func reset(d *dice) toxic {
	return toxic{Type: "reset_peer", Stream: direction(d), Attributes: map[string]int{"timeout": d.below(300)}}
}

func slicer(d *dice) toxic {
	return toxic{Type: "slicer", Stream: direction(d), Attributes: map[string]int{"average_size": 20 + d.below(200), "size_variation": 10, "delay": d.below(500)}}
}

// silence swallows everything, until the fault ends with the connection.
func silence(d *dice) toxic {
	return toxic{Type: "timeout", Stream: direction(d), Attributes: map[string]int{"timeout": 0}}
}

func trickle(d *dice) toxic {
	return toxic{Type: "bandwidth", Stream: direction(d), Attributes: map[string]int{"rate": 1 + d.below(40)}}
}

// provider changes the provider's settings for a while.
func provider(draw func(*dice) (kind, settings string)) maker {
	return func(s *stage, d *dice) fault {
		kind, settings := draw(d)
		return fault{
			kind: "provider " + kind, where: []string{"provider"}, span: d.between(time.Second, 6*time.Second),
			begin: func(ctx context.Context) error { return s.control(ctx, settings) },
			end:   func(ctx context.Context) error { return s.control(ctx, honest) },
		}
	}
}

// honest are the settings of a provider that does what it should, at a pace that calls can be caught at.
const honest = `{"hold":false,"latencyMs":20,"tokensPerSecond":400,"errorRate":0,"cutAfterChunks":0,"usage":"ok"}`

func slow(d *dice) (kind, settings string) {
	return "slow", `{"latencyMs":` + strconv.Itoa(500+d.below(4000)) + `,"tokensPerSecond":` + strconv.Itoa(4+d.below(40)) + `}`
}

func cut(d *dice) (kind, settings string) {
	return "cuts answers", `{"cutAfterChunks":` + strconv.Itoa(1+d.below(20)) + `}`
}

func noUsage(*dice) (kind, settings string) { return "tells no usage", `{"usage":"none"}` }

func wrongUsage(*dice) (kind, settings string) { return "lies about usage", `{"usage":"wrong"}` }

func failing(d *dice) (kind, settings string) {
	status := oneOf(d, []int{400, 408, 429, 500, 502, 503, 504, 529})
	return "fails", `{"errorRate":0.` + strconv.Itoa(3+d.below(7)) + `,"errorStatus":` + strconv.Itoa(status) + `}`
}

// heal undoes whatever is still wrong.
func (s *stage) heal(ctx context.Context) error {
	var errs []error
	for _, p := range s.programs() {
		errs = append(errs, p.signal(syscall.SIGCONT))
	}
	errs = append(errs, s.startPostgres(ctx), s.startRedis(ctx))
	s.wires.mu.Lock()
	names := make([]string, 0, len(s.wires.proxies))
	for name := range s.wires.proxies {
		names = append(names, name)
	}
	s.wires.mu.Unlock()
	for _, name := range names {
		errs = append(errs, s.wires.heal(ctx, name))
	}
	for _, p := range s.programs() {
		p.as(s.binary)
		if !p.alive() {
			errs = append(errs, p.start(ctx))
		}
	}
	return errors.Join(append(errs, s.control(ctx, honest))...)
}
