package audit

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// books are a tenant's accounts and reservations, computed from what the events moved.
type books struct {
	accounts map[domain.AccountID]*account
	newest   map[domain.BudgetID]domain.AccountID
	defined  map[domain.BudgetID]int64 // the version
	open     map[domain.ReservationID]hold
	presumed map[domain.ReservationID]hold
}

// account is the balance of a budget in a window.
type account struct {
	budget                         domain.BudgetID
	period                         domain.Period
	window                         domain.Window
	limit, held, settled, presumed domain.Amount
	cap                            domain.Amount
	version                        int64
	// charged is settled again, as the sum of what the events say was charged; trusted no further than
	// it can be checked, since a lying posting must not move it.
	charged domain.Amount
	crossed []domain.Threshold

	// Of a rolling account: its duration, what was charged by the time it was reserved at, and the first
	// part of its time that still counts.
	duration domain.Length
	parts    map[int64]part
	oldest   int64
}

// part is what a part of a rolling window had charged.
type part struct{ settled, presumed domain.Amount }

func (a *account) use() domain.Amount { return a.held + a.settled }

// hold is a reservation that is open, or was closed by presumption.
type hold struct {
	amount, charged domain.Amount
	version         int64
	at, expires     time.Time
	accounts        []domain.AccountID
	of              domain.Request
	// unkept says that it was released by a build that may have kept no row of that.
	released, unkept bool
}

func newBooks() books {
	return books{
		accounts: map[domain.AccountID]*account{},
		newest:   map[domain.BudgetID]domain.AccountID{},
		defined:  map[domain.BudgetID]int64{},
		open:     map[domain.ReservationID]hold{},
		presumed: map[domain.ReservationID]hold{},
	}
}

// move is what an event adds to each account it posts to.
type move struct {
	held, settled, presumed domain.Amount
	// at is when the reservation was made, by which a rolling account counts what was charged.
	at time.Time
	// limit, if set, is what the event makes of the limit.
	limit *domain.Amount
	// strict events may never leave use above the limit, whatever was before.
	strict bool
}

// of is the move as an account counts it: what left a rolling window moves nothing any more.
func (m move) of(a *account) move {
	if a.duration == 0 || m.at.IsZero() || (m.settled == 0 && m.presumed == 0) {
		return m
	}
	number := partOf(m.at, a.duration)
	if number < a.oldest {
		m.settled, m.presumed = 0, 0
		return m
	}
	p := a.parts[number]
	a.parts[number] = part{settled: p.settled + m.settled, presumed: p.presumed + m.presumed}
	a.carry()
	return m
}

// carry takes what a credit gave back beyond its own part from the parts before, the newest first.
func (a *account) carry() {
	numbers := slices.Sorted(maps.Keys(a.parts))
	for i := len(numbers) - 1; i > 0; i-- {
		p, before := a.parts[numbers[i]], a.parts[numbers[i-1]]
		if missing := p.presumed - p.settled; missing > 0 {
			a.parts[numbers[i]] = part{settled: p.settled + missing, presumed: p.presumed}
			a.parts[numbers[i-1]] = part{settled: before.settled - missing, presumed: before.presumed}
		}
	}
	maps.DeleteFunc(a.parts, func(_ int64, p part) bool { return p == part{} })
}

// partOf is the number of the part of a rolling window that holds an instant: its sixtieths are numbered
// from 1970 on.
func partOf(at time.Time, duration domain.Length) int64 {
	width := time.Duration(duration).Microseconds() / 60
	return (at.UnixMicro() - ((at.UnixMicro()%width)+width)%width) / width
}

// postings checks what an event made of its accounts and takes it over.
func (f *fold) postings(r domain.Recorded, postings []domain.Posting, m move) {
	for i, p := range postings {
		a, ok := f.books.accounts[p.Account]
		if !ok {
			f.violated(r.Version, LawPosting, "it posts to account %d, which was never opened", p.Account)
			continue
		}
		if slices.ContainsFunc(postings[:i], func(q domain.Posting) bool { return q.Account == p.Account }) {
			f.violated(r.Version, LawPosting, "it posts to account %d twice", p.Account)
		}
		f.posting(r, a, p, m)
	}
}

