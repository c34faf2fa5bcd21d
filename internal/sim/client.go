package sim

import (
	"errors"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	reservationTTL = 30 * time.Second
	// patience is how long a caller waits for a reservation.
	patience = 3 * time.Second
	// upstreamPatience is how long a gateway waits for the provider: less than the life of a hold.
	upstreamPatience = 10 * time.Second
)

// call is what the outside knows of one request: the oracle the ledger is held against.
type call struct {
	tenant      domain.TenantID
	reservation domain.ReservationID
	amount      domain.Amount // what may be spent: raised by extensions that were granted
	gateway     *gateway
	life        int

	key                      domain.KeyID
	model, team              string
	idempotency, fingerprint string

	refused   bool // its caller heard no, or left: it was not forwarded
	forwarded bool
	billed    domain.Amount
	finished  bool // the provider is done with it
	seen      bool // a gateway saw the whole answer
	evidenced bool // what it cost was settled, and that was answered
	released  bool
	invoiced  bool // late evidence is on its way
	lied      bool // the provider said that it bills nothing, and does
	adjusted  bool // an operator said what it cost
}

// work handles one request after the other.
func (g *gateway) work() {
	w := g.world
	for {
		w.pause(w.rnd.between(5*time.Millisecond, w.mood.think))
		if w.quiet {
			w.suspend(never30Days(w.elapsed), func() bool { return !w.quiet })
			continue
		}
		g.serveOne()
	}
}

// serveOne counts as under way while it lasts.
func (g *gateway) serveOne() {
	g.world.pending++
	defer func() { g.world.pending-- }()
	w := g.world
	c := g.anyCall()
	if c.idempotency == "" && g.ledger.Refused(c.tenant, c.amount) != nil {
		w.stats.RefusedEarly++
		return
	}
	if c.idempotency != "" {
		w.asked = append(w.asked, c)
		w.asked = w.asked[max(0, len(w.asked)-32):]
		for range w.rnd.below(3) { // a client that retries, whatever became of the first
			w.transient("retry", func() { w.retry(c) })
		}
	}
	g.serve(c)
}

// retry sends a request once more, through any gateway.
func (w *world) retry(of *call) {
	wait := w.rnd.between(time.Millisecond, time.Second)
	if w.rnd.chance(2) {
		wait = w.rnd.between(time.Second, 60*time.Second)
	}
	w.pause(wait)
	g := pick(w.rnd, w.gateways)
	if !g.up {
		return
	}
	g.spawn("retry", func() {
		w.pending++ // here, for one that is killed before it runs defers nothing
		defer func() { w.pending-- }()
		g.serve(g.again(of))
	})
}

// again is a retry of a request, which gets a reservation of its own. Some clients change the request and keep
// the key.
func (g *gateway) again(of *call) *call {
	c := &call{
		tenant: of.tenant, reservation: domain.ReservationID(g.world.rnd.id()), amount: of.amount, gateway: g, life: g.life,
		key: of.key, model: of.model, team: of.team, idempotency: of.idempotency, fingerprint: of.fingerprint,
	}
	if g.world.rnd.chance(10) {
		c.fingerprint = "another"
	}
	return c
}

// anyCall is a new request, or one whose key was used long ago.
func (g *gateway) anyCall() *call {
	w := g.world
	if len(w.asked) > 0 && w.rnd.chance(30) {
		return g.again(pick(w.rnd, w.asked))
	}
	c := &call{
		tenant: g.anyTenant(), reservation: domain.ReservationID(w.rnd.id()),
		amount: domain.Amount(w.rnd.below(w.mood.largest)), gateway: g, life: g.life,
		key: pick(w.rnd, []domain.KeyID{"", "a", "a", "b"}), model: pick(w.rnd, []string{"m", "m", "n"}), team: pick(w.rnd, []string{"", "x", "y"}),
	}
	if w.rnd.chance(4) {
		c.idempotency, c.fingerprint = "key-"+w.rnd.id()[:8], "f"
	}
	return c
}

