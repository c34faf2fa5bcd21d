package sim

import (
	"context"
	"slices"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

// Bug names a bug that can be planted: in the database's guards, around the journal, around the decision, or
// in the simulated handlers, relay and projectors. Production code is not touched.
type Bug string

// The bugs that the simulation must find.
const (
	noBug               Bug = ""
	overspend           Bug = "the CHECK is dropped and a decision gives 10 % more than the limit"
	windowEnd           Bug = "a window still takes a reservation at its end (<= for <)"
	noCompare           Bug = "the compare-and-set does not look at version and hash"
	noFence             Bug = "the compare-and-set does not look at the fence"
	noSkew              Bug = "the database takes any time a gateway gives an event"
	oldLimit            Bug = "the cap does not fall and denials ask it, not the limit"
	wrongWindow         Bug = "a settlement posts to the newest window, not to the reservation's"
	forgetUndo          Bug = "the reservation of a caller who left is not released"
	conflictIsSuccess   Bug = "a conflict is answered as success"
	unknownIsFailure    Bug = "an unknown outcome is taken for a failure, without a fence"
	unknownIsSuccess    Bug = "an unknown outcome is taken for success"
	coldForgets         Bug = "a cold load forgets an open reservation"
	forgetPresumption   Bug = "a presumption is not loaded, so late evidence finds nothing"
	lateTwice           Bug = "late evidence is not idempotent"
	reapEarly           Bug = "the reaper expires holds before their time"
	releaseUnknown      Bug = "a call whose outcome is unknown is given back"
	forgetOnError       Bug = "a hold is forgotten on an error path, and expiry gives it back"
	forwardBeforeCommit Bug = "a request is forwarded before its hold is committed"
	noDedupe            Bug = "the usage projector does not drop repetitions"
	olderWins           Bug = "an older version overwrites a register"
	deleteBeforePublish Bug = "outbox rows are deleted before they are published"

	noFresh          Bug = "a fresh idempotency key is not looked up before the compare-and-set"
	leavesEarly      Bug = "a part of a rolling window leaves by its start, not by its end"
	forgetPast       Bug = "a new budget forgets what its window had cost"
	adoptsNothing    Bug = "a new budget forgets what is presumed in its window"
	scopeLeftOut     Bug = "a budget by tag is left out"
	raiseForever     Bug = "a raise never ends"
	toldTwice        Bug = "a threshold is told again by the next charge"
	extendBlindly    Bug = "the CHECK is dropped and an extension does not ask for room"
	suspendedKey     Bug = "a suspended key still reserves"
	releaseIsFinal   Bug = "what was released is not kept, so evidence that it was billed finds nothing"
	adjustAgain      Bug = "an adjustment does not ask for its idempotency key"
	forgetExtension  Bug = "a cold load reads what was reserved, not what was extended"
	customAtItsEnd   Bug = "a custom budget still counts at its end"
	seedWithoutHolds Bug = "a new budget does not adopt open reservations"
)

// Bugs lists all, in the order of the documentation.
func Bugs() []Bug {
	return []Bug{
		overspend, windowEnd, noCompare, noFence, noSkew, oldLimit, wrongWindow, forgetUndo, conflictIsSuccess,
		unknownIsFailure, unknownIsSuccess, coldForgets, forgetPresumption, lateTwice, reapEarly, releaseUnknown,
		forgetOnError, forwardBeforeCommit, noDedupe, olderWins, deleteBeforePublish,
		noFresh, leavesEarly, forgetPast, adoptsNothing, seedWithoutHolds, scopeLeftOut, customAtItsEnd, raiseForever, toldTwice,
		extendBlindly, forgetExtension, suspendedKey, releaseIsFinal, adjustAgain,
	}
}

// flaws are the guards of the database that a bug takes away.
func (b Bug) flaws() flaws {
	return flaws{
		noCheck: b == overspend || b == extendBlindly, noCompare: b == noCompare, noFence: b == noFence,
		noSkew: b == noSkew, noRatchet: b == oldLimit, noFresh: b == noFresh || b == adjustAgain,
	}
}

// journal wraps a gateway's journal.
func (b Bug) journal(w *world, j *Journal) lanes.Journal {
	switch b { //nolint:exhaustive // the others are elsewhere
	case conflictIsSuccess, unknownIsFailure, unknownIsSuccess, coldForgets, forgetPresumption, forgetPast, adoptsNothing,
		releaseIsFinal, adjustAgain, forgetExtension:
		return &wrongJournal{Journal: j, bug: b, world: w}
	}
	return j
}

// wrongJournal is a journal with a bug.
type wrongJournal struct {
	*Journal
	bug   Bug
	world *world
}

// Append implements lanes.Journal.
func (j *wrongJournal) Append(ctx context.Context, appends []lanes.Append) ([]domain.TenantID, time.Time, error) {
	won, at, err := j.Journal.Append(ctx, appends)
	unknown := err != nil && lanes.OutcomeUnknown(err)
	switch {
	case unknown && j.bug == unknownIsFailure:
		return nil, at, lanes.ErrDenied
	case unknown && j.bug == unknownIsSuccess:
		at, err = j.world.Now(), nil
	case err == nil && j.bug == conflictIsSuccess:
	default:
		return won, at, err
	}
	won = nil
	for _, a := range appends {
		won = append(won, a.Tenant)
	}
	return won, at, err
}

// Lock implements lanes.Journal.
func (j *wrongJournal) Lock(ctx context.Context, tenant domain.TenantID) (lanes.Locked, error) {
	l, err := j.Journal.Lock(ctx, tenant)
	if err != nil {
		return nil, err
	}
	return &wrongLocked{Locked: l, bug: j.bug}, nil
}

// wrongLocked is a transaction with a bug.
type wrongLocked struct {
	lanes.Locked
	bug Bug
}

// Load implements lanes.Locked.
func (l *wrongLocked) Load(ctx context.Context, seen lanes.Mark) (domain.State, lanes.Hash, error) {
	s, hash, err := l.Locked.Load(ctx, seen)
	if l.bug == forgetExtension {
		for id, r := range s.Open {
			r.Amount = domain.Amount(r.Estimate.CompletionTokens) // what the simulated callers reserve
			s.Open[id] = r
		}
	}
	if l.bug != coldForgets || err != nil {
		return s, hash, err
	}
	var ids []domain.ReservationID
	for id := range s.Open {
		ids = append(ids, id)
	}
	if len(ids) > 0 {
		delete(s.Open, slices.Min(ids))
	}
	return s, hash, nil
}

// Presumption implements lanes.Locked.
func (l *wrongLocked) Presumption(ctx context.Context, s *domain.State, id domain.ReservationID) error {
	if l.bug == forgetPresumption {
		return nil
	}
	err := l.Locked.Presumption(ctx, s, id)
	if l.bug == releaseIsFinal && s.Presumed[id].Released {
		s.ForgetPresumption(id)
	}
	return err
}

// Attempt implements lanes.Locked.
func (l *wrongLocked) Attempt(ctx context.Context, s *domain.State, key domain.AttemptKey) error {
	if l.bug == adjustAgain {
		return nil
	}
	return l.Locked.Attempt(ctx, s, key)
}

// Past implements lanes.Locked.
func (l *wrongLocked) Past(ctx context.Context, s *domain.State, past domain.Past) (domain.Past, error) {
	answer, err := l.Locked.Past(ctx, s, past)
	switch l.bug { //nolint:exhaustive // the others answer right
	case forgetPast:
		answer.Spent = nil
	case adoptsNothing:
		for id := range s.Presumed {
			s.ForgetPresumption(id)
		}
	}
	return answer, err
}

// executor is domain.Execute, or something in its place.
type executor = func(domain.State, domain.Command, time.Time) (domain.State, []domain.Recorded, error)

// execute is a decision with the bug, or nil.
func (b Bug) execute(w *world) executor {
	switch b { //nolint:exhaustive // the others are elsewhere
	case overspend:
		return withLimits(func(a domain.Account) domain.Amount { return a.Limit + a.Limit/10 })
	case oldLimit:
		return withLimits(func(a domain.Account) domain.Amount { return max(a.Limit, w.model.highest(a)) })
	case windowEnd:
		return windowsAtTheirEnd
	case wrongWindow:
		return rewrite(settleInNewest)
	case forgetUndo:
		return func(s domain.State, c domain.Command, now time.Time) (domain.State, []domain.Recorded, error) {
			if r, ok := c.(domain.Release); ok && r.Reason == domain.ReleasedNeverDispatched {
				return s, nil, nil
			}
			return domain.Execute(s, c, now)
		}
	case reapEarly:
		return expireEarly
	case forgetOnError:
		return func(s domain.State, c domain.Command, now time.Time) (domain.State, []domain.Recorded, error) {
			if e, ok := c.(domain.Expire); ok {
				e.Free = true
				c = e
			}
			return domain.Execute(s, c, now)
		}
	case lateTwice:
		return w.settleLateAgain
	}
	return b.misled(w)
}

// highest is the limit an account once had.
func (m *model) highest(a domain.Account) domain.Amount {
	var most domain.Amount
	for _, tenant := range m.world.tenants {
		if own := m.tenant(tenant).accounts[a.ID]; own != nil && own.budget == a.Budget && own.window == a.Window {
			most = max(most, own.highest)
		}
	}
	return most
}

// replay evolves a state by records that were changed after they were decided on another copy.
func replay(s domain.State, records []domain.Recorded) domain.State {
	for _, r := range records {
		s = domain.Evolve(s, r)
	}
	return s
}

// withLimits decides reservations as if the limits were others.
func withLimits(limit func(domain.Account) domain.Amount) executor {
	return func(s domain.State, c domain.Command, now time.Time) (domain.State, []domain.Recorded, error) {
		if !isReserve(c) {
			return domain.Execute(s, c, now)
		}
		return limited(s, c, now, limit)
	}
}

// limited decides as if the limits were others.
func limited(s domain.State, c domain.Command, now time.Time, limit func(domain.Account) domain.Amount) (domain.State, []domain.Recorded, error) {
	wrong := s.Clone()
	for _, a := range wrong.Accounts {
		a.Limit = limit(*a)
	}
	_, records, err := domain.Execute(wrong, c, now)
	if err != nil {
		return s, nil, err
	}
	for _, r := range records {
		for i, p := range domain.Postings(r.Event) {
			if a := s.Accounts[p.Account]; a != nil {
				domain.Postings(r.Event)[i].Limit = a.Limit
			}
		}
	}
	return replay(s, records), records, nil
}

// rewrite changes events after they were decided.
func rewrite(change func(before domain.State, r *domain.Recorded)) executor {
	return func(s domain.State, c domain.Command, now time.Time) (domain.State, []domain.Recorded, error) {
		before := s.Clone()
		after, records, err := domain.Execute(s, c, now)
		if err != nil || len(records) == 0 {
			return after, records, err
		}
		state := before.Clone()
		for i := range records {
			change(before, &records[i])
			state = domain.Evolve(state, records[i])
		}
		return state, records, nil
	}
}

// settleInNewest posts a settlement to the newest window of each budget.
func settleInNewest(before domain.State, r *domain.Recorded) {
	e, ok := r.Event.(domain.UsageSettled)
	if !ok {
		return
	}
	for i, p := range e.Postings {
		newest := before.Accounts[before.Current[p.Budget]]
		if newest == nil || newest.ID == p.Account {
			continue
		}
		e.Postings[i] = domain.Posting{
			Account: newest.ID, Budget: p.Budget, Limit: newest.Limit, Settled: newest.Settled + e.Charged, Held: newest.Held,
			Presumed: newest.Presumed, Forced: p.Forced,
		}
	}
}

// windowsAtTheirEnd lets the window that ends at an instant still hold it.
func windowsAtTheirEnd(s domain.State, c domain.Command, now time.Time) (domain.State, []domain.Recorded, error) {
	if _, ok := c.(domain.Reserve); !ok {
		return domain.Execute(s, c, now)
	}
	before := s.Clone()
	after, records, err := domain.Execute(s, c, now)
	if err != nil || len(records) == 0 {
		return after, records, err
	}
	at := records[0].Time
	for _, id := range before.Current {
		if a := before.Accounts[id]; a == nil || !a.Window.End.Equal(at) {
			continue
		}
		events, err := domain.Decide(before, c, at.Add(-time.Microsecond))
		if err != nil {
			return before, nil, err
		}
		records = records[:0]
		state := before.Clone()
		for i, e := range events {
			r := domain.Recorded{Tenant: before.Tenant, Version: before.Version + int64(i) + 1, Time: at.Add(time.Duration(i) * time.Microsecond), Event: e}
			state = domain.Evolve(state, r)
			records = append(records, r)
		}
		return state, records, nil
	}
	return after, records, nil
}

// expireEarly closes a hold whatever its time is.
func expireEarly(s domain.State, c domain.Command, now time.Time) (domain.State, []domain.Recorded, error) {
	e, ok := c.(domain.Expire)
	if r, open := s.Open[e.Reservation]; ok && open && now.Before(r.ExpiresAt) {
		held := s.Open[e.Reservation]
		held.ExpiresAt = now
		s.Open[e.Reservation] = held
	}
	return domain.Execute(s, c, now)
}

// settleLateAgain corrects a presumed charge as often as evidence comes.
func (w *world) settleLateAgain(s domain.State, c domain.Command, now time.Time) (domain.State, []domain.Recorded, error) {
	e, ok := c.(domain.Settle)
	if !ok {
		return domain.Execute(s, c, now)
	}
	if p, presumed := s.Presumed[e.Reservation]; presumed {
		w.memory[e.Reservation] = p
	}
	again, known := w.memory[e.Reservation]
	_, open := s.Open[e.Reservation]
	if _, presumed := s.Presumed[e.Reservation]; known && !open && !presumed {
		again.Charged += e.Charged // another delta, as if nothing had been corrected yet
		for _, id := range again.Accounts {
			if s.Accounts[id] == nil {
				return domain.Execute(s, c, now)
			}
		}
		s.Presumed[e.Reservation] = again
	}
	return domain.Execute(s, c, now)
}
