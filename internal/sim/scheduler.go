package sim

import (
	"fmt"
	"io"
	"iter"
	"runtime/debug"
	"strconv"
	"time"
)

// scheduler runs coroutines one at a time, in an order that a seed decides, and owns the time.
type scheduler struct {
	rnd     *random
	elapsed time.Duration // since epoch
	procs   []*proc
	current *proc
	steps   int
	ready   []*proc // scratch
	trace   trace
	failure error
	// pace is how much time one step takes at most.
	pace time.Duration
	// frozen is for how many steps the time stands still.
	frozen int
}

// epoch is when every simulation begins: two days before clocks in Europe change.
func epoch() time.Time { return time.Date(2026, time.March, 27, 21, 0, 0, 0, time.UTC) }

// proc is a coroutine.
type proc struct {
	name  string
	owner *gateway // whose process it belongs to, if any
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	wake  time.Duration
	until func() bool
	ended bool
	dying bool
}

// killed unwinds a coroutine whose process died.
type killed struct{}

// Now is the true time, which is also the database's.
func (s *scheduler) Now() time.Time { return epoch().Add(s.elapsed) }

// spawn adds a coroutine.
func (s *scheduler) spawn(name string, owner *gateway, body func()) *proc {
	p := &proc{name: name, owner: owner, wake: s.elapsed}
	p.next, p.stop = iter.Pull(func(yield func(struct{}) bool) {
		defer func() {
			p.ended = true
			if r := recover(); r != nil {
				if _, ok := r.(killed); !ok {
					s.fail("panic in %s: %v\n%s", p.name, r, debug.Stack())
				}
			}
		}()
		p.yield = yield
		body()
	})
	s.procs = append(s.procs, p)
	return p
}

// kill ends a coroutine where it stands; what it deferred is done.
func (s *scheduler) kill(p *proc) {
	if p.ended {
		return
	}
	before := s.current
	s.current, p.dying = p, true
	p.stop()
	s.current, p.ended = before, true
}

// pause lets the others go on for a time.
func (s *scheduler) pause(d time.Duration) {
	s.suspend(s.elapsed+d, nil)
}

// Until lets the others go on until cond holds, at most for so long. It tells whether cond holds.
func (s *scheduler) Until(cond func() bool, most time.Duration) bool {
	s.suspend(s.elapsed+most, cond)
	return cond()
}

func (s *scheduler) suspend(wake time.Duration, until func() bool) {
	p := s.current
	if p.dying {
		panic(killed{})
	}
	p.wake, p.until = wake, until
	if !p.yield(struct{}{}) {
		panic(killed{})
	}
}

// ready tells whether a coroutine may run now.
func (p *proc) ready(now time.Duration) bool {
	if p.owner != nil && p.owner.stalled > now {
		return false
	}
	return p.wake <= now || (p.until != nil && p.until())
}

// step runs one coroutine that may run, or advances the time to when one may. It is false when something
// failed.
func (s *scheduler) step() bool {
	for {
		s.ready = s.ready[:0]
		alive := s.procs[:0]
		earliest := time.Duration(1<<63 - 1)
		for _, p := range s.procs {
			if p.ended {
				continue
			}
			alive = append(alive, p)
			if p.ready(s.elapsed) {
				s.ready = append(s.ready, p)
				continue
			}
			wake := p.wake
			if p.owner != nil {
				wake = max(wake, p.owner.stalled)
			}
			earliest = min(earliest, wake)
		}
		clear(s.procs[len(alive):])
		s.procs = alive
		if len(s.ready) > 0 {
			break
		}
		s.elapsed, s.frozen = earliest, 0
	}
	s.steps++
	if s.frozen--; s.frozen < 0 {
		s.elapsed += time.Duration(s.rnd.below(int(s.pace))).Truncate(time.Microsecond)
	}
	s.current = pick(s.rnd, s.ready)
	s.trace.begin(s.steps, s.elapsed, s.current.name)
	s.current.next()
	s.current = nil
	s.trace.end()
	return s.failure == nil
}

// end stops every coroutine.
func (s *scheduler) end() {
	for i := 0; i < len(s.procs); i++ { // what ends may begin others
		s.kill(s.procs[i])
	}
}

// fail notes the first violation. The run ends after the step.
func (s *scheduler) fail(format string, args ...any) {
	if s.failure == nil {
		s.failure = fmt.Errorf(format, args...)
		s.note("VIOLATION ", s.failure.Error())
	}
}

// note adds to the trace of the present step.
func (s *scheduler) note(parts ...string) { s.trace.note(parts...) }

// traceLines is how many steps a failing run shows.
const traceLines = 60

// trace is the last steps, and all of them if somebody wants to read them.
type trace struct {
	lines [traceLines][]byte
	at    int
	sink  io.Writer
}

func (t *trace) begin(step int, elapsed time.Duration, name string) {
	t.at = step % traceLines
	line := t.lines[t.at][:0]
	line = strconv.AppendInt(line, int64(step), 10)
	line = append(line, ' ')
	line = strconv.AppendInt(line, elapsed.Microseconds(), 10)
	line = append(line, ' ')
	t.lines[t.at] = append(line, name...)
}

func (t *trace) note(parts ...string) {
	line := append(t.lines[t.at], ';', ' ')
	for _, p := range parts {
		line = append(line, p...)
	}
	t.lines[t.at] = line
}

func (t *trace) end() {
	t.lines[t.at] = append(t.lines[t.at], '\n')
	if t.sink != nil {
		_, _ = t.sink.Write(t.lines[t.at]) // a reader of the trace that fails cannot be told here
	}
}

// last is the newest steps, oldest first.
func (t *trace) last() string {
	var text []byte
	for i := range traceLines {
		text = append(text, t.lines[(t.at+1+i)%traceLines]...)
	}
	return string(text)
}
