package sim

import (
	"slices"
	"strconv"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// reap closes holds that nobody closed, like package projections does.
func (w *world) reap() {
	for {
		w.pause(time.Second)
		g := pick(w.rnd, w.gateways)
		if !g.up || w.down > w.elapsed {
			continue
		}
		now := w.Now()
		if w.bug == reapEarly {
			now = now.Add(15 * time.Second)
		}
		life := g.life
		for _, h := range w.db.overdue(now, 20) {
			if !g.up || g.life != life {
				break
			}
			e := domain.Expire{Reservation: h.id}
			p, err := g.ledger.Submit(h.tenant, e)
			if err != nil {
				break
			}
			var records []domain.Recorded
			var answered error
			done := w.Until(func() bool {
				if !g.up || g.life != life {
					return true
				}
				var done bool
				records, done, answered = p.Poll()
				return done
			}, 5*time.Second)
			if !done {
				p.Abandon()
			} else if g.up && g.life == life {
				w.checkAnswer(h.tenant, e, records, answered)
			}
		}
	}
}

// age lets idle tenants record what time alone has changed, like package projections does.
func (w *world) age() {
	for {
		w.pause(time.Second)
		if w.down > w.elapsed {
			continue
		}
		for _, tenant := range w.db.aging(w.Now()) {
			if g := pick(w.rnd, w.gateways); g.up {
				w.command(g, tenant, domain.Age{})
			}
		}
	}
}

// relay publishes what the outbox says and then deletes it. It may die in between.
func (w *world) relay() {
	for {
		w.pause(w.rnd.between(5*time.Millisecond, 50*time.Millisecond))
		w.suspend(never30Days(w.elapsed), func() bool { return len(w.db.outbox) > 0 && w.down <= w.elapsed })
		w.publishing = true
		w.db.relayOnce(w)
		w.publishing = false
	}
}

// relayOnce is one round.
func (d *Database) relayOnce(w *world) {
	rows := slices.Clone(d.outbox[:min(len(d.outbox), 20)])
	if w.bug == deleteBeforePublish {
		d.deleteOutbox(rows)
		w.travel()
	}
	for _, row := range rows {
		for _, r := range d.tenants[row.tenant].read(row.after, int(row.upto-row.after)) {
			w.stream.publish(r)
		}
		if w.rnd.chance(8) {
			w.travel()
		}
	}
	w.travel()
	d.deleteOutbox(rows)
}

// travel is the way of one message of a worker.
func (w *world) travel() { w.pause(w.rnd.between(100*time.Microsecond, 3*time.Millisecond)) }

func (d *Database) deleteOutbox(rows []outboxRow) {
	d.outbox = slices.DeleteFunc(d.outbox, func(o outboxRow) bool {
		return slices.ContainsFunc(rows, func(r outboxRow) bool { return r.id == o.id })
	})
}

// stream is what lies between the relay and the projectors. Each of them has a queue of its own.
type stream struct {
	world     *world
	published map[domain.TenantID]map[int64]bool
	queues    [2][]domain.Recorded
}

const (
	toCounters = iota
	toUsage
)

// publish drops, repeats and reorders.
func (s *stream) publish(r domain.Recorded) {
	w := s.world
	seen, ok := s.published[r.Tenant]
	if !ok {
		seen = map[int64]bool{}
		s.published[r.Tenant] = seen
	}
	seen[r.Version] = true
	for i := range s.queues {
		if w.rnd.chance(w.mood.dropEvery) {
			continue
		}
		q := append(s.queues[i], r)
		if w.rnd.chance(w.mood.repeatEvery) {
			q = append(q, r)
		}
		if n := len(q); n > 1 && w.rnd.chance(w.mood.reorderEvery) {
			j := w.rnd.below(n)
			q[j], q[n-1] = q[n-1], q[j]
		}
		s.queues[i] = q
	}
}

// take is the next few messages of a queue.
func (s *stream) take(queue int) []domain.Recorded {
	q := s.queues[queue]
	n := min(len(q), 1+s.world.rnd.below(10))
	s.queues[queue] = slices.Clone(q[n:])
	return q[:n]
}

// register is one account in Redis: the newest version wins.
type register struct {
	version                        int64
	limit, held, settled, presumed domain.Amount
}

// registers is one tenant's hash in Redis.
type registers struct {
	version  int64
	accounts map[domain.AccountID]register
}

// count is the projector of the registers.
func (w *world) count() {
	compared := w.elapsed
	for {
		w.wait(toCounters)
		for _, r := range w.stream.take(toCounters) {
			w.apply(r)
		}
		if w.elapsed-compared > time.Second && w.down < w.elapsed {
			compared = w.elapsed
			for _, tenant := range w.db.names {
				if h := w.redis[tenant]; h == nil || h.version < w.db.tenants[tenant].version {
					w.refill(tenant)
				}
			}
		}
	}
}

// wait is until a queue has something, or it is time to compare.
func (w *world) wait(queue int) {
	w.travel()
	if len(w.stream.queues[queue]) == 0 {
		w.Until(func() bool { return len(w.stream.queues[queue]) > 0 }, time.Second)
	}
}

// apply posts one event to its tenant's registers. A gap is filled from the database.
func (w *world) apply(r domain.Recorded) {
	h := w.redis[r.Tenant]
	if h == nil {
		h = &registers{accounts: map[domain.AccountID]register{}}
		w.redis[r.Tenant] = h
	}
	for _, p := range domain.Postings(r.Event) {
		old := h.accounts[p.Account]
		if newer := r.Version > old.version; newer || w.bug == olderWins {
			h.accounts[p.Account] = register{r.Version, p.Limit, p.Held, p.Settled, p.Presumed}
		}
		if now := h.accounts[p.Account].version; now < old.version {
			w.fail("%s: the register of account %d went back from version %d to %d", r.Tenant, p.Account, old.version, now)
		}
	}
	switch {
	case r.Version == h.version+1:
		h.version = r.Version
		if e, ok := r.Event.(domain.WindowOpened); ok && h.accounts[e.Account].version == 0 {
			h.accounts[e.Account] = register{r.Version, e.Limit, e.Held, e.Settled, e.Presumed}
		}
	case r.Version > h.version+1:
		w.refill(r.Tenant)
	}
}

// refill writes a tenant's registers from the tables, in one snapshot; what is newer stays.
func (w *world) refill(tenant domain.TenantID) {
	if w.down > w.elapsed {
		return // the comparison will come to it
	}
	t := w.db.tenants[tenant]
	h := w.redis[tenant]
	if h == nil {
		h = &registers{accounts: map[domain.AccountID]register{}}
		w.redis[tenant] = h
	}
	for id, a := range t.accounts {
		if a.Version > h.accounts[id].version {
			h.accounts[id] = register{a.Version, a.Limit, a.Held, a.Settled, a.Presumed}
		}
	}
	h.version = max(h.version, t.version)
}

// usageLedger is the projection in the database: rows and cursors move in one transaction.
type usageLedger struct {
	cursors map[domain.TenantID]int64
	charged map[domain.TenantID]domain.Amount
	rows    map[domain.TenantID]int
}

// project is the projector of the usage ledger: it takes from the stream only that tenants have moved.
func (w *world) project() {
	compared := w.elapsed
	for {
		w.wait(toUsage)
		for _, r := range w.stream.take(toUsage) {
			if w.bug == noDedupe {
				w.usage.add(r)
				w.usage.cursors[r.Tenant] = max(w.usage.cursors[r.Tenant], r.Version)
				continue
			}
			if r.Version > w.usage.cursors[r.Tenant] {
				w.usage.advance(w, r.Tenant)
			}
		}
		if w.elapsed-compared > time.Second {
			compared = w.elapsed
			for _, tenant := range w.db.names {
				w.usage.advance(w, tenant)
			}
		}
	}
}

// advance applies what is behind a tenant's cursor, in one transaction.
func (u *usageLedger) advance(w *world, tenant domain.TenantID) {
	if w.down > w.elapsed {
		return
	}
	for _, r := range w.db.tenants[tenant].read(u.cursors[tenant], 50) {
		u.add(r)
		u.cursors[tenant] = r.Version
	}
}

// add is the row of one event.
func (u *usageLedger) add(r domain.Recorded) {
	charged, row := chargeOf(r.Event)
	if row {
		u.rows[r.Tenant]++
		u.charged[r.Tenant] += charged
	}
}

// chargeOf is what an event charges, if it is one that does.
func chargeOf(e domain.Event) (domain.Amount, bool) {
	switch e := e.(type) { //nolint:gochecksumtype // the others charge nothing
	case domain.UsageSettled:
		return e.Charged, true
	case domain.ReservationExpired:
		return e.Charged, true
	case domain.UsageSettledLate:
		return e.Delta, true
	case domain.UsageAdjusted:
		return e.Delta, true
	}
	return 0, false
}

// command carries one out by a gateway that may die meanwhile, without waiting for the answer for ever. It
// says whether it was answered.
func (w *world) command(g *gateway, tenant domain.TenantID, c domain.Command) bool {
	life := g.life
	p, err := g.ledger.Submit(tenant, c)
	if err != nil {
		return false
	}
	var records []domain.Recorded
	var answered error
	done := false
	w.Until(func() bool {
		if !g.up || g.life != life {
			return true
		}
		records, done, answered = p.Poll()
		return done
	}, patience)
	if done {
		w.checkAnswer(tenant, c, records, answered)
	}
	return done && answered == nil
}

// harm is chaos: something breaks now and then.
func (w *world) harm() {
	for {
		w.pause(w.rnd.between(time.Millisecond, w.mood.harmEvery))
		if w.quiet {
			w.suspend(never30Days(w.elapsed), func() bool { return !w.quiet })
			continue
		}
		g := pick(w.rnd, w.gateways)
		switch w.rnd.below(11) {
		case 0, 1:
			if g.up {
				g.crash()
				w.pause(w.rnd.between(0, 3*time.Second))
				g.start()
			}
		case 2:
			g.stalled = w.elapsed + w.rnd.between(time.Second, 45*time.Second)
			w.note("stall of g", strconv.Itoa(g.number))
		case 3:
			w.note("the database restarts")
			w.db.crash()
			w.down = w.elapsed + w.rnd.between(0, 4*time.Second)
		case 4:
			g.offset = w.rnd.between(0, 6*time.Second) - 3*time.Second
			w.note("the clock of g", strconv.Itoa(g.number), " is off by ", g.offset.String())
		case 5, 6, 7:
			w.jump()
		case 8:
			w.note("redis forgets")
			clear(w.redis)
		case 9:
			w.note("the stream is trimmed")
			clear(w.stream.queues[:])
		case 10:
			w.Until(func() bool { return w.publishing }, time.Second)
			w.pause(w.rnd.between(0, 4*time.Millisecond))
			w.note("the relay dies")
			w.kill(w.relaying)
			w.publishing = false
			w.relaying = w.spawn("relay", nil, w.relay)
		}
	}
}

// jump takes the time to just before an hour ends, or the day, or that of a week later.
func (w *world) jump() {
	now := w.Now()
	end := now.Truncate(time.Hour).Add(time.Hour)
	if w.rnd.chance(4) {
		end = now.Truncate(24 * time.Hour).Add(24 * time.Hour)
	}
	if w.rnd.chance(12) { // idempotency keys are new again, and months end
		end = end.Add(7 * 24 * time.Hour)
	}
	before := time.Duration(w.rnd.below(3000)) * time.Microsecond
	if w.rnd.chance(2) {
		before = time.Duration(w.rnd.below(70)) * time.Microsecond
		w.frozen = 50 // so that somebody decides right there
	}
	if to := end.Add(-before); to.After(now) {
		w.note("jump to ", to.Format(time.RFC3339Nano))
		w.elapsed += to.Sub(now)
	}
}
