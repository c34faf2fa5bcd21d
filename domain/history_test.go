package domain_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

// op is one random step: what to do, three choices of its details, and how far the clock moves before.
type op struct{ do, a, b, c, clock byte }

// history executes steps on a tenant and checks every law after each.
type history struct {
	state State
	lean  *leanStore // in some histories: what a store holds that forgets what is closed
	now   time.Time
	log   []Recorded
	audit *audit
	// buried are the accounts that left the state, and others, as they were last.
	buried map[AccountID]Account
	ids    int
	trace  []any // what was done and what came of it, for the report of a failure
}

func zoneNames() []string {
	return []string{"UTC", "Europe/Berlin", "America/Santiago", "Pacific/Apia", "Australia/Lord_Howe", "Asia/Gaza", "America/St_Johns"}
}

// newHistory begins shortly before clocks were or will be set somewhere.
func newHistory(start byte) *history {
	starts := []string{"2026-11-22T10:00", "2011-12-29T09:00", "2026-03-28T23:30", "2026-10-24T20:00", "2026-09-05T03:00", "2010-11-06T12:00", "2024-02-29T22:00"}
	h := &history{state: NewState("acme"), now: at(starts[int(start)%startChoices]), audit: newAudit(), buried: map[AccountID]Account{}}
	if int(start)/startChoices%2 == 1 {
		h.lean = &leanStore{state: NewState("acme")}
	}
	return h
}

// startChoices is the number of times a history can begin at; above them it has a lean store too.
const startChoices = 7

// run executes the steps and tells which law they broke.
func (h *history) run(steps []op) error {
	for _, step := range append([]op{{do: opCreate}}, steps...) {
		if err := h.step(step); err != nil {
			return h.told(err)
		}
	}
	return h.told(h.refold())
}

// told is an error with the history that led to it.
func (h *history) told(err error) error {
	if err == nil {
		return nil
	}
	var b strings.Builder
	for _, line := range h.trace {
		switch line := line.(type) {
		case Recorded:
			b.WriteString("\n\t  " + show(line.Version, line.Event))
		case time.Time:
			b.WriteString("\n\t" + line.Format(time.RFC3339Nano))
		case error:
			b.WriteString("\n\t  refused: " + line.Error())
		default:
			fmt.Fprintf(&b, " %T %+v", line, line)
		}
	}
	return fmt.Errorf("%w%s", err, b.String())
}

func (h *history) step(o op) error {
	h.tick(o)
	c := h.command(o)
	h.trace = append(h.trace, h.now, c)
	if o.clock%4 == 0 {
		if err := h.decideTwice(c); err != nil {
			return err
		}
	}
	h.bring(c)
	var forgetful []Recorded
	var forgetfulErr error
	if h.lean != nil {
		forgetful, forgetfulErr = h.lean.decide(h, c)
	}
	next, recorded, err := executeKnowing(h.state, h.log, c, h.now)
	if h.lean != nil && (!reflect.DeepEqual(forgetful, recorded) || fmt.Sprint(forgetfulErr) != fmt.Sprint(err)) {
		return fmt.Errorf("a state that forgets decides\n%+v, %w\nnot\n%+v, %w", forgetful, forgetfulErr, recorded, err)
	}
	next.Closed = map[ReservationID]Reservation{}
	for id := range next.Accounts {
		if !h.keeps(next, id) {
			delete(next.Accounts, id)
		}
	}
	if err != nil {
		h.trace = append(h.trace, err)
		if recorded != nil || next.Version != h.audit.version {
			return errors.New("a refused command was recorded")
		}
		if err := h.audit.agrees(next); err != nil {
			return err
		}
		h.state = next
		return h.justly(c, err)
	}
	for _, r := range recorded {
		h.trace = append(h.trace, r)
	}
	h.state, h.log = next, append(h.log, recorded...)
	if err := h.audit.watch(recorded); err != nil {
		return err
	}
	h.bury(recorded)
	if err := h.audit.rolled(h.state, later(h.now, h.state.LastTime)); err != nil {
		return err
	}
	return h.audit.agrees(h.state)
}

