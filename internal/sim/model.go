package sim

import (
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
	zone         domain.Zone
	hashes       []lanes.Hash // by version - 1
	budgets      map[domain.BudgetID]*modelBudget
	accounts     map[domain.AccountID]*modelAccount
	newest       map[domain.BudgetID]domain.AccountID
	fresh        *modelBudget // just defined, by the event before
	reservations map[domain.ReservationID]*modelReservation
	suspended    map[domain.KeyID]bool // keys, and whether they are
	attempts     map[string]*modelReservation
	adjusted     map[string]time.Time // by idempotency key
	adjustments  []entry              // those of no reservation
	charged      domain.Amount        // by all rows of the usage ledger
	rows         int
	state        domain.State // the fold that production makes
}

type modelReservation struct {
	state           lifeState
	request         domain.Request
	version         int64
	amount, charged domain.Amount
	adjusted        domain.Amount // by adjustments
	gaveBack        bool          // its idempotency key: an adjustment does not take it again, evidence does
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
			hash: lanes.Genesis(id), budgets: map[domain.BudgetID]*modelBudget{}, accounts: map[domain.AccountID]*modelAccount{},
			newest: map[domain.BudgetID]domain.AccountID{}, reservations: map[domain.ReservationID]*modelReservation{},
			suspended: map[domain.KeyID]bool{}, attempts: map[string]*modelReservation{}, adjusted: map[string]time.Time{},
			state: domain.NewState(id),
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

// hasKey tells whether a key was issued.
func (t *modelTenant) hasKey(id domain.KeyID) bool {
	_, issued := t.suspended[id]
	return issued
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
		if id, ok := reservationOf(r.Event); ok {
			w.note(string(id))
		}
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
	m.unseeded(t)
	m.judgeTold(t, records)
	m.compare(tenant, t, records)
}

// judge folds one event and says what is wrong with it.
func (m *model) judge(t *modelTenant, r domain.Recorded) {
	if _, opens := r.Event.(domain.WindowOpened); !opens {
		m.unseeded(t)
	}
	switch e := r.Event.(type) {
	case domain.TenantCreated:
		t.zone = e.Zone
	case domain.TenantChanged:
		t.zone = e.Zone
	case domain.APIKeyIssued:
		t.suspended[e.KeyID] = false
	case domain.APIKeySuspended:
		t.suspended[e.KeyID] = true
	case domain.APIKeyResumed:
		t.suspended[e.KeyID] = false
	case domain.BudgetDefined:
		m.defined(t, r, e)
	case domain.BudgetRetired:
		delete(t.budgets, e.Budget)
		delete(t.newest, e.Budget)
	case domain.BudgetChanged:
		m.changed(t, r, e)
	case domain.WindowOpened:
		m.opened(t, r, e)
	case domain.WindowSlid:
		m.slid(t, r, e)
	case domain.BudgetThresholdCrossed:
		m.crossed(t, r, e)
	default:
		m.judgeUse(t, r)
	}
	if charged, row := chargeOf(r.Event); row {
		t.charged += charged
		t.rows++
	}
}

// judgeUse folds the events of reservations.
func (m *model) judgeUse(t *modelTenant, r domain.Recorded) {
	stats := &m.world.stats
	switch e := r.Event.(type) { //nolint:gochecksumtype // the others are none of a reservation
	case domain.UsageReserved:
		m.reserved(t, r, e)
	case domain.ReservationExtended:
		m.extended(t, r, e)
	case domain.UsageSettled:
		if e.Overrun > 0 {
			stats.Overruns++
		}
		m.closed(t, r, e.Reservation, ending{charged: e.Charged, presumed: e.Basis == domain.BasisPresumed, more: e.Charged > e.Reserved}, e.Postings)
	case domain.ReservationReleased:
		stats.Released++
		if !proves(e.Reason) {
			m.world.fail("%s: %s was released for %q, which proves nothing", r.Tenant, e.Reservation, e.Reason)
		}
		m.closed(t, r, e.Reservation, ending{released: true, keyBack: true}, e.Postings)
	case domain.ReservationExpired:
		stats.Expired++
		if res := t.reservations[e.Reservation]; res != nil && r.Time.Before(res.expires) {
			m.world.fail("%s: %s expired before its time", r.Tenant, e.Reservation)
		}
		m.closed(t, r, e.Reservation, ending{charged: e.Charged, presumed: true}, e.Postings)
	case domain.UsageSettledLate:
		stats.Late++
		if res := t.reservations[e.Reservation]; res != nil && res.state == isReleased {
			stats.LateReleased++
		}
		m.closed(t, r, e.Reservation, ending{
			late: true, charged: e.Charged, presumed: e.Basis == domain.BasisPresumed, more: e.Delta > 0, keyBack: e.Charged == 0 && proves(e.Reason),
		}, e.Postings)
	case domain.UsageAdjusted:
		m.adjusted(t, r, e)
	}
}

// proves tells whether a reason to release, of those that are used here, leaves no doubt.
func proves(reason string) bool {
	return reason == domain.ReleasedNeverDispatched || reason == domain.ReleasedNotSent || reason == domain.ReleasedStatus+"400"
}

func (m *model) reserved(t *modelTenant, r domain.Recorded, e domain.UsageReserved) {
	w := m.world
	if t.reservations[e.Reservation] != nil {
		w.fail("%s: %s is reserved twice", r.Tenant, e.Reservation)
	}
	if e.KeyID != "" && t.suspended[e.KeyID] {
		w.fail("%s: version %d is reserved with the key %s, which is suspended", r.Tenant, r.Version, e.KeyID)
	}
	if want := t.applying(e.Request, r.Time); len(e.Postings) != want {
		w.fail("%s: version %d posts to %d budgets, and %d apply", r.Tenant, r.Version, len(e.Postings), want)
	}
	res := &modelReservation{request: e.Request, version: r.Version, amount: e.Amount, at: r.Time, expires: e.ExpiresAt}
	for _, p := range e.Postings {
		res.accounts = append(res.accounts, p.Account)
		a, b := t.accounts[p.Account], t.budgets[p.Budget]
		switch {
		case a == nil || a.budget != p.Budget || b == nil || t.newest[p.Budget] != p.Account:
			w.fail("%s: version %d posts to account %d, which is not there", r.Tenant, r.Version, p.Account)
			return
		case !b.applies(e.Request, r.Time):
			w.fail("%s: version %d posts to budget %s, which does not apply", r.Tenant, r.Version, p.Budget)
		case !a.window.Contains(r.Time):
			w.fail("%s: version %d at %s is reserved in the window %s to %s", r.Tenant, r.Version, r.Time, a.window.Start, a.window.End)
		case p.Forced || e.Amount > 0 && p.Held+p.Settled > a.limit:
			w.fail("%s: version %d reserves up to %s of %s", r.Tenant, r.Version, p.Held+p.Settled, a.limit)
		}
		m.inForce(t, r, p)
	}
	m.tried(t, r, res)
	t.reservations[e.Reservation] = res
	m.post(t, r, e.Postings, res.accounts, moved{held: e.Amount, at: r.Time})
}

// tried judges that an idempotency key stands for one request at a time.
func (m *model) tried(t *modelTenant, r domain.Recorded, res *modelReservation) {
	if res.request.Idempotency == "" {
		return
	}
	key := string(res.request.KeyID) + "/" + res.request.Idempotency
	before := t.attempts[key]
	if before != nil && !before.gaveBack && r.Time.Sub(before.at) <= domain.AttemptLife {
		m.world.fail("%s: version %d reserves for the idempotency key %s, which stands for %s already, reserved at %s under version %d", r.Tenant, r.Version, key, before.request.Reservation,
			before.at, before.version)
	}
	t.attempts[key] = res
}

func (m *model) extended(t *modelTenant, r domain.Recorded, e domain.ReservationExtended) {
	res := t.reservations[e.Reservation]
	if res == nil || res.state != isOpen || e.Amount != res.amount+e.Added || e.Added < 0 || e.ExpiresAt.Before(res.expires) {
		m.world.fail("%s: version %d extends %s by %s to %s", r.Tenant, r.Version, e.Reservation, e.Added, e.Amount)
		return
	}
	for _, p := range e.Postings {
		if a := t.accounts[p.Account]; a != nil && e.Added > 0 && (p.Forced || p.Held+p.Settled > a.limit) {
			m.world.fail("%s: version %d extends up to %s of %s", r.Tenant, r.Version, p.Held+p.Settled, a.limit)
		}
		if t.newest[p.Budget] == p.Account && t.accounts[p.Account].window.Contains(r.Time) {
			m.inForce(t, r, p)
		}
	}
	m.world.stats.Extended++
	res.amount, res.expires = e.Amount, e.ExpiresAt
	m.post(t, r, e.Postings, res.accounts, moved{held: e.Added, at: res.at})
}

// ending is how a reservation ends, or how that is corrected.
type ending struct {
	late, presumed, released bool
	keyBack                  bool // its idempotency key stands for it no more
	more                     bool // it may be forced
	charged                  domain.Amount
}

// closed judges an event that ends a reservation, or corrects how it ended.
func (m *model) closed(t *modelTenant, r domain.Recorded, id domain.ReservationID, end ending, postings []domain.Posting) {
	res := t.reservations[id]
	if res == nil || (res.state == isOpen) == end.late || (end.late && res.state == isSettled) {
		m.world.fail("%s: version %d is a %s of %s, which is not in the state for it", r.Tenant, r.Version, domain.TypeOf(r.Event), id)
		return
	}
	move := moved{settled: end.charged - res.charged, at: res.at, reason: end.more}
	if !end.late {
		move.held = -res.amount
	}
	if res.state == isPresumed {
		move.presumed -= res.charged
	}
	state := isSettled
	switch {
	case end.presumed:
		state = isPresumed
		move.presumed += end.charged
	case end.released:
		state = isReleased
	}
	if res.state == isReleased { // budgets that came later began without it
		res.accounts = t.living(res, postings)
	}
	m.post(t, r, postings, res.accounts, move)
	res.state, res.charged, res.gaveBack = state, end.charged, end.keyBack
	if c := m.world.byID[id]; c != nil {
		m.covered(c, res)
	}
}

// adjusted judges a correction by an operator.
func (m *model) adjusted(t *modelTenant, r domain.Recorded, e domain.UsageAdjusted) {
	m.world.stats.Adjusted++
	if before, twice := t.adjusted[e.Idempotency]; twice && r.Time.Sub(before) <= domain.AttemptLife {
		m.world.fail("%s: version %d adjusts for the idempotency key %s again", r.Tenant, r.Version, e.Idempotency)
	}
	t.adjusted[e.Idempotency] = r.Time
	move := moved{settled: e.Delta, at: r.Time, reason: e.Delta > 0}
	if e.Reservation == "" {
		t.adjustments = append(t.adjustments, entry{at: r.Time, settled: e.Delta})
		if want := t.applyingWholly(r.Time); len(e.Postings) != want {
			m.world.fail("%s: version %d adjusts in %d budgets, and %d are of the whole tenant", r.Tenant, r.Version, len(e.Postings), want)
		}
		m.post(t, r, e.Postings, nil, move)
		t.given(e)
		return
	}
	res := t.reservations[e.Reservation]
	if res == nil || res.state == isOpen || !e.ReservedAt.Equal(res.at) || e.Confirmed != (res.state != isSettled) {
		m.world.fail("%s: version %d adjusts %s, which is not in the state for it", r.Tenant, r.Version, e.Reservation)
		return
	}
	move.at = res.at
	if res.state == isPresumed {
		move.presumed = -res.charged
	}
	res.state = isSettled
	res.adjusted += e.Delta
	if c := m.world.byID[e.Reservation]; c != nil {
		c.adjusted = true
	}
	m.post(t, r, e.Postings, t.living(res, e.Postings), move)
	t.given(e)
}

// living are the accounts that something is posted to for a closed reservation. Of a budget that came later and is
// retired it matters to nobody whether it counts what was confirmed before.
func (t *modelTenant) living(res *modelReservation, postings []domain.Posting) []domain.AccountID {
	return slices.DeleteFunc(t.counting(res), func(id domain.AccountID) bool {
		_, live := t.budgets[t.accounts[id].budget]
		return !live && int64(id) > res.version && !slices.ContainsFunc(postings, func(p domain.Posting) bool { return p.Account == id })
	})
}

// given notes what an adjustment gave back: it can be spent once more.
func (t *modelTenant) given(e domain.UsageAdjusted) {
	for _, p := range e.Postings {
		if a := t.accounts[p.Account]; a != nil && e.Delta < 0 {
			a.givenBack -= e.Delta
		}
		if a := t.accounts[p.Account]; a != nil {
			a.seed += e.Delta
		}
	}
}

// counting are the accounts in which a closed reservation counts: its own, and those of budgets that came later.
func (t *modelTenant) counting(res *modelReservation) []domain.AccountID {
	accounts := slices.Clone(res.accounts)
	for _, id := range slices.Sorted(maps.Keys(t.budgets)) {
		account := t.newest[id]
		a := t.accounts[account]
		if a != nil && int64(account) > res.version && a.window.Contains(res.at) && t.budgets[id].scope.Matches(res.request) && !slices.Contains(accounts, account) {
			accounts = append(accounts, account)
		}
	}
	return accounts
}

// covered judges that what the provider billed is charged or held. An operator may decide otherwise, and a
// provider that says that it bills nothing is believed.
func (m *model) covered(c *call, res *modelReservation) {
	cover := res.charged
	if res.state == isOpen {
		cover = res.amount
	}
	if min(c.billed, c.amount) > cover && !c.lied && !c.adjusted {
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
	if c.lied {
		return
	}
	m.billedOnce(c, res)
	for _, id := range res.accounts {
		a := t.accounts[id]
		if a.length != 0 {
			continue // what is charged covers it, and that is judged at every posting
		}
		if a.billed += min(c.billed, c.amount); a.billed > a.highest+a.givenBack {
			m.world.fail("the provider billed %s in account %d of %s, whose limit was never above %s", a.billed, id, c.tenant, a.highest)
		}
	}
}

// billedOnce judges that one idempotency key is billed once.
func (m *model) billedOnce(c *call, res *modelReservation) {
	if c.idempotency == "" {
		return
	}
	key := string(c.tenant) + "/" + string(c.key) + "/" + c.idempotency
	if before := m.world.paid[key]; before != nil && res.at.Sub(before.at).Abs() <= domain.AttemptLife {
		m.world.fail("the provider billed %s and %s, which have one idempotency key, reserved at %s and %s",
			before.request.Reservation, c.reservation, before.at, res.at)
	}
	m.world.paid[key] = res
}
