package lanes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	// maxTenantsPerTurn and MaxCallsPerTurn bound one transaction: its size, and how long a head is locked.
	maxTenantsPerTurn = 64
	// MaxCallsPerTurn is how many commands of one tenant are decided together.
	MaxCallsPerTurn = 256
	// MaxQueue bounds what may wait for one tenant; beyond it the gateway says 503 instead of piling up.
	MaxQueue = 20_000
	// maxCached bounds the tenants whose state is kept; idle ones beyond it are loaded again when needed.
	maxCached = 10_000
	// lockedWorkers is how many tenants can be in the locked path at once.
	lockedWorkers = 4
	// Concurrency is how many calls of the Journal run at once: the fast lane's and the locked ones.
	Concurrency = lockedWorkers + 1
	// RefusalLife is how long a refusal that Postgres confirmed may refuse an estimate no smaller early.
	RefusalLife = 100 * time.Millisecond
)

// Config says how a Ledger runs. Only Now is needed.
type Config struct {
	// Now is the local clock; only differences to the journal's are taken from it.
	Now    func() time.Time
	Logger *slog.Logger
	// Committed is called after each append, from the ledger's own goroutines; it must not block.
	Committed func()
	// Turned is called after each turn with what it did, for metrics; it must not block.
	Turned func(Turned)
	// After, if set, is called instead of starting a timer when a stream waits before it is tried again:
	// it must call then once the time is over. For a caller that carries out the turns.
	After func(wait time.Duration, then func())
	// Execute, if set, decides instead of domain.Execute: for tests that plant a bug there.
	Execute func(domain.State, domain.Command, time.Time) (domain.State, []domain.Recorded, error)
}

// Turned describes a turn for metrics.
type Turned struct {
	Locked          bool
	Tenants, Events int
	Conflicts       int
	Took            time.Duration
	Err             error
}

// Ledger writes tenants' streams. It is safe for concurrent use; any number of Ledgers, in any number of
// processes, may write the same database.
type Ledger struct {
	cfg     Config
	journal Journal
	clock   *clock
	log     *slog.Logger

	mu      sync.Mutex
	wake    *sync.Cond
	streams map[domain.TenantID]*stream
	fast    []*stream
	locked  []*stream
	waiting int  // calls queued or running
	closed  bool // only what closes a reservation is still taken
	ended   bool // nothing is

	stop    context.CancelFunc
	workers sync.WaitGroup
}

// stream is one tenant as this gateway sees it. queue, phase and refusal belong to the ledger's mutex;
// the rest to whoever runs the stream.
type stream struct {
	tenant  domain.TenantID
	queue   []*call
	phase   phase
	refusal *refusal
	// direct sends the next turn through the locked path, whatever the cache says.
	direct bool

	cached bool
	state  domain.State
	hash   Hash
	fence  int64
	// seen is the newest version known to be committed. It outlives the cached state: a stream that does
	// not hold it any more was cut or changed.
	seen Mark

	contended int       // conflicts in a row
	hotUntil  time.Time // the fast path is not tried before
	retries   int       // failures in a row
	careful   int       // so many calls get a turn of their own: together they were refused for good
	doubt     *turn     // its commit's outcome is unknown
}

type phase int

const (
	idle phase = iota
	ready
	running
)

// refusal is the smallest estimate that Postgres lately refused.
type refusal struct {
	err domain.BudgetExceededError
	at  time.Time
}

// New makes a Ledger that writes through a journal, which it closes at its end. It does nothing by itself
// before Start.
func New(journal Journal, cfg Config) *Ledger {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Execute == nil {
		cfg.Execute = domain.Execute
	}
	l := &Ledger{
		cfg: cfg, journal: journal, clock: &clock{now: cfg.Now}, log: cfg.Logger,
		streams: map[domain.TenantID]*stream{}, stop: func() {},
	}
	l.wake = sync.NewCond(&l.mu)
	return l
}

// Start starts the lanes, once. Close ends them; the end of ctx does not.
func (l *Ledger) Start(ctx context.Context) {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	l.workers.Go(func() { l.runFast(running) })
	for range lockedWorkers {
		l.workers.Go(func() { l.runLocked(running) })
	}
}

