package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// at makes an operation of a history that a test writes by hand.
func at(call, back int64, o operation) porcupine.Operation {
	return porcupine.Operation{Call: call, Return: back, Input: o}
}

// The check must be able to say no: each of these histories is one that a wrong ledger would leave behind.
func TestTheCheckFindsWhatIsNotLinearizable(t *testing.T) {
	t.Parallel()
	reserve := func(id string, amount domain.Amount) operation {
		return operation{kind: reserving, id: id, amount: amount}
	}
	refuse := func(amount domain.Amount) operation {
		return operation{kind: reserving, amount: amount, refused: true}
	}
	settle := func(id string, amount domain.Amount) operation {
		return operation{kind: closing, id: id, amount: amount}
	}
	read := func(held, settled domain.Amount) operation {
		return operation{kind: reading, held: held, settled: settled}
	}
	for name, c := range map[string]struct {
		history []porcupine.Operation
		want    porcupine.CheckResult
	}{
		"one after the other":            {[]porcupine.Operation{at(0, 1, reserve("a", 60)), at(2, 3, read(60, 0)), at(4, 5, settle("a", 20)), at(6, 7, read(0, 20))}, porcupine.Ok},
		"a read that is behind":          {[]porcupine.Operation{at(0, 1, reserve("a", 60)), at(2, 3, read(0, 0))}, porcupine.Illegal},
		"a read at the same time":        {[]porcupine.Operation{at(0, 3, reserve("a", 60)), at(1, 2, read(0, 0))}, porcupine.Ok},
		"two that do not fit together":   {[]porcupine.Operation{at(0, 9, reserve("a", 60)), at(0, 9, reserve("b", 60))}, porcupine.Illegal},
		"one of two that do not fit":     {[]porcupine.Operation{at(0, 9, reserve("a", 60)), at(0, 9, refuse(60))}, porcupine.Ok},
		"a refusal though there is room": {[]porcupine.Operation{at(0, 1, reserve("a", 30)), at(2, 3, refuse(60))}, porcupine.Illegal},
		"settled twice":                  {[]porcupine.Operation{at(0, 1, reserve("a", 60)), at(2, 3, settle("a", 20)), at(4, 5, settle("a", 20))}, porcupine.Illegal},
		"a hold that was lost":           {[]porcupine.Operation{at(0, 1, reserve("a", 60)), at(2, 3, reserve("b", 60)), at(4, 5, read(60, 0))}, porcupine.Illegal},
		"an outcome that comes late":     {[]porcupine.Operation{at(0, never, reserve("a", 60)), at(2, 3, read(0, 0)), at(4, 5, read(60, 0))}, porcupine.Ok},
		"an outcome that comes and goes": {[]porcupine.Operation{at(0, never, reserve("a", 60)), at(2, 3, read(60, 0)), at(4, 5, read(0, 0))}, porcupine.Illegal},
		"a charge that is corrected": {[]porcupine.Operation{
			at(0, 1, reserve("a", 60)), at(2, 3, operation{kind: closing, id: "a", amount: 60, corrected: true}), at(4, 5, read(0, 60)),
			at(4, never, operation{kind: correcting, id: "a", amount: -40}), at(6, 7, read(0, 20)),
		}, porcupine.Ok},
	} {
		if got := linearizable(100, c.history, time.Minute); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// threeLedgers are three gateways' worth of ledgers on one database, each behind a wire of its own.
type threeLedgers struct {
	t       *testing.T
	wires   *wires
	ledgers []*eventstore.Ledger
	stores  []*eventstore.Store
	direct  *eventstore.Store
	began   time.Time
}

const ledgerWire = "ledger-%d"

func openThree(t *testing.T) *threeLedgers {
	t.Helper()
	x := &threeLedgers{t: t, wires: newWires(), began: time.Now()}
	t.Cleanup(x.wires.close)
	address := testenv.Database(t)
	u, err := url.Parse(address)
	must(t, err)
	target := u.Host
	for i := range 3 {
		u.Host, err = x.wires.add(fmt.Sprintf(ledgerWire, i), target)
		must(t, err)
		l, err := eventstore.OpenLedger(t.Context(), eventstore.Config{URL: u.String(), Now: time.Now})
		must(t, err)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			must(t, l.Close(ctx))
		})
		s, err := eventstore.OpenStore(t.Context(), u.String())
		must(t, err)
		t.Cleanup(s.Close)
		x.ledgers, x.stores = append(x.ledgers, l), append(x.stores, s)
	}
	x.direct, err = eventstore.OpenStore(t.Context(), address)
	must(t, err)
	t.Cleanup(x.direct.Close)
	return x
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// history of one tenant. What had an unknown outcome is decided by the stream afterwards: whether, not when.
type history struct {
	x      *threeLedgers
	tenant domain.TenantID

	mu      sync.Mutex
	ops     []porcupine.Operation
	unknown map[domain.ReservationID]int64 // when it was asked for
}

func (x *threeLedgers) instant() int64 { return time.Since(x.began).Nanoseconds() }

func (h *history) note(call, back int64, o operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{Input: o, Call: call, Return: back})
}

