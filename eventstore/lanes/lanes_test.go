package lanes_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
	"github.com/budgetguard/budgetguard/internal/sim"
)

// wire is the way to a shared fake of the database. It loses answers where a test says so.
type wire struct {
	*sim.Shared
	loseAppend bool  // the next append's answer; it is written all the same
	fence      error // what a fence comes to; nil: it is raised
	lock       error // what a lock comes to; nil: it is had
	past       error // what a question about the past comes to
	tail       error // what reading a tail comes to
	refuse     error // what an append under the lock comes to
	lose       bool  // an append under the lock loses, and that is no error
	commit     error // what a commit under the lock comes to
	recall     error // what recalling a closed reservation or a key comes to
	ahead      time.Duration
	loads      atomic.Int64 // of a whole state
	fences     int
	accounts   []domain.Account // that appends of the fast lane handed over as rolling
	// head, if set, changes what the lock says of the head.
	head func(*lanes.Head)
	// append, if set, is called before each append of the fast lane.
	append func()
	closed atomic.Bool
}

// Close implements lanes.Journal.
func (w *wire) Close() { w.closed.Store(true) }

var errCut = errors.New("the connection broke")

// Append implements lanes.Journal.
func (w *wire) Append(ctx context.Context, appends []lanes.Append) ([]domain.TenantID, time.Time, error) {
	if w.append != nil {
		w.append()
	}
	for _, a := range appends {
		w.accounts = append(w.accounts, a.Rolling...)
	}
	won, at, err := w.Shared.Append(ctx, appends)
	if w.loseAppend {
		w.loseAppend = false
		return nil, time.Time{}, errCut
	}
	return won, at.Add(w.ahead), err
}

// Lock implements lanes.Journal.
func (w *wire) Lock(ctx context.Context, tenant domain.TenantID) (lanes.Locked, error) {
	if w.lock != nil {
		return nil, w.lock
	}
	l, err := w.Shared.Lock(ctx, tenant)
	return forgetful{l, w}, err
}

// forgetful is a transaction on the wire, in which the past may not be told.
type forgetful struct {
	lanes.Locked
	wire *wire
}

// Head implements lanes.Locked.
func (f forgetful) Head() lanes.Head {
	h := f.Locked.Head()
	h.Sample.At = h.Sample.At.Add(f.wire.ahead)
	if f.wire.head != nil {
		f.wire.head(&h)
	}
	return h
}

// Load implements lanes.Locked.
func (f forgetful) Load(ctx context.Context, seen lanes.Mark) (domain.State, lanes.Hash, error) {
	f.wire.loads.Add(1)
	return f.Locked.Load(ctx, seen)
}

// Tail implements lanes.Locked.
func (f forgetful) Tail(ctx context.Context, after int64, limit int) ([]domain.Recorded, error) {
	if f.wire.tail != nil {
		return nil, f.wire.tail
	}
	if limit < 0 { // as Postgres
		return nil, fmt.Errorf("%w: LIMIT must not be negative", lanes.ErrRefusedByDatabase)
	}
	return f.Locked.Tail(ctx, after, limit)
}

// Append implements lanes.Locked.
func (f forgetful) Append(ctx context.Context, a lanes.Append, after domain.State) (bool, error) {
	if f.wire.refuse != nil {
		return false, f.wire.refuse
	}
	if f.wire.lose {
		return false, nil
	}
	return f.Locked.Append(ctx, a, after)
}

// Commit implements lanes.Locked.
func (f forgetful) Commit(ctx context.Context) error {
	if f.wire.commit != nil {
		return f.wire.commit
	}
	return f.Locked.Commit(ctx)
}

// Attempt implements lanes.Locked.
func (f forgetful) Attempt(ctx context.Context, state *domain.State, key domain.AttemptKey) error {
	if f.wire.recall != nil {
		return f.wire.recall
	}
	return f.Locked.Attempt(ctx, state, key)
}

// Presumption implements lanes.Locked.
func (f forgetful) Presumption(ctx context.Context, state *domain.State, id domain.ReservationID) error {
	if f.wire.recall != nil {
		return f.wire.recall
	}
	return f.Locked.Presumption(ctx, state, id)
}

// Closed implements lanes.Locked.
func (f forgetful) Closed(ctx context.Context, state *domain.State, id domain.ReservationID) error {
	if f.wire.recall != nil {
		return f.wire.recall
	}
	return f.Locked.Closed(ctx, state, id)
}

// Past implements lanes.Locked.
func (f forgetful) Past(ctx context.Context, state *domain.State, past domain.Past) (domain.Past, error) {
	if f.wire.past != nil {
		return past, f.wire.past
	}
	return f.Locked.Past(ctx, state, past)
}

// Fence implements lanes.Journal.
func (w *wire) Fence(ctx context.Context, tenant domain.TenantID, first domain.Recorded) (bool, error) {
	w.fences++
	if w.fence != nil {
		return false, w.fence
	}
	return w.Shared.Fence(ctx, tenant, first)
}

// gateway is a ledger whose turns and timers the test carries out.
type gateway struct {
	*lanes.Ledger
	t         *testing.T
	now       time.Time
	done      []lanes.Turned
	committed int
	waits     []time.Duration
	timers    []func()
	log       bytes.Buffer
	// execute, if set, decides instead of the domain.
	execute func(domain.State, domain.Command, time.Time) (domain.State, []domain.Recorded, error)
}

// newGateways makes a wire and some ledgers behind it, all with one clock.
func newGateways(t *testing.T, n int) (*wire, []*gateway) {
	t.Helper()
	all := make([]*gateway, n)
	now := func() time.Time { return all[0].now }
	w := &wire{Shared: sim.NewShared(now)}
	for i := range all {
		g := &gateway{t: t, now: time.Unix(1_800_000_000, 0).UTC()}
		all[i] = g
		g.Ledger = lanes.New(w, lanes.Config{
			Now: now, Logger: slog.New(slog.NewTextHandler(&g.log, nil)), Committed: func() { g.committed++ },
			Turned: func(d lanes.Turned) { g.done = append(g.done, d) },
			Execute: func(s domain.State, c domain.Command, at time.Time) (domain.State, []domain.Recorded, error) {
				if g.execute != nil {
					return g.execute(s, c, at)
				}
				return domain.Execute(s, c, at)
			},
			After: func(wait time.Duration, then func()) {
				g.waits, g.timers = append(g.waits, wait), append(g.timers, then)
			},
		})
	}
	return w, all
}

