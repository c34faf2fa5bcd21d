package sim

import (
	"slices"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// modelBudget is a budget as the events say it.
type modelBudget struct {
	domain.Budget

	scope  domain.Scope
	base   domain.Amount // the limit without raises
	raises []domain.Raise
	at     time.Time // defined
	tenant domain.TenantID
}

// modelAccount is a budget's window.
type modelAccount struct {
	budget                  domain.BudgetID
	window                  domain.Window
	limit, highest          domain.Amount // highest: the limit was at most
	held, settled, presumed domain.Amount
	billed, givenBack       domain.Amount
	seed                    domain.Amount // what is settled and of none of its reservations
	told                    []domain.Threshold
	rolling
}

// rolling is what a rolling account has besides.
type rolling struct {
	length  time.Duration
	oldest  int64 // bucket
	entries []entry
	slack   domain.Amount // what may be counted although its entries say otherwise
}

// entry is what was charged for a reservation made at a time.
type entry struct {
	at      time.Time
	settled domain.Amount
}

// moved is what an event should do to each account.
type moved struct {
	held, settled, presumed domain.Amount
	at                      time.Time // of the reservation
	reason                  bool      // it may be forced
}

// applies tells whether a request made at a time counts in the budget.
func (b *modelBudget) applies(of domain.Request, at time.Time) bool {
	return b.scope.Matches(of) && (b.Period != domain.Custom || b.Window.Contains(at))
}

// applying is how many budgets a request made at a time counts in.
func (t *modelTenant) applying(of domain.Request, at time.Time) int {
	n := 0
	for _, b := range t.budgets {
		if b.applies(of, at) {
			n++
		}
	}
	return n
}

// applyingWholly is how many of them are of the whole tenant.
func (t *modelTenant) applyingWholly(at time.Time) int {
	n := 0
	for _, b := range t.budgets {
		if b.scope == (domain.Scope{}) && b.applies(domain.Request{}, at) {
			n++
		}
	}
	return n
}

func (m *model) defined(t *modelTenant, r domain.Recorded, e domain.BudgetDefined) {
	for _, b := range t.budgets {
		if b.Period == e.Period && b.scope == e.Scope && b.Span.Duration == e.Duration && b.Window == (domain.Window{Start: e.Start, End: e.End}) {
			m.world.fail("%s: version %d defines a budget that there is", r.Tenant, r.Version)
		}
	}
	b := &modelBudget{
		Budget: domain.Budget{
			ID: e.Budget, Period: e.Period, Span: e.Span, Window: domain.Window{Start: e.Start, End: e.End}, Limit: e.Limit, AlertsAt: e.AlertsAt,
		},
		scope: e.Scope, base: e.Limit, at: r.Time, tenant: r.Tenant,
	}
	t.budgets[e.Budget], t.fresh = b, b
}

// changed judges that a limit is what it is without raises, and those that have not ended.
func (m *model) changed(t *modelTenant, r domain.Recorded, e domain.BudgetChanged) {
	b := t.budgets[e.Budget]
	if b == nil {
		m.world.fail("%s: version %d changes a budget that is not there", r.Tenant, r.Version)
		return
	}
	base := e.Limit
	for _, raise := range e.Raises {
		base -= raise.By
	}
	clock := e.Actor == "clock"
	switch {
	case e.OldLimit != b.Limit:
		m.world.fail("%s: version %d changes a limit of %s, which is %s", r.Tenant, r.Version, e.OldLimit, b.Limit)
	case clock && base != b.base:
		m.world.fail("%s: version %d ends raises and leaves a limit of %s, which was %s", r.Tenant, r.Version, base, b.base)
	}
	for _, raise := range b.raises {
		if kept := slices.Contains(e.Raises, raise); kept && !raise.Until.After(r.Time.Add(-sameTurn)) || !kept && raise.Until.After(r.Time) {
			m.world.fail("%s: version %d keeps %t the raise until %s", r.Tenant, r.Version, kept, raise.Until)
		}
	}
	if clock {
		m.world.stats.RaisesEnded++
	}
	b.Limit, b.base, b.raises, b.AlertsAt = e.Limit, base, e.Raises, e.AlertsAt
	for _, p := range e.Postings {
		if a := t.accounts[p.Account]; a != nil {
			a.limit, a.highest = e.Limit, max(a.highest, e.Limit)
		}
	}
	m.post(t, r, e.Postings, nil, moved{at: r.Time, reason: true}) // the limit may end below the use
}

// sameTurn is how long after its first event a decision may have recorded its last.
const sameTurn = time.Millisecond

// inForce judges that the limit of a posting is the one of its time: no raise in it has ended.
func (m *model) inForce(t *modelTenant, r domain.Recorded, p domain.Posting) {
	b := t.budgets[p.Budget]
	if b == nil {
		return
	}
	if p.Limit != b.Limit {
		m.world.fail("%s: version %d is held to a limit of %s, and budget %s has %s", r.Tenant, r.Version, p.Limit, b.ID, b.Limit)
	}
	for _, raise := range b.raises {
		if !raise.Until.After(r.Time.Add(-sameTurn)) {
			m.world.fail("%s: version %d at %s counts on a raise of budget %s until %s", r.Tenant, r.Version, r.Time, b.ID, raise.Until)
		}
	}
}

func (m *model) opened(t *modelTenant, r domain.Recorded, e domain.WindowOpened) {
	window := domain.Window{Start: e.Start, End: e.End}
	b, before := t.budgets[e.Budget], t.accounts[t.newest[e.Budget]]
	switch {
	case b == nil || b.Limit != e.Limit || int64(e.Account) != r.Version || time.Duration(e.Duration) != time.Duration(b.Span.Duration):
		m.world.fail("%s: version %d opens a window that is none: %+v", r.Tenant, r.Version, e)
		return
	case !window.Contains(r.Time):
		m.world.fail("%s: version %d at %s opens the window %s to %s", r.Tenant, r.Version, r.Time, e.Start, e.End)
	case before != nil && (e.Duration != 0 || (e.Start.Before(before.window.End) && before.window.Start.Before(e.End))):
		m.world.fail("%s: version %d opens a window that overlaps the one before", r.Tenant, r.Version)
	case t.fresh != b && (e.Held != 0 || e.Settled != 0 || e.Adopted != nil):
		m.world.fail("%s: version %d opens the next window with what it did not cost", r.Tenant, r.Version)
	}
	withBudget := t.fresh == b && window.Contains(b.at)
	if withBudget {
		t.fresh = nil
	}
	m.unseeded(t)
	if want := t.seed(b, window, nil); !withBudget && (want.Held != 0 || want.Settled != 0) {
		m.world.fail("%s: version %d opens a window of %s with nothing; it has %s held and %s settled", r.Tenant, r.Version, b.ID, want.Held, want.Settled)
	}
	a := &modelAccount{
		budget: e.Budget, window: window, limit: e.Limit, highest: max(e.Limit, e.Held+e.Settled),
		held: e.Held, settled: e.Settled, presumed: e.Presumed, seed: e.Settled, rolling: rolling{length: time.Duration(e.Duration)},
	}
	if a.length != 0 {
		a.oldest = a.bucketOf(e.Start)
	}
	t.newest[e.Budget], t.accounts[e.Account] = e.Account, a
	if withBudget {
		m.seeded(t, r, b, a)
	}
	for _, id := range e.Adopted {
		res := t.reservations[id]
		if res == nil || res.state == isSettled || !b.scope.Matches(res.request) {
			m.world.fail("%s: version %d adopts %s, which is not in the state for it", r.Tenant, r.Version, id)
			return
		}
		res.accounts = append(res.accounts, e.Account)
		a.seed -= res.charged
	}
}

// unseeded judges that a budget which was just defined, and whose window did not open, has cost nothing.
func (m *model) unseeded(t *modelTenant) {
	b := t.fresh
	t.fresh = nil
	if b == nil || t.budgets[b.ID] != b {
		return
	}
	if window, inside := b.WindowAt(b.at, t.zone.Location()); inside {
		if want := t.seed(b, window, nil); want.Held != 0 || want.Settled != 0 {
			m.world.fail("%s: budget %s is defined and counts nothing; its window from %s has %s held and %s settled",
				b.tenant, b.ID, window.Start, want.Held, want.Settled)
		}
	}
}

// seeded judges that a window which opens with its budget begins with what it has cost and held.
func (m *model) seeded(t *modelTenant, r domain.Recorded, b *modelBudget, a *modelAccount) {
	if a.length == 0 {
		if window, _ := b.WindowAt(b.at, t.zone.Location()); window != a.window {
			m.world.fail("%s: version %d opens the window %s to %s of budget %s; that of %s is %s to %s",
				r.Tenant, r.Version, a.window.Start, a.window.End, b.ID, b.at, window.Start, window.End)
		}
	} else if late := b.at.Add(-a.length).Sub(a.window.Start); late < 0 || late > 2*a.length/parts {
		m.world.fail("%s: version %d opens a rolling window from %s on at %s", r.Tenant, r.Version, a.window.Start, b.at)
	}
	want := t.seed(b, a.window, a)
	if a.held != want.Held || a.settled != want.Settled || a.presumed != want.Presumed {
		m.world.fail("%s: version %d opens the window of the new budget %s with %s held, %s settled, %s presumed; it has %s, %s, %s",
			r.Tenant, r.Version, b.ID, a.held, a.settled, a.presumed, want.Held, want.Settled, want.Presumed)
	}
	if a.settled+a.held > 0 {
		m.world.stats.Seeded++
	}
}

// seed is what a window had cost and held, added up anew from all there is. The account of a rolling budget, if
// there is one, gets its entries.
func (t *modelTenant) seed(b *modelBudget, window domain.Window, into *modelAccount) domain.WindowOpened {
	var want domain.WindowOpened
	account := into
	if account == nil {
		account = &modelAccount{rolling: rolling{length: time.Duration(b.Span.Duration)}}
	}
	buckets := map[int64]*domain.Bucket{}
	add := func(at time.Time, settled, presumed domain.Amount) {
		number := account.bucketOf(at)
		part := buckets[number]
		if part == nil {
			part = &domain.Bucket{}
			buckets[number] = part
		}
		part.Settled, part.Presumed = part.Settled+settled, part.Presumed+presumed
		if account.length != 0 {
			account.enter(at, settled)
		}
	}
	for _, res := range t.reservations {
		switch {
		case !b.scope.Matches(res.request):
		case res.state == isOpen:
			if b.Period == domain.Rolling || window.Contains(res.at) {
				want.Held += res.amount
			}
		case window.Contains(res.at):
			presumed := domain.Amount(0)
			if res.state == isPresumed {
				presumed = res.charged
			}
			add(res.at, res.charged+res.adjusted, presumed)
		}
	}
	for _, a := range t.adjustments {
		if b.scope == (domain.Scope{}) && window.Contains(a.at) {
			add(a.at, a.settled, 0)
		}
	}
	for _, part := range buckets {
		account.slack += max(0, part.Presumed-part.Settled)
		want.Settled, want.Presumed = want.Settled+max(part.Settled, part.Presumed), want.Presumed+part.Presumed
	}
	return want
}

// crossed judges that somebody is told of a threshold once, and only of one that is reached.
func (m *model) crossed(t *modelTenant, r domain.Recorded, e domain.BudgetThresholdCrossed) {
	a := t.accounts[e.Account]
	m.world.stats.Crossed++
	switch {
	case a == nil || a.budget != e.Budget || e.Use != a.settled || e.Limit != a.limit || !reached(e.Threshold, a):
		m.world.fail("%s: version %d tells of a threshold that is not reached: %+v", r.Tenant, r.Version, e)
	case slices.Contains(a.told, e.Threshold):
		m.world.fail("%s: version %d tells of the threshold %d of account %d again", r.Tenant, r.Version, e.Threshold, e.Account)
	default:
		a.told = append(a.told, e.Threshold)
	}
}

func reached(t domain.Threshold, a *modelAccount) bool {
	return a.settled > 0 && int64(a.settled)*1_000_000 >= int64(t)*int64(a.limit)
}

// judgeTold judges that after spending somebody was told of every threshold that is reached.
func (m *model) judgeTold(t *modelTenant, records []domain.Recorded) {
	for _, r := range records {
		switch r.Event.(type) {
		case domain.UsageSettled, domain.ReservationExpired, domain.UsageSettledLate, domain.UsageAdjusted, domain.BudgetChanged:
		default:
			continue
		}
		for _, p := range domain.Postings(r.Event) {
			b, a := t.budgets[p.Budget], t.accounts[p.Account]
			if b == nil || a == nil {
				continue
			}
			for _, threshold := range b.AlertsAt {
				if reached(threshold, a) && !slices.Contains(a.told, threshold) {
					m.world.fail("%s: version %d reaches the threshold %d of account %d, and nobody is told", r.Tenant, r.Version, threshold, p.Account)
				}
			}
		}
	}
}