// serve is the life of a request: reserve, forward, settle.
func (g *gateway) serve(c *call) {
	w := g.world
	w.calls = append(w.calls, c)
	w.byID[c.reservation] = c
	err := g.do(c.tenant, reserveOf(c), w.callersPatience())
	if w.bug == forwardBeforeCommit {
		err = nil
	}
	if err != nil {
		c.refused = true
		w.stats.Refused++
		return
	}
	w.stats.Granted++
	if w.rnd.chance(20) { // the client has gone, so nothing is forwarded
		g.release(c, domain.ReleasedNeverDispatched)
		return
	}
	if w.rnd.chance(8) {
		g.extend(c)
	}
	g.forward(c)
}

// extend asks for more than was reserved. A call that does not get it makes do with what it has.
func (g *gateway) extend(c *call) {
	w := g.world
	e := domain.Extend{Reservation: c.reservation, Add: domain.Amount(w.rnd.below(w.mood.largest)), TTL: reservationTTL}
	if w.rnd.chance(5) {
		e.Add = 0
	}
	if err := g.do(c.tenant, e, w.callersPatience()); err == nil {
		c.amount += e.Add
	}
}

func (g *gateway) anyTenant() domain.TenantID {
	w := g.world
	i := w.rnd.below(len(w.tenants))
	if w.mood.affinity && !w.rnd.chance(20) {
		i = g.number + i/len(w.gateways)*len(w.gateways)
	}
	return w.tenants[i%len(w.tenants)]
}

func reserveOf(c *call) domain.Reserve {
	r := domain.Reserve{
		Request: domain.Request{
			Reservation: c.reservation, Route: "/v1/chat/completions", Provider: "fake", Model: c.model, KeyID: c.key, Prices: "sim", Policy: "sim", Gateway: "g",
			Idempotency: c.idempotency, Fingerprint: c.fingerprint,
			Estimate: domain.Estimate{PromptTokens: 1, CompletionTokens: int64(c.amount), Basis: "sim"},
		},
		Amount: c.amount, TTL: reservationTTL,
	}
	if c.team != "" {
		r.Tags = map[string]string{"team": c.team}
	}
	return r
}

// callersPatience is short sometimes: a caller who leaves at the worst moment.
func (w *world) callersPatience() time.Duration {
	if w.rnd.chance(10) {
		return w.rnd.between(time.Millisecond, 20*time.Millisecond)
	}
	return patience
}

// forward asks the provider, and closes the reservation by what comes back.
func (g *gateway) forward(c *call) {
	w := g.world
	if w.rnd.chance(50) {
		w.pause(w.rnd.between(0, 45*time.Second)) // a process that stalls between its commit and its first byte
	}
	answer := w.provider.ask(c)
	done := w.Until(func() bool { return answer.came }, upstreamPatience)
	switch {
	case done && answer.refused: // a status that is never billed is proof
		g.release(c, domain.ReleasedStatus+"400")
	case done && answer.whole:
		c.seen = true
		g.settle(c)
	case w.bug == releaseUnknown:
		g.release(c, domain.ReleasedNotSent)
	case w.bug == forgetOnError:
	default: // cut, or it takes too long: it may be billed
		g.presume(c)
	}
}

func (g *gateway) release(c *call, reason string) {
	if err := g.do(c.tenant, domain.Release{Reservation: c.reservation, Reason: reason}, closingPatience); err == nil {
		c.released = true
	} else {
		g.world.checkClosing(c, err)
	}
}

func (g *gateway) presume(c *call) {
	w := g.world
	if err := g.do(c.tenant, domain.SettlePresumed{Reservation: c.reservation, Reason: "upstream_broken"}, closingPatience); err != nil {
		w.checkClosing(c, err)
	}
}

// closingPatience is as good as for ever: a settlement is carried out even when its caller left.
const closingPatience = time.Hour