// caller reserves and settles through changing ledgers, and reads in between.
func (h *history) caller(d *dice, rounds int) {
	for range rounds {
		h.read(oneOf(d, h.x.stores))
		id := domain.ReservationID(uuid.NewString())
		amount := domain.Amount(20 + d.below(60))
		sent := h.x.instant()
		err := h.do(oneOf(d, h.x.ledgers), domain.Reserve{
			Request: domain.Request{Reservation: id, Route: "/v1/chat/completions", Provider: "openai", Model: "gpt-4o", Gateway: "gw", Estimate: domain.Estimate{Basis: "test"}},
			Amount:  amount, TTL: time.Hour,
		})
		back := h.x.instant()
		switch {
		case errors.Is(err, domain.ErrBudgetExceeded):
			h.note(sent, back, operation{kind: reserving, amount: amount, refused: true})
			continue
		case errors.Is(err, domain.ErrUnavailable):
			h.mu.Lock()
			h.unknown[id] = sent
			h.mu.Unlock()
			continue
		case err != nil:
			h.x.t.Errorf("reserve: %v", err)
			return
		}
		h.note(sent, back, operation{kind: reserving, id: string(id), amount: amount})
		h.read(oneOf(d, h.x.stores))
		h.end(d, id, amount)
	}
}

// end settles, or releases one in three; an answer that does not come is a closing at any time later.
func (h *history) end(d *dice, id domain.ReservationID, amount domain.Amount) {
	charged := domain.Amount(d.below(int(amount)))
	var c domain.Command = domain.Settle{Reservation: id, Charged: charged, Basis: domain.BasisProvider, Usage: domain.Usage{Prompt: 1, Completion: 1}}
	if d.chance(33) {
		charged, c = 0, domain.Release{Reservation: id, Reason: "not_sent"}
	}
	sent := h.x.instant()
	err := h.do(oneOf(d, h.x.ledgers), c)
	back := h.x.instant()
	if err != nil {
		back = never
		if !errors.Is(err, domain.ErrUnavailable) {
			h.x.t.Errorf("%T: %v", c, err)
		}
	}
	h.note(sent, back, operation{kind: closing, id: string(id), amount: charged})
}

func (h *history) do(l *eventstore.Ledger, c domain.Command) error {
	ctx, cancel := context.WithTimeout(h.x.t.Context(), 3*time.Second)
	defer cancel()
	_, err := l.Do(ctx, h.tenant, c)
	return err
}

// read is a reading of the tables in one snapshot, as GET /admin/tenant/:id is. One that fails has seen nothing.
func (h *history) read(s *eventstore.Store) {
	ctx, cancel := context.WithTimeout(h.x.t.Context(), time.Second)
	defer cancel()
	sent := h.x.instant()
	state, err := s.State(ctx, h.tenant)
	if err != nil {
		return
	}
	b := state.Balances(time.Now())
	h.note(sent, h.x.instant(), operation{kind: reading, held: b[0].Held, settled: b[0].Settled})
}

