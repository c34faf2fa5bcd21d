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
		f.violated(r.Version, LawPosting, "reservation %s holds %s USD until %s: below nothing, or over before it began", id, e.Amount, e.ExpiresAt.Format(time.RFC3339Nano))
	}
	f.applies(r, e)
	f.postings(r, e.Postings, move{held: e.Amount, strict: e.Amount > 0})
	f.books.open[id] = hold{amount: e.Amount, version: r.Version, at: r.Time, expires: e.ExpiresAt, accounts: accountsOf(e.Postings), of: e.Request}
}

// maxAccounts is how many budgets can apply to one request.
const maxAccounts = 16

// applies checks that a reservation counts in the newest window of every budget that it matches, which
// contains it, and nowhere else.
func (f *fold) applies(r domain.Recorded, e domain.UsageReserved) {
	for _, b := range f.state.Budgets {
		matches := b.Scope.Matches(e.Request) && (b.Period != domain.Custom || b.Window.Contains(r.Time))
		counts := slices.ContainsFunc(e.Postings, func(p domain.Posting) bool { return p.Budget == b.ID })
		switch {
		case matches && !counts:
			f.violated(r.Version, LawBudgets, "the reservation belongs to budget %s, and does not count in it", b.ID)
		case counts && !matches:
			f.violated(r.Version, LawBudgets, "the reservation counts in budget %s, and does not belong to it", b.ID)
		}
	}
	if len(e.Postings) > maxAccounts {
		f.violated(r.Version, LawBudgets, "it counts in %d budgets", len(e.Postings))
	}
	for _, p := range e.Postings {
		if _, ok := f.budget(p.Budget); !ok {
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
		f.violated(r.Version, LawPosting, "reservation %s of %s USD plus %s USD is not %s USD", e.Reservation, h.amount, e.Added, e.Amount)
	}
	f.samePlace(r, e.Request, e.ReservedAt, h, e.Postings)
	f.postings(r, e.Postings, move{held: e.Added, strict: e.Added > 0})
	h.amount, h.expires = e.Amount, e.ExpiresAt
	f.books.open[e.Reservation] = h
}

// closed takes a reservation out of the open ones and checks that the closing event is about it.
func (f *fold) closed(r domain.Recorded, of domain.Request, at time.Time, amount domain.Amount, postings []domain.Posting) hold {
	h, ok := f.books.open[of.Reservation]
	if !ok {
		f.violated(r.Version, LawClosing, "reservation %s is not open", of.Reservation)
		return hold{amount: amount, at: at, version: r.Version, accounts: accountsOf(postings), of: of}
	}
	delete(f.books.open, of.Reservation)
	if amount != h.amount {
		f.violated(r.Version, LawClosing, "reservation %s holds %s USD, not %s USD", of.Reservation, h.amount, amount)
	}
	f.samePlace(r, of, at, h, postings)
	return h
}

// samePlace checks that an event repeats what opened its reservation: the request, the time and the accounts.
func (f *fold) samePlace(r domain.Recorded, of domain.Request, at time.Time, h hold, postings []domain.Posting) {
	if h.of.Reservation != "" { // of a reservation that is not known nothing can be said
		f.sameRequest(r, of, h.of)
	}
	if !at.Equal(h.at) {
		f.violated(r.Version, LawClosing, "reservation %s was made at %s", of.Reservation, h.at.Format(time.RFC3339Nano))
	}
	if accounts := accountsOf(postings); !slices.Equal(accounts, h.accounts) {
		f.violated(r.Version, LawClosing, "reservation %s was made on accounts %v, not %v", of.Reservation, h.accounts, accounts)
	}
}

func (f *fold) settled(r domain.Recorded, e domain.UsageSettled) {
	h := f.closed(r, e.Request, e.ReservedAt, e.Reserved, e.Postings)
	m := move{held: -h.amount, settled: e.Charged, at: h.at}
	if e.Basis == domain.BasisPresumed {
		m.presumed = e.Charged
		h.charged = e.Charged
		f.books.presumed[e.Reservation] = h
	}
	if e.Charged < 0 || e.Overrun != max(0, e.Charged-e.Reserved) {
		f.violated(r.Version, LawPosting, "a charge of %s USD on a hold of %s USD is no overrun of %s USD", e.Charged, e.Reserved, e.Overrun)
	}
	f.plausible(r, e.Reservation, e.Usage, e.Basis, e.Charged, h.amount)
	f.postings(r, e.Postings, m)
}

func (f *fold) released(r domain.Recorded, e domain.ReservationReleased) {
	h := f.closed(r, e.Request, e.ReservedAt, e.Reserved, e.Postings)
	h.released, h.unkept = true, r.Version <= f.inherited
	f.books.presumed[e.Reservation] = h
	f.postings(r, e.Postings, move{held: -h.amount})
}

func (f *fold) expired(r domain.Recorded, e domain.ReservationExpired) {
	h := f.closed(r, e.Request, e.ReservedAt, e.Reserved, e.Postings)
	orphaned := e.Reason == domain.ReasonOrphaned && e.Charged == h.amount // the one expiry that need not wait
	if r.Time.Before(h.expires) && !orphaned {
		f.violated(r.Version, LawClosing, "reservation %s lives until %s", e.Reservation, h.expires.Format(time.RFC3339Nano))
	}
	if e.Charged != 0 && e.Charged != h.amount {
		f.violated(r.Version, LawPosting, "an expired reservation of %s USD is charged %s USD", h.amount, e.Charged)
	}
	h.charged = e.Charged
	f.books.presumed[e.Reservation] = h
	f.postings(r, e.Postings, move{held: -h.amount, settled: e.Charged, presumed: e.Charged, at: h.at})
}

func (f *fold) late(r domain.Recorded, e domain.UsageSettledLate) {
	h, ok := f.books.presumed[e.Reservation]
	if !ok {
		f.violated(r.Version, LawClosing, "reservation %s was not charged by presumption", e.Reservation)
		h = hold{charged: e.WasCharged, at: e.ReservedAt, accounts: accountsOf(e.Postings)}
	}
	if h.released && r.Version > f.inherited {
		h.accounts = append(slices.Clip(h.accounts), f.later(h)...)
	}
	f.samePlace(r, e.Request, e.ReservedAt, h, e.Postings)
	if e.WasCharged != h.charged || e.Charged < 0 || e.Delta != e.Charged-e.WasCharged {
		f.violated(r.Version, LawPosting, "it makes %s USD of %s USD by %s USD; charged was %s USD", e.Charged, e.WasCharged, e.Delta, h.charged)
	}
	f.plausible(r, e.Reservation, e.Usage, e.Basis, e.Charged, h.amount)
	m := move{settled: e.Charged - h.charged, presumed: -h.charged, at: h.at}
	delete(f.books.presumed, e.Reservation)
	if e.Basis == domain.BasisPresumed {
		m.presumed += e.Charged
		h.charged, h.released = e.Charged, false
		f.books.presumed[e.Reservation] = h
	}
	f.postings(r, e.Postings, m)
}

// later are the accounts of budgets that came after a reservation and whose newest window contains it. What was
// given back they did not begin with, so that what it costs after all is posted to them.
func (f *fold) later(h hold) []domain.AccountID {
	var ids []domain.AccountID
	for _, b := range f.state.Budgets {
		id := f.books.newest[b.ID]
		a, ok := f.books.accounts[id]
		if ok && int64(id) > h.version && b.Scope.Matches(h.of) && a.window.Contains(h.at) && !slices.Contains(h.accounts, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// adjusted checks a correction: of a reservation that is closed, in windows that contain it, or in those of
// now of the tenant-wide budgets.
func (f *fold) adjusted(r domain.Recorded, e domain.UsageAdjusted) {
	m := move{settled: e.Delta, at: e.ReservedAt}
	at := e.ReservedAt
	if e.Reservation == "" {
		m.at, at = r.Time, r.Time
	}
	h, presumed := f.books.presumed[e.Reservation]
	switch _, open := f.books.open[e.Reservation]; {
	case open:
		f.violated(r.Version, LawClosing, "reservation %s is still open", e.Reservation)
	case e.Confirmed && !presumed:
		f.violated(r.Version, LawClosing, "reservation %s was not charged by presumption", e.Reservation)
	case e.Confirmed:
		m.presumed = -h.charged
		delete(f.books.presumed, e.Reservation)
	}
	if presumed {
		f.sameAdjusted(r, e, h)
	}
	for _, p := range e.Postings {
		if a, ok := f.books.accounts[p.Account]; ok && !a.window.Contains(at) && a.duration == 0 {
			f.violated(r.Version, LawWindow, "its time is outside the window of account %d", p.Account)
		}
	}
	if r.Version > f.inherited {
		f.everywhere(r, e, at)
	}
	f.postings(r, e.Postings, m)
}

// everywhere checks that an adjustment is posted to the newest window of every budget in which it counts.
func (f *fold) everywhere(r domain.Recorded, e domain.UsageAdjusted, at time.Time) {
	of := domain.Request{KeyID: e.KeyID, Model: e.Model, Tags: e.Tags}
	for _, b := range f.state.Budgets {
		id := f.books.newest[b.ID]
		a, open := f.books.accounts[id]
		if !open || !a.window.Contains(at) || (e.Reservation == "" && b.Scope != (domain.Scope{})) || !b.Scope.Matches(of) {
			continue
		}
		if !slices.ContainsFunc(e.Postings, func(p domain.Posting) bool { return p.Account == id }) {
			f.violated(r.Version, LawBudgets, "it counts in budget %s, and is not posted to account %d", b.ID, id)
		}
	}
}