// settle charges what the provider billed.
func (g *gateway) settle(c *call) {
	w := g.world
	s := domain.Settle{Reservation: c.reservation, Charged: c.billed, Basis: domain.BasisProvider, Usage: domain.Usage{Completion: int64(c.billed)}, Reason: "answered"}
	err := g.do(c.tenant, s, closingPatience)
	if err == nil {
		c.evidenced = true
		w.stats.Settled++
		return
	}
	w.checkClosing(c, err)
}

// checkClosing judges an error of the one who alone may close a reservation.
func (w *world) checkClosing(c *call, err error) {
	if errors.Is(err, domain.ErrReservationUnknown) && !c.invoiced && !c.released && !c.adjusted {
		w.fail("a reservation that nobody else closes is unknown: %s of %s: %w", c.reservation, c.tenant, err)
	}
}

// provider is the fake upstream. It bills whatever happens to those who asked.
type provider struct{ world *world }

// answer is what comes back of a request.
type answer struct {
	came, whole, refused bool
}

// ask begins a request. The provider goes on without anybody.
func (p *provider) ask(c *call) *answer {
	w := p.world
	w.checkForward(c)
	c.forwarded = true
	a := &answer{}
	if w.rnd.chance(20) {
		c.lied = w.mood.untruthful && w.rnd.chance(3)
		c.finished = !c.lied
		p.reply(a, func() {
			if a.refused = true; c.lied {
				w.bill(c, domain.Amount(w.rnd.below(int(c.amount)+1)))
			}
		})
		return a
	}
	cost := domain.Amount(w.rnd.below(int(c.amount) + 1))
	if w.mood.untruthful && w.rnd.chance(15) {
		cost = c.amount + domain.Amount(w.rnd.below(50))
	}
	cut := w.rnd.chance(8)
	p.reply(a, func() {
		w.bill(c, cost)
		a.whole = !cut
	})
	return a
}

// reply answers after a while, which is long sometimes.
func (p *provider) reply(a *answer, then func()) {
	w := p.world
	wait := w.rnd.between(10*time.Millisecond, 400*time.Millisecond)
	if w.rnd.chance(15) {
		wait = w.rnd.between(0, 50*time.Second)
	}
	w.transient("provider", func() {
		w.pause(wait)
		then()
		a.came = true
	})
}

// bill is the provider's own book.
func (w *world) bill(c *call, cost domain.Amount) {
	c.billed, c.finished = cost, true
	w.note("billed ", cost.String(), " for ", string(c.reservation))
	w.model.billed(c)
	if w.rnd.chance(3) || c.lied { // an invoice will come, once or twice
		for range 1 + w.rnd.below(2) {
			w.transient("invoice", func() { w.invoice(c) })
		}
	}
}

// invoice brings late evidence for a call, through any gateway.
func (w *world) invoice(c *call) {
	w.pause(w.rnd.between(time.Second, 90*time.Second))
	for {
		g := pick(w.rnd, w.gateways)
		if !g.up {
			w.pause(time.Second)
			continue
		}
		life := g.life
		c.invoiced = true
		s := domain.Settle{Reservation: c.reservation, Charged: c.billed, Basis: domain.BasisProvider, Reason: "invoice"}
		p, err := g.ledger.Submit(c.tenant, s)
		if err != nil {
			w.pause(time.Second)
			continue
		}
		var answered error
		w.Until(func() bool {
			if g.life != life || !g.up {
				return true
			}
			var done bool
			_, done, answered = p.Poll()
			return done
		}, closingPatience)
		if _, done, _ := p.Poll(); !done {
			continue // the gateway died
		}
		switch {
		case answered == nil:
			c.evidenced = true
		case errors.Is(answered, domain.ErrReservationUnknown): // settled by evidence already, or given back
		default:
			w.checkAnswer(c.tenant, s, nil, answered)
		}
		return
	}
}