func newGateway(t *testing.T) (*wire, *gateway) {
	t.Helper()
	w, all := newGateways(t, 1)
	return w, all[0]
}

func (g *gateway) submit(c domain.Command) lanes.Pending {
	g.t.Helper()
	p, err := g.Submit("t", c)
	if err != nil {
		g.t.Fatal(err)
	}
	return p
}

// turns carries out all that is due now and says what turns that were.
func (g *gateway) turns() []lanes.Turned {
	g.done = nil
	for g.StepFast(g.t.Context()) || g.StepLocked(g.t.Context()) {
	}
	return g.done
}

// ring lets the timers end.
func (g *gateway) ring() {
	timers := g.timers
	g.timers = nil
	for _, then := range timers {
		then()
	}
}

// warned is how often a log line said it.
func (g *gateway) warned(line string) int { return strings.Count(g.log.String(), line) }

// do carries out a command that must succeed, and says whether under the lock.
func (g *gateway) do(c domain.Command) (locked bool) {
	g.t.Helper()
	p := g.submit(c)
	turns := g.turns()
	g.answered(p, nil)
	return turns[len(turns)-1].Locked
}

func (g *gateway) answered(p lanes.Pending, want error) {
	g.t.Helper()
	if _, done, err := p.Poll(); !done || !errors.Is(err, want) {
		g.t.Errorf("answered %v, %v; want %v", done, err, want)
	}
}

func (g *gateway) unanswered(p lanes.Pending) {
	g.t.Helper()
	if _, done, err := p.Poll(); done {
		g.t.Errorf("answered %v", err)
	}
}

// begin makes the tenant with a budget.
func (g *gateway) begin(limit domain.Amount) {
	g.t.Helper()
	g.do(domain.CreateTenant{Name: "ACME", Actor: "admin"})
	month := budget("month")
	month.Limit = limit
	g.do(month)
}

func reserve(amount domain.Amount) domain.Reserve {
	return domain.Reserve{
		Request: domain.Request{
			Reservation: domain.ReservationID(uuid.NewString()), Route: "/v1/chat/completions", Provider: "openai", Model: "gpt-4",
			Prices: "test", Policy: "test", Gateway: "gw", Estimate: domain.Estimate{PromptTokens: 10, CompletionTokens: 100, Basis: "test"},
		},
		Amount: amount, TTL: time.Minute,
	}
}

func settle(r domain.Reserve, charged domain.Amount) domain.Settle {
	return domain.Settle{Reservation: r.Reservation, Charged: charged, Basis: domain.BasisProvider, Reason: "answered"}
}

func TestALinkNeverChangesItsLayout(t *testing.T) {
	t.Parallel()
	r := domain.Recorded{
		Tenant: "acme", Version: 7, Time: time.UnixMicro(1_800_000_000_123_456).UTC(),
		Event: domain.TenantSuspended{}, Body: []byte(`{"actor":"admin"}`),
	}
	const want = "5bc285f31c50247b41785f075d9beff6d12fd857cef864a8f7debfbc6b7c1286"
	if got := lanes.Link(lanes.Genesis("acme"), r, 1); hex.EncodeToString(got[:]) != want {
		t.Errorf("the link is %x: no stream that was ever written verifies any more", got)
	}
}

func TestTheKindOfAnErrorSaysWhatIsKnown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err                    error
		unknown, forGood, lost bool
	}{
		{errCut, true, false, true},
		{lanes.ErrNotSent, false, false, true},
		{lanes.ErrDenied, false, false, false},
		{lanes.ErrRefusedByDatabase, false, true, false},
		{lanes.ErrUndecidable, false, true, true},
		{lanes.ErrTampered, true, false, true},
	} {
		err := fmt.Errorf("wrapped: %w", c.err)
		if lanes.OutcomeUnknown(err) != c.unknown || lanes.RefusedForGood(err) != c.forGood || lanes.Lost(err) != c.lost {
			t.Errorf("%v: unknown %v, for good %v, lost %v", c.err, lanes.OutcomeUnknown(err), lanes.RefusedForGood(err), lanes.Lost(err))
		}
	}
}

func TestADoubtThatNobodyEndsIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fence error
		heard bool // those who need not wait hear no
	}{
		"the database does not answer": {errCut, true},
		"the database says no":         {lanes.ErrDenied, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, g := newGateway(t)
			g.begin(1000)
			held, alike, inDoubt, queued := reserve(10), reserve(10), reserve(20), reserve(30)
			g.do(held)
			g.do(alike)
			w.loseAppend, w.fence = true, c.fence
			doubt, closingInDoubt := g.submit(inDoubt), g.submit(settle(alike, 7))
			g.turns()
			later, closing := g.submit(queued), g.submit(settle(held, 7))
			for range 7 {
				g.ring()
				g.turns()
			}
			const ms = time.Millisecond
			if want := []time.Duration{40 * ms, 80 * ms, 160 * ms, 320 * ms, 640 * ms, time.Second, time.Second, time.Second}; !slices.Equal(g.waits, want) {
				t.Errorf("it waited %v, want %v", g.waits, want)
			}
			if c.heard {
				g.answered(doubt, domain.ErrUnavailable)
				g.answered(later, domain.ErrUnavailable)
			} else {
				g.unanswered(doubt)
				g.unanswered(later)
			}
			g.unanswered(closing)
			g.unanswered(closingInDoubt)
			if n := g.warned("does not answer"); n != 1 {
				t.Errorf("the log tells %d times that the outcome is unknown", n)
			}
			w.fence = nil
			before := g.committed
			g.ring()
			turns := g.turns()
			g.answered(closing, nil)
			g.answered(closingInDoubt, nil)
			if g.committed == before || len(turns) == 0 || !turns[0].Locked || turns[0].Events != 2 {
				t.Errorf("the commit that was found out is not told of: %+v", turns)
			}
			state, ok := g.Warm("t")
			_, stays := state.Open[inDoubt.Reservation]
			if !ok || stays == c.heard || g.Waiting() != 0 {
				t.Errorf("the reservation stays: %v; %d wait", stays, g.Waiting())
			}
		})
	}
}

