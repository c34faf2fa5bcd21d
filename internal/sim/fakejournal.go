package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

// Journal is a gateway's connections to a Database: it implements lanes.Journal, with the faults its owner
// wants.
type Journal struct {
	db  *Database
	now func() time.Time
	// net says what becomes of a call; nil: it arrives, at once.
	net network
}

// network is the way between a gateway and the database.
type network interface {
	// travel is the way of one message; false: the gateway died under way.
	travel()
	// fault is what becomes of a call.
	fault(call string) fault
	// later runs what the gateway does not wait for any more.
	later(what func())
}

// fault is what becomes of a call.
type fault int

const (
	fine       fault = iota
	notSent          // there was no connection
	denied           // the database says no, this time
	never            // the message is lost, and nobody says so
	answerless       // it arrives, and the answer is lost
	tooLate          // it arrives after the gateway gave it up
)

// NewJournal makes a Journal without faults. now is the local clock.
func NewJournal(db *Database, now func() time.Time) *Journal {
	return &Journal{db: db, now: now, net: calm{}}
}

// calm is a network without faults and delays.
type calm struct{}

func (calm) travel()            {}
func (calm) fault(string) fault { return fine }
func (calm) later(what func())  { what() }

var (
	errNoConnection = fmt.Errorf("connect: %w", lanes.ErrNotSent)
	errDisk         = fmt.Errorf("%w: disk full", lanes.ErrDenied)
	errBroken       = errors.New("the connection broke")
)

var _ lanes.Journal = (*Journal)(nil)

// Close implements lanes.Journal.
func (j *Journal) Close() {}

// Append implements lanes.Journal.
func (j *Journal) Append(_ context.Context, appends []lanes.Append) (won []domain.TenantID, at time.Time, err error) {
	s := j.db.open()
	run := func() error {
		if err := j.db.alive(s); err != nil {
			return err
		}
		won, at, err = j.db.append(s, appends)
		return err
	}
	if err := j.call("append", run); err != nil {
		return nil, time.Time{}, err
	}
	return won, at, nil
}

// call sends one message whose loss leaves the outcome open.
func (j *Journal) call(name string, run func() error) error {
	f := j.net.fault(name)
	switch f {
	case notSent:
		j.net.travel()
		if name == "commit" { // there is a connection, or there was
			return errBroken
		}
		return errNoConnection
	case denied:
		j.net.travel()
		return errDisk
	case never:
		j.net.travel()
		return errBroken
	case tooLate:
		j.net.later(func() { _ = run() })
		j.net.travel()
		return errBroken
	case fine, answerless:
	}
	finished := false
	defer func() {
		if !finished { // the gateway died; the server does not know yet
			j.net.later(func() { _ = run() })
		}
	}()
	j.net.travel()
	err := run()
	finished = true
	if err != nil {
		return err
	}
	j.net.travel()
	if f == answerless {
		return errBroken
	}
	return nil
}

// Fence implements lanes.Journal.
func (j *Journal) Fence(_ context.Context, tenant domain.TenantID, first domain.Recorded) (committed bool, err error) {
	s := j.db.open()
	err = j.call("fence", func() error {
		if err := j.db.alive(s); err != nil {
			return err
		}
		committed, err = j.db.fence(s, tenant, first)
		return err
	})
	return committed && err == nil, err
}

// Lock implements lanes.Journal.
func (j *Journal) Lock(_ context.Context, tenant domain.TenantID) (lanes.Locked, error) {
	l := &locked{journal: j, session: j.db.open(), rows: j.db.table(tenant)}
	switch j.net.fault("lock") {
	case notSent:
		j.net.travel()
		return nil, errNoConnection
	case denied:
		j.net.travel()
		return nil, errDisk
	case fine, never, answerless, tooLate:
	}
	l.head.Sample.Sent = j.now()
	err := l.statement("", func() error {
		if err := j.db.acquire(l.session, l.rows); err != nil {
			return err
		}
		l.rows.lock = l.session
		l.head.Version, l.head.Hash, l.head.Fence = l.rows.version, l.rows.hash, l.rows.fence
		l.head.Sample.At = j.db.world.Now()
		return nil
	})
	if err != nil {
		l.end()
		return nil, err
	}
	l.head.Sample.Received = j.now()
	return l, nil
}

