package sim

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

// Config says what to simulate.
type Config struct {
	Seed  uint64
	Steps int
	// Bug, if set, is planted first: the run should then fail.
	Bug Bug
	// Trace, if set, gets a line for every step.
	Trace io.Writer
}

// Result is what a run came to.
type Result struct {
	Steps  int
	Events int
	Stats  Stats
	// Failure is the first violation; nil if there was none.
	Failure error
	// Last is the newest steps of a run that failed.
	Last string
}

// Stats counts what happened, so that a test can tell that something did.
type Stats struct {
	Granted, Refused, RefusedEarly, Settled  int
	Late, Expired, Overruns, Released        int
	Fast, Locked, Conflicts, Unknown, Denied int // turns, and how they ended
	Crashes, Rests                           int

	// What budgets and keys came to.
	Extended, Adjusted, RaisesEnded, Slid, Seeded, Crossed, Repeated, LateReleased int
}

// Add sums results up.
func (r *Result) Add(other Result) {
	r.Steps += other.Steps
	r.Events += other.Events
	s, o := &r.Stats, other.Stats
	s.Granted, s.Refused, s.RefusedEarly, s.Settled = s.Granted+o.Granted, s.Refused+o.Refused, s.RefusedEarly+o.RefusedEarly, s.Settled+o.Settled
	s.Late, s.Expired, s.Overruns, s.Released = s.Late+o.Late, s.Expired+o.Expired, s.Overruns+o.Overruns, s.Released+o.Released
	s.Fast, s.Locked, s.Conflicts, s.Unknown, s.Denied = s.Fast+o.Fast, s.Locked+o.Locked, s.Conflicts+o.Conflicts, s.Unknown+o.Unknown, s.Denied+o.Denied
	s.Crashes, s.Rests = s.Crashes+o.Crashes, s.Rests+o.Rests
	s.Extended, s.Adjusted, s.RaisesEnded, s.Slid = s.Extended+o.Extended, s.Adjusted+o.Adjusted, s.RaisesEnded+o.RaisesEnded, s.Slid+o.Slid
	s.Seeded, s.Crossed, s.Repeated, s.LateReleased = s.Seeded+o.Seeded, s.Crossed+o.Crossed, s.Repeated+o.Repeated, s.LateReleased+o.LateReleased
}

// Explain is what a person needs to know of a run that failed.
func Explain(seed uint64, steps int, bug Bug, r Result) string {
	again := fmt.Sprintf("make sim SEED=%d SEEDS=1 STEPS=%d", seed, steps)
	if bug != noBug {
		again += fmt.Sprintf(" BUG=%q", string(bug))
	}
	return fmt.Sprintf("%s\nseed %d fails at step %d: %v\nagain: %s (with TRACE=1 every step is printed)\n", r.Last, seed, r.Steps, r.Failure, again)
}

// mood is how rough a run is. A number n of "every" means once in n; 0 never.
type mood struct {
	think, harmEvery, adminEvery                     time.Duration
	largest                                          int
	faultEvery, dropEvery, repeatEvery, reorderEvery int
	untruthful, affinity                             bool // a tenant mostly comes to one gateway
}

// world is everything there is.
type world struct {
	scheduler
	bug      Bug
	mood     mood
	stormy   mood // mood, while it is not quiet
	db       *Database
	down     time.Duration // the database cannot be reached until then
	gateways []*gateway
	provider *provider
	stream   *stream
	redis    map[domain.TenantID]*registers
	usage    *usageLedger
	relaying *proc
	// publishing tells whether the relay is between reading the outbox and deleting from it.
	publishing bool
	model      *model
	tenants    []domain.TenantID
	budgets    []budget
	keys       []domain.KeyID
	defined    int // budgets and adjustments, so that each has a name of its own
	calls      []*call
	asked      []*call                      // the newest with an idempotency key
	paid       map[string]*modelReservation // by idempotency key: what the provider billed last
	byID       map[domain.ReservationID]*call
	quiet      bool
	since      time.Duration // it is quiet
	pending    int           // what is still to come: answers of the provider, invoices, late originals, requests
	stats      Stats
	memory     map[domain.ReservationID]domain.Presumption // of a seeded bug
	begun      bool
}

// Run simulates until the steps are done or something is violated.
func Run(cfg Config) Result {
	w := newWorld(cfg)
	defer w.end()
	w.run(cfg.Steps)
	r := Result{Steps: w.steps, Events: w.model.events, Failure: w.failure, Stats: w.stats}
	if w.failure != nil {
		r.Last = w.trace.last()
	}
	return r
}

