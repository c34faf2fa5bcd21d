package audit

import (
	"slices"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// books are a tenant's accounts and reservations, computed from what the events moved.
type books struct {
	accounts map[domain.AccountID]*account
	newest   map[domain.BudgetID]domain.AccountID
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
}

func (a *account) use() domain.Amount { return a.held + a.settled }

// hold is a reservation that is open, or was closed by presumption.
type hold struct {
	amount, charged domain.Amount
	version         int64
	at, expires     time.Time
	accounts        []domain.AccountID
	key             digest
}

func newBooks() books {
	return books{
		accounts: map[domain.AccountID]*account{},
		newest:   map[domain.BudgetID]domain.AccountID{},
		open:     map[domain.ReservationID]hold{},
		presumed: map[domain.ReservationID]hold{},
	}
}

// move is what an event adds to each account it posts to.
type move struct {
	held, settled, presumed domain.Amount
	// limit, if set, is what the event makes of the limit.
	limit *domain.Amount
	// strict events may never leave use above the limit, whatever was before.
	strict bool
	// free events may correct what was presumed in a way only their postings tell.
	free bool
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
	presumed := a.presumed + m.presumed
	if m.free {
		presumed = p.Presumed
	}
	if p.Budget != a.budget || p.Limit != limit || p.Held != a.held+m.held || p.Settled != a.settled+m.settled || p.Presumed != presumed {
		f.violated(r.Version, LawPosting, "account %d of %s: limit %s, held %s, settled %s, presumed %s; before and what the event moved give %s, %s, %s, %s",
			p.Account, p.Budget, p.Limit, p.Held, p.Settled, p.Presumed, limit, a.held+m.held, a.settled+m.settled, presumed)
	}
	if p.Held < 0 || p.Settled < 0 || p.Presumed < 0 || p.Presumed > p.Settled {
		f.violated(r.Version, LawPosting, "account %d: a balance below zero, or more presumed than settled", p.Account)
	}
	use := p.Held + p.Settled
	// Over the limit is lawful by force only, or on the way down from there.
	down := a.use() > a.limit && p.Limit == a.limit && use <= a.use()
	if use > p.Limit && (m.strict || (!p.Forced && !down)) {
		f.violated(r.Version, LawOverspend, "account %d: held %s and settled %s exceed the limit of %s", p.Account, p.Held, p.Settled, p.Limit)
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
	if before, ok := f.books.accounts[f.books.newest[e.Budget]]; ok && e.Start.Before(before.window.End) {
		f.violated(r.Version, LawWindow, "the window of %s from %s overlaps the one before", e.Budget, e.Start.Format(time.RFC3339))
	}
	i := slices.IndexFunc(f.state.Budgets, func(b domain.Budget) bool { return b.ID == e.Budget })
	switch {
	case i < 0:
		f.violated(r.Version, LawWindow, "there is no budget %s", e.Budget)
	case f.state.Budgets[i].Limit != e.Limit || f.state.Budgets[i].Period != e.Period:
		f.violated(r.Version, LawWindow, "it opens %s with a limit of %s, the budget's is %s", e.Budget, e.Limit, f.state.Budgets[i].Limit)
	}
	held := domain.Amount(0)
	for _, id := range e.Adopted {
		held += f.books.open[id].amount
	}
	if e.Held != held || e.Settled < 0 || e.Presumed < 0 || e.Presumed > e.Settled {
		f.violated(r.Version, LawPosting, "it opens with %s held; the reservations it adopts have %s", e.Held, held)
	}
	f.books.accounts[e.Account] = &account{
		budget: e.Budget, period: e.Period, window: domain.Window{Start: e.Start, End: e.End},
		limit: e.Limit, held: e.Held, settled: e.Settled, presumed: e.Presumed, charged: e.Settled,
		cap: max(e.Limit, e.Held+e.Settled), version: r.Version,
	}
	f.books.newest[e.Budget] = e.Account
}

func (f *fold) budgetChanged(r domain.Recorded, e domain.BudgetChanged) {
	i := slices.IndexFunc(f.state.Budgets, func(b domain.Budget) bool { return b.ID == e.Budget })
	if i < 0 || f.state.Budgets[i].Limit != e.OldLimit {
		f.violated(r.Version, LawBudgets, "budget %s does not have the old limit of %s", e.Budget, e.OldLimit)
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
			presumed[id] += h.charged
		}
	}
	for id, a := range f.books.accounts {
		if a.held != held[id] || a.settled != a.charged || a.presumed != presumed[id] {
			f.violated(a.version, LawSums, "account %d: held %s, settled %s, presumed %s; open reservations %s, charges %s, presumptions %s",
				id, a.held, a.settled, a.presumed, held[id], a.charged, presumed[id])
		}
	}
}
