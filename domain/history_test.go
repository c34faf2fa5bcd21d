package domain_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

// op is one random step: what to do, two choices of its details, and how far the clock moves before.
type op struct{ do, a, b, clock byte }

// history executes steps on a tenant and checks every law after each.
type history struct {
	state State
	now   time.Time
	log   []Recorded
	audit *audit
	ids   int
	trace []any // what was done and what came of it, for the report of a failure
}

func zoneNames() []string {
	return []string{"UTC", "Europe/Berlin", "America/Santiago", "Pacific/Apia", "Australia/Lord_Howe", "Asia/Gaza", "America/St_Johns"}
}

// newHistory begins shortly before clocks were or will be set somewhere.
func newHistory(start byte) *history {
	starts := []string{"2026-11-22T10:00", "2011-12-29T09:00", "2026-03-28T23:30", "2026-10-24T20:00", "2026-09-05T03:00", "2010-11-06T12:00", "2024-02-29T22:00"}
	return &history{state: NewState("acme"), now: at(starts[int(start)%len(starts)]), audit: newAudit()}
}

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
	h.tick(o.clock)
	c := h.command(o)
	h.trace = append(h.trace, h.now, c)
	if o.clock%4 == 0 {
		if err := h.decideTwice(c); err != nil {
			return err
		}
	}
	next, recorded, err := Execute(h.state, c, h.now)
	if err != nil {
		h.trace = append(h.trace, err)
		if recorded != nil || next.Version != h.audit.version {
			return errors.New("a refused command was recorded")
		}
		if err := h.audit.agrees(next); err != nil {
			return err
		}
		return h.justly(c, err)
	}
	for _, r := range recorded {
		h.trace = append(h.trace, r)
		if err := h.audit.see(r); err != nil {
			return err
		}
	}
	h.state, h.log = next, append(h.log, recorded...)
	return h.audit.agrees(h.state)
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
	if !errors.As(err, &exceeded) {
		for _, kind := range []error{
			ErrInvalid, ErrAmount, ErrTenantExists, ErrTenantSuspended, ErrKeyUnusable, ErrKeyUnknown, ErrBudgetUnknown, ErrReservationUnknown, ErrReservationExists,
		} {
			if errors.Is(err, kind) {
				return nil
			}
		}
		return fmt.Errorf("an error of no kind: %w", err)
	}
	reserve, ok := c.(Reserve)
	if !ok {
		return fmt.Errorf("%T exceeds a budget: %w", c, err)
	}
	room := exceeded.Limit - exceeded.Settled - exceeded.Held
	for _, b := range h.state.Balances(exceeded.At) {
		if b.Available() < room || (b.Budget.ID == exceeded.Budget && (b.Available() != room || b.Window != exceeded.Window)) {
			return fmt.Errorf("refused by %+v, but there is %+v", *exceeded, b)
		}
	}
	if room >= reserve.Amount || exceeded.Requested != reserve.Amount {
		return fmt.Errorf("refused %s although there is room for %s", reserve.Amount, room)
	}
	return nil
}

// refold tells whether the recorded events, as they are and as they are stored, amount to the state, and
// so do the rows that a store keeps beside them.
func (h *history) refold() error {
	folded, restored := NewState("acme"), NewState("acme")
	for _, r := range h.log {
		folded = Evolve(folded, r)
		body, err := EncodeEvent(r.Event)
		if err != nil {
			return err
		}
		if r.Event, err = DecodeEvent(TypeOf(r.Event), SchemaVersion, body); err != nil {
			return err
		}
		restored = Evolve(restored, r)
	}
	if !sameState(folded, h.state) {
		return fmt.Errorf("the events amount to\n%+v\nnot to\n%+v", folded, h.state)
	}
	if !sameState(restored, h.state) {
		return fmt.Errorf("the stored events amount to\n%+v\nnot to\n%+v", restored, h.state)
	}
	return h.restore()
}

// restore tells whether a state put together from storage, as a store does it, is the one that was folded.
func (h *history) restore() error {
	bare := h.state.Clone()
	for id := range h.state.Presumed {
		bare.ForgetPresumption(id)
	}
	restored := NewState("acme")
	restored.Version, restored.LastTime, restored.Name, restored.Zone = bare.Version, bare.LastTime, bare.Name, bare.Zone
	restored.RateLimit, restored.Suspended, restored.CreatedAt = bare.RateLimit, bare.Suspended, bare.CreatedAt
	restored.Keys, restored.Budgets = bare.Keys, bare.Budgets
	for _, r := range bare.Open {
		restored.AdoptReservation(r)
	}
	for _, a := range bare.Accounts {
		restored.AdoptAccount(*a)
	}
	if !sameState(restored, bare) {
		return fmt.Errorf("restored is\n%+v\nnot\n%+v", restored, bare)
	}
	for _, p := range h.state.Presumed {
		var accounts []Account
		for _, id := range p.Accounts {
			accounts = append(accounts, *h.state.Accounts[id])
		}
		restored.AdoptPresumption(p, accounts)
	}
	if !sameState(restored, h.state) {
		return fmt.Errorf("restored with presumptions is\n%+v\nnot\n%+v", restored, h.state)
	}
	return nil
}

// sameState compares zones by name, because their rules are the same and long.
func sameState(a, b State) bool {
	if a.Zone.String() != b.Zone.String() {
		return false
	}
	a.Zone, b.Zone = Zone{}, Zone{}
	return reflect.DeepEqual(a, b)
}

// clockChoices is the number of ways in which tick moves the clock.
const clockChoices = 15

