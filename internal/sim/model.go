package sim

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

// model is an own, naive reading of the streams. It judges every event as it is committed.
type model struct {
	world   *world
	tenants map[domain.TenantID]*modelTenant
	events  int
}

type modelTenant struct {
	hash         lanes.Hash
	last         time.Time
	hashes       []lanes.Hash // by version - 1
	budgets      map[domain.BudgetID]domain.Amount
	accounts     map[domain.AccountID]*modelAccount
	newest       map[domain.BudgetID]domain.AccountID
	reservations map[domain.ReservationID]*modelReservation
	charged      domain.Amount // by all rows of the usage ledger
	rows         int
	state        domain.State // the fold that production makes
}

type modelAccount struct {
	budget                          domain.BudgetID
	window                          domain.Window
	limit, highest                  domain.Amount // highest: the limit was at most
	held, settled, presumed, billed domain.Amount
	seed                            domain.Amount // what was settled for good before the account was
}

type modelReservation struct {
	state           lifeState
	amount, charged domain.Amount
	at, expires     time.Time
	accounts        []domain.AccountID
}

type lifeState int

const (
	isOpen lifeState = iota
	isSettled
	isReleased
	isPresumed
)

func newModel(w *world) *model { return &model{world: w, tenants: map[domain.TenantID]*modelTenant{}} }

func (m *model) tenant(id domain.TenantID) *modelTenant {
	t, ok := m.tenants[id]
	if !ok {
		t = &modelTenant{
			hash: lanes.Genesis(id), budgets: map[domain.BudgetID]domain.Amount{}, accounts: map[domain.AccountID]*modelAccount{},
			newest: map[domain.BudgetID]domain.AccountID{}, reservations: map[domain.ReservationID]*modelReservation{}, state: domain.NewState(id),
		}
		m.tenants[id] = t
	}
	return t
}

// anyBudget is one of a tenant's budgets; "none" if it has none.
func (m *model) anyBudget(tenant domain.TenantID, rnd *random) domain.BudgetID {
	ids := slices.Sorted(maps.Keys(m.tenant(tenant).budgets))
	if len(ids) == 0 {
		return "none"
	}
	return pick(rnd, ids)
}

func (t *modelTenant) exists() bool { return len(t.hashes) > 0 }

// has tells whether a record is committed.
func (t *modelTenant) has(r domain.Recorded) bool {
	return r.Version >= 1 && r.Version <= int64(len(t.hashes)) && t.hashes[r.Version-1] == r.Hash
}

// commit judges what one transaction added to a tenant.
func (m *model) commit(tenant domain.TenantID, records []domain.Recorded, at time.Time) {
	w, t := m.world, m.tenant(tenant)
	for _, r := range records {
		m.events++
		w.note(string(tenant), " v", strconv.FormatInt(r.Version, 10), " ", string(domain.TypeOf(r.Event)))
		if r.Version != int64(len(t.hashes))+1 {
			w.fail("%s: version %d follows version %d", tenant, r.Version, len(t.hashes))
			return
		}
		if t.hash = lanes.Link(t.hash, r, domain.SchemaVersion); t.hash != r.Hash {
			w.fail("%s: the chain breaks at version %d", tenant, r.Version)
		}
		if !r.Time.After(t.last) || r.Time.After(at.Add(maxSkew)) {
			w.fail("%s: version %d has the time %s, the one before has %s, and it is %s", tenant, r.Version, r.Time, t.last, at)
		}
		t.last = r.Time
		t.hashes = append(t.hashes, r.Hash)
		m.judge(t, r)
		t.state = domain.Evolve(t.state, r)
		t.state.ForgetClosed()
	}
	m.compare(tenant, t, records)
}