func TestASettlementThatWasInDoubtGivesRoom(t *testing.T) {
	t.Parallel()
	w, g := newGateway(t)
	g.begin(100)
	held := reserve(60)
	g.do(held)
	refused := g.submit(reserve(50))
	if _, ok := g.Warm("t"); ok {
		t.Error("a state is shown while there is work on it")
	}
	g.turns()
	g.answered(refused, domain.ErrBudgetExceeded)
	if g.Refused("t", 50) == nil {
		t.Fatal("the refusal is not remembered")
	}
	g.do(reserve(1)) // out of the locked path
	w.loseAppend = true
	g.do(settle(held, 5))
	if err := g.Refused("t", 50); w.loseAppend || err != nil {
		t.Errorf("there is room, and yet %v", err)
	}
}

func TestADatabaseThatSaysNoIsAskedLessAndLessOften(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		lock  error
		tries int // of a reservation
	}{
		"it is not there":     {errCut, 1},
		"it says no":          {lanes.ErrDenied, 6},
		"a newer build wrote": {fmt.Errorf("%w: %w", lanes.ErrDenied, domain.ErrUnknownEvent), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, g := newGateway(t)
			g.begin(1000)
			first, second := reserve(10), reserve(10)
			g.do(first)
			g.do(second)
			for i, held := range []domain.Reserve{first, second} { // after a success the waits begin anew
				w.lock, g.waits = c.lock, nil
				closing := g.submit(settle(held, 7))
				define := g.submit(domain.Age{})
				for i := 1; i <= 8; i++ {
					g.turns()
					if _, done, err := define.Poll(); done != (i >= c.tries) || (done && !errors.Is(err, domain.ErrUnavailable)) {
						t.Errorf("try %d: answered %v, %v", i, done, err)
					}
					g.unanswered(closing)
					if waiting := 2; i < c.tries && g.Waiting() != waiting || i >= c.tries && g.Waiting() != 1 {
						t.Errorf("try %d: %d wait", i, g.Waiting())
					}
					g.ring()
				}
				if want := []time.Duration{40 * ms, 80 * ms, 160 * ms, 320 * ms, 640 * ms, time.Second, time.Second, time.Second}; !slices.Equal(g.waits, want) {
					t.Errorf("it waited %v, want %v", g.waits, want)
				}
				if n := g.warned("trying again"); n != i+1 {
					t.Errorf("the log tells of %d failures in outage %d", n, i+1)
				}
				w.lock = nil
				g.turns()
				g.answered(closing, nil)
			}
		})
	}
}

func TestEveryAppendAndNothingElseIsToldOf(t *testing.T) {
	t.Parallel()
	_, g := newGateway(t)
	g.begin(100)
	held := reserve(10)
	for _, c := range []struct {
		what      string
		command   domain.Command
		committed int
		turns     []lanes.Turned
		err       error
	}{
		{"the first reservation opens a window", held, 1, []lanes.Turned{{Tenants: 1, Events: 2}}, nil},
		{"a reservation", reserve(10), 1, []lanes.Turned{{Tenants: 1, Events: 1}}, nil},
		{"a refusal", reserve(1000), 0, []lanes.Turned{{Locked: true, Tenants: 1}}, domain.ErrBudgetExceeded},
		{"a settlement", settle(held, 1), 1, []lanes.Turned{{Tenants: 1, Events: 1}}, nil},
		{"a definition", domain.DefineBudget{ID: "day", Period: domain.Daily, Limit: 100, Source: domain.SourceAdmin, Actor: "admin"}, 1, []lanes.Turned{{Locked: true, Tenants: 1, Events: 2}}, nil},
		{"what is unknown", settle(held, 1), 0, []lanes.Turned{{Locked: true, Tenants: 1}}, domain.ErrReservationUnknown},
	} {
		before := g.committed
		p := g.submit(c.command)
		turns := g.turns()
		g.answered(p, c.err)
		if g.committed-before != c.committed || !slices.Equal(turns, c.turns) {
			t.Errorf("%s: told of %d times, %+v; want %d, %+v", c.what, g.committed-before, turns, c.committed, c.turns)
		}
	}
}

func TestABudgetDoesNotBeginBeforeItsPastIsKnown(t *testing.T) {
	t.Parallel()
	w, g := newGateway(t)
	g.begin(1000)
	spent := reserve(10)
	g.do(spent)
	g.do(settle(spent, 7))
	w.past = lanes.ErrDenied
	later := budget("later")
	later.Scope = domain.Scope{Model: spent.Model} // no other budget knows what this one has spent
	p := g.submit(later)
	g.turns()
	g.unanswered(p)
	w.past = nil
	g.ring()
	g.turns()
	g.answered(p, nil)
	state, _ := g.Warm("t")
	for _, b := range state.Balances(g.now) {
		if b.Settled != 7 {
			t.Errorf("budget %s knows of %d", b.Budget.ID, b.Settled)
		}
	}
}

func TestABudgetKnowsWhatWasSpentInTheTurnThatDefinesIt(t *testing.T) {
	t.Parallel()
	_, g := newGateway(t)
	g.begin(1000)
	spent := reserve(10)
	g.do(spent)
	later := budget("later")
	later.Scope = domain.Scope{Model: spent.Model}
	settled, defined := g.submit(settle(spent, 7)), g.submit(later)
	g.turns()
	g.answered(settled, nil)
	g.answered(defined, nil)
	state, _ := g.Warm("t")
	for _, b := range state.Balances(g.now) {
		if b.Settled != 7 {
			t.Errorf("budget %s knows of %d", b.Budget.ID, b.Settled)
		}
	}
}

func TestABudgetThatIsAskedForTooEarlyIsRefusedAlone(t *testing.T) {
	t.Parallel()
	w, g := newGateway(t)
	g.begin(1000)
	g.do(reserve(10))
	w.past = fmt.Errorf("%w: the usage is behind", domain.ErrUnavailable)
	later := budget("later")
	later.Scope = domain.Scope{Model: "gpt-4"}
	defined, reserved := g.submit(later), g.submit(reserve(10))
	g.turns()
	g.answered(defined, domain.ErrUnavailable)
	g.answered(reserved, nil)
}