// Do carries out a command on a tenant's stream and returns the events it recorded; none means that it
// was so already. Its errors are the kinds of package domain, ErrUnavailable among them: the ledger
// cannot commit now, or did not answer before ctx was done. After ErrUnavailable a reservation is never
// left behind: if its commit did happen, it is released. A command that closes a reservation is carried
// out even if its caller stops waiting.
func (l *Ledger) Do(ctx context.Context, tenant domain.TenantID, c domain.Command) ([]domain.Recorded, error) {
	p, err := l.Submit(tenant, c)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.call.done:
	case <-ctx.Done():
		if p.Abandon() {
			return nil, fmt.Errorf("%w: %w", domain.ErrUnavailable, context.Cause(ctx))
		}
		<-p.call.done
	}
	return p.call.events, p.call.err
}

// Submit is Do without the wait.
func (l *Ledger) Submit(tenant domain.TenantID, c domain.Command) (Pending, error) {
	p := Pending{call: newCall(c)}
	return p, l.enqueue(tenant, p.call)
}

// Pending is a command that was submitted.
type Pending struct{ call *call }

// Poll tells whether the answer is there, and what it is.
func (p Pending) Poll() (events []domain.Recorded, done bool, err error) {
	select {
	case <-p.call.done:
		return p.call.events, true, p.call.err
	default:
		return nil, false, nil
	}
}

// Abandon ends the wait. It is false if the answer is there already.
func (p Pending) Abandon() bool { return p.call.abandon() }

// Waiting is the number of commands that are queued or running.
func (l *Ledger) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting
}

// Due is how many streams wait for a turn of the fast lane, and how many for the locked path.
func (l *Ledger) Due() (fast, locked int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.fast), len(l.locked)
}

// Warm is a copy of the state that is kept of a tenant, if it is idle and has one: for tests that compare
// it with the stream.
func (l *Ledger) Warm(tenant domain.TenantID) (domain.State, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.streams[tenant]
	if !ok || s.phase != idle || !s.cached {
		return domain.State{}, false
	}
	return s.state.Clone(), true
}

// Refused tells whether Postgres refused an estimate no larger than amount within the last 100 ms, and
// nothing that gives room was recorded here since. The error is *domain.BudgetExceededError.
func (l *Ledger) Refused(tenant domain.TenantID, amount domain.Amount) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.streams[tenant]
	if !ok || s.refusal == nil || amount < s.refusal.err.Requested || l.cfg.Now().Sub(s.refusal.at) > RefusalLife {
		return nil
	}
	if !l.clock.database().Before(s.refusal.err.Window.End) {
		return nil // a new window has begun
	}
	refused := s.refusal.err
	refused.Requested = amount
	return &refused
}

// Close stops taking commands, lets those that wait finish until ctx is done, and disconnects. What is not
// written by then is answered with ErrUnavailable, and that is the error. A reservation among it whose
// commit was under way may be held; its time ends it.
func (l *Ledger) Close(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	err := l.drain(ctx)
	l.stop()
	l.mu.Lock()
	l.wake.Broadcast()
	l.mu.Unlock()
	l.workers.Wait()
	l.abandon()
	l.journal.Close()
	return err
}

// abandon answers what was not written when the lanes stopped.
func (l *Ledger) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.streams {
		left := s.queue
		if s.doubt != nil {
			left = append(left, s.doubt.calls...)
		}
		fail(left, fmt.Errorf("%w: shut down", domain.ErrUnavailable))
		s.queue, s.doubt = nil, nil
	}
	l.waiting = 0
}

func (l *Ledger) drain(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.wake.Broadcast()
	})
	defer stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.waiting > 0 && ctx.Err() == nil {
		l.wake.Wait()
	}
	l.ended = true // under the lock that saw what waits, so that nothing is taken after it
	if l.waiting > 0 {
		return fmt.Errorf("close ledger: %d commands were not written: %w", l.waiting, ctx.Err())
	}
	return nil
}

func (l *Ledger) enqueue(tenant domain.TenantID, c *call) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || (l.closed && !c.patient) {
		return fmt.Errorf("%w: shutting down", domain.ErrUnavailable)
	}
	s := l.stream(tenant)
	if len(s.queue) >= MaxQueue && !c.patient {
		return fmt.Errorf("%w: %d commands of tenant %s wait already", domain.ErrUnavailable, len(s.queue), tenant)
	}
	s.queue = append(s.queue, c)
	l.waiting++
	if s.phase == idle {
		l.schedule(s)
	}
	return nil
}

