package sim

import (
	"slices"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// parts is how many a rolling window has.
const parts = 60

// bucketOf is the part of a rolling window that holds an instant; 0 of another window.
func (r *rolling) bucketOf(at time.Time) int64 {
	if r.length == 0 {
		return 0
	}
	return at.UnixMicro() / (r.length / parts).Microseconds() // nothing here is before 1970
}

// enter adds what was charged for a reservation made at a time to what it has been charged before.
func (r *rolling) enter(at time.Time, settled domain.Amount) {
	for i := range r.entries {
		if r.entries[i].at.Equal(at) {
			r.entries[i].settled += settled
			return
		}
	}
	if settled != 0 {
		r.entries = append(r.entries, entry{at, settled})
	}
}

// post judges an event's balances: the accounts it is about and no others, moved by its amounts, and never above
// the limit but by force, for which there must be a reason.
func (m *model) post(t *modelTenant, r domain.Recorded, postings []domain.Posting, accounts []domain.AccountID, by moved) {
	w := m.world
	if accounts != nil && len(accounts) != len(postings) {
		w.fail("%s: version %d posts to %d accounts other than %v", r.Tenant, r.Version, len(postings), accounts)
		return
	}
	for i, p := range postings {
		a := t.accounts[p.Account]
		if a == nil || (accounts != nil && accounts[i] != p.Account && !slices.Contains(accounts, p.Account)) {
			w.fail("%s: version %d posts to account %d, which is not its reservation's", r.Tenant, r.Version, p.Account)
			return
		}
		settled, presumed := by.settled, by.presumed
		if a.length != 0 && a.bucketOf(by.at) < a.oldest {
			settled, presumed = 0, 0 // it has left the window
		}
		use := p.Held + p.Settled
		switch {
		case p.Limit != a.limit || p.Held != a.held+by.held || p.Settled != a.settled+settled || p.Presumed != a.presumed+presumed:
			w.fail("%s: version %d posts %+v on %+v, moved by %s held, %s settled, %s presumed", r.Tenant, r.Version, p, a.balance(), by.held, settled, presumed)
		case p.Held < 0 || p.Presumed < 0 || p.Presumed > p.Settled:
			w.fail("%s: version %d posts %+v", r.Tenant, r.Version, p)
		case p.Forced && !by.reason:
			w.fail("%s: version %d is forced without a reason", r.Tenant, r.Version)
		case !p.Forced && use > max(a.limit, a.held+a.settled):
			w.fail("%s: version %d raises use to %s of %s", r.Tenant, r.Version, use, a.limit)
		}
		a.held, a.settled, a.presumed = p.Held, p.Settled, p.Presumed
		if a.length != 0 {
			a.enter(by.at, settled)
			m.rolled(r, p.Account, a)
		}
	}
}

// balance is what an account comes to, for a person to read.
func (a *modelAccount) balance() domain.Posting {
	return domain.Posting{Budget: a.budget, Limit: a.limit, Held: a.held, Settled: a.settled, Presumed: a.presumed}
}

// slid judges that only what has left a rolling window is taken out of it.
func (m *model) slid(t *modelTenant, r domain.Recorded, e domain.WindowSlid) {
	a := t.accounts[e.Account]
	if a == nil || a.length == 0 || len(e.Postings) != 1 || e.Oldest <= a.oldest || e.Aged < 0 {
		m.world.fail("%s: version %d slides a window that does not: %+v", r.Tenant, r.Version, e)
		return
	}
	m.world.stats.Slid++
	a.oldest = e.Oldest
	p := e.Postings[0]
	if p.Limit != a.limit || p.Held != a.held || p.Settled != a.settled-e.Aged || p.Presumed < 0 || p.Presumed > p.Settled || p.Forced {
		m.world.fail("%s: version %d posts %+v on %+v, slid by %s", r.Tenant, r.Version, p, a.balance(), e.Aged)
	}
	a.settled, a.presumed = p.Settled, p.Presumed
	a.told = slices.DeleteFunc(a.told, func(t domain.Threshold) bool { return !reached(t, a) })
	m.rolled(r, e.Account, a)
}

// rolled judges that a rolling account counts at least what was charged for reservations of the time just passed,
// and after a reservation not more than that by parts. Where something was given back, parts may count more.
func (m *model) rolled(r domain.Recorded, id domain.AccountID, a *modelAccount) {
	from := r.Time.Add(-a.length)
	whole := a.bucketOf(from.Add(-sameTurn))
	least, most := domain.Amount(0), a.slack+a.givenBack
	kept := a.entries[:0]
	for _, e := range a.entries {
		number := a.bucketOf(e.at)
		if number < whole-1 {
			continue
		}
		kept = append(kept, e)
		if e.at.After(from) || (e.settled < 0 && number >= a.bucketOf(from)) {
			least += e.settled
		}
		if number >= whole {
			most += e.settled
		}
	}
	a.entries = kept
	if a.settled < least {
		m.world.fail("%s: version %d at %s: account %d counts %s, and in its window of %s %s were spent", r.Tenant, r.Version, r.Time, id, a.settled, a.length, least)
	}
	if _, reserves := r.Event.(domain.UsageReserved); reserves && a.settled > most {
		m.world.fail("%s: version %d at %s: account %d counts %s, and %s at most were spent", r.Tenant, r.Version, r.Time, id, a.settled, most)
	}
}