func TestCommandsOfOneTurnAboutOneReservation(t *testing.T) {
	t.Parallel()
	adjust := func(id domain.ReservationID, key string) domain.Adjust {
		return domain.Adjust{Reservation: id, Delta: -1, Reason: "refund", Idempotency: key, Actor: "admin"}
	}
	_, g := newGateway(t)
	g.begin(1000)
	held, presumed := reserve(10), reserve(10)
	g.do(held)
	g.do(presumed)
	g.do(domain.SettlePresumed{Reservation: presumed.Reservation, Reason: "cut"})
	for _, c := range []struct {
		name          string
		first, second domain.Command
		want          error
	}{
		{"an adjustment behind the settlement", settle(held, 7), adjust(held.Reservation, "a"), nil},
		{"two adjustments of what was presumed", adjust(presumed.Reservation, "b"), adjust(presumed.Reservation, "c"), nil},
		{"of what never was", adjust(held.Reservation, "d"), adjust("8e7ab8a5-0000-4000-8000-000000000000", "e"), domain.ErrReservationUnknown},
	} {
		first, second := g.submit(c.first), g.submit(c.second)
		g.turns()
		t.Log(c.name)
		g.answered(first, nil)
		g.answered(second, c.want)
	}
}

func TestWhatNobodyWaitsForIsNotDoneUnlessItClosesAReservation(t *testing.T) {
	t.Parallel()
	_, g := newGateway(t)
	g.begin(1000)
	held := reserve(1)
	g.do(held)
	for name, stays := range map[string]domain.Command{"fast": reserve(1), "locked": budget("day")} {
		left, kept := g.submit(reserve(1)), g.submit(stays)
		if !left.Abandon() {
			t.Fatal("the answer is there already")
		}
		turns := g.turns()
		g.answered(kept, nil)
		if records, _, _ := kept.Poll(); len(turns) != 1 || turns[0].Events != len(records) {
			t.Errorf("%s: more was done than had to be: %+v", name, turns)
		}
		if n := g.Waiting(); n != 0 {
			t.Errorf("%s: %d wait", name, n)
		}
	}
	g.submit(settle(held, 1)).Abandon()
	if turns := g.turns(); len(turns) != 1 || turns[0].Events != 1 {
		t.Errorf("a settlement: %+v", turns)
	}
	overdue := reserve(1)
	g.do(overdue)
	g.now = g.now.Add(2 * overdue.TTL)
	g.submit(domain.Expire{Reservation: overdue.Reservation}).Abandon() // it is found again
	if turns := g.turns(); len(turns) != 0 && turns[0].Events != 0 {
		t.Errorf("an expiry: %+v", turns)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := g.Do(ended, "t", reserve(1)); !errors.Is(err, domain.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("who does not wait gets %v", err)
	}
}

func TestOnlyARefusedReservationOfTheWholeTenantIsRemembered(t *testing.T) {
	t.Parallel()
	_, g := newGateway(t)
	g.begin(100)
	narrow := budget("narrow")
	narrow.Scope, narrow.Limit = domain.Scope{Model: "gpt-4"}, 50
	g.do(narrow)
	held := reserve(40)
	g.do(held)
	for _, c := range []domain.Command{reserve(20), domain.Extend{Reservation: held.Reservation, Add: 70, TTL: time.Minute}} {
		p := g.submit(c)
		g.turns()
		g.answered(p, domain.ErrBudgetExceeded)
		if err := g.Refused("t", 1000); err != nil {
			t.Errorf("%T: %v", c, err)
		}
	}
	g.do(domain.RetireBudget{ID: "narrow", Actor: "admin"})
	p := g.submit(domain.Extend{Reservation: held.Reservation, Add: 70, TTL: time.Minute})
	g.turns()
	g.answered(p, domain.ErrBudgetExceeded)
	if err := g.Refused("t", 1000); err != nil {
		t.Errorf("an extension: %v", err)
	}
}

func TestAGatewayReadsWhatItMissedUnlessThatIsMuch(t *testing.T) {
	t.Parallel()
	w, all := newGateways(t, 2)
	g, other := all[0], all[1]
	g.begin(10_000)
	other.do(reserve(1))
	for _, c := range []struct {
		behind, loads int
	}{{0, 0}, {1, 0}, {500, 0}, {501, 1}} {
		g.do(domain.Age{}) // reads, and records nothing
		for range c.behind {
			other.submit(reserve(1))
		}
		other.turns()
		before := w.loads.Load()
		g.do(domain.Age{})
		if n := w.loads.Load() - before; n != int64(c.loads) {
			t.Errorf("%d events behind: %d loads, want %d", c.behind, n, c.loads)
		}
		theirs, _ := other.Warm("t")
		if mine, ok := g.Warm("t"); !ok || mine.Version != theirs.Version {
			t.Errorf("%d events behind: at version %d of %d", c.behind, mine.Version, theirs.Version)
		}
	}
	other.do(reserve(1))
	w.tail = lanes.ErrDenied
	before := w.loads.Load()
	p := g.submit(domain.Age{})
	g.turns()
	g.unanswered(p)
	if w.loads.Load() != before {
		t.Error("a tail that could not be read was not tried again")
	}
	w.tail = nil
	g.ring()
	g.turns()
	g.answered(p, nil)
}

func TestCommandsThatWereRefusedTogetherAreTriedAloneAndOthersNot(t *testing.T) {
	t.Parallel()
	w, g := newGateway(t)
	g.begin(1000)
	w.refuse = lanes.ErrRefusedByDatabase
	var pending []lanes.Pending
	for i := range 3 {
		pending = append(pending, g.submit(budget(domain.BudgetID(fmt.Sprint("b", i)))))
	}
	g.StepLocked(t.Context())
	w.refuse = nil
	for i := range 2 {
		pending = append(pending, g.submit(budget(domain.BudgetID(fmt.Sprint("c", i)))))
	}
	if turns := g.turns(); len(turns) != 4 {
		t.Errorf("%d turns: %+v", len(turns), turns)
	}
	for _, p := range pending {
		g.answered(p, nil)
	}
}

func TestTheLockTellsTheTimeOfTheDatabase(t *testing.T) {
	t.Parallel()
	w, g := newGateway(t)
	w.ahead = time.Second
	g.begin(1000)
	g.now = g.now.Add(10 * time.Second)
	p := g.submit(reserve(1))
	if turns := g.turns(); len(turns) != 1 || turns[0].Locked {
		t.Fatalf("not the fast path: %+v", turns)
	}
	if records, _, err := p.Poll(); err != nil || records[0].Time.Before(g.now.Add(w.ahead)) {
		t.Errorf("the time is %v, %v", records, err)
	}
}

func TestALedgerThatClosesTakesOnlyWhatClosesAReservation(t *testing.T) {
	t.Parallel()
	w, g := newGateway(t)
	g.begin(100_000)
	first, second := reserve(1), reserve(1)
	g.do(first)
	g.do(second)
	g.submit(reserve(1))
	ctx, closed := within(t), make(chan error, 1)
	go func() { closed <- g.Close(ctx) }()
	for { // until it closes
		if _, err := g.Submit("t", reserve(1)); err != nil {
			break
		}
		if g.Waiting() > lanes.MaxQueue/2 {
			t.Fatal("it never closes")
		}
		runtime.Gosched()
	}
	for range 1000 { // it waits by now, or hears without
		runtime.Gosched()
	}
	p := g.submit(settle(first, 1))
	g.turns()
	g.answered(p, nil)
	if err := <-closed; err != nil || ctx.Err() != nil || !w.closed.Load() {
		t.Errorf("%v; it waited until %v; the journal is closed: %v", err, ctx.Err(), w.closed.Load())
	}
	for _, c := range []domain.Command{settle(second, 1), reserve(1)} {
		if _, err := g.Do(within(t), "t", c); !errors.Is(err, domain.ErrUnavailable) || !strings.Contains(err.Error(), "shutting down") {
			t.Errorf("%T after the end: %v", c, err)
		}
	}
}

func TestCloseDoesNotWaitLongerThanItMay(t *testing.T) {
	t.Parallel()
	_, g := newGateway(t)
	g.begin(1000)
	p := g.submit(reserve(1))
	ctx, end := context.WithCancel(within(t))
	closed := make(chan error, 1)
	go func() { closed <- g.Close(ctx) }()
	for { // until it waits
		if _, err := g.Submit("t", domain.Age{}); err != nil {
			break
		}
		runtime.Gosched()
	}
	for range 1000 {
		runtime.Gosched()
	}
	end()
	if err := <-closed; !errors.Is(err, context.Canceled) {
		t.Errorf("closed: %v", err)
	}
	g.answered(p, domain.ErrUnavailable)
}

func TestCloseAnswersWhatIsInDoubt(t *testing.T) {
	t.Parallel()
	w, g := newGateway(t)
	g.begin(1000)
	held := reserve(10)
	g.do(held)
	w.loseAppend, w.fence = true, errCut
	p := g.submit(settle(held, 1))
	g.turns()
	g.unanswered(p)
	ended, end := context.WithCancel(t.Context())
	end()
	if err := g.Close(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("closed: %v", err)
	}
	g.answered(p, domain.ErrUnavailable)
}

func TestTheJournalIsClosedWhenNobodyUsesItAnyMore(t *testing.T) {
	t.Parallel()
	arrived, gate := make(chan struct{}), make(chan struct{})
	var early atomic.Bool
	w := &wire{Shared: sim.NewShared(time.Now)}
	w.append = func() {
		close(arrived)
		<-gate
		early.Store(w.closed.Load())
	}
	l := lanes.New(w, lanes.Config{Now: time.Now})
	l.Start(t.Context())
	for _, c := range []domain.Command{domain.CreateTenant{Name: "ACME", Actor: "admin"}, budget("month")} {
		if _, err := l.Do(within(t), "t", c); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Submit("t", reserve(1)); err != nil {
		t.Fatal(err)
	}
	<-arrived
	ended, end := context.WithCancel(t.Context())
	end()
	closed := make(chan error, 1)
	go func() { closed <- l.Close(ended) }()
	select { // it would end at once, were it not for the append
	case err := <-closed:
		t.Errorf("closed while an append is under way: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(gate)
	if err := <-closed; !errors.Is(err, context.Canceled) {
		t.Errorf("closed: %v", err)
	}
	if early.Load() || !w.closed.Load() {
		t.Errorf("the journal was closed too early: %v; in the end: %v", early.Load(), w.closed.Load())
	}
}

func TestCloseThatMayNotWaitAnswersEverybody(t *testing.T) {
	t.Parallel()
	_, g := newGateway(t)
	g.begin(1000)
	p := g.submit(reserve(1))
	ended, end := context.WithCancel(t.Context())
	end()
	if err := g.Close(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("closed: %v", err)
	}
	g.answered(p, domain.ErrUnavailable)
	if n := g.Waiting(); n != 0 {
		t.Errorf("%d wait", n)
	}
}

func TestATenantThatAnotherGatewayWritesTooGoesUnderTheLockForAWhile(t *testing.T) {
	t.Parallel()
	_, all := newGateways(t, 2)
	g, other := all[0], all[1]
	g.begin(1000)
	for range 2 {
		if g.do(reserve(1)) {
			t.Error("the only writer needs no lock")
		}
	}
	conflict := func(of string) {
		t.Helper()
		other.do(reserve(1))
		p := g.submit(reserve(1))
		if turns := g.turns(); len(turns) != 2 || turns[0].Locked || turns[0].Conflicts != 1 || !turns[1].Locked {
			t.Errorf("%s: no conflict that was tried again under the lock: %+v", of, turns)
		}
		g.answered(p, nil)
	}
	for _, while := range []time.Duration{250, 500, 1000, 2000, 4000, 4000} { // milliseconds
		conflict("another conflict")
		g.now = g.now.Add(while*time.Millisecond - time.Microsecond)
		if !g.do(reserve(1)) {
			t.Errorf("the fast path is tried before %d ms are over", while)
		}
		g.now = g.now.Add(time.Microsecond)
	}
	if g.do(reserve(1)) {
		t.Error("no conflict was to come any more")
	}
	conflict("a conflict after peace")
	g.now = g.now.Add(250 * time.Millisecond)
	if g.do(reserve(1)) {
		t.Error("the wait does not begin anew")
	}
}

// started is a ledger with lanes of its own whose fast one is held up in the append of a tenant called busy. A
// tenant called t is idle. Both have a budget.
func started(t *testing.T) (l *lanes.Ledger, letGo func()) {
	t.Helper()
	arrived, gate := make(chan struct{}), make(chan struct{})
	w := &wire{Shared: sim.NewShared(time.Now), append: sync.OnceFunc(func() {
		close(arrived)
		<-gate
	})}
	l = lanes.New(w, lanes.Config{Now: time.Now})
	l.Start(t.Context())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	for _, tenant := range []domain.TenantID{"busy", "t"} {
		for _, c := range []domain.Command{domain.CreateTenant{Name: "ACME", Actor: "admin"}, budget("month")} {
			if _, err := l.Do(within(t), tenant, c); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := l.Submit("busy", reserve(1)); err != nil {
		t.Fatal(err)
	}
	<-arrived
	letGo = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(letGo)
	return l, letGo
}

func budget(id domain.BudgetID) domain.DefineBudget {
	return domain.DefineBudget{ID: id, Period: domain.Monthly, Limit: 100, Source: domain.SourceAdmin, Actor: "admin"}
}

// patience bounds every wait: far more than a loaded machine needs.
const patience = time.Minute

// within is the test's context with a bound.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func TestAnAdministratorBehindAReservationIsHeardAtOnce(t *testing.T) {
	t.Parallel()
	l, letGo := started(t)
	if _, err := l.Submit("t", reserve(1)); err != nil {
		t.Fatal(err)
	}
	if fast, locked := l.Due(); fast != 1 || locked != 0 {
		t.Errorf("%d wait for the fast lane and %d for the lock", fast, locked)
	}
	queued, heard := l.Waiting(), make(chan error, 1)
	go func() {
		_, err := l.Do(within(t), "t", budget("day")) // a matter for the lock, now that it is the tenant's turn
		heard <- err
	}()
	for l.Waiting() == queued {
		runtime.Gosched()
	}
	letGo()
	if err := <-heard; err != nil {
		t.Error(err)
	}
}

func TestTheSmallestRefusalIsRememberedAsLongAsItLives(t *testing.T) {
	t.Parallel()
	_, g := newGateway(t)
	g.begin(100)
	refuse := func(amount domain.Amount) {
		t.Helper()
		p := g.submit(reserve(amount))
		g.turns()
		g.answered(p, domain.ErrBudgetExceeded)
	}
	remembered := func(amount domain.Amount, want bool) {
		t.Helper()
		if got := g.Refused("t", amount) != nil; got != want {
			t.Errorf("an estimate of %d is refused early: %v", amount, got)
		}
	}
	refuse(150)
	refuse(200)
	remembered(150, true)
	g.now = g.now.Add(lanes.RefusalLife - time.Microsecond)
	refuse(200)
	remembered(150, true)
	g.now = g.now.Add(time.Microsecond)
	refuse(200) // the other's life is over
	remembered(199, false)
	remembered(200, true)
	g.now = g.now.Add(lanes.RefusalLife - time.Microsecond)
	refuse(130)
	g.now = g.now.Add(lanes.RefusalLife)
	remembered(130, true)
	g.now = g.now.Add(time.Microsecond)
	remembered(130, false)
}

func TestARefusalIsForgottenWithItsWindow(t *testing.T) {
	t.Parallel()
	_, g := newGateway(t)
	end := time.Date(2027, time.February, 1, 0, 0, 0, 0, time.UTC)
	g.now = end.Add(-time.Second)
	g.begin(100)
	p := g.submit(reserve(150))
	g.now = end.Add(-50 * time.Millisecond)
	g.turns()
	g.answered(p, domain.ErrBudgetExceeded)
	g.now = end.Add(-time.Millisecond)
	exceeded := new(domain.BudgetExceededError)
	if err := g.Refused("t", 170); !errors.As(err, &exceeded) || exceeded.Requested != 170 || exceeded.Window.End != end {
		t.Errorf("before its end: %#v", err)
	}
	g.now = end
	if err := g.Refused("t", 170); err != nil {
		t.Errorf("in the next window: %v", err)
	}
}

func TestARefusalIsForgottenWhenThereIsRoomAndOnlyThen(t *testing.T) {
	t.Parallel()
	month := budget("month")
	month.Limit = 300
	for name, c := range map[string]struct {
		command func(held domain.Reserve) domain.Command
		fails   error
		forgets bool
	}{
		"a settlement":           {func(held domain.Reserve) domain.Command { return settle(held, 1) }, nil, true},
		"a higher limit":         {func(domain.Reserve) domain.Command { return month }, nil, true},
		"a reservation":          {func(domain.Reserve) domain.Command { return reserve(1) }, nil, false},
		"a settlement of no one": {func(domain.Reserve) domain.Command { return settle(reserve(1), 1) }, domain.ErrReservationUnknown, false},
		"a budget of no one":     {func(domain.Reserve) domain.Command { return domain.RetireBudget{ID: "none", Actor: "admin"} }, domain.ErrBudgetUnknown, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, g := newGateway(t)
			g.begin(100)
			held := reserve(60)
			g.do(held)
			refused := g.submit(reserve(90))
			g.turns()
			g.answered(refused, domain.ErrBudgetExceeded)
			g.do(reserve(1)) // out of the locked path
			p := g.submit(c.command(held))
			g.turns()
			g.answered(p, c.fails)
			if err := g.Refused("t", 90); (err == nil) != c.forgets {
				t.Errorf("then an estimate as large is refused early: %v", err)
			}
		})
	}
}

func TestADecisionThatFailsInItselfHarmsNoOther(t *testing.T) {
	t.Parallel()
	for name, locked := range map[string]bool{"on the fast lane": false, "under the lock": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, g := newGateway(t)
			g.begin(1000)
			g.do(reserve(1))
			g.execute = func(s domain.State, c domain.Command, at time.Time) (domain.State, []domain.Recorded, error) {
				if r, ok := c.(domain.Reserve); ok && r.Amount == 13 {
					panic("unlucky")
				}
				return domain.Execute(s, c, at)
			}
			before, bad, after := g.submit(reserve(1)), g.submit(reserve(13)), g.submit(reserve(2))
			if locked {
				g.answered(g.submitAndTurn(budget("day")), nil)
			} else {
				g.turns()
			}
			g.answered(before, nil)
			g.answered(bad, lanes.ErrUndecidable)
			g.answered(after, nil)
			if g.Waiting() != 0 {
				t.Errorf("%d wait", g.Waiting())
			}
			state, _ := g.Warm("t")
			if len(state.Open) != 3 {
				t.Errorf("%d are held", len(state.Open))
			}
			if g.do(reserve(1)) {
				t.Error("the tenant stays under the lock")
			}
		})
	}
}

func (g *gateway) submitAndTurn(c domain.Command) lanes.Pending {
	g.t.Helper()
	p := g.submit(c)
	g.turns()
	return p
}

func TestARaiseThatEndsLowersItsBudgetUnderTheLock(t *testing.T) {
	t.Parallel()
	_, g := newGateway(t)
	g.begin(100)
	g.do(domain.RaiseBudget{ID: "month", By: 50, Until: g.now.Add(time.Hour), Reason: "sale", Actor: "admin"})
	if g.do(reserve(1)) {
		t.Error("the first reservation is under the lock")
	}
	g.now = g.now.Add(time.Hour)
	p := g.submit(reserve(1))
	if turns := g.turns(); len(turns) != 1 || !turns[0].Locked || turns[0].Events != 2 {
		t.Errorf("%+v", turns)
	}
	g.answered(p, nil)
	if state, _ := g.Warm("t"); state.Budgets[0].Limit != 100 || g.Waiting() != 0 {
		t.Errorf("the limit is %d; %d wait", state.Budgets[0].Limit, g.Waiting())
	}
}

func TestOnlyRollingAccountsAreHandedOver(t *testing.T) {
	t.Parallel()
	w, g := newGateway(t)
	g.begin(100)
	g.do(domain.DefineBudget{
		ID: "hour", Period: domain.Rolling, Span: domain.Span{Duration: domain.Length(time.Hour)}, Limit: 100, Source: domain.SourceAdmin, Actor: "admin",
	})
	g.do(reserve(1)) // opens the month's window
	if len(w.accounts) != 1 || w.accounts[0].Budget != "hour" {
		t.Errorf("%+v", w.accounts)
	}
}

func TestTheFastLaneTellsTheTimeOfTheDatabase(t *testing.T) {
	t.Parallel()
	w, g := newGateway(t)
	g.begin(1000)
	w.ahead = time.Second
	if g.do(reserve(1)) {
		t.Fatal("not the fast path")
	}
	g.now = g.now.Add(10 * time.Second)
	p := g.submit(reserve(1))
	g.turns()
	if records, _, err := p.Poll(); err != nil || records[0].Time.Before(g.now.Add(w.ahead)) {
		t.Errorf("the time is %v, %v", records, err)
	}
}

func TestOnlyACommitThatGotNoAnswerIsInDoubt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil   func(*wire)
		fences  int
		waits   bool // until it is tried again
		answers error
	}{
		"the commit got no answer":        {func(w *wire) { w.commit = errCut }, 1, false, nil},
		"the commit was denied":           {func(w *wire) { w.commit = lanes.ErrDenied }, 0, true, nil},
		"the commit was refused":          {func(w *wire) { w.commit = lanes.ErrRefusedByDatabase }, 0, false, lanes.ErrRefusedByDatabase},
		"the append before got no answer": {func(w *wire) { w.refuse = errCut }, 0, false, domain.ErrUnavailable},
		"the append before lost":          {func(w *wire) { w.lose = true }, 0, false, domain.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, g := newGateway(t)
			g.begin(1000)
			c.spoil(w)
			p := g.submit(budget("day"))
			g.StepLocked(t.Context())
			w.commit, w.refuse, w.lose = nil, nil, false
			g.turns()
			if w.fences != c.fences {
				t.Errorf("%d fences, want %d", w.fences, c.fences)
			}
			if c.waits {
				g.unanswered(p)
				g.ring()
				g.turns()
			}
			g.answered(p, c.answers)
			g.ring()
			g.do(domain.Age{}) // reads what there is
			if state, _ := g.Warm("t"); (state.Budgets[0].Limit == 100) != (c.answers == nil) {
				t.Errorf("the limit is %d", state.Budgets[0].Limit)
			}
		})
	}
}