// bring adopts the closed reservation that a command adjusts, as a store does.
func (h *history) bring(c Command) {
	adjust, ok := c.(Adjust)
	if !ok {
		return
	}
	if r := h.audit.find(adjust.Reservation); r != nil && r.state == holdClosed {
		h.state.AdoptClosed(r.reservation(), h.rows(h.state, r.accounts))
	}
}

// reservation is a hold as a store would bring it.
func (r *hold) reservation() Reservation {
	return Reservation{Request: r.Request, Amount: r.amount, At: r.at, Accounts: r.accounts, ExpiresAt: r.expires}
}

// keeps tells whether an account is there for more than a closed reservation. ForgetClosed does this, but
// drops the presumptions as well.
func (h *history) keeps(s State, id AccountID) bool {
	if s.Current[s.Accounts[id].Budget] == id {
		return true
	}
	return slices.ContainsFunc(h.audit.holds, func(r *hold) bool {
		_, open := s.Open[r.Reservation]
		p, presumed := s.Presumed[r.Reservation]
		return (open && slices.Contains(s.Open[r.Reservation].Accounts, id)) || (presumed && slices.Contains(p.Accounts, id))
	})
}

// bury remembers the accounts that events touched: those that have left the state are what the events say.
func (h *history) bury(recorded []Recorded) {
	for _, r := range recorded {
		for _, p := range Postings(r.Event) {
			if a := h.state.Accounts[p.Account]; a != nil {
				h.buried[p.Account] = *a
				continue
			}
			a := h.buried[p.Account]
			want := h.audit.accounts[p.Account]
			a.Held, a.Settled, a.Presumed, a.Limit, a.Version = p.Held, p.Settled, p.Presumed, p.Limit, r.Version
			a.Cap, a.Buckets = max(a.Limit, a.Use()), nil
			if want.length != 0 {
				a.Buckets = h.audit.parts(want)
			}
			h.buried[p.Account] = a
		}
		switch e := r.Event.(type) { //nolint:gochecksumtype // the others change no account but by postings
		case WindowOpened:
			if a := h.state.Accounts[e.Account]; a != nil {
				h.buried[e.Account] = *a
			}
		case BudgetThresholdCrossed:
			a := h.buried[e.Account]
			a.Crossed = append(slices.Clip(a.Crossed), e.Threshold)
			if live := h.state.Accounts[e.Account]; live != nil {
				a.Crossed = live.Crossed
			}
			h.buried[e.Account] = a
		}
	}
}

// rows are accounts as a store would bring them.
func (h *history) rows(s State, ids []AccountID) []Account {
	rows := make([]Account, 0, len(ids))
	for _, id := range ids {
		if a := s.Accounts[id]; a != nil {
			rows = append(rows, *a)
		} else {
			rows = append(rows, h.buried[id])
		}
	}
	return rows
}

// decideTwice tells whether Decide changes the state it is given, or says something else the second time.
func (h *history) decideTwice(c Command) error {
	before := h.state.Clone()
	first, firstErr := Decide(h.state, c, h.now)
	if !sameState(h.state, before) {
		return errors.New("Decide changed the state")
	}
	second, secondErr := Decide(before, c, h.now)
	if !reflect.DeepEqual(first, second) || !reflect.DeepEqual(firstErr, secondErr) {
		return fmt.Errorf("Decide says %v, %w, then %v, %w", first, firstErr, second, secondErr)
	}
	return nil
}

