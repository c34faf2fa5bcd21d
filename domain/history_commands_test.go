package domain_test

import (
	"fmt"
	"slices"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

// clockChoices is the number of ways in which tick moves the clock.
const clockChoices = 18

// tick moves the clock: on, back, or close to an instant at which something changes by time alone.
func (h *history) tick(o op) {
	steps := []time.Duration{
		0, time.Microsecond, time.Second, 10 * time.Second, time.Minute, 15 * time.Minute, time.Hour, 24 * time.Hour, 8 * 24 * time.Hour, 31 * 24 * time.Hour, -time.Hour,
	}
	ends := []time.Duration{-time.Second, -1001 * time.Microsecond, -time.Millisecond, -time.Microsecond, 0, time.Microsecond, 0}
	i := int(o.clock) % clockChoices
	if i < len(steps) {
		h.now = h.now.Add(steps[i])
		return
	}
	if changes := h.changes(); len(changes) > 0 {
		h.now = changes[int(o.c)%len(changes)].Add(ends[i-len(steps)])
	}
}

// changes are the next instants at which windows begin and end, raises end, parts leave and holds are over.
func (h *history) changes() []time.Time {
	var found []time.Time
	add := func(t time.Time) {
		if t.After(h.now) && t.Before(h.now.AddDate(1, 0, 0)) {
			found = append(found, t)
		}
	}
	for _, b := range h.state.Balances(h.now) {
		add(b.Window.End)
	}
	for _, b := range h.state.Budgets {
		add(b.Window.Start)
		for _, r := range b.Raises {
			add(r.Until)
		}
		if a := h.state.Accounts[h.state.Current[b.ID]]; a != nil {
			add(a.SlidesAt())
		}
	}
	for _, r := range h.audit.holds {
		if r.state == holdOpen {
			add(r.expires)
		}
	}
	return found
}

// The kinds of steps; the usual ones have more than one number.
const (
	opReserve = 0 // to 9
	opSettle  = 10
	opPresume = 16
	opRelease = 17
	opExpire  = 19
	opExtend  = 21
	opAdjust  = 24
	opDefine  = 27
	opRaise   = 31
	opAge     = 33
	opRetire  = 34
	opZone    = 35
	opSuspend = 36
	opResume  = 37
	opIssue   = 38
	opKey     = 39
	opLimit   = 41
	opAll     = 42
	opLower   = 43
	opChange  = 44
	opsEnd    = 45
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
		return Settle{Reservation: h.pick(o.a), Charged: h.charge(o), Basis: []Basis{BasisProvider, BasisCounted, BasisPresumed}[int(o.c)%3], Usage: Usage{Prompt: 7}}
	case kind == opPresume:
		return SettlePresumed{Reservation: h.pick(o.a), Reason: "cut"}
	case kind < opExpire:
		return Release{Reservation: h.pick(o.a), Reason: []string{ReleasedNotSent, ReleasedNeverDispatched, ReleasedStatus + "429", "timeout"}[o.b%4]}
	case kind < opExtend:
		return Expire{Reservation: h.pick(o.a), Free: o.b%4 == 0, Orphaned: o.b%4 == 1}
	case kind < opAdjust:
		return h.extend(o)
	case kind < opDefine:
		return h.adjust(o)
	case kind < opRaise:
		return h.define(o)
	case kind < opAge:
		return h.raise(o)
	case kind == opAge:
		return Age{}
	}
	return h.administer(kind, o)
}

