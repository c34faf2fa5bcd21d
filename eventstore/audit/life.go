package audit

import (
	"slices"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

func (f *fold) reserved(r domain.Recorded, e domain.UsageReserved) {
	id := e.Reservation
	if _, ok := f.books.open[id]; ok {
		f.violated(r.Version, LawClosing, "reservation %s is open already", id)
	}
	if _, ok := f.books.presumed[id]; ok {
		f.violated(r.Version, LawClosing, "reservation %s was charged already", id)
	}
	if e.Amount < 0 || e.ExpiresAt.Before(r.Time) {
		f.violated(r.Version, LawPosting, "reservation %s of %s until %s", id, e.Amount, e.ExpiresAt.Format(time.RFC3339Nano))
	}
	f.applies(r, e)
	f.postings(r, e.Postings, move{held: e.Amount, strict: true})
	h := hold{amount: e.Amount, version: r.Version, at: r.Time, expires: e.ExpiresAt, accounts: accountsOf(e.Postings)}
	h.key = f.keys.take(f, r, e.Request)
	f.books.open[id] = h
}

// applies checks that a reservation counts in the newest window of every tenant-wide budget, which
// contains it, and nowhere else. Narrower budgets are not decided yet; one that posts must exist.
func (f *fold) applies(r domain.Recorded, e domain.UsageReserved) {
	for _, b := range f.state.Budgets {
		if b.Scope == (domain.Scope{}) && !slices.ContainsFunc(e.Postings, func(p domain.Posting) bool { return p.Budget == b.ID }) {
			f.violated(r.Version, LawBudgets, "it does not count in budget %s", b.ID)
		}
	}
	for _, p := range e.Postings {
		if !slices.ContainsFunc(f.state.Budgets, func(b domain.Budget) bool { return b.ID == p.Budget }) {
			f.violated(r.Version, LawBudgets, "it counts in budget %s, which is not in force", p.Budget)
		}
		if f.books.newest[p.Budget] != p.Account {
			f.violated(r.Version, LawWindow, "account %d is not the newest window of %s", p.Account, p.Budget)
		}
		if a, ok := f.books.accounts[p.Account]; ok && !a.window.Contains(r.Time) {
			f.violated(r.Version, LawWindow, "its time is outside the window of account %d", p.Account)
		}
	}
}

func accountsOf(postings []domain.Posting) []domain.AccountID {
	ids := make([]domain.AccountID, len(postings))
	for i, p := range postings {
		ids[i] = p.Account
	}
	return ids
}

func (f *fold) extended(r domain.Recorded, e domain.ReservationExtended) {
	h, ok := f.books.open[e.Reservation]
	if !ok {
		f.violated(r.Version, LawClosing, "reservation %s is not open", e.Reservation)
	}
	if e.Amount != h.amount+e.Added || e.Added < 0 {
		f.violated(r.Version, LawPosting, "reservation %s of %s plus %s is not %s", e.Reservation, h.amount, e.Added, e.Amount)
	}
	f.samePlace(r, e.Request, e.ReservedAt, h, e.Postings)
	f.postings(r, e.Postings, move{held: e.Added, strict: true})
	h.amount, h.expires = e.Amount, e.ExpiresAt
	f.books.open[e.Reservation] = h
}

// closed takes a reservation out of the open ones and checks that the closing event is about it.
func (f *fold) closed(r domain.Recorded, of domain.Request, at time.Time, amount domain.Amount, postings []domain.Posting) hold {
	h, ok := f.books.open[of.Reservation]
	if !ok {
		f.violated(r.Version, LawClosing, "reservation %s is not open", of.Reservation)
		return hold{amount: amount, at: at, version: r.Version, accounts: accountsOf(postings)}
	}
	delete(f.books.open, of.Reservation)
	if amount != h.amount {
		f.violated(r.Version, LawClosing, "reservation %s holds %s, not %s", of.Reservation, h.amount, amount)
	}
	f.samePlace(r, of, at, h, postings)
	return h
}

func (f *fold) samePlace(r domain.Recorded, of domain.Request, at time.Time, h hold, postings []domain.Posting) {
	if !at.Equal(h.at) {
		f.violated(r.Version, LawClosing, "reservation %s was made at %s", of.Reservation, h.at.Format(time.RFC3339Nano))
	}
	if accounts := accountsOf(postings); !slices.Equal(accounts, h.accounts) {
		f.violated(r.Version, LawClosing, "reservation %s was made on accounts %v, not %v", of.Reservation, h.accounts, accounts)
	}
}

func (f *fold) settled(r domain.Recorded, e domain.UsageSettled) {
	h := f.closed(r, e.Request, e.ReservedAt, e.Reserved, e.Postings)
	m := move{held: -h.amount, settled: e.Charged}
	if e.Basis == domain.BasisPresumed {
		m.presumed = e.Charged
		h.charged = e.Charged
		f.books.presumed[e.Reservation] = h
	}
	if e.Charged < 0 || e.Overrun != max(0, e.Charged-e.Reserved) {
		f.violated(r.Version, LawPosting, "a charge of %s on %s is no overrun of %s", e.Charged, e.Reserved, e.Overrun)
	}
	f.postings(r, e.Postings, m)
}

func (f *fold) released(r domain.Recorded, e domain.ReservationReleased) {
	h := f.closed(r, e.Request, e.ReservedAt, e.Reserved, e.Postings)
	f.keys.free(h.key)
	f.postings(r, e.Postings, move{held: -h.amount})
}

func (f *fold) expired(r domain.Recorded, e domain.ReservationExpired) {
	h := f.closed(r, e.Request, e.ReservedAt, e.Reserved, e.Postings)
	orphaned := e.Reason == domain.ReasonOrphaned && e.Charged == h.amount // the one expiry that need not wait
	if r.Time.Before(h.expires) && !orphaned {
		f.violated(r.Version, LawClosing, "reservation %s lives until %s", e.Reservation, h.expires.Format(time.RFC3339Nano))
	}
	if e.Charged != 0 && e.Charged != h.amount {
		f.violated(r.Version, LawPosting, "an expired reservation of %s is charged %s", h.amount, e.Charged)
	}
	h.charged = e.Charged
	f.books.presumed[e.Reservation] = h
	f.postings(r, e.Postings, move{held: -h.amount, settled: e.Charged, presumed: e.Charged})
}

func (f *fold) late(r domain.Recorded, e domain.UsageSettledLate) {
	h, ok := f.books.presumed[e.Reservation]
	if !ok {
		f.violated(r.Version, LawClosing, "reservation %s was not charged by presumption", e.Reservation)
		h = hold{charged: e.WasCharged, at: e.ReservedAt, accounts: accountsOf(e.Postings)}
	}
	f.samePlace(r, e.Request, e.ReservedAt, h, e.Postings)
	if e.WasCharged != h.charged || e.Charged < 0 || e.Delta != e.Charged-e.WasCharged {
		f.violated(r.Version, LawPosting, "it makes %s of %s by %s; charged was %s", e.Charged, e.WasCharged, e.Delta, h.charged)
	}
	m := move{settled: e.Charged - h.charged, presumed: -h.charged}
	delete(f.books.presumed, e.Reservation)
	if e.Basis == domain.BasisPresumed {
		m.presumed += e.Charged
		h.charged = e.Charged
		f.books.presumed[e.Reservation] = h
	}
	f.postings(r, e.Postings, m)
}
