package lanes

import (
	"context"
	"errors"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// Journal is where the streams are kept: all that the lanes need of a store. It moves data and decides
// nothing; what it refuses is a bug or tampering.
//
// The errors of a Journal say by their kind what is known: ErrNotSent, ErrDenied, ErrRefusedByDatabase,
// ErrUndecidable, ErrTampered or domain.ErrUnknownEvent. One that is of no kind says nothing: the call may
// have happened, may not have, or may happen later.
type Journal interface {
	// Append writes, in one transaction, the appends whose stream is still at the version, hash and fence
	// they were decided at, and names their tenants. The others are left out and change nothing. at is the
	// journal's time.
	Append(ctx context.Context, appends []Append) (won []domain.TenantID, at time.Time, err error)
	// Lock begins a transaction that holds the lock of a tenant's head. Nobody else writes the stream until
	// it ends. A tenant without a stream is at version 0.
	Lock(ctx context.Context, tenant domain.TenantID) (Locked, error)
	// Fence makes every append to the tenant's stream that was decided before now lose, and tells whether
	// the stream has the record: false is final then.
	Fence(ctx context.Context, tenant domain.TenantID, first domain.Recorded) (committed bool, err error)
	// Close disconnects. Nothing is called after it.
	Close()
}

// Locked is a transaction that holds the lock of one tenant's head. It belongs to one goroutine, and
// Rollback must end it; after a Commit that does nothing.
type Locked interface {
	// Head is what the lock is on.
	Head() Head
	// Load reads the whole state at the head, O(what is open). It fails with ErrTampered where the stream
	// does not end as the head says, or does not hold what seen says was committed.
	Load(ctx context.Context, seen Mark) (domain.State, Hash, error)
	// Tail reads the events after a version, in order, at most limit.
	Tail(ctx context.Context, after int64, limit int) ([]domain.Recorded, error)
	// Presumption puts into the state what a closed reservation was charged by presumption, if it was.
	Presumption(ctx context.Context, state *domain.State, id domain.ReservationID) error
	// Closed puts into the state a closed reservation that is to be adjusted: its presumption, or itself.
	Closed(ctx context.Context, state *domain.State, id domain.ReservationID) error
	// Attempt puts into the state what an idempotency key was used for, if it was.
	Attempt(ctx context.Context, state *domain.State, key domain.AttemptKey) error
	// Past answers what a window had cost, and puts the presumptions of that window and scope into the state, but for
	// what was given back. domain.ErrUnavailable says that it takes too long, and refuses only the command that asks.
	Past(ctx context.Context, state *domain.State, past domain.Past) (domain.Past, error)
	// Append writes like Journal.Append, and what the events define; after is the state that they lead to.
	Append(ctx context.Context, a Append, after domain.State) (won bool, err error)
	// Commit makes what was appended last. Only here can the outcome be unknown.
	Commit(ctx context.Context) error
	// Rollback ends the transaction if it has not ended, whatever became of ctx.
	Rollback(ctx context.Context)
}

// Append is what one tenant's turn adds to its stream, and what it was decided on.
type Append struct {
	Tenant   domain.TenantID
	Expected int64
	Prev     Hash
	Fence    int64
	Records  []domain.Recorded
	// Rolling are the rolling accounts of the tenant as the records leave them: what postings do not say.
	Rolling []domain.Account
}

// Head is the head of a stream under its lock. The journal's time is read after the lock was had.
type Head struct {
	Version int64
	Hash    Hash
	Fence   int64
	Sample  Sample
}

// Sample is a reading of the journal's clock: At lies somewhere between Sent and Received of the local one.
type Sample struct{ At, Sent, Received time.Time }

// Mark is a version known to be committed, with its hash. Version 0 is none.
type Mark struct {
	Version int64
	Hash    Hash
}

// The kinds of a Journal's errors.
var (
	// ErrNotSent says that nothing was sent: it certainly did not happen.
	ErrNotSent = errors.New("not sent")
	// ErrDenied says that the journal answered no, and that it may answer otherwise another time.
	ErrDenied = errors.New("the journal said no")
	// ErrRefusedByDatabase says that a constraint of the database refused what Go decided. It is a bug or
	// tampering, never load: nothing was written, and the command is not tried again.
	ErrRefusedByDatabase = errors.New("the database refused what was decided")
	// ErrUndecidable marks a decision that fails in itself, whatever the database says.
	ErrUndecidable = errors.New("undecidable")
	// ErrTampered says that stored events are not what was appended: a hash does not recompute. Nothing more
	// is written to such a tenant until a person has looked.
	ErrTampered = errors.New("the stream does not verify")
)

// OutcomeUnknown tells whether what failed may have been committed all the same.
func OutcomeUnknown(err error) bool {
	return Lost(err) && !errors.Is(err, ErrNotSent) && !errors.Is(err, ErrUndecidable)
}

// RefusedForGood tells whether what was decided can never be written: a constraint or a count refused it,
// the database cannot hold its values, or deciding failed. It is a bug or a hostile input, never load.
func RefusedForGood(err error) bool {
	return errors.Is(err, ErrRefusedByDatabase) || errors.Is(err, ErrUndecidable)
}

// Lost tells whether the journal gave no answer at all.
func Lost(err error) bool {
	return !errors.Is(err, ErrDenied) && !errors.Is(err, ErrRefusedByDatabase)
}