// resolve adds those of unknown outcome that did happen, and what became of them.
func (h *history) resolve() {
	records, err := h.x.direct.Read(h.x.t.Context(), h.tenant, 0, 10_000)
	must(h.x.t, err)
	for _, r := range records {
		switch e := r.Event.(type) { //nolint:gochecksumtype // the others are no operation of the model
		case domain.UsageReserved:
			if sent, was := h.unknown[e.Reservation]; was {
				h.note(sent, never, operation{kind: reserving, id: string(e.Reservation), amount: e.Amount})
			}
		case domain.ReservationReleased:
			if sent, was := h.unknown[e.Reservation]; was {
				h.note(sent, never, operation{kind: closing, id: string(e.Reservation)})
			}
		}
	}
}

// hurtWires does one thing after the other to the wires until told to stop, and heals them.
func (x *threeLedgers) hurtWires(d *dice, stop <-chan struct{}) {
	for {
		name := fmt.Sprintf(ledgerWire, d.below(3))
		if d.chance(25) {
			x.wires.cut(name)
		} else if err := x.wires.hurt(name, oneOf(d, []func(*dice) toxic{latency, reset, slicer, silence, trickle})(d)); err != nil {
			x.t.Error(err)
		}
		timer := time.NewTimer(d.between(100*time.Millisecond, 700*time.Millisecond))
		select {
		case <-timer.C:
		case <-stop:
		}
		if err := x.wires.heal(context.WithoutCancel(x.t.Context()), name); err != nil {
			x.t.Error(err)
		}
		select {
		case <-stop:
			return
		default:
		}
	}
}

func TestThreeLedgersOnBadWiresAreLinearizable(t *testing.T) {
	t.Parallel()
	const tenants, callers, rounds, limit = 4, 3, 12, domain.Amount(150)
	x := openThree(t)
	d := &dice{state: 20261128}
	var histories []*history
	for i := range tenants {
		h := &history{x: x, tenant: domain.TenantID(fmt.Sprintf("linear-%d", i)), unknown: map[domain.ReservationID]int64{}}
		for _, c := range []domain.Command{
			domain.CreateTenant{Name: "ACME", Actor: "admin"},
			domain.DefineBudget{ID: "year", Period: domain.Yearly, Limit: limit, Source: domain.SourceAdmin, Actor: "admin"},
		} {
			_, err := x.ledgers[0].Do(t.Context(), h.tenant, c)
			must(t, err)
		}
		histories = append(histories, h)
	}
	stop := make(chan struct{})
	var hurting, calling sync.WaitGroup
	hurter := d.fork()
	hurting.Go(func() { x.hurtWires(hurter, stop) })
	for _, h := range histories {
		for range callers {
			caller := d.fork()
			calling.Go(func() { h.caller(caller, rounds) })
		}
	}
	calling.Wait()
	close(stop)
	hurting.Wait()
	for _, l := range x.ledgers { // what was still to be released is
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		must(t, l.Close(ctx))
		cancel()
	}
	for _, h := range histories {
		h.resolve()
		result := linearizable(limit, h.ops, 2*time.Minute)
		t.Logf("%s: %d operations, %d of unknown outcome: %s", h.tenant, len(h.ops), len(h.unknown), result)
		if result == porcupine.Illegal {
			t.Errorf("the history of %s is not linearizable:\n%s", h.tenant, describe(h.ops))
		}
	}
}

func TestAHistoryIsShownByItsTimes(t *testing.T) {
	t.Parallel()
	text := describe([]porcupine.Operation{
		at(5, never, operation{kind: closing, id: "a", amount: 1}), at(0, 1, operation{kind: reserving, id: "a", amount: 2}),
		at(6, 7, operation{kind: reading, held: 3, settled: 4}), at(8, 9, operation{kind: correcting, id: "a", amount: -1}),
	})
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) != 4 || !strings.Contains(lines[0], "reserve") || !strings.Contains(lines[1], "any time later") || !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "correct a by -0.000000001") }) {
		t.Errorf("shown as:\n%s", text)
	}
}