func (f *fold) posting(r domain.Recorded, a *account, p domain.Posting, m move) {
	limit := a.limit
	if m.limit != nil {
		limit = *m.limit
	}
	m = m.of(a)
	presumed := a.presumed + m.presumed
	if p.Budget != a.budget || p.Limit != limit || p.Held != a.held+m.held || p.Settled != a.settled+m.settled || p.Presumed != presumed {
		f.violated(r.Version, LawPosting, "account %d of budget %s: limit %s USD, held %s USD, settled %s USD, presumed %s USD; "+
			"what was before and what the event moved give %s, %s, %s and %s USD",
			p.Account, p.Budget, p.Limit, p.Held, p.Settled, p.Presumed, limit, a.held+m.held, a.settled+m.settled, presumed)
	}
	if p.Held < 0 || p.Settled < 0 || p.Presumed < 0 || p.Presumed > p.Settled {
		f.violated(r.Version, LawPosting, "account %d: a balance below zero, or more presumed than settled", p.Account)
	}
	use := p.Held + p.Settled
	// Over the limit is lawful by force only, or on the way down from there.
	down := a.use() > a.limit && p.Limit == a.limit && use <= a.use()
	if use > p.Limit && (m.strict || (!p.Forced && !down)) {
		f.violated(r.Version, LawOverspend, "account %d: held %s USD and settled %s USD exceed the limit of %s USD", p.Account, p.Held, p.Settled, p.Limit)
	}
	if p.Forced && m.strict {
		f.violated(r.Version, LawOverspend, "account %d: a reservation is never forced", p.Account)
	}
	a.charged += m.settled
	a.limit, a.held, a.settled, a.presumed, a.version = p.Limit, p.Held, p.Settled, p.Presumed, r.Version
	// The rule of the database: force lifts the cap to the use, else it follows the use down to the limit.
	a.cap = max(a.limit, min(a.cap, use))
	if p.Forced {
		a.cap = max(a.limit, use)
	}
}

func (f *fold) windowOpened(r domain.Recorded, e domain.WindowOpened) {
	if int64(e.Account) != r.Version {
		f.violated(r.Version, LawWindow, "it opens account %d", e.Account)
	}
	if !e.Start.Before(e.End) {
		f.violated(r.Version, LawWindow, "the window of %s ends before it begins", e.Budget)
	}
	before, opened := f.books.accounts[f.books.newest[e.Budget]]
	if opened && e.Start.Before(before.window.End) {
		f.violated(r.Version, LawWindow, "the window of %s from %s overlaps the one before", e.Budget, e.Start.Format(time.RFC3339))
	}
	b, ok := f.budget(e.Budget)
	switch {
	case !ok:
		f.violated(r.Version, LawWindow, "there is no budget %s", e.Budget)
	case b.Limit != e.Limit || b.Period != e.Period || b.Span.Duration != e.Duration:
		f.violated(r.Version, LawWindow, "it opens a window of budget %s with a limit of %s USD, the budget's is %s USD", e.Budget, e.Limit, b.Limit)
	}
	a := &account{
		budget: e.Budget, period: e.Period, window: domain.Window{Start: e.Start, End: e.End},
		limit: e.Limit, held: e.Held, settled: e.Settled, presumed: e.Presumed, charged: e.Settled,
		cap: max(e.Limit, e.Held+e.Settled), version: r.Version, duration: e.Duration,
	}
	if a.duration != 0 {
		a.parts, a.oldest = map[int64]part{}, partOf(e.Start, e.Duration)
		for _, b := range e.Buckets {
			a.parts[b.Number] = part{settled: b.Settled, presumed: b.Presumed}
		}
	}
	first, unseeded := f.first(e)
	f.books.accounts[e.Account], f.books.newest[e.Budget] = a, e.Account
	if unseeded {
		return
	}
	f.adopted(r, e, b)
	if first || e.Settled != 0 || len(e.Buckets) > 0 { // that nothing was spent before the first window is checked too
		f.seeds = append(f.seeds, seed{version: r.Version, scope: b.Scope, event: e})
	}
}

