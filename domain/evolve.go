package domain

// Evolve is the state after a recorded event. It is total: events assign, so nothing can fail. It
// consumes s, like append consumes its slice: use only the result, or Clone first.
func Evolve(s State, r Recorded) State {
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
	case APIKeyIssued:
		s.Keys[e.KeyID] = Key{
			ID: e.KeyID, Name: e.Name, Prefix: e.Prefix, Hash: e.KeyHash,
			CreatedAt: r.Time, ExpiresAt: e.ExpiresAt, Models: e.Models, Tags: e.Tags,
		}
	case APIKeyRotated:
		k := s.Keys[e.KeyID]
		k.Prefix, k.Hash = e.Prefix, e.KeyHash
		s.Keys[e.KeyID] = k
	case APIKeyRevoked:
		k := s.Keys[e.KeyID]
		at := r.Time // a copy: the address of r's own would put every r on the heap
		k.RevokedAt = &at
		s.Keys[e.KeyID] = k
	case BudgetDefined:
		s.putBudget(Budget{ID: e.Budget, Period: e.Period, Scope: e.Scope, Limit: e.Limit, AlertsAt: e.AlertsAt, Source: e.Source})
	case BudgetChanged:
		b, _ := s.budget(e.Budget)
		b.Limit, b.AlertsAt, b.Source = e.Limit, e.AlertsAt, e.Source
		s.putBudget(b)
		s.post(e.Postings)
	case BudgetRetired:
		s.dropBudget(e.Budget)
	case BudgetThresholdCrossed:
	case WindowOpened:
		s.openWindow(e)
	case WindowSlid:
		s.post(e.Postings)
	case UsageReserved, ReservationExtended, UsageSettled, ReservationReleased, ReservationExpired, UsageSettledLate, UsageAdjusted:
		s.use(r)
	}
	return s
}

// use evolves the events of a reservation's life; the administrative ones are in Evolve.
func (s *State) use(r Recorded) {
	switch e := r.Event.(type) { //nolint:gochecksumtype // the administrative events are in Evolve
	case UsageReserved:
		s.AdoptReservation(Reservation{
			Request: e.Request, Amount: e.Amount, Version: r.Version, At: r.Time,
			Accounts: s.post(e.Postings), ExpiresAt: e.ExpiresAt,
		})
	case ReservationExtended:
		s.post(e.Postings)
		held := s.Open[e.Reservation]
		held.Amount, held.ExpiresAt = e.Amount, e.ExpiresAt
		s.Open[e.Reservation] = held
	case UsageSettled:
		s.post(e.Postings)
		if e.Basis == BasisPresumed {
			s.Presumed[e.Reservation] = Presumption{Reservation: s.Open[e.Reservation], Charged: e.Charged}
		}
		s.close(e.Reservation)
	case ReservationReleased:
		s.post(e.Postings)
		s.close(e.Reservation)
	case ReservationExpired:
		s.post(e.Postings)
		s.Presumed[e.Reservation] = Presumption{Reservation: s.Open[e.Reservation], Charged: e.Charged}
		s.close(e.Reservation)
	case UsageSettledLate:
		s.post(e.Postings)
		s.correct(e)
	case UsageAdjusted:
		s.post(e.Postings)
	}
}

// correct ends a presumption, or replaces its charge where the correction is itself presumed.
func (s *State) correct(e UsageSettledLate) {
	if e.Basis == BasisPresumed {
		p := s.Presumed[e.Reservation]
		p.Charged = e.Charged
		s.Presumed[e.Reservation] = p
		return
	}
	s.ForgetPresumption(e.Reservation)
}

func (s *State) openWindow(e WindowOpened) {
	s.Accounts[e.Account] = &Account{
		ID: e.Account, Budget: e.Budget, Period: e.Period, Window: Window{Start: e.Start, End: e.End},
		Limit: e.Limit, Held: e.Held, Settled: e.Settled, Presumed: e.Presumed,
		Cap: max(e.Limit, e.Held+e.Settled), Version: s.Version,
	}
	s.Current[e.Budget] = e.Account
	for id := range s.Accounts {
		s.forget(id) // the one before, and what a store left behind when it dropped presumptions
	}
}