// justly tells whether a refusal is one of the known kinds, and of the budget that has the least room.
func (h *history) justly(c Command, err error) error {
	var exceeded *BudgetExceededError
	var used *IdempotencyError
	switch {
	case errors.As(err, &exceeded):
		return h.justlyExceeded(c, exceeded)
	case errors.As(err, &used):
		return h.justlyUsed(c, used)
	}
	for _, kind := range []error{
		ErrInvalid, ErrAmount, ErrTenantExists, ErrTenantSuspended, ErrKeyUnusable, ErrKeyUnknown, ErrBudgetUnknown, ErrReservationUnknown, ErrReservationExists,
	} {
		if errors.Is(err, kind) {
			return nil
		}
	}
	return fmt.Errorf("an error of no kind: %w", err)
}

func (h *history) justlyExceeded(c Command, err *BudgetExceededError) error {
	room := err.Limit - err.Settled - err.Held
	asked := Amount(0)
	switch c := c.(type) {
	case Reserve:
		asked = c.Amount
		for _, b := range h.state.Balances(err.At) {
			if !matches(b.Budget.Scope, c.Request) {
				continue
			}
			if b.Available() < room || (b.Budget.ID == err.Budget && (b.Available() != room || b.Window.Start != err.Window.Start || err.Window.End.After(b.Window.End))) {
				return fmt.Errorf("refused by %+v, but there is %+v", *err, b)
			}
		}
	case Extend:
		asked = c.Add
	default:
		return fmt.Errorf("%T exceeds a budget: %w", c, err)
	}
	if _, reserves := c.(Reserve); room >= asked || err.Requested != asked || (reserves && !err.Window.End.After(err.At)) {
		return fmt.Errorf("refused %s although there is room for %s: %w", asked, room, err)
	}
	return nil
}

// justlyUsed tells whether an idempotency key was really used, lately, for what the refusal names.
func (h *history) justlyUsed(c Command, err *IdempotencyError) error {
	key, ok := AttemptKeyOf(c)
	if a := err.Attempt; !ok || a.AttemptKey != key || h.now.Sub(a.At) > AttemptLife {
		return fmt.Errorf("at %s %T with %+v is refused by %+v", h.now, c, key, a)
	}
	if adjust, ok := c.(Adjust); ok {
		for _, a := range h.audit.adjustments {
			same := a.Delta == adjust.Delta && a.Reservation == adjust.Reservation && a.Reason == adjust.Reason
			if a.version == err.Attempt.Version && a.Idempotency == adjust.Idempotency && same == errors.Is(err, ErrIdempotencyCompleted) && same != errors.Is(err, ErrIdempotencyMismatch) {
				return nil
			}
		}
		return fmt.Errorf("no adjustment is %+v", err.Attempt)
	}
	r := h.audit.find(err.Attempt.Reservation)
	if r == nil || r.Idempotency != key.Idempotency || r.KeyID != key.KeyID || r.key == "" {
		return fmt.Errorf("no reservation is %+v: %+v", err.Attempt, r)
	}
	switch same := c.(Reserve).Fingerprint == r.Fingerprint; {
	case !same && errors.Is(err, ErrIdempotencyMismatch):
	case same && r.key == AttemptHeld && errors.Is(err, ErrIdempotencyInProgress):
	case same && r.key != AttemptHeld && errors.Is(err, ErrIdempotencyCompleted):
	default:
		return fmt.Errorf("refused with %w, but there is %+v", err, r)
	}
	return nil
}

// refold tells whether the events as they are stored amount to the state, and so do the rows that a store keeps
// beside them.
func (h *history) refold() error {
	folded := NewState("acme")
	for _, r := range h.log {
		body, err := EncodeEvent(r.Event)
		if err != nil {
			return err
		}
		if r.Event, err = DecodeEvent(TypeOf(r.Event), SchemaVersion, body); err != nil {
			return err
		}
		folded = Evolve(folded, r)
	}
	if !sameState(folded, h.state) {
		return fmt.Errorf("the stored events amount to\n%+v\nnot to\n%+v", folded, h.state)
	}
	return h.restore()
}