// stream finds or adds a tenant. The caller holds the mutex.
func (l *Ledger) stream(tenant domain.TenantID) *stream {
	s, ok := l.streams[tenant]
	if !ok {
		l.evict()
		s = &stream{tenant: tenant}
		l.streams[tenant] = s
	}
	return s
}

// evict drops a few idle tenants when too many are cached. Map order is random enough for that.
func (l *Ledger) evict() {
	const few = 64
	if len(l.streams) < maxCached {
		return
	}
	seen := 0
	for tenant, s := range l.streams {
		if s.phase == idle && s.doubt == nil {
			delete(l.streams, tenant)
		}
		if seen++; seen == few {
			return
		}
	}
}

// schedule puts a stream with work into the list of its path. The caller holds the mutex.
func (l *Ledger) schedule(s *stream) {
	s.phase = ready
	if s.fits(l.cfg.Now()) {
		l.fast = append(l.fast, s)
	} else {
		l.locked = append(l.locked, s)
	}
	l.wake.Broadcast()
}

// fits tells whether the fast path can take the stream's next turn.
func (s *stream) fits(now time.Time) bool {
	if !s.cached || s.direct || s.doubt != nil || s.careful > 0 || now.Before(s.hotUntil) {
		return false
	}
	for _, c := range s.queue[:min(len(s.queue), MaxCallsPerTurn)] {
		if defines(c.command) || s.needsPresumption(c.command) {
			return false
		}
	}
	return true
}

// needsPresumption tells whether a command is about a reservation that is closed as far as the state
// knows. What it was charged may have been presumed, which only the database remembers.
func (s *stream) needsPresumption(c domain.Command) bool {
	id, ok := closing(c)
	if !ok {
		return false
	}
	_, open := s.state.Open[id]
	return !open
}

// take is the calls of a stream's next turn. The caller holds the mutex.
func (s *stream) take() []*call {
	most := MaxCallsPerTurn
	if s.careful > 0 {
		most = 1
		s.careful--
	}
	n := min(len(s.queue), most)
	calls := s.queue[:n:n]
	s.queue = s.queue[n:]
	if len(s.queue) == 0 {
		s.queue = nil
	}
	return calls
}

// finish ends a stream's turn: back holds calls to run again first, undo those to add, and done says how
// many calls have their answer.
func (l *Ledger) finish(s *stream, back, undo []*call, done int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.queue = append(append(back, s.queue...), undo...)
	l.waiting += len(undo) - done
	s.phase = idle
	if len(s.queue) > 0 || s.doubt != nil {
		l.schedule(s)
		return
	}
	s.careful = 0
	if l.waiting == 0 {
		l.wake.Broadcast()
	}
}

// live drops calls nobody wants any more. They count as done.
func live(calls []*call) (wanted []*call, dropped int) {
	wanted = calls[:0:0]
	for _, c := range calls {
		if c.dropped() {
			dropped++
			continue
		}
		wanted = append(wanted, c)
	}
	return wanted, dropped
}

// learn remembers refusals that the database confirmed and forgets them when a turn gave room.
func (l *Ledger) learn(t *turn, confirmed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, c := range t.calls {
		o := t.outcomes[i]
		var exceeded *domain.BudgetExceededError
		switch {
		case errors.As(o.err, &exceeded):
			// What a narrower budget refuses, another request of the tenant may have; so may an extension's.
			if _, reserves := c.command.(domain.Reserve); confirmed && reserves && exceeded.Scope == (domain.Scope{}) {
				t.stream.remember(*exceeded, l.cfg.Now())
			}
		case o.err == nil && (closes(c.command) || defines(c.command)):
			t.stream.refusal = nil
		}
	}
}

func (s *stream) remember(e domain.BudgetExceededError, now time.Time) {
	if s.refusal != nil && now.Sub(s.refusal.at) < RefusalLife && s.refusal.err.Requested <= e.Requested {
		return
	}
	s.refusal = &refusal{err: e, at: now}
}

func (l *Ledger) turned(t Turned) {
	if l.cfg.Turned != nil {
		l.cfg.Turned(t)
	}
	if l.cfg.Committed != nil && t.Err == nil && t.Events > 0 {
		l.cfg.Committed()
	}
}
