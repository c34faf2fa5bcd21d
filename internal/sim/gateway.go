package sim

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

const (
	workers     = 5 // requests a gateway handles at once
	lockedLanes = 2
)

// gateway is a process with real lanes and handlers of requests.
type gateway struct {
	world   *world
	number  int
	ledger  *lanes.Ledger
	life    int // how often it was started
	up      bool
	procs   []*proc
	stalled time.Duration // it does nothing until then
	offset  time.Duration // of its clock
}

// now is the gateway's own clock.
func (g *gateway) now() time.Time { return g.world.Now().Add(g.offset) }

// start begins a life of the gateway: with an empty cache, as after a crash.
func (g *gateway) start() {
	w := g.world
	g.life++
	g.up, g.stalled, g.procs = true, 0, nil
	life := g.life
	journal := &Journal{db: w.db, now: g.now, net: &wire{world: w, gateway: g}}
	g.ledger = lanes.New(w.bug.journal(w, journal), lanes.Config{
		Now: g.now, Execute: w.bug.execute(w), Turned: w.turned,
		After: func(wait time.Duration, then func()) {
			g.spawn("timer", func() {
				w.pause(wait)
				if g.life == life {
					then()
				}
			})
		},
	})
	ledger := g.ledger
	lane := func(step func(context.Context) bool, due func() bool) func() {
		return func() {
			for {
				if !step(context.Background()) {
					w.suspend(never30Days(w.elapsed), due)
				}
			}
		}
	}
	g.spawn("fast", lane(ledger.StepFast, func() bool { fast, _ := ledger.Due(); return fast > 0 }))
	for range lockedLanes {
		g.spawn("locked", lane(ledger.StepLocked, func() bool { _, locked := ledger.Due(); return locked > 0 }))
	}
	for range workers {
		g.spawn("worker", func() { g.work() })
	}
}

// never30Days is a time that does not come in a simulation by itself.
func never30Days(now time.Duration) time.Duration { return now + 30*24*time.Hour }

func (g *gateway) spawn(name string, body func()) {
	g.procs = append(g.procs, g.world.spawn("g"+strconv.Itoa(g.number)+"."+name, g, body))
}

// crash ends the process where it stands.
func (g *gateway) crash() {
	g.world.note("crash of g", strconv.Itoa(g.number))
	g.world.stats.Crashes++
	g.up = false
	for _, p := range g.procs {
		g.world.kill(p)
	}
	g.procs, g.ledger = nil, nil
}

// do carries out a command as proxy does: it waits for the answer, and leaves after patience.
func (g *gateway) do(tenant domain.TenantID, c domain.Command, patience time.Duration) error {
	p, err := g.ledger.Submit(tenant, c)
	if err != nil {
		return err
	}
	var records []domain.Recorded
	var answered error
	done := g.world.Until(func() bool {
		var yes bool
		records, yes, answered = p.Poll()
		return yes
	}, patience)
	if !done && p.Abandon() {
		return errLeft
	}
	if !done {
		records, _, answered = p.Poll()
	}
	g.world.checkAnswer(tenant, c, records, answered)
	return answered
}

// errLeft says that the caller did not wait for the answer.
var errLeft = errors.New("left")

// wire is the network between a gateway and the database, with the world's faults.
type wire struct {
	world   *world
	gateway *gateway
}

func (n *wire) travel() { n.world.pause(n.world.rnd.between(100*time.Microsecond, 2*time.Millisecond)) }

func (n *wire) fault(call string) fault {
	w := n.world
	if w.down > w.elapsed {
		w.note(call, ": no connection")
		return notSent
	}
	if !w.rnd.chance(w.mood.faultEvery) {
		return fine
	}
	f := fault(1 + w.rnd.below(int(tooLate)))
	w.note(call, ": ", f.String())
	return f
}

func (n *wire) later(what func()) {
	w := n.world
	wait := w.rnd.between(time.Millisecond, 20*time.Millisecond) // about when the fence comes
	switch w.rnd.below(4) {
	case 0:
		wait = w.rnd.between(time.Millisecond, clientTimeout)
	case 1:
		wait = w.rnd.between(time.Millisecond, 40*time.Second)
	}
	w.transient("late", func() {
		w.pause(wait)
		w.note("a late original arrives")
		what()
	})
}

// String names a fault in the trace.
func (f fault) String() string {
	return [...]string{"fine", "not sent", "denied", "lost", "answer lost", "too late"}[f]
}
