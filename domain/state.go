package domain

import (
	"maps"
	"slices"
	"time"
)

// State is what a tenant's stream amounts to at a version: who it is, its budgets, the balances that can
// still change and the reservations that are open. It has one owner; see Evolve and Clone.
type State struct {
	Tenant   TenantID
	Version  int64
	LastTime time.Time

	Name      string
	Zone      Zone
	RateLimit *int64
	Suspended bool
	CreatedAt time.Time
	// Used says that something was reserved or adjusted once. A store that does not know says so too.
	Used bool

	Keys    map[KeyID]Key
	Budgets []Budget // sorted by id, so that postings have one order everywhere
	// Accounts are those of the newest window of each budget, and older ones that a reservation still open
	// or a presumption of Presumed was posted to.
	Accounts map[AccountID]*Account
	Current  map[BudgetID]AccountID
	Open     map[ReservationID]Reservation
	// Presumed are closed reservations that late evidence may still correct. A store may drop one with
	// ForgetPresumption and bring it back with AdoptPresumption when evidence for it comes.
	Presumed map[ReservationID]Presumption
	// Closed are reservations that a store brought because somebody adjusts them. Evolve never adds one.
	Closed map[ReservationID]Reservation
	// Attempts are what idempotency keys were used for: always those of open reservations. A store may drop the
	// others with ForgetAttempts, and must bring one back with AdoptAttempt when its key comes again.
	Attempts map[AttemptKey]Attempt

	past []Past // answers for the command that is being decided
}

// NewState is the state of a stream without events.
func NewState(tenant TenantID) State {
	return State{
		Tenant:   tenant,
		Keys:     map[KeyID]Key{},
		Accounts: map[AccountID]*Account{},
		Current:  map[BudgetID]AccountID{},
		Open:     map[ReservationID]Reservation{},
		Presumed: map[ReservationID]Presumption{},
		Closed:   map[ReservationID]Reservation{},
		Attempts: map[AttemptKey]Attempt{},
	}
}

// Exists tells whether the stream has begun.
func (s State) Exists() bool { return s.Version > 0 }

// Clone is a state that shares nothing with s that Evolve would change.
func (s State) Clone() State {
	s.Keys = maps.Clone(s.Keys)
	s.Budgets = slices.Clone(s.Budgets)
	accounts := make(map[AccountID]*Account, len(s.Accounts))
	for id, a := range s.Accounts {
		copied := *a
		accounts[id] = &copied
	}
	s.Accounts = accounts
	s.Current = maps.Clone(s.Current)
	s.Open = maps.Clone(s.Open)
	s.Presumed = maps.Clone(s.Presumed)
	s.Closed = maps.Clone(s.Closed)
	s.Attempts = maps.Clone(s.Attempts)
	return s
}

// AdoptAccount puts an account into a state that is being restored from storage. The budgets are there
// before: the account of a retired one takes no more reservations, so it is nobody's current one.
func (s *State) AdoptAccount(a Account) {
	a.open = 0
	for _, r := range s.Open {
		if slices.Contains(r.Accounts, a.ID) {
			a.open++
		}
	}
	s.Accounts[a.ID] = &a
	if _, live := s.budget(a.Budget); !live {
		return
	}
	current, ok := s.Accounts[s.Current[a.Budget]]
	if !ok || a.Window.Start.After(current.Window.Start) {
		s.Current[a.Budget] = a.ID
	}
}

// AdoptReservation puts an open reservation into a state that is being restored. Its accounts may follow.
func (s *State) AdoptReservation(r Reservation) {
	s.Open[r.Reservation] = r
	if r.Idempotency != "" {
		s.adoptHeld(r)
	}
	for _, id := range r.Accounts {
		if a, ok := s.Accounts[id]; ok {
			a.open++
		}
	}
}

// adoptHeld gives an idempotency key to an open reservation, unless a newer one has it.
func (s *State) adoptHeld(r Reservation) {
	if a := r.attempt(r.Version, r.At, AttemptHeld, 0); !s.Attempts[a.AttemptKey].At.After(a.At) {
		s.AdoptAttempt(a)
	}
}

// AdoptPresumption brings back a presumed charge, with the accounts it was posted to, so that evidence
// can correct it. Accounts the state has already are kept: they are newer.
func (s *State) AdoptPresumption(p Presumption, accounts []Account) {
	s.Presumed[p.Reservation.Reservation] = p
	for _, a := range accounts {
		if _, ok := s.Accounts[a.ID]; !ok {
			a.open = 0 // an account of an open reservation would be here
			s.Accounts[a.ID] = &a
		}
	}
}

// AdoptClosed brings a reservation that is closed for good, and its accounts, so that it can be adjusted.
func (s *State) AdoptClosed(r Reservation, accounts []Account) {
	s.AdoptPresumption(Presumption{Reservation: r}, accounts)
	delete(s.Presumed, r.Reservation)
	s.Closed[r.Reservation] = r
}

