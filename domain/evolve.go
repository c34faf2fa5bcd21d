package domain

import (
	"slices"
	"time"
)

// Evolve is the state after a recorded event. It is total: events assign, so nothing can fail. It
// consumes s, like append consumes its slice: use only the result, or Clone first.
func Evolve(s State, r Recorded) State {
	s.evolve(r)
	return s
}

// evolve is Evolve in place: a State is too large to copy for each event.
func (s *State) evolve(r Recorded) {
	s.Version, s.LastTime = r.Version, r.Time
	switch e := r.Event.(type) {
	case TenantCreated:
		s.Tenant, s.CreatedAt = r.Tenant, r.Time
		s.Name, s.Zone, s.RateLimit = e.Name, e.Zone, e.RateLimitPerMin
	case TenantChanged:
		s.Name, s.Zone = e.Name, e.Zone
	case TenantSuspended:
		s.Suspended = true
	case TenantResumed:
		s.Suspended = false
	case RateLimitChanged:
		s.RateLimit = e.RateLimitPerMin
	case APIKeyIssued, APIKeyRotated, APIKeyRevoked, APIKeySuspended, APIKeyResumed:
		s.key(r)
	case BudgetDefined:
		s.putBudget(Budget{
			ID: e.Budget, Period: e.Period, Span: e.Span, Scope: e.Scope, Window: Window{Start: e.Start, End: e.End},
			Limit: e.Limit, AlertsAt: e.AlertsAt, Source: e.Source,
		})
	case BudgetChanged:
		b, _ := s.budget(e.Budget)
		b.Limit, b.Raises, b.AlertsAt, b.Source = e.Limit, e.Raises, e.AlertsAt, e.Source
		s.putBudget(b)
		s.post(e.Postings, r.Time)
	case BudgetRetired:
		s.dropBudget(e.Budget)
	case BudgetThresholdCrossed:
		if a, ok := s.Accounts[e.Account]; ok {
			a.Crossed = append(slices.Clip(a.Crossed), e.Threshold)
		}
	case WindowOpened:
		s.openWindow(e)
	case WindowSlid:
		s.slide(e)
	case UsageReserved, ReservationExtended, UsageSettled, ReservationReleased, ReservationExpired, UsageSettledLate, UsageAdjusted:
		s.use(r)
	}
}

// key evolves the events of an API key.
func (s *State) key(r Recorded) {
	at := r.Time                 // a copy: the address of r's own would put every r on the heap
	switch e := r.Event.(type) { //nolint:gochecksumtype // the others are in evolve
	case APIKeyIssued:
		s.Keys[e.KeyID] = Key{
			ID: e.KeyID, Name: e.Name, Prefix: e.Prefix, Hash: e.KeyHash,
			CreatedAt: r.Time, ExpiresAt: e.ExpiresAt, Models: e.Models, Tags: e.Tags, RequiredTags: e.RequiredTags,
		}
	case APIKeyRotated:
		k := s.Keys[e.KeyID]
		until := e.OldUntil
		k.Prefix, k.Hash, k.OldHash, k.OldUntil = e.Prefix, e.KeyHash, e.OldKeyHash, &until
		s.Keys[e.KeyID] = k
	case APIKeyRevoked:
		k := s.Keys[e.KeyID]
		k.RevokedAt = &at
		s.Keys[e.KeyID] = k
	case APIKeySuspended:
		k := s.Keys[e.KeyID]
		k.Suspended = true
		s.Keys[e.KeyID] = k
	case APIKeyResumed:
		k := s.Keys[e.KeyID]
		k.Suspended = false
		s.Keys[e.KeyID] = k
	}
}