// budget is a budget in force.
func (f *fold) budget(id domain.BudgetID) (domain.Budget, bool) {
	i := slices.IndexFunc(f.state.Budgets, func(b domain.Budget) bool { return b.ID == id })
	if i < 0 {
		return domain.Budget{}, false
	}
	return f.state.Budgets[i], true
}

// first tells whether it is the first window of its budget, and opens as that of one which an earlier build defined:
// by a reservation, whichever build makes it, as if nothing had been before.
func (f *fold) first(e domain.WindowOpened) (first, unseeded bool) {
	defined := f.books.defined[e.Budget]
	first = int64(f.books.newest[e.Budget]) < defined
	return first, first && defined <= f.inherited && e.Held == 0 && e.Settled == 0 && e.Presumed == 0 && len(e.Adopted) == 0
}

// adopted checks that a window which opens late counts every reservation that belongs to it, and takes
// them over.
func (f *fold) adopted(r domain.Recorded, e domain.WindowOpened, b domain.Budget) {
	var held, presumed domain.Amount
	want := map[domain.ReservationID]bool{}
	for id, h := range f.books.open {
		if b.Scope.Matches(h.of) && (e.Duration != 0 || (domain.Window{Start: e.Start, End: e.End}).Contains(h.at)) {
			held += h.amount
			want[id] = true
		}
	}
	for id, h := range f.books.presumed {
		if b.Scope.Matches(h.of) && (domain.Window{Start: e.Start, End: e.End}).Contains(h.at) {
			presumed += h.charged
			want[id] = true
		}
	}
	if e.Held != held || e.Presumed != presumed || e.Settled < e.Presumed {
		f.violated(r.Version, LawPosting, "it opens with %s USD held and %s USD presumed; what belongs to it has %s USD and %s USD", e.Held, e.Presumed, held, presumed)
	}
	for _, id := range e.Adopted {
		f.adopt(e.Account, id)
		if h, ok := f.books.presumed[id]; !want[id] && (!ok || !h.released) {
			f.violated(r.Version, LawSeed, "it adopts reservation %s, which does not belong to it", id)
		}
		delete(want, id)
	}
	for id := range want {
		if h, ok := f.books.presumed[id]; !ok || !h.released { // one that was given back may be forgotten by now
			f.violated(r.Version, LawSeed, "it does not adopt reservation %s", id)
		}
	}
}

func (f *fold) adopt(account domain.AccountID, id domain.ReservationID) {
	for _, m := range []map[domain.ReservationID]hold{f.books.open, f.books.presumed} {
		if h, ok := m[id]; ok {
			h.accounts = append(slices.Clip(h.accounts), account)
			m[id] = h
		}
	}
}

// slid checks what left a rolling window and takes it out.
func (f *fold) slid(r domain.Recorded, e domain.WindowSlid) {
	a, ok := f.books.accounts[e.Account]
	if !ok || a.duration == 0 {
		f.violated(r.Version, LawPosting, "account %d does not roll", e.Account)
		return
	}
	if want := partOf(r.Time.Add(-time.Duration(a.duration)), a.duration); e.Oldest > want || e.Oldest < a.oldest {
		f.violated(r.Version, LawWindow, "account %d: part %d is not over; the oldest that counts is %d", e.Account, e.Oldest, want)
	}
	var m move
	for number, p := range a.parts {
		if number < e.Oldest {
			m.settled, m.presumed = m.settled-p.settled, m.presumed-p.presumed
			delete(a.parts, number)
		}
	}
	if e.Aged != -m.settled {
		f.violated(r.Version, LawPosting, "account %d: %s USD left the window, not %s USD", e.Account, -m.settled, e.Aged)
	}
	a.oldest = e.Oldest
	f.postings(r, e.Postings, m)
	a.crossed = slices.DeleteFunc(a.crossed, func(t domain.Threshold) bool { return !reached(t, a) })
}

