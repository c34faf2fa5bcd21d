package sim

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/budgetguard/budgetguard/domain"
)

// compare holds the tables against the model, for what an append touched.
func (m *model) compare(tenant domain.TenantID, t *modelTenant, records []domain.Recorded) {
	rows := m.world.db.tenants[tenant]
	if rows.version != int64(len(t.hashes)) || rows.hash != t.hash {
		m.world.fail("%s: the head is at version %d, the stream at %d", tenant, rows.version, len(t.hashes))
	}
	for _, r := range records {
		for _, p := range domain.Postings(r.Event) {
			m.compareAccount(tenant, p.Account, rows.accounts[p.Account], t.accounts[p.Account])
		}
		if e, ok := r.Event.(domain.WindowOpened); ok {
			m.compareAccount(tenant, e.Account, rows.accounts[e.Account], t.accounts[e.Account])
		}
		if id, ok := reservationOf(r.Event); ok {
			_, open := rows.holds[id]
			_, presumed := rows.presumed[id]
			if res := t.reservations[id]; res != nil && (open != (res.state == isOpen) || presumed != (res.state == isPresumed || res.state == isReleased)) {
				m.world.fail("%s: the rows of %s say open %t, presumed %t", tenant, id, open, presumed)
			}
		}
	}
}

func (m *model) compareAccount(tenant domain.TenantID, id domain.AccountID, row domain.Account, a *modelAccount) {
	if a == nil || row.Limit != a.limit || row.Held != a.held || row.Settled != a.settled || row.Presumed != a.presumed ||
		!slices.Equal(row.Crossed, a.told) || row.Oldest != a.oldest {
		m.world.fail("%s: the row of account %d is %+v, the events say %+v", tenant, id, row, a)
	}
}

// checkRest judges what must hold when everything is done.
func (w *world) checkRest() {
	for _, tenant := range w.db.names {
		t, rows := w.model.tenant(tenant), w.db.tenants[tenant]
		w.checkSums(tenant, t)
		w.checkProjections(tenant, t, rows)
		want := asText(t.state)
		if got := asText(rows.load()); got != want {
			w.fail("%s: the tables are not what the events amount to:\n got %s\nwant %s", tenant, got, want)
		}
		for _, g := range w.gateways {
			warm, ok := g.ledger.Warm(tenant)
			if ok && warm.Version == t.state.Version && asText(warm) != want {
				w.fail("%s: the state gateway %d keeps is not what the events amount to:\n got %s\nwant %s", tenant, g.number, asText(warm), want)
			}
		}
	}
	for _, c := range w.calls {
		w.checkCall(c)
	}
	w.calls = w.calls[:0]
}

// checkSums adds everything up anew. What a rolling account counts is judged at every posting.
func (w *world) checkSums(tenant domain.TenantID, t *modelTenant) {
	held, settled := map[domain.AccountID]domain.Amount{}, map[domain.AccountID]domain.Amount{}
	for _, res := range t.reservations {
		for _, id := range res.accounts {
			if res.state == isOpen {
				held[id] += res.amount
			}
			settled[id] += res.charged
		}
	}
	for id, a := range t.accounts {
		if a.held != held[id] || (a.length == 0 && a.settled != a.seed+settled[id]) {
			w.fail("%s: account %d has %s held and %s settled; its reservations have %s and %s", tenant, id, a.held, a.settled, held[id], a.seed+settled[id])
		}
	}
}

func (w *world) checkProjections(tenant domain.TenantID, t *modelTenant, rows *tables) {
	h := w.redis[tenant]
	for id, a := range rows.accounts {
		got := h.accounts[id]
		if got != (register{a.Version, a.Limit, a.Held, a.Settled, a.Presumed}) {
			w.fail("%s: the register of account %d is %+v, the row %+v", tenant, id, got, a)
		}
	}
	for v := range rows.version {
		if !w.stream.published[tenant][v+1] {
			w.fail("%s: version %d was never published", tenant, v+1)
			break
		}
	}
	if w.usage.charged[tenant] != t.charged || w.usage.rows[tenant] != t.rows || w.usage.cursors[tenant] != rows.version {
		w.fail("%s: the usage ledger has %d rows of %s at version %d; the events are %d of %s at %d", tenant,
			w.usage.rows[tenant], w.usage.charged[tenant], w.usage.cursors[tenant], t.rows, t.charged, rows.version)
	}
}

// checkCall compares what became of a request with what its caller and the provider know.
func (w *world) checkCall(c *call) {
	res := w.model.tenant(c.tenant).reservations[c.reservation]
	survived := c.gateway.life == c.life
	switch {
	case res == nil:
		if c.forwarded {
			w.fail("%s was forwarded and is in no stream", c.reservation)
		}
	case c.refused && survived && res.state != isReleased && (res.state != isSettled || res.charged != 0):
		w.fail("the caller of %s heard no, and it was neither left out nor given back", c.reservation)
	case c.adjusted: // an operator says what it cost
	case c.lied && res.gaveBack && res.state == isSettled && res.charged == 0:
		// The hold had expired when its provider said that it bills nothing: that is evidence, and final, also if the
		// gateway that brought it died before it heard of it.
	case (c.evidenced || c.invoiced) && (res.state != isSettled || res.charged != c.billed) && (res.state != isReleased || c.billed != 0):
		w.fail("%s was settled with %s and is charged %s", c.reservation, c.billed, res.charged)
	case c.forwarded && c.seen && survived && res.charged != c.billed:
		w.fail("the answer to %s was seen: the provider billed %s, the ledger charged %s", c.reservation, c.billed, res.charged)
	case c.released && res.charged != 0 && !c.invoiced:
		w.fail("%s was given back and is charged %s", c.reservation, res.charged)
	}
	delete(w.byID, c.reservation)
}

// asText is a state as it can be compared: nothing and an empty list are one.
func asText(s domain.State) string {
	s = s.Clone()
	s.ForgetClosed()
	s.Used = false // a load does not know
	// Attempts have keys that JSON cannot have.
	text := struct {
		domain.State

		Attempts []domain.Attempt
	}{State: s}
	for _, a := range s.Attempts {
		text.Attempts = append(text.Attempts, a)
	}
	slices.SortFunc(text.Attempts, func(a, b domain.Attempt) int { return cmp.Compare(a.Version, b.Version) })
	if len(s.Budgets) == 0 {
		s.Budgets = nil
	}
	for i := range s.Budgets {
		if len(s.Budgets[i].AlertsAt) == 0 {
			s.Budgets[i].AlertsAt = nil
		}
	}
	text.State = s
	whole, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(whole)
}
