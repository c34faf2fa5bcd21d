package lanes

import (
	"fmt"
	"runtime/debug"
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
	_, reserves := c.(domain.Reserve)
	return !reserves && !closes(c)
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
	return Append{Tenant: t.stream.tenant, Expected: t.expected, Prev: t.prev, Fence: t.fence, Records: t.records}
}

// plan decides calls on the stream's state, which it consumes. A panic in a decision is a bug; it is
// turned into an error of every call, and the state is dropped with it.
func (l *Ledger) plan(s *stream, calls []*call, now time.Time) (t *turn, err error) {
	defer func() {
		if p := recover(); p != nil {
			t, err = nil, fmt.Errorf("%w: tenant %s: panic: %v\n%s", ErrUndecidable, s.tenant, p, debug.Stack())
		}
	}()
	t = &turn{stream: s, calls: calls, expected: s.state.Version, prev: s.hash, fence: s.fence}
	hash := s.hash
	s.seen = Mark{Version: s.state.Version, Hash: s.hash}
	for _, c := range calls {
		o := outcome{from: len(t.records), to: len(t.records)}
		var records []domain.Recorded
		records, o.err = l.decide(s, c.command, now)
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
	return t, nil
}

// decide carries out one command on the stream's state. On an error the state is unchanged.
func (l *Ledger) decide(s *stream, c domain.Command, now time.Time) (records []domain.Recorded, err error) {
	if err := checkIDs(c); err != nil {
		return nil, err
	}
	s.state, records, err = l.cfg.Execute(s.state, c, now)
	return records, err
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
			undo = append(undo, newCall(domain.Release{Reservation: reserve.Reservation, Reason: "never_dispatched"}))
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