// restore tells whether a state put together from storage, as a store does it, is the one that was folded.
func (h *history) restore() error {
	bare := h.state.Clone()
	bare.ForgetClosed()
	restored := NewState("acme")
	restored.Version, restored.LastTime, restored.Name, restored.Zone = bare.Version, bare.LastTime, bare.Name, bare.Zone
	restored.RateLimit, restored.Suspended, restored.CreatedAt = bare.RateLimit, bare.Suspended, bare.CreatedAt
	restored.Keys, restored.Budgets, restored.Used = bare.Keys, bare.Budgets, bare.Used
	for _, r := range bare.Open {
		restored.AdoptReservation(r)
	}
	for _, a := range bare.Accounts {
		restored.AdoptAccount(*a)
	}
	if !h.keysCameAgain() && !sameState(restored, bare) {
		return fmt.Errorf("restored is\n%+v\nnot\n%+v", restored, bare)
	}
	for _, p := range h.state.Presumed {
		restored.AdoptPresumption(p, h.rows(h.state, p.Accounts))
	}
	for _, a := range h.state.Attempts {
		restored.AdoptAttempt(a)
	}
	if !h.keysCameAgain() && !sameState(restored, h.state) {
		return fmt.Errorf("restored with presumptions is\n%+v\nnot\n%+v", restored, h.state)
	}
	return nil
}

// keysCameAgain tells whether a reservation is still open although its idempotency key is new again, since it
// was extended for a week: then the key may stand for that one, or for none.
func (h *history) keysCameAgain() bool {
	return slices.ContainsFunc(h.audit.holds, func(r *hold) bool { return r.state == holdOpen && r.Idempotency != "" && h.audit.later(r) })
}

// sameState compares zones by name, because their rules are the same and long.
func sameState(a, b State) bool {
	if a.Zone.String() != b.Zone.String() {
		return false
	}
	a.Zone, b.Zone = Zone{}, Zone{}
	return reflect.DeepEqual(a, b)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// leanStore decides the same commands on a state that forgets, after each, all that is closed: what a command
// needs of it is brought back as the contract says, and nothing else.
type leanStore struct{ state State }

// decide executes a command on the lean state and forgets what is closed.
func (l *leanStore) decide(h *history, c Command) ([]Recorded, error) {
	l.bring(h, c)
	var known []Past
	for {
		next, recorded, err := Execute(l.state, Informed{Command: c, Past: known}, h.now)
		var needed *PastNeededError
		if !errors.As(err, &needed) {
			l.state = next
			l.state.ForgetClosed()
			return recorded, err
		}
		l.bringPast(h, needed.Past)
		answer := needed.Past
		for _, r := range h.log {
			answer.Add(r)
		}
		known = append(known, answer)
	}
}

// bring adopts what a command names.
func (l *leanStore) bring(h *history, c Command) {
	var id ReservationID
	switch c := c.(type) { //nolint:gochecksumtype // the others name no reservation
	case Reserve:
		id = c.Reservation
	case Settle:
		id = c.Reservation
	case SettlePresumed:
		id = c.Reservation
	case Release:
		id = c.Reservation
	case Adjust:
		id = c.Reservation
		if r := h.audit.find(id); r != nil && r.state == holdClosed {
			l.state.AdoptClosed(r.reservation(), h.rows(l.state, r.accounts))
		}
	}
	if p, ok := h.state.Presumed[id]; ok {
		l.state.AdoptPresumption(p, h.rows(l.state, p.Accounts))
	}
	if key, ok := AttemptKeyOf(c); ok {
		if a, ok := h.state.Attempts[key]; ok {
			l.state.AdoptAttempt(a)
		}
	}
}

// bringPast adopts the presumptions that were reserved in a window.
func (l *leanStore) bringPast(h *history, past Past) {
	for _, p := range h.state.Presumed {
		if past.Window.Contains(p.At) {
			l.state.AdoptPresumption(p, h.rows(l.state, p.Accounts))
		}
	}
}