// ForgetClosed drops what is only there for commands that were decided: presumptions, closed reservations
// and their attempts, and the accounts that only they kept.
func (s *State) ForgetClosed() {
	for id := range s.Presumed {
		s.ForgetPresumption(id)
	}
	for id, r := range s.Closed {
		delete(s.Closed, id)
		for _, account := range r.Accounts {
			s.forget(account)
		}
	}
	for key, a := range s.Attempts {
		if a.State != AttemptHeld {
			delete(s.Attempts, key)
		}
	}
}

// ForgetPresumption drops a presumed charge, and the accounts that only it kept.
func (s *State) ForgetPresumption(id ReservationID) {
	p, ok := s.Presumed[id]
	if !ok {
		return
	}
	delete(s.Presumed, id)
	for _, account := range p.Accounts {
		s.forget(account)
	}
}

// Balances are the tenant's budgets with what their windows at an instant hold, in the order of their ids.
// A custom budget is among them only within its window; a rolling one has the window that ends at the instant.
func (s State) Balances(at time.Time) []Balance {
	balances := make([]Balance, 0, len(s.Budgets))
	for _, b := range s.Budgets {
		b = b.at(at)
		window, account, ok := s.windowOf(&b, at)
		if !ok {
			continue
		}
		balance := Balance{Budget: b, Window: window, Limit: b.Limit}
		if account != nil {
			aged, _ := account.slide(at)
			balance.Account = aged.ID
			balance.Held, balance.Settled, balance.Presumed = aged.Held, aged.Settled, aged.Presumed
		}
		if d := b.Span.Duration; d != 0 {
			balance.Window = d.window(at, account)
		}
		balances = append(balances, balance)
	}
	return balances
}

// windowOf is the window of a budget at an instant, and its account if the window is open already. It is
// false where the budget has no window.
func (s *State) windowOf(b *Budget, at time.Time) (Window, *Account, bool) {
	current := s.Accounts[s.Current[b.ID]]
	if current.openAt(at) {
		return current.Window, current, true
	}
	window, ok := b.WindowAt(at, s.Zone.Location())
	// After a change of zone the calendar of the new one may reach back into a window that was closed
	// under the old one: windows of a budget never overlap.
	if current != nil && window.Start.Before(current.Window.End) && at.After(current.Window.Start) {
		window.Start = current.Window.End
	}
	return window, nil, ok
}

func (s *State) budget(id BudgetID) (Budget, bool) {
	i, ok := s.indexOf(id)
	if !ok {
		return Budget{}, false
	}
	return s.Budgets[i], true
}

// indexOf is where a budget is, or belongs, among Budgets. slices.BinarySearchFunc would copy each it looks at.
func (s *State) indexOf(id BudgetID) (int, bool) {
	low, high := 0, len(s.Budgets)
	for low < high {
		if middle := (low + high) / 2; s.Budgets[middle].ID < id {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, low < len(s.Budgets) && s.Budgets[low].ID == id
}

func (s *State) putBudget(b Budget) {
	i, ok := s.indexOf(b.ID)
	if ok {
		s.Budgets[i] = b
		return
	}
	s.Budgets = slices.Insert(s.Budgets, i, b)
}

func (s *State) dropBudget(id BudgetID) {
	s.Budgets = slices.DeleteFunc(s.Budgets, func(b Budget) bool { return b.ID == id })
	current := s.Current[id]
	delete(s.Current, id)
	s.forget(current)
}

// forget drops an account that nothing can change any more: its window is not the newest of its budget,
// and no open reservation or presumption posts to it.
func (s *State) forget(id AccountID) {
	a, ok := s.Accounts[id]
	if !ok || a.open > 0 || s.Current[a.Budget] == id {
		return
	}
	for _, p := range s.Presumed {
		if slices.Contains(p.Accounts, id) {
			return
		}
	}
	for _, r := range s.Closed {
		if slices.Contains(r.Accounts, id) {
			return
		}
	}
	delete(s.Accounts, id)
}

// close takes a reservation out of the open ones.
func (s *State) close(id ReservationID) {
	r := s.Open[id]
	delete(s.Open, id)
	for _, account := range r.Accounts {
		if a, ok := s.Accounts[account]; ok {
			if a.open--; a.open <= 0 {
				s.forget(account)
			}
		}
	}
}

// post assigns balances. at is the time by which a rolling account counts what was charged; zero where
// nothing was.
func (s *State) post(postings []Posting, at time.Time) {
	for i := range postings {
		p := &postings[i]
		a, ok := s.Accounts[p.Account]
		if !ok {
			continue
		}
		if a.rolls() && !at.IsZero() {
			a.bucket(at, p.Settled-a.Settled, p.Presumed-a.Presumed)
		}
		a.post(p, s.Version)
	}
}