func newWorld(cfg Config) *world {
	w := &world{
		bug: cfg.Bug, redis: map[domain.TenantID]*registers{}, byID: map[domain.ReservationID]*call{}, keys: []domain.KeyID{"a", "b"}, paid: map[string]*modelReservation{},
		usage: &usageLedger{
			cursors: map[domain.TenantID]int64{}, charged: map[domain.TenantID]domain.Amount{}, rows: map[domain.TenantID]int{},
		},
		memory: map[domain.ReservationID]domain.Presumption{},
	}
	w.rnd, w.trace.sink = &random{state: cfg.Seed}, cfg.Trace
	w.pace = 400 * time.Microsecond
	w.provider = &provider{world: w}
	w.stream = &stream{world: w, published: map[domain.TenantID]map[int64]bool{}}
	w.db = NewDatabase(w)
	w.db.flaws = cfg.Bug.flaws()
	w.model = newModel(w)
	w.db.committed = w.model.commit
	w.stormy = w.anyMood()
	w.mood = w.stormy
	for i := range 2 + w.rnd.below(3) {
		w.tenants = append(w.tenants, domain.TenantID("t"+strconv.Itoa(i)))
	}
	w.budgets = w.someBudgets()
	for i := range 2 + w.rnd.below(2) {
		w.gateways = append(w.gateways, &gateway{world: w, number: i})
	}
	for _, g := range w.gateways {
		g.start()
	}
	w.spawn("setup", nil, w.setUp)
	w.relaying = w.spawn("relay", nil, w.relay)
	w.spawn("counters", nil, w.count)
	w.spawn("usage", nil, w.project)
	w.spawn("reaper", nil, w.reap)
	w.spawn("ager", nil, w.age)
	return w
}

func (w *world) anyMood() mood {
	return mood{
		think:      pick(w.rnd, []time.Duration{10 * time.Millisecond, 40 * time.Millisecond, 300 * time.Millisecond}),
		harmEvery:  pick(w.rnd, []time.Duration{100 * time.Millisecond, time.Second, 10 * time.Second}),
		adminEvery: pick(w.rnd, []time.Duration{200 * time.Millisecond, 2 * time.Second}),
		largest:    pick(w.rnd, []int{50, 200, 600}),
		faultEvery: pick(w.rnd, []int{0, 10, 40, 200}),
		dropEvery:  pick(w.rnd, []int{0, 5, 50}), repeatEvery: pick(w.rnd, []int{0, 5, 50}), reorderEvery: pick(w.rnd, []int{0, 3, 20}),
		untruthful: w.rnd.chance(4), affinity: w.rnd.chance(3),
	}
}

// setUp makes the tenants and their budgets, whatever breaks meanwhile.
func (w *world) setUp() {
	for _, tenant := range w.tenants {
		for !w.command(w.gateways[0], tenant, domain.CreateTenant{Name: "sim", Actor: "sim"}) && !w.model.tenant(tenant).exists() {
		}
		for _, id := range w.keys {
			issue := domain.IssueKey{ID: id, Name: "sim", Hash: string(tenant) + string(id), Actor: "sim"}
			for !w.command(w.gateways[0], tenant, issue) && !w.model.tenant(tenant).hasKey(id) {
			}
		}
		for _, b := range w.budgets {
			for !w.command(w.gateways[0], tenant, w.define(b)) {
			}
		}
	}
	w.begun = true
	w.spawn("admin", nil, w.administer)
	w.spawn("chaos", nil, w.harm)
}

const (
	// roundSteps is how many steps it is stormy before everything must come to rest.
	roundSteps = 5000
	// restSteps is how many it may take to.
	restSteps = 100_000
	restEvery = 32
)

// run lets it storm and rest in turn.
func (w *world) run(steps int) {
	for w.steps < steps {
		for end := w.steps + roundSteps; w.steps < end || !w.begun; {
			if !w.step() {
				return
			}
		}
		w.calm()
		for end := w.steps + restSteps; !w.resting(); {
			for range restEvery {
				if !w.step() {
					return
				}
			}
			if w.steps > end {
				w.fail("it does not come to rest: %s", w.unrest())
				return
			}
		}
		w.checkRest()
		if w.failure != nil {
			return
		}
		w.stats.Rests++
		w.storm()
	}
}

// calm ends all harm, so that what is still to be done is done.
func (w *world) calm() {
	w.quiet, w.since, w.down = true, w.elapsed, 0
	w.mood.faultEvery, w.mood.dropEvery, w.mood.repeatEvery, w.mood.reorderEvery = 0, 0, 0, 0
	for _, g := range w.gateways {
		g.stalled = 0
	}
}

func (w *world) storm() { w.quiet, w.mood = false, w.stormy }

// resting tells whether everything is done.
func (w *world) resting() bool { return w.unrest() == "" }