// locked is a transaction that holds a head's lock.
type locked struct {
	journal *Journal
	session *session
	rows    *tables
	head    lanes.Head
	changes []*change
	sent    bool // a commit
	done    bool
}

// statement is one message within the transaction and its answer. Where it fails nothing is committed.
func (l *locked) statement(name string, run func() error) error {
	net := l.journal.net
	f := fine
	if name != "" {
		f = net.fault(name)
	}
	net.travel()
	switch f {
	case denied:
		return errDisk
	case notSent, never, tooLate:
		l.end()
		return errBroken
	case fine, answerless:
	}
	if err := l.journal.db.alive(l.session); err != nil {
		return err
	}
	l.session.idle = time.Time{}
	err := run()
	l.session.idle = l.journal.db.world.Now()
	net.travel()
	if f == answerless && err == nil {
		l.end()
		return errBroken
	}
	return err
}

// end is what the server does when the connection breaks or the transaction is rolled back.
func (l *locked) end() {
	if l.done {
		return
	}
	l.done, l.session.ended = true, true
	l.journal.db.release(l.session)
}

// Head implements lanes.Locked.
func (l *locked) Head() lanes.Head { return l.head }

// Load implements lanes.Locked.
func (l *locked) Load(_ context.Context, seen lanes.Mark) (state domain.State, hash lanes.Hash, err error) {
	err = l.statement("load", func() error {
		state, hash = l.rows.load(), l.rows.hash
		if seen.Version > l.rows.version || (seen.Version > 0 && l.rows.events[seen.Version-1].Hash != seen.Hash) {
			return fmt.Errorf("%w: version %d is not what it was", lanes.ErrTampered, seen.Version)
		}
		return nil
	})
	return state, hash, err
}

// Tail implements lanes.Locked.
func (l *locked) Tail(_ context.Context, after int64, limit int) (records []domain.Recorded, err error) {
	err = l.statement("tail", func() error {
		records = l.rows.read(after, limit)
		return nil
	})
	return records, err
}

// Presumption implements lanes.Locked.
func (l *locked) Presumption(_ context.Context, state *domain.State, id domain.ReservationID) error {
	return l.statement("presumption", func() error {
		l.rows.adopt(state, id)
		return nil
	})
}

// Closed implements lanes.Locked.
func (l *locked) Closed(_ context.Context, state *domain.State, id domain.ReservationID) error {
	return l.statement("closed", func() error {
		l.rows.adoptClosed(state, id)
		return nil
	})
}

// Attempt implements lanes.Locked.
func (l *locked) Attempt(_ context.Context, state *domain.State, key domain.AttemptKey) error {
	return l.statement("attempt", func() error {
		l.rows.adoptAttempt(state, key)
		return nil
	})
}

// Past implements lanes.Locked.
func (l *locked) Past(_ context.Context, state *domain.State, past domain.Past) (domain.Past, error) {
	err := l.statement("past", func() error {
		past = l.rows.past(state, past)
		return nil
	})
	return past, err
}

// Append implements lanes.Locked.
func (l *locked) Append(_ context.Context, a lanes.Append, after domain.State) (won bool, err error) {
	err = l.statement("append", func() error {
		l.changes, _, err = l.journal.db.stage(l.session, []lanes.Append{a})
		if err != nil || len(l.changes) == 0 {
			return err
		}
		won = true
		return l.changes[0].define(l.rows, after)
	})
	return won && err == nil, err
}

// Commit implements lanes.Locked.
func (l *locked) Commit(context.Context) error {
	l.sent = true
	return l.journal.call("commit", func() error {
		if err := l.journal.db.alive(l.session); err != nil {
			return err
		}
		l.done, l.session.ended = true, true
		l.journal.db.commit(l.session, l.changes)
		return nil
	})
}

// Rollback implements lanes.Locked. A commit that was sent may still be under way: then the server ends the
// transaction, by the commit or because nothing comes.
func (l *locked) Rollback(context.Context) {
	if !l.sent {
		l.end()
	}
}
