package sim

import (
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// misled is a decision on a state that is not the one there is, or nil.
func (b Bug) misled(w *world) executor {
	switch b { //nolint:exhaustive // the others are elsewhere
	case leavesEarly:
		return slideEarly
	case scopeLeftOut:
		return misled(isReserve, func(s *domain.State, _ time.Time) {
			s.Budgets = dropBudgets(s.Budgets, func(b domain.Budget) bool { return b.Scope.Tag != "" })
		})
	case customAtItsEnd:
		return misled(isReserve, func(s *domain.State, now time.Time) {
			for i, b := range s.Budgets {
				if b.Period == domain.Custom && !now.Before(b.Window.End) && now.Before(b.Window.End.Add(time.Second)) {
					w.extendWindow(s, i)
				}
			}
		})
	case raiseForever:
		return misled(isReserveOrAge, func(s *domain.State, _ time.Time) {
			for i := range s.Budgets {
				s.Budgets[i].Raises = nil // as if they were the limit
			}
		})
	case toldTwice:
		return misled(isSettle, func(s *domain.State, _ time.Time) {
			for _, a := range s.Accounts {
				a.Crossed = nil
			}
		})
	case extendBlindly:
		return extendBeyond
	case suspendedKey:
		return misled(isReserve, func(s *domain.State, _ time.Time) {
			for id, k := range s.Keys {
				k.Suspended = false
				s.Keys[id] = k
			}
		})
	case seedWithoutHolds:
		return adoptNoHolds
	}
	return nil
}

// misled decides some commands on a copy of the state that was changed first.
func misled(which func(domain.Command) bool, change func(*domain.State, time.Time)) executor {
	return func(s domain.State, c domain.Command, now time.Time) (domain.State, []domain.Recorded, error) {
		if !which(c) {
			return domain.Execute(s, c, now)
		}
		wrong := s.Clone()
		change(&wrong, now)
		_, records, err := domain.Execute(wrong, c, now)
		if err != nil {
			return s, nil, err
		}
		return replay(s, records), records, nil
	}
}

func isReserve(c domain.Command) bool {
	_, ok := c.(domain.Reserve)
	return ok
}

func isReserveOrAge(c domain.Command) bool {
	_, ages := c.(domain.Age)
	return ages || isReserve(c)
}

func isSettle(c domain.Command) bool {
	_, ok := c.(domain.Settle)
	return ok
}

func dropBudgets(budgets []domain.Budget, which func(domain.Budget) bool) []domain.Budget {
	var kept []domain.Budget
	for _, b := range budgets {
		if !which(b) {
			kept = append(kept, b)
		}
	}
	return kept
}

// extendWindow makes a custom budget, and its account, end a second later.
func (w *world) extendWindow(s *domain.State, i int) {
	b := &s.Budgets[i]
	b.Window.End = b.Window.End.Add(time.Second)
	if a := s.Accounts[s.Current[b.ID]]; a != nil {
		a.Window.End = b.Window.End
	}
}

// slideEarly takes parts out of rolling windows a part too early, before it decides a reservation.
func slideEarly(s domain.State, c domain.Command, now time.Time) (domain.State, []domain.Recorded, error) {
	if !isReserve(c) {
		return domain.Execute(s, c, now)
	}
	wrong := s.Clone()
	var slid []domain.Recorded
	for _, b := range s.Budgets {
		events, err := domain.Decide(wrong, domain.Age{}, now.Add(b.Span.Duration.BucketWidth()))
		if err != nil {
			return s, nil, err
		}
		for _, e := range events {
			e, ok := e.(domain.WindowSlid)
			if !ok || e.Budget != b.ID {
				continue
			}
			at := now.UTC().Truncate(time.Microsecond)
			if earliest := wrong.LastTime.Add(time.Microsecond); at.Before(earliest) {
				at = earliest
			}
			r := domain.Recorded{Tenant: s.Tenant, Version: wrong.Version + 1, Time: at, Event: e}
			wrong = domain.Evolve(wrong, r)
			slid = append(slid, r)
		}
	}
	_, records, err := domain.Execute(wrong, c, now)
	if err != nil {
		return s, nil, err
	}
	records = append(slid, records...)
	return replay(s, records), records, nil
}

// extendBeyond extends as if every limit were ten times what it is.
func extendBeyond(s domain.State, c domain.Command, now time.Time) (domain.State, []domain.Recorded, error) {
	if _, ok := c.(domain.Extend); !ok {
		return domain.Execute(s, c, now)
	}
	return limited(s, c, now, func(a domain.Account) domain.Amount { return 10 * a.Limit })
}

// adoptNoHolds opens the window of a new budget without what is held in it.
func adoptNoHolds(s domain.State, c domain.Command, now time.Time) (domain.State, []domain.Recorded, error) {
	if _, ok := c.(domain.Informed); !ok {
		return domain.Execute(s, c, now)
	}
	wrong := s.Clone()
	clear(wrong.Open)
	_, records, err := domain.Execute(wrong, c, now)
	if err != nil {
		return s, nil, err
	}
	return replay(s, records), records, nil
}