// use evolves the events of a reservation's life; the administrative ones are in evolve. Hardly any request has
// an idempotency key, and an attempt copies what it was for.
func (s *State) use(r Recorded) {
	s.Used = true
	switch e := r.Event.(type) { //nolint:gochecksumtype // the administrative events are in evolve
	case UsageReserved:
		s.post(e.Postings, r.Time)
		s.AdoptReservation(Reservation{
			Request: e.Request, Amount: e.Amount, Version: r.Version, At: r.Time,
			Accounts: accountsOf(e.Postings), ExpiresAt: e.ExpiresAt,
		})
	case ReservationExtended:
		s.post(e.Postings, e.ReservedAt)
		held := s.Open[e.Reservation]
		held.Amount, held.ExpiresAt = e.Amount, e.ExpiresAt
		s.Open[e.Reservation] = held
	case UsageSettled:
		if e.Idempotency != "" {
			s.attempt(r)
		}
		s.post(e.Postings, e.ReservedAt)
		if e.Basis == BasisPresumed {
			s.Presumed[e.Reservation] = Presumption{Reservation: s.Open[e.Reservation], Charged: e.Charged}
		}
		s.close(e.Reservation)
	case ReservationReleased:
		if e.Idempotency != "" {
			s.attempt(r)
		}
		s.post(e.Postings, e.ReservedAt)
		s.Presumed[e.Reservation] = Presumption{Reservation: s.Open[e.Reservation], Released: true}
		s.close(e.Reservation)
	case ReservationExpired:
		if e.Idempotency != "" {
			s.attempt(r)
		}
		s.post(e.Postings, e.ReservedAt)
		s.Presumed[e.Reservation] = Presumption{Reservation: s.Open[e.Reservation], Charged: e.Charged}
		s.close(e.Reservation)
	case UsageSettledLate:
		if e.Idempotency != "" {
			s.attempt(r)
		}
		s.post(e.Postings, e.ReservedAt)
		s.correct(e)
	case UsageAdjusted:
		s.attempt(r)
		s.post(e.Postings, e.at(r.Time))
		if e.Confirmed {
			s.ForgetPresumption(e.Reservation)
		}
	}
}

// correct ends a presumption, or replaces its charge where the correction is itself presumed.
func (s *State) correct(e UsageSettledLate) {
	if e.Basis == BasisPresumed {
		p := s.Presumed[e.Reservation]
		p.Charged, p.Released = e.Charged, false
		s.Presumed[e.Reservation] = p
		return
	}
	s.ForgetPresumption(e.Reservation)
}

// slide takes what left a rolling window out of its account.
func (s *State) slide(e WindowSlid) {
	s.post(e.Postings, time.Time{})
	a, ok := s.Accounts[e.Account]
	if !ok {
		return
	}
	a.dropBuckets(e.Oldest)
	a.rearm()
}

// OpenedAccount is the account that an event opens.
func OpenedAccount(e WindowOpened) Account {
	return Account{
		ID: e.Account, Budget: e.Budget, Period: e.Period, Window: Window{Start: e.Start, End: e.End},
		Limit: e.Limit, Held: e.Held, Settled: e.Settled, Presumed: e.Presumed,
		Cap: max(e.Limit, e.Held+e.Settled), Version: int64(e.Account),
		Duration: e.Duration, Buckets: e.Buckets, Oldest: e.Duration.bucketIn(Window{Start: e.Start}),
	}
}

func (s *State) openWindow(e WindowOpened) {
	opened := OpenedAccount(e)
	a := &opened
	s.Accounts[e.Account] = a
	s.Current[e.Budget] = e.Account
	s.adopt(a, e.Adopted)
	for id := range s.Accounts {
		s.forget(id) // the one before, and what a store left behind when it dropped presumptions
	}
}

// adopt makes reservations that were made before an account was opened count in it.
func (s *State) adopt(a *Account, reservations []ReservationID) {
	for _, id := range reservations {
		if r, ok := s.Open[id]; ok {
			r.Accounts = append(slices.Clip(r.Accounts), a.ID)
			s.Open[id] = r
			a.open++
		}
		if p, ok := s.Presumed[id]; ok {
			p.Accounts = append(slices.Clip(p.Accounts), a.ID)
			s.Presumed[id] = p
		}
	}
}