func TestWhatIsRefusedForGoodIsTriedOnce(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, spoil := range map[string]func(*wire){
		"by a constraint":      func(w *wire) { w.refuse = lanes.ErrRefusedByDatabase },
		"because of tampering": func(w *wire) { w.refuse = lanes.ErrTampered },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, g := newGateway(t)
			g.begin(1000)
			spoil(w)
			for range 2 {
				p := g.submit(budget("day"))
				g.submit(reserve(1)).Abandon()
				if turns := g.turns(); len(turns) != 1 || len(g.waits) != 0 {
					t.Errorf("%+v, and waits of %v", turns, g.waits)
				}
				g.answered(p, lanes.ErrRefusedByDatabase)
				if g.Waiting() != 0 {
					t.Errorf("%d wait", g.Waiting())
				}
				if _, ok := g.Warm("t"); ok {
					t.Error("the state with what was refused is shown")
				}
			}
			w.refuse = lanes.ErrDenied
			p := g.submit(budget("day"))
			g.turns()
			w.refuse = nil
			g.ring()
			g.turns()
			g.answered(p, nil)
			if !slices.Equal(g.waits, []time.Duration{40 * ms}) {
				t.Errorf("it waited %v", g.waits)
			}
		})
	}
}

func TestAHeadThatIsNotTheOneThatIsKnownIsNotBuiltUpon(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		head  func(*lanes.Head)
		loads int64
		want  error
	}{
		"its hash is another": {func(h *lanes.Head) { h.Hash[7] ^= 1 }, 0, lanes.ErrTampered},
		"it went back":        {func(h *lanes.Head) { h.Version-- }, 1, nil}, // the load finds out: here, that nothing is wrong
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, g := newGateway(t)
			g.begin(1000)
			g.do(reserve(1))
			w.head = c.head
			before := w.loads.Load()
			p := g.submit(budget("day"))
			g.turns()
			g.answered(p, c.want)
			if n := w.loads.Load() - before; n != c.loads {
				t.Errorf("%d loads, want %d", n, c.loads)
			}
		})
	}
}

