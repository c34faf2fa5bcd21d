package lanes

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/budgetguard/budgetguard/domain"
)

// call is a command that waits for its turn.
type call struct {
	command domain.Command
	// patient calls settle or release a reservation: they are carried out even if nobody waits any more.
	// An expiry is not patient: the reaper finds the hold again, and would pile up calls meanwhile.
	patient bool
	status  atomic.Int32
	done    chan struct{}
	events  []domain.Recorded
	err     error
}

const (
	waiting int32 = iota
	answered
	abandoned
)

func newCall(c domain.Command) *call {
	_, expires := c.(domain.Expire)
	return &call{command: c, patient: closes(c) && !expires, done: make(chan struct{})}
}

// closes tells whether a command closes a reservation.
func closes(c domain.Command) bool {
	switch c.(type) { //nolint:gochecksumtype // all others open something or define
	case domain.Settle, domain.SettlePresumed, domain.Release, domain.Expire:
		return true
	}
	return false
}

// defines tells whether a command's events also move the definition tables, which only the locked path
// writes.
func defines(c domain.Command) bool {
	switch c.(type) { //nolint:gochecksumtype // all others define something, or have to recall something
	case domain.Reserve, domain.Extend:
		return false
	}
	return !closes(c)
}

// redefines tells whether records move the definition tables although no command was to: a raise that ended
// lowers its budget.
func redefines(records []domain.Recorded) bool {
	return slices.ContainsFunc(records, func(r domain.Recorded) bool {
		_, changed := r.Event.(domain.BudgetChanged)
		return changed
	})
}

// closing is the reservation a command closes.
func closing(c domain.Command) (domain.ReservationID, bool) {
	switch c := c.(type) { //nolint:gochecksumtype // all others close nothing
	case domain.Settle:
		return c.Reservation, true
	case domain.SettlePresumed:
		return c.Reservation, true
	case domain.Release:
		return c.Reservation, true
	}
	return "", false
}

// answer hands the outcome to the caller. It is false if the caller has gone.
func (c *call) answer(events []domain.Recorded, err error) bool {
	if c.status.Load() != waiting { // its caller may be reading what giveUp left
		return false
	}
	c.events, c.err = events, err
	if !c.status.CompareAndSwap(waiting, answered) {
		return false
	}
	close(c.done)
	return true
}

// abandon ends the wait. It is false if the answer is there already.
func (c *call) abandon() bool { return c.status.CompareAndSwap(waiting, abandoned) }

// giveUp ends the wait of a caller whose command may be committed or not: if it turns out to be, it is as
// if the caller had gone.
func (c *call) giveUp(err error) {
	if c.status.Load() != waiting {
		return
	}
	c.err = err
	if c.status.CompareAndSwap(waiting, abandoned) {
		close(c.done)
	}
}

// dropped tells whether nobody wants the command any more.
func (c *call) dropped() bool { return !c.patient && c.status.Load() == abandoned }

// turn is what one tenant's waiting commands come to: the events to append and what each caller gets.
type turn struct {
	stream   *stream
	calls    []*call
	outcomes []outcome
	expected int64
	prev     Hash
	fence    int64
	records  []domain.Recorded
	rolling  []domain.Account
	// aside are calls taken with the turn but not decided by it; dropped counts those nobody wanted.
	aside   []*call
	dropped int
}

type outcome struct {
	from, to int // of records
	err      error
}

// append is the turn as the journal takes it.
func (t *turn) append() Append {
	return Append{Tenant: t.stream.tenant, Expected: t.expected, Prev: t.prev, Fence: t.fence, Records: t.records, Rolling: t.rolling}
}

// plan decides calls on the stream's state, which it consumes. ask answers what a decision needs to know of
// the past; nil where it cannot be asked. A panic in a decision is a bug; it is turned into an error of
// every call, and the state is dropped with it.
func (l *Ledger) plan(s *stream, calls []*call, now time.Time, ask asking) (t *turn, err error) {
	defer func() {
		if p := recover(); p != nil {
			t, err = nil, fmt.Errorf("%w: tenant %s: panic: %v\n%s", ErrUndecidable, s.tenant, p, debug.Stack())
		}
	}()
	t = &turn{stream: s, calls: calls, expected: s.state.Version, prev: s.hash, fence: s.fence}
	hash := s.hash
	rolling := rollingOf(s.state)
	s.seen = Mark{Version: s.state.Version, Hash: s.hash}
	for i, c := range calls {
		o := outcome{from: len(t.records), to: len(t.records)}
		var records []domain.Recorded
		before := ask
		if len(t.records) > 0 {
			before = nil // the past that can be asked is that of before this turn
		}
		if records, o.err = l.decide(s, c.command, now, before); errors.Is(o.err, errUnanswered) {
			return nil, o.err
		}
		if ask != nil && len(t.records) > 0 && recallsAnew(c.command, o.err) {
			t.calls, t.aside = calls[:i:i], calls[i:]
			break
		}
		rolling = withOpened(rolling, s.state, records)
		for _, r := range records {
			if r.Body, err = domain.EncodeEvent(r.Event); err != nil {
				return nil, fmt.Errorf("%w: tenant %s: %w", ErrUndecidable, s.tenant, err)
			}
			hash = Link(hash, r, domain.SchemaVersion)
			r.Hash = hash
			t.records = append(t.records, r)
		}
		o.to = len(t.records)
		t.outcomes = append(t.outcomes, o)
	}
	s.hash = hash
	for _, a := range rolling { // also those that left the state in this turn
		t.rolling = append(t.rolling, *a)
	}
	return t, nil
}