// tick moves the clock: on, back, or close to the end of a window.
func (h *history) tick(choice byte) {
	steps := []time.Duration{
		0, time.Microsecond, time.Second, time.Minute, 15 * time.Minute, time.Hour, 24 * time.Hour, 31 * 24 * time.Hour, -time.Hour,
	}
	ends := []time.Duration{-time.Second, -65 * time.Microsecond, -64 * time.Microsecond, -time.Microsecond, 0, time.Microsecond}
	i := int(choice) % clockChoices
	if i < len(steps) {
		h.now = h.now.Add(steps[i])
		return
	}
	for _, b := range h.state.Balances(h.now) {
		if b.Budget.Period != Total {
			h.now = b.Window.End.Add(ends[i-len(steps)])
			return
		}
	}
}

// The kinds of steps; the usual ones have more than one number.
const (
	opReserve = 0 // to 5
	opSettle  = 6 // to 9
	opPresume = 10
	opRelease = 11
	opExpire  = 12 // and 13
	opDefine  = 14 // to 16
	opRetire  = 17
	opZone    = 18
	opSuspend = 19
	opResume  = 20
	opIssue   = 21
	opRevoke  = 22
	opLimit   = 23
	opsEnd    = 24
	opCreate  = 255
)

func (h *history) command(o op) Command {
	kind := o.do
	if kind != opCreate {
		kind %= opsEnd
	}
	switch {
	case kind < opSettle:
		return h.reserve(o)
	case kind < opPresume:
		return Settle{Reservation: h.pick(o.a), Charged: h.charge(o), Basis: []Basis{BasisProvider, BasisCounted, BasisPresumed}[int(o.clock)%3], Usage: Usage{Prompt: 7}}
	case kind == opPresume:
		return SettlePresumed{Reservation: h.pick(o.a), Reason: "cut"}
	case kind == opRelease:
		return Release{Reservation: h.pick(o.a), Reason: "never sent"}
	case kind < opDefine:
		return Expire{Reservation: h.pick(o.a), Free: o.b%4 == 0, Orphaned: o.b%4 == 1}
	case kind < opRetire:
		return h.define(o)
	}
	return h.administer(kind, o)
}

func (h *history) administer(kind byte, o op) Command {
	key := KeyID(fmt.Sprint("k", o.a%3))
	switch kind {
	case opRetire:
		if n := len(h.state.Budgets); n > 0 && o.b%2 == 0 {
			return RetireBudget{ID: h.state.Budgets[int(o.a)%n].ID, Actor: "admin"}
		}
		return RetireBudget{ID: "none", Actor: "admin"}
	case opZone:
		return moveTo(zoneNames()[int(o.a)%len(zoneNames())])
	case opSuspend:
		return SuspendTenant{Reason: "unpaid", Actor: "admin"}
	case opResume:
		return ResumeTenant{Actor: "admin"}
	case opIssue:
		c := issue(string(key))
		if o.b%2 == 0 {
			expires := h.now.Add(time.Duration(o.b) * time.Minute)
			c.ExpiresAt = &expires
		}
		return c
	case opRevoke:
		return RevokeKey{ID: key, Actor: "admin"}
	case opLimit:
		if o.b%2 == 0 {
			return All{Commands: []Command{h.define(o), h.define(op{a: o.a, b: o.b + 1, clock: 2}), RevokeKey{ID: key, Actor: "admin"}}[:1+int(o.b/2)%3]}
		}
		return SetRateLimit{PerMin: perMin(int64(o.a%3) - 1), Actor: "admin"}
	}
	return CreateTenant{Name: "ACME", Actor: "admin"}
}

func (h *history) reserve(o op) Command {
	h.ids++
	id := ReservationID(fmt.Sprint("r", h.ids))
	if o.a%16 == 0 && len(h.audit.holds) > 0 && h.audit.holds[len(h.audit.holds)-1].state != holdClosed {
		id = h.audit.holds[len(h.audit.holds)-1].id // again
	}
	room := usd("5")
	for _, b := range h.state.Balances(h.now) {
		room = min(room, b.Available())
	}
	amounts := []Amount{0, 1, room, room + 1, room - 1, room / 2, room / 3, usd("0.37"), usd("4"), MaxAmount}
	c := Reserve{
		Request: Request{Reservation: id, Route: "/v1/chat/completions", Model: "gpt-4", Gateway: "gw"},
		Amount:  amounts[int(o.b)%len(amounts)], TTL: 15 * time.Minute,
	}
	if o.a%8 == 1 {
		c.KeyID = KeyID(fmt.Sprint("k", o.b%3))
	}
	return c
}

// pick is usually an open or presumed reservation, sometimes any, sometimes none that ever was.
func (h *history) pick(choice byte) ReservationID {
	var live []ReservationID
	for _, r := range h.audit.holds {
		if r.state != holdClosed || choice%8 == 0 {
			live = append(live, r.id)
		}
	}
	if len(live) == 0 {
		return "none"
	}
	return live[int(choice)%len(live)]
}

func (h *history) charge(o op) Amount {
	held := Amount(1)
	if r := h.audit.find(h.pick(o.a)); r != nil {
		held = r.amount
	}
	charges := []Amount{0, 1, held, held / 2, held - 1, held + 1, min(3*(held/2), MaxAmount), usd("2"), MaxAmount, -1}
	return charges[int(o.b)%len(charges)]
}

func (h *history) define(o op) Command {
	h.ids++
	limits := []Amount{0, 1, usd("1"), usd("10"), usd("2.5"), usd("100"), MaxAmount, -1}
	periods := CalendarPeriods()
	return DefineBudget{
		ID: BudgetID(fmt.Sprint("b", h.ids%7, "-", h.ids)), Period: periods[int(o.a)%len(periods)], Limit: limits[int(o.b)%len(limits)],
		Source: []Source{SourceDemo, SourceEnvironment, SourceAdmin}[int(o.clock)%3], Actor: "admin",
	}
}