// percent is a threshold as people read it; it is kept in parts of a million.
func percent(t domain.Threshold) string {
	const millionths = 1e4 // in a hundredth
	return strconv.FormatFloat(float64(t)/millionths, 'f', -1, 64) + " %"
}

// reached tells whether an account has spent a share of its limit. Float is exact enough to doubt by.
func reached(t domain.Threshold, a *account) bool {
	const whole, doubt = 1e6, 1e-9
	spent, want := float64(a.settled), float64(t)/whole*float64(a.limit)
	return a.settled > 0 && spent >= want*(1-doubt)
}

// crossed checks that a threshold was reached, and not told of before.
func (f *fold) crossed(r domain.Recorded, e domain.BudgetThresholdCrossed) {
	a, ok := f.books.accounts[e.Account]
	if !ok || a.budget != e.Budget {
		f.violated(r.Version, LawThreshold, "account %d is not of budget %s", e.Account, e.Budget)
		return
	}
	if slices.Contains(a.crossed, e.Threshold) {
		f.violated(r.Version, LawThreshold, "account %d crossed %s before", e.Account, percent(e.Threshold))
	}
	if b, ok := f.budget(e.Budget); !ok || !slices.Contains(b.AlertsAt, e.Threshold) {
		f.violated(r.Version, LawThreshold, "budget %s has no threshold at %s", e.Budget, percent(e.Threshold))
	}
	if !reached(e.Threshold, a) || e.Use != a.settled || e.Limit != a.limit {
		f.violated(r.Version, LawThreshold, "account %d has spent %s USD of %s USD: that is not %s", e.Account, a.settled, a.limit, percent(e.Threshold))
	}
	a.crossed = append(a.crossed, e.Threshold)
}

func (f *fold) budgetChanged(r domain.Recorded, e domain.BudgetChanged) {
	if b, ok := f.budget(e.Budget); !ok || b.Limit != e.OldLimit {
		f.violated(r.Version, LawBudgets, "budget %s does not have the old limit of %s USD", e.Budget, e.OldLimit)
	}
	newest := f.books.newest[e.Budget]
	if a, ok := f.books.accounts[newest]; ok && a.window.Contains(r.Time) && len(e.Postings) == 0 {
		f.violated(r.Version, LawPosting, "the limit of %s changes, and its open window keeps the old one", e.Budget)
	}
	for _, p := range e.Postings {
		if p.Account != newest {
			f.violated(r.Version, LawPosting, "account %d is not the newest window of %s", p.Account, e.Budget)
		}
	}
	f.postings(r, e.Postings, move{limit: &e.Limit})
}

// sums compares the accounts with their reservations and charges, once the stream is read.
func (f *fold) sums() {
	held := make(map[domain.AccountID]domain.Amount, len(f.books.newest))
	presumed := make(map[domain.AccountID]domain.Amount, len(f.books.newest))
	for _, h := range f.books.open {
		for _, id := range h.accounts {
			held[id] += h.amount
		}
	}
	for _, h := range f.books.presumed {
		for _, id := range h.accounts {
			if a, ok := f.books.accounts[id]; ok && (a.duration == 0 || partOf(h.at, a.duration) >= a.oldest) {
				presumed[id] += h.charged
			}
		}
	}
	for id, a := range f.books.accounts {
		if a.held != held[id] || a.settled != a.charged || a.presumed != presumed[id] {
			f.violated(a.version, LawSums, "account %d: held %s USD, settled %s USD, presumed %s USD; "+
				"its open reservations hold %s USD, its charges are %s USD, its presumptions %s USD",
				id, a.held, a.settled, a.presumed, held[id], a.charged, presumed[id])
		}
	}
}