// recallsAnew tells whether a command that was refused behind others of its turn may not be, once they are committed
// and what it needs is recalled again: the past, or a reservation that one of them closed for good.
func recallsAnew(c domain.Command, err error) bool {
	needed := new(domain.PastNeededError)
	_, adjusts := c.(domain.Adjust)
	return errors.As(err, &needed) || (adjusts && errors.Is(err, domain.ErrReservationUnknown))
}

// rollingOf are the rolling accounts of a state. They evolve in place, so that an account which leaves the
// state later is still known by its pointer.
func rollingOf(s domain.State) []*domain.Account {
	var rolling []*domain.Account
	for _, a := range s.Accounts {
		if a.Duration != 0 {
			rolling = append(rolling, a)
		}
	}
	return rolling
}

// withOpened adds the rolling accounts that records opened: a later command of the turn may retire their budget.
func withOpened(rolling []*domain.Account, s domain.State, records []domain.Recorded) []*domain.Account {
	for _, r := range records {
		if e, ok := r.Event.(domain.WindowOpened); ok && e.Duration != 0 {
			if a := s.Accounts[e.Account]; a != nil {
				rolling = append(rolling, a)
			}
		}
	}
	return rolling
}

// asking answers what a window had cost before its budget was.
type asking func(domain.Past) (domain.Past, error)

// errUnanswered marks a turn that could not go on, because the past could not be read.
var errUnanswered = errors.New("the past was not told")

// decide carries out one command on the stream's state, and asks for the past as often as the decision
// does. On an error the state is unchanged.
func (l *Ledger) decide(s *stream, c domain.Command, now time.Time, ask asking) (records []domain.Recorded, err error) {
	if err := checkIDs(c); err != nil {
		return nil, err
	}
	var known []domain.Past
	for {
		informed := c
		if known != nil {
			informed = domain.Informed{Command: c, Past: known}
		}
		s.state, records, err = l.cfg.Execute(s.state, informed, now)
		var needed *domain.PastNeededError
		if !errors.As(err, &needed) || ask == nil {
			return records, err
		}
		asked := l.cfg.Now()
		answer, err := ask(needed.Past)
		now = now.Add(l.cfg.Now().Sub(asked)) // the database takes no event that is late
		if errors.Is(err, domain.ErrUnavailable) {
			return nil, err // this command is asked too early; the others need not wait
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUnanswered, err)
		}
		known = append(known, answer)
	}
}

// checkIDs refuses reservation ids that the schema cannot hold as they are: one that reads back in
// another spelling would be another reservation.
func checkIDs(c domain.Command) error {
	reserve, ok := c.(domain.Reserve)
	if !ok {
		return nil
	}
	if id, err := uuid.Parse(string(reserve.Reservation)); err != nil || id.String() != string(reserve.Reservation) {
		return fmt.Errorf("%w: reservation id %.80q is no UUID in canonical form", domain.ErrInvalid, reserve.Reservation)
	}
	return nil
}

// answer hands every caller its outcome. It returns the commands that undo what nobody waits for any
// more: a reservation whose caller has gone was never forwarded.
func (t *turn) answer() []*call {
	var undo []*call
	for i, c := range t.calls {
		o := t.outcomes[i]
		if c.answer(t.records[o.from:o.to:o.to], o.err) || o.err != nil {
			continue
		}
		if reserve, ok := c.command.(domain.Reserve); ok {
			undo = append(undo, newCall(domain.Release{Reservation: reserve.Reservation, Reason: domain.ReleasedNeverDispatched}))
		}
	}
	return undo
}

// fail answers every caller with one error.
func fail(calls []*call, err error) {
	for _, c := range calls {
		c.answer(nil, err)
	}
}