func TestWhatCannotBeRecalledIsWaitedFor(t *testing.T) {
	t.Parallel()
	w, g := newGateway(t)
	g.begin(1000)
	spent, presumed, unsent := reserve(10), reserve(10), reserve(10)
	spent.Idempotency, spent.Fingerprint = "once", "f"
	g.do(spent)
	g.do(settle(spent, 7))
	g.do(presumed)
	g.do(domain.SettlePresumed{Reservation: presumed.Reservation, Reason: "cut"})
	g.do(unsent)
	g.do(domain.SettlePresumed{Reservation: unsent.Reservation, Reason: "cut"})
	g.answered(g.submitAndTurn(domain.SettlePresumed{Reservation: presumed.Reservation, Reason: "cut"}), nil) // it is so already
	again := reserve(10)
	again.Idempotency, again.Fingerprint = "once", "f"
	for name, c := range map[string]struct {
		command domain.Command
		want    error
	}{
		"an idempotency key":    {again, domain.ErrIdempotencyCompleted},
		"a presumption":         {settle(presumed, 3), nil},
		"one that is disproved": {domain.Release{Reservation: unsent.Reservation, Reason: domain.ReleasedNotSent}, nil},
		"a closed reservation":  {domain.Adjust{Reservation: spent.Reservation, Delta: -1, Reason: "refund", Idempotency: "a", Actor: "admin"}, nil},
	} {
		t.Log(name)
		g.Ledger = lanes.New(w, lanes.Config{Now: func() time.Time { return g.now }, After: func(_ time.Duration, then func()) { g.timers = append(g.timers, then) }})
		w.recall = lanes.ErrDenied
		p := g.submit(c.command)
		g.turns()
		g.unanswered(p)
		w.recall = nil
		g.ring()
		g.turns()
		g.answered(p, c.want)
	}
}

