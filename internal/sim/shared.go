package sim

import (
	"context"
	"sync"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

// Shared is a Journal without faults on a Database of its own that goroutines may share: for the tests that
// hold the fake against Postgres.
type Shared struct {
	mu      sync.Mutex
	moved   *sync.Cond
	now     func() time.Time
	journal *Journal
}

// NewShared makes one. now is the clock of both sides.
func NewShared(now func() time.Time) *Shared {
	s := &Shared{now: now}
	s.moved = sync.NewCond(&s.mu)
	s.journal = NewJournal(NewDatabase(s), now)
	return s
}

// Now implements World.
func (s *Shared) Now() time.Time { return s.now() }

// Until implements World: it waits for what other goroutines do.
func (s *Shared) Until(cond func() bool, most time.Duration) bool {
	late := false
	timer := time.AfterFunc(most, func() { s.do(func() { late = true }) })
	defer timer.Stop()
	for !cond() && !late {
		s.moved.Wait()
	}
	return cond()
}

// do is one call at a time.
func (s *Shared) do(call func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	call()
	s.moved.Broadcast()
}

// Append implements lanes.Journal.
func (s *Shared) Append(ctx context.Context, appends []lanes.Append) (won []domain.TenantID, at time.Time, err error) {
	s.do(func() { won, at, err = s.journal.Append(ctx, appends) })
	return won, at, err
}

// Lock implements lanes.Journal.
func (s *Shared) Lock(ctx context.Context, tenant domain.TenantID) (l lanes.Locked, err error) {
	s.do(func() { l, err = s.journal.Lock(ctx, tenant) })
	return sharedLocked{s, l}, err
}

// Fence implements lanes.Journal.
func (s *Shared) Fence(ctx context.Context, tenant domain.TenantID, first domain.Recorded) (committed bool, err error) {
	s.do(func() { committed, err = s.journal.Fence(ctx, tenant, first) })
	return committed, err
}

// Close implements lanes.Journal.
func (s *Shared) Close() {}

// sharedLocked is a transaction of a Shared.
type sharedLocked struct {
	shared *Shared
	locked lanes.Locked
}

// Head implements lanes.Locked.
func (l sharedLocked) Head() lanes.Head { return l.locked.Head() }

// Load implements lanes.Locked.
func (l sharedLocked) Load(ctx context.Context, seen lanes.Mark) (state domain.State, hash lanes.Hash, err error) {
	l.shared.do(func() { state, hash, err = l.locked.Load(ctx, seen) })
	return state, hash, err
}

// Tail implements lanes.Locked.
func (l sharedLocked) Tail(ctx context.Context, after int64, limit int) (records []domain.Recorded, err error) {
	l.shared.do(func() { records, err = l.locked.Tail(ctx, after, limit) })
	return records, err
}

// Presumption implements lanes.Locked.
func (l sharedLocked) Presumption(ctx context.Context, state *domain.State, id domain.ReservationID) (err error) {
	l.shared.do(func() { err = l.locked.Presumption(ctx, state, id) })
	return err
}

// Closed implements lanes.Locked.
func (l sharedLocked) Closed(ctx context.Context, state *domain.State, id domain.ReservationID) (err error) {
	l.shared.do(func() { err = l.locked.Closed(ctx, state, id) })
	return err
}

// Attempt implements lanes.Locked.
func (l sharedLocked) Attempt(ctx context.Context, state *domain.State, key domain.AttemptKey) (err error) {
	l.shared.do(func() { err = l.locked.Attempt(ctx, state, key) })
	return err
}

// Past implements lanes.Locked.
func (l sharedLocked) Past(ctx context.Context, state *domain.State, past domain.Past) (answer domain.Past, err error) {
	l.shared.do(func() { answer, err = l.locked.Past(ctx, state, past) })
	return answer, err
}

// Append implements lanes.Locked.
func (l sharedLocked) Append(ctx context.Context, a lanes.Append, after domain.State) (won bool, err error) {
	l.shared.do(func() { won, err = l.locked.Append(ctx, a, after) })
	return won, err
}

// Commit implements lanes.Locked.
func (l sharedLocked) Commit(ctx context.Context) (err error) {
	l.shared.do(func() { err = l.locked.Commit(ctx) })
	return err
}

// Rollback implements lanes.Locked.
func (l sharedLocked) Rollback(ctx context.Context) {
	l.shared.do(func() { l.locked.Rollback(ctx) })
}