func (h *history) administer(kind byte, o op) Command {
	switch kind {
	case opRetire:
		return RetireBudget{ID: h.someBudget(o.a, o.b%2 == 0), Actor: "admin"}
	case opZone:
		return moveTo(zoneNames()[int(o.a)%len(zoneNames())])
	case opSuspend:
		if o.b%4 == 0 {
			return SuspendTenant{Reason: "unpaid", Actor: "admin"}
		}
		return ResumeTenant{Actor: "admin"}
	case opResume:
		return ResumeTenant{Actor: "admin"}
	case opIssue:
		c := issue(string(someKey(o.a)))
		if o.b%2 == 0 {
			expires := h.now.Add(time.Duration(o.b) * time.Hour)
			c.ExpiresAt = &expires
		}
		if o.c%4 == 0 {
			c.Tags = map[string]string{"team": "a"}
		}
		if o.c%8 == 1 {
			c.RequiredTags = []string{"team"}
		}
		return c
	case opLimit:
		return SetRateLimit{PerMin: perMin(int64(o.a%3) - 1), Actor: "admin"}
	case opAll:
		b := o
		b.a, b.b = o.a+1, o.b+1
		return All{Commands: []Command{h.define(o), h.define(b), RevokeKey{ID: someKey(o.c), Actor: "admin"}}[:1+int(o.c)%3]}
	case opLower:
		return EndRaises{ID: h.someBudget(o.a, o.b%8 != 0), Actor: "admin"}
	case opChange:
		return h.change(o)
	case opCreate:
		return CreateTenant{Name: "ACME", Actor: "admin"}
	}
	key := someKey(o.a)
	return []Command{
		RevokeKey{ID: key, Actor: "admin"},
		SuspendKey{ID: key, Reason: "leaked", Actor: "admin"},
		ResumeKey{ID: key, Actor: "admin"},
		ResumeKey{ID: key, Actor: "admin"},
		RotateKey{ID: key, Prefix: "bgk_", Hash: fmt.Sprint("hash ", o.c%4), Grace: time.Duration(int(o.b)-1) * time.Hour, Actor: "admin"},
	}[o.b%5]
}

func someKey(choice byte) KeyID { return KeyID(fmt.Sprint("k", choice%3)) }

// someBudget is one that there is, or none that ever was.
func (h *history) someBudget(choice byte, known bool) BudgetID {
	if n := len(h.state.Budgets); n > 0 && known {
		return h.state.Budgets[int(choice)%n].ID
	}
	return "none"
}

func (h *history) reserve(o op) Command {
	h.ids++
	r := Request{Reservation: ReservationID(fmt.Sprint("r", h.ids)), Route: "/v1/chat/completions", Model: "gpt-4", Gateway: "gw"}
	if n := len(h.audit.holds); o.a%16 == 0 && n > 0 && h.audit.holds[n-1].state != holdClosed {
		r.Reservation = h.audit.holds[n-1].Reservation // again
	}
	if o.a%4 == 3 {
		r.Model = "gpt-4o"
	}
	switch o.c % 4 {
	case 1:
		r.Tags = map[string]string{"team": "a"}
	case 2:
		r.Tags = map[string]string{"team": "b", "env": "prod"}
	}
	if o.a%8 == 1 || o.a%8 == 6 {
		r.KeyID = someKey(o.b)
	}
	if o.c%8 >= 4 {
		r.Idempotency, r.Fingerprint = fmt.Sprint("i", o.c/8%2), fmt.Sprint("f", o.c/32)
	}
	room := usd("5")
	for _, b := range h.state.Balances(h.now) {
		if matches(b.Budget.Scope, r) {
			room = min(room, b.Available())
		}
	}
	amounts := []Amount{0, 1, room, room + 1, room - 1, room / 2, room / 3, usd("0.37"), usd("4"), MaxAmount}
	ttl := 15 * time.Minute
	if o.c%3 == 2 {
		ttl = 24 * time.Hour
	}
	return Reserve{Request: r, Amount: amounts[int(o.b)%len(amounts)], TTL: ttl}
}