// unrest is what is still to be done.
func (w *world) unrest() string {
	if w.pending > 0 {
		return strconv.Itoa(w.pending) + " are under way"
	}
	for _, g := range w.gateways {
		if !g.up || g.ledger.Waiting() > 0 {
			return fmt.Sprintf("gateway %d is up %t", g.number, g.up)
		}
	}
	if len(w.db.outbox) > 0 || len(w.stream.queues[toCounters])+len(w.stream.queues[toUsage]) > 0 {
		return "events are still to be published or projected"
	}
	for _, tenant := range w.db.names {
		t := w.db.tenants[tenant]
		if t.lock != nil && t.lock.idle.IsZero() {
			return "a head is locked"
		}
		for id, h := range t.holds {
			if limit := max(h.expires.Sub(epoch()), w.since) + 20*time.Second; limit < w.elapsed {
				w.fail("hold %s of %s is open long after its time", id, tenant)
			}
			return "holds are open"
		}
		if h := w.redis[tenant]; h == nil || h.version < t.version || w.usage.cursors[tenant] < t.version {
			return "a projection is behind"
		}
	}
	return ""
}

// turned counts what the lanes did.
func (w *world) turned(t lanes.Turned) {
	switch {
	case t.Err != nil && lanes.OutcomeUnknown(t.Err):
		w.stats.Unknown++
	case t.Err != nil:
		w.stats.Denied++
	case t.Locked:
		w.stats.Locked++
	default:
		w.stats.Fast++
		w.stats.Conflicts += t.Conflicts
	}
}

// transient is something that will end by itself.
func (w *world) transient(name string, body func()) {
	w.pending++
	w.spawn(name, nil, func() {
		defer func() { w.pending-- }()
		body()
	})
}

// checkAnswer judges what a caller was told.
func (w *world) checkAnswer(tenant domain.TenantID, c domain.Command, records []domain.Recorded, err error) {
	_, expires := c.(domain.Expire)
	_, reserves := c.(domain.Reserve)
	if extend, ok := c.(domain.Extend); ok {
		reserves = extend.Add >= 0
	}
	if repeated := new(domain.IdempotencyError); errors.As(err, &repeated) {
		w.checkRepeated(tenant, c, repeated)
		return
	}
	switch {
	case err == nil:
		for _, r := range records {
			if !w.model.tenant(tenant).has(r) {
				w.fail("%T of %s was answered with version %d, which is not committed", c, tenant, r.Version)
			}
		}
	case errors.Is(err, lanes.ErrRefusedByDatabase), errors.Is(err, lanes.ErrTampered), errors.Is(err, domain.ErrReservationExists):
		w.fail("%T of %s: %w", c, tenant, err)
	case errors.Is(err, domain.ErrInvalid):
		if reserves || (!expires && isClosing(c)) {
			w.fail("%T of %s: %w", c, tenant, err)
		}
	case errors.Is(err, domain.ErrBudgetExceeded):
		var e *domain.BudgetExceededError
		if errors.As(err, &e) && e.Held+e.Settled+e.Requested <= e.Limit {
			w.fail("refused although there is room: %w", err)
		}
	case errors.Is(err, domain.ErrUnavailable), errors.Is(err, domain.ErrTenantSuspended), errors.Is(err, domain.ErrReservationUnknown),
		errors.Is(err, domain.ErrBudgetUnknown), errors.Is(err, domain.ErrTenantExists), errors.Is(err, domain.ErrKeyUnusable):
	case errors.Is(err, domain.ErrTenantUnknown) && !w.begun:
	default:
		w.fail("%T of %s: unexpected: %w", c, tenant, err)
	}
}

// checkRepeated judges that an idempotency key was used for what the refusal says.
func (w *world) checkRepeated(tenant domain.TenantID, c domain.Command, e *domain.IdempotencyError) {
	w.stats.Repeated++
	t := w.model.tenant(tenant)
	switch c := c.(type) {
	case domain.Reserve:
		before := t.reservations[e.Attempt.Reservation]
		mismatch := errors.Is(e, domain.ErrIdempotencyMismatch)
		if before == nil || before.request.Idempotency != c.Idempotency || before.request.KeyID != c.KeyID ||
			mismatch == (before.request.Fingerprint == c.Fingerprint) {
			w.fail("%s of %s was refused: %w", c.Reservation, tenant, e)
		}
	case domain.Adjust:
		if _, used := t.adjusted[c.Idempotency]; !used {
			w.fail("an adjustment of %s was refused: %w", tenant, e)
		}
	default:
		w.fail("%T of %s was refused: %w", c, tenant, e)
	}
}

func isClosing(c domain.Command) bool {
	switch c.(type) { //nolint:gochecksumtype // the others close nothing
	case domain.Settle, domain.SettlePresumed, domain.Release:
		return true
	}
	return false
}

// checkForward judges that a request is forwarded.
func (w *world) checkForward(c *call) {
	r := w.model.tenant(c.tenant).reservations[c.reservation]
	if r == nil || (r.state != isOpen && r.state != isPresumed && !c.adjusted) {
		w.fail("%s of %s was forwarded without a committed hold", c.reservation, c.tenant)
	}
}