func TestAReservationHasTheCanonicalIDOfAUUID(t *testing.T) {
	t.Parallel()
	_, g := newGateway(t)
	g.begin(1000)
	for _, id := range []domain.ReservationID{"", "no-uuid", "8E7AB8A5-0000-4000-8000-000000000000", "{8e7ab8a5-0000-4000-8000-000000000000}"} {
		r := reserve(1)
		r.Reservation = id
		p := g.submit(r)
		g.turns()
		g.answered(p, domain.ErrInvalid)
	}
	g.do(reserve(1))
}

func TestReservationsThatWereRefusedTogetherAreTriedAloneUnderTheLock(t *testing.T) {
	t.Parallel()
	w, all := newGateways(t, 2)
	all[0].begin(1000)
	g := all[1] // it does not know the tenant, so that its first turn is under the lock
	w.refuse = lanes.ErrRefusedByDatabase
	for range 3 {
		g.submit(reserve(1))
	}
	g.StepLocked(t.Context())
	w.refuse = nil
	turns := g.turns()
	if len(turns) != 3 || slices.ContainsFunc(turns, func(d lanes.Turned) bool { return !d.Locked }) {
		t.Errorf("%+v", turns)
	}
	if g.do(reserve(1)) {
		t.Error("the next one is under the lock too")
	}
}