// judge folds one event and says what is wrong with it.
func (m *model) judge(t *modelTenant, r domain.Recorded) {
	switch e := r.Event.(type) { //nolint:gochecksumtype // the others move no money
	case domain.BudgetDefined:
		t.budgets[e.Budget] = e.Limit
	case domain.BudgetRetired:
		delete(t.budgets, e.Budget)
		delete(t.newest, e.Budget)
	case domain.BudgetChanged:
		t.budgets[e.Budget] = e.Limit
		for _, p := range e.Postings {
			if a := t.accounts[p.Account]; a != nil {
				a.limit, a.highest = e.Limit, max(a.highest, e.Limit)
			}
		}
		m.post(t, r, e.Postings, nil, 0, 0, true) // the limit may end below the use
	case domain.WindowOpened:
		m.opened(t, r, e)
	case domain.UsageReserved:
		m.reserved(t, r, e)
	case domain.UsageSettled:
		m.closed(t, r, e.Reservation, isOpen, e.Charged, e.Postings, e.Charged > e.Reserved)
		state := isSettled
		if e.Basis == domain.BasisPresumed {
			state = isPresumed
		}
		if e.Overrun > 0 {
			m.world.stats.Overruns++
		}
		m.become(r, t, e.Reservation, state, e.Charged)
	case domain.ReservationReleased:
		m.world.stats.Released++
		m.closed(t, r, e.Reservation, isOpen, 0, e.Postings, false)
		m.become(r, t, e.Reservation, isReleased, 0)
	case domain.ReservationExpired:
		m.world.stats.Expired++
		if res := t.reservations[e.Reservation]; res != nil && r.Time.Before(res.expires) {
			m.world.fail("%s: %s expired before its time", r.Tenant, e.Reservation)
		}
		m.closed(t, r, e.Reservation, isOpen, e.Charged, e.Postings, false)
		m.become(r, t, e.Reservation, isPresumed, e.Charged)
	case domain.UsageSettledLate:
		m.world.stats.Late++
		m.closed(t, r, e.Reservation, isPresumed, e.Charged, e.Postings, e.Delta > 0)
		state := isSettled
		if e.Basis == domain.BasisPresumed {
			state = isPresumed
		}
		m.become(r, t, e.Reservation, state, e.Charged)
	}
	if charged, row := chargeOf(r.Event); row {
		t.charged += charged
		t.rows++
	}
}

func (m *model) opened(t *modelTenant, r domain.Recorded, e domain.WindowOpened) {
	window := domain.Window{Start: e.Start, End: e.End}
	limit, live := t.budgets[e.Budget]
	before := t.accounts[t.newest[e.Budget]]
	switch {
	case !live || limit != e.Limit || int64(e.Account) != r.Version || e.Held < 0 || e.Settled < 0:
		m.world.fail("%s: version %d opens a window that is none: %+v", r.Tenant, r.Version, e)
	case !window.Contains(r.Time):
		m.world.fail("%s: version %d at %s opens the window %s to %s", r.Tenant, r.Version, r.Time, e.Start, e.End)
	case before != nil && e.Start.Before(before.window.End) && before.window.Start.Before(e.End):
		m.world.fail("%s: version %d opens a window that overlaps the one before", r.Tenant, r.Version)
	}
	t.newest[e.Budget] = e.Account
	t.accounts[e.Account] = &modelAccount{budget: e.Budget, window: window, limit: e.Limit, highest: e.Limit, held: e.Held, settled: e.Settled, presumed: e.Presumed, seed: e.Settled}
	for _, id := range e.Adopted {
		if res := t.reservations[id]; res != nil {
			res.accounts = append(res.accounts, e.Account)
			t.accounts[e.Account].seed -= res.charged
		}
	}
}

func (m *model) reserved(t *modelTenant, r domain.Recorded, e domain.UsageReserved) {
	w := m.world
	if t.reservations[e.Reservation] != nil {
		w.fail("%s: %s is reserved twice", r.Tenant, e.Reservation)
	}
	if len(e.Postings) != len(t.budgets) {
		w.fail("%s: version %d posts to %d of %d budgets", r.Tenant, r.Version, len(e.Postings), len(t.budgets))
	}
	res := &modelReservation{amount: e.Amount, at: r.Time, expires: e.ExpiresAt}
	for _, p := range e.Postings {
		res.accounts = append(res.accounts, p.Account)
		a := t.accounts[p.Account]
		switch _, live := t.budgets[p.Budget]; {
		case a == nil || a.budget != p.Budget || !live:
			w.fail("%s: version %d posts to account %d, which is not there", r.Tenant, r.Version, p.Account)
			return
		case !a.window.Contains(r.Time):
			w.fail("%s: version %d at %s is reserved in the window %s to %s", r.Tenant, r.Version, r.Time, a.window.Start, a.window.End)
		case p.Forced || p.Held+p.Settled > a.limit:
			w.fail("%s: version %d reserves up to %s of %s", r.Tenant, r.Version, p.Held+p.Settled, a.limit)
		}
	}
	t.reservations[e.Reservation] = res
	m.post(t, r, e.Postings, res.accounts, e.Amount, 0, false)
}