// pick is usually an open or presumed reservation, sometimes any, sometimes none that ever was.
func (h *history) pick(choice byte) ReservationID {
	var live []ReservationID
	for _, r := range h.audit.holds {
		if r.state != holdClosed || choice%8 == 0 {
			live = append(live, r.Reservation)
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

func (h *history) extend(o op) Command {
	room := usd("5")
	id := h.pick(o.a)
	if r := h.audit.find(id); r != nil {
		for _, b := range h.state.Balances(h.now) {
			if slices.Contains(r.accounts, b.Account) {
				room = min(room, b.Available())
			}
		}
	}
	adds := []Amount{0, 1, room, room + 1, room / 2, usd("0.2"), MaxAmount, -1}
	return Extend{Reservation: id, Add: adds[int(o.b)%len(adds)], TTL: []time.Duration{0, time.Minute, 24 * time.Hour, 24 * time.Hour, -1}[o.c%5]}
}

func (h *history) adjust(o op) Command {
	c := Adjust{Reason: "invoice", Idempotency: fmt.Sprint("j", o.c%4), Actor: "admin"}
	if o.c%16 >= 4 {
		h.ids++
		c.Idempotency = fmt.Sprint("j-", h.ids)
	}
	charged := usd("0.5")
	if o.a%3 > 0 && len(h.audit.holds) > 0 {
		r := h.audit.holds[int(o.a)%len(h.audit.holds)]
		c.Reservation, charged = r.Reservation, r.charged
	}
	deltas := []Amount{1, -1, usd("1"), charged, -charged, -charged / 2, -charged - 1, usd("-0.75"), -MaxAmount, 0}
	c.Delta = deltas[int(o.b)%len(deltas)]
	return c
}

func (h *history) raise(o op) Command {
	by := []Amount{usd("1"), usd("5"), 1, MaxAmount, 0}
	until := []time.Time{{}, {}, h.now.Add(time.Minute), h.now.Add(time.Hour), h.now.Add(24 * time.Hour), h.now.Add(-time.Second)}
	return RaiseBudget{ID: h.someBudget(o.a, o.a%8 != 0), By: by[int(o.b)%len(by)], Until: until[int(o.c)%len(until)], Reason: "more", Actor: "admin"}
}

// define is often a budget that there is already, so that it changes.
func (h *history) define(o op) Command {
	h.ids++
	limits := []Amount{0, 1, usd("1"), usd("10"), usd("2.5"), usd("100"), MaxAmount, -1}
	c := DefineBudget{
		ID: BudgetID(fmt.Sprint("b", h.ids%7, "-", h.ids)), Limit: limits[int(o.b)%len(limits)],
		Source: []Source{SourceDemo, SourceEnvironment, SourceAdmin, SourceAdmin}[o.c%4], Actor: "admin",
	}
	c.AlertsAt = [][]Threshold{nil, {500_000, 1_000_000}, {800_000}, {100_000, 100_000, 10_000_000}}[o.b/8%4]
	c.Scope = []Scope{{}, {}, {}, {Model: "gpt-4"}, {APIKey: "k0"}, {Tag: "team=a"}, {Tag: "team"}, {Tag: "env=prod"}}[o.c/4%8]
	periods := CalendarPeriods()
	switch i := int(o.a) % 16; {
	case i < len(periods):
		c.Period = periods[i]
		if c.Period == Weekly {
			c.Span.WeekStart = []Weekday{"", "sunday", "thursday"}[o.c%3]
		}
		if c.Period == Monthly {
			c.Span.AnchorDay = []int64{0, 1, 31, 29, 15}[o.c%5]
		}
	case i < 12:
		c.Period, c.Span.Duration = Rolling, Length([]time.Duration{time.Minute, time.Hour, 24 * time.Hour, 30 * 24 * time.Hour, 90 * time.Minute}[i-7])
	default:
		c.Period, c.Span.StartDate, c.Span.EndDate = Custom, h.date(o.b), h.date(o.b+o.c)
	}
	return c
}

// change names some parts of a budget; another day on which its weeks or months begin replaces it.
func (h *history) change(o op) Command {
	h.ids++
	c := ChangeBudget{ID: h.someBudget(o.a, o.b%8 != 0), NewID: BudgetID(fmt.Sprint("c", h.ids)), Actor: "admin"}
	if o.c%2 == 0 {
		c.Limit = new(usd([]string{"0", "1", "10"}[o.b%3]))
	}
	if o.c%4 == 1 {
		c.AlertsAt = &[]Threshold{500_000}
	}
	switch o.c / 4 % 4 {
	case 1:
		c.WeekStart = new([]Weekday{"sunday", "thursday"}[o.b%2])
	case 2:
		c.AnchorDay = new([]int64{0, 1, 15, 31}[o.b%4])
	}
	return c
}

// date is a day or an instant around now.
func (h *history) date(choice byte) string {
	day := h.now.AddDate(0, 0, int(choice/2%4)-1)
	if choice%2 == 0 {
		return day.Format(time.DateOnly)
	}
	return day.Truncate(time.Second).Add(time.Duration(choice%16) * 100 * time.Microsecond).Format(time.RFC3339Nano)
}