func TestTheQueueOfATenantIsBoundedForWhatMayBeRefused(t *testing.T) {
	t.Parallel()
	_, g := newGateway(t)
	g.begin(1000)
	held := reserve(1)
	g.do(held)
	for range lanes.MaxQueue {
		g.submit(reserve(1))
	}
	if _, err := g.Submit("t", reserve(1)); !errors.Is(err, domain.ErrUnavailable) {
		t.Errorf("one too many: %v", err)
	}
	g.submit(settle(held, 1))
	if n := g.Waiting(); n != lanes.MaxQueue+1 {
		t.Errorf("%d wait", n)
	}
}

// tooLate is a context that ends when the answer has just come.
type tooLate struct {
	context.Context //nolint:containedctx // it is one
	answer          func()
}

// Done implements context.Context.
func (c tooLate) Done() <-chan struct{} {
	c.answer()
	return c.Context.Done()
}

func TestAnAnswerThatIsThereIsNotLeft(t *testing.T) {
	t.Parallel()
	_, g := newGateway(t)
	g.begin(1000)
	over, end := context.WithCancel(t.Context())
	end()
	for range 20 { // of two channels that are ready, select takes any
		records, err := g.Do(tooLate{over, func() { g.turns() }}, "t", reserve(1))
		if err != nil || len(records) == 0 {
			t.Fatalf("it was reserved, and the caller got %d events, %v", len(records), err)
		}
	}
}

func TestOnlyIdleTenantsAreForgotten(t *testing.T) {
	t.Parallel()
	const cached, idle, more = 10_000, 1_000, 50
	_, g := newGateway(t)
	nothing := domain.Expire{Reservation: domain.ReservationID(uuid.NewString())}
	add := func(i int) {
		if _, err := g.Submit(domain.TenantID(fmt.Sprint(i)), nothing); err != nil {
			t.Fatal(err)
		}
	}
	for i := range cached {
		add(i)
	}
	for range idle {
		g.StepLocked(t.Context())
	}
	kept := func() (n int) {
		for i := range idle {
			if _, ok := g.Warm(domain.TenantID(fmt.Sprint(i))); ok {
				n++
			}
		}
		return n
	}
	if kept() != idle {
		t.Fatalf("%d of %d are kept while there is room", kept(), idle)
	}
	if _, ok := g.Warm(domain.TenantID(fmt.Sprint(idle))); ok {
		t.Error("a tenant with work has a state to show")
	}
	for i := range more {
		add(cached + i)
	}
	if n := kept(); n == idle || n < idle-64*more {
		t.Errorf("%d of %d idle tenants are kept", n, idle)
	}
	for i := idle; i < cached; i++ { // who was forgotten would be scheduled once more
		add(i)
	}
	if _, locked := g.Due(); locked != cached-idle+more {
		t.Errorf("%d tenants are due, want %d", locked, cached-idle+more)
	}
}