// closed judges an event that ends a reservation, or corrects how it ended.
func (m *model) closed(t *modelTenant, r domain.Recorded, id domain.ReservationID, from lifeState, charged domain.Amount, postings []domain.Posting, more bool) {
	res := t.reservations[id]
	if res == nil || (res.state != from && (from != isPresumed || res.state != isReleased)) {
		m.world.fail("%s: version %d is a %s of %s, which is not in the state for it", r.Tenant, r.Version, domain.TypeOf(r.Event), id)
		return
	}
	held := -res.amount
	if from != isOpen {
		held = 0
	}
	m.post(t, r, postings, res.accounts, held, charged-res.charged, more)
}

// post judges an event's balances: the accounts of its reservation and no others, moved by its amounts, and
// never above the limit but by force, for which there must be a reason.
func (m *model) post(t *modelTenant, r domain.Recorded, postings []domain.Posting, accounts []domain.AccountID, held, settled domain.Amount, reason bool) {
	w := m.world
	if accounts != nil && len(accounts) != len(postings) {
		w.fail("%s: version %d posts to other accounts than its reservation", r.Tenant, r.Version)
		return
	}
	for i, p := range postings {
		a := t.accounts[p.Account]
		if a == nil || (accounts != nil && accounts[i] != p.Account) {
			w.fail("%s: version %d posts to account %d, which is not its reservation's", r.Tenant, r.Version, p.Account)
			return
		}
		use := p.Held + p.Settled
		switch {
		case p.Limit != a.limit || p.Held != a.held+held || p.Settled != a.settled+settled || p.Held < 0 || p.Presumed < 0 || p.Presumed > p.Settled:
			w.fail("%s: version %d posts %+v on %+v, moved by %s held and %s settled", r.Tenant, r.Version, p, *a, held, settled)
		case p.Forced && !reason:
			w.fail("%s: version %d is forced without a reason", r.Tenant, r.Version)
		case !p.Forced && use > max(a.limit, a.held+a.settled):
			w.fail("%s: version %d raises use to %s of %s", r.Tenant, r.Version, use, a.limit)
		}
		a.held, a.settled, a.presumed = p.Held, p.Settled, p.Presumed
	}
}

// become ends a reservation's state, and holds it against the provider's book.
func (m *model) become(r domain.Recorded, t *modelTenant, id domain.ReservationID, state lifeState, charged domain.Amount) {
	res := t.reservations[id]
	if res == nil {
		return
	}
	res.state, res.charged = state, charged
	if c := m.world.byID[id]; c != nil {
		m.covered(c, res)
	}
	_ = r
}

// covered judges that what the provider billed is charged or held.
func (m *model) covered(c *call, res *modelReservation) {
	cover := res.charged
	if res.state == isOpen {
		cover = res.amount
	}
	if min(c.billed, c.amount) > cover {
		m.world.fail("the provider billed %s for %s of %s, and %s is charged or held", c.billed, c.reservation, c.tenant, cover)
	}
}

// billed takes an entry of the provider's book.
func (m *model) billed(c *call) {
	t := m.tenant(c.tenant)
	res := t.reservations[c.reservation]
	if res == nil {
		m.world.fail("the provider billed %s, which was never reserved", c.reservation)
		return
	}
	m.covered(c, res)
	for _, id := range res.accounts {
		a := t.accounts[id]
		if a.billed += min(c.billed, c.amount); a.billed > a.highest {
			m.world.fail("the provider billed %s in account %d of %s, whose limit was never above %s", a.billed, id, c.tenant, a.highest)
		}
	}
}

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
	if a == nil || row.Limit != a.limit || row.Held != a.held || row.Settled != a.settled || row.Presumed != a.presumed {
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

// checkSums adds everything up anew.
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
		if a.held != held[id] || a.settled != a.seed+settled[id] {
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
	case c.evidenced && (res.state != isSettled || res.charged != c.billed):
		w.fail("%s was settled with %s and is charged %s", c.reservation, c.billed, res.charged)
	case c.forwarded && c.seen && survived && res.charged != c.billed:
		w.fail("the answer to %s was seen: the provider billed %s, the ledger charged %s", c.reservation, c.billed, res.charged)
	case c.released && res.charged != 0:
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
