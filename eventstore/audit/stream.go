package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
)

// stream checks one tenant.
func (v *verifier) stream(ctx context.Context, tx pgx.Tx, h head) error {
	f := newFold(h, v.now, func(version int64, law Law, format string, args ...any) {
		v.violated(h.tenant, version, law, format, args...)
	})
	f.differs = v.differs
	if err := v.openUsage(ctx, tx, f, h); err != nil {
		return err
	}
	var newest int64
	if err := tx.QueryRow(ctx, `select coalesce(max(version), 0) from event where tenant_id = $1`, string(h.tenant)).Scan(&newest); err != nil {
		return fmt.Errorf("find the newest event: %w", err)
	}
	if err := v.usageOutside(ctx, tx, f, newest); err != nil {
		return err
	}
	for after := int64(0); after < newest; {
		upto := min(after+chunk, newest)
		if err := v.usage(ctx, tx, f, after, upto); err != nil {
			return err
		}
		n, err := f.read(ctx, tx, after, upto)
		if err != nil {
			return err
		}
		f.usage.finish(f)
		v.progress(0, n)
		after = upto
		if n == 0 { // versions are missing; a single forged one may be far away
			if err := tx.QueryRow(ctx, `select min(version) - 1 from event where tenant_id = $1 and version > $2`, string(h.tenant), upto).Scan(&after); err != nil {
				return fmt.Errorf("find the next event: %w", err)
			}
		}
	}
	f.finish(h)
	if f.last.After(f.now) {
		f.now = f.last
	}
	if err := checkSeeds(ctx, tx, f); err != nil {
		return err
	}
	if err := compareRows(ctx, tx, f); err != nil {
		return err
	}
	v.progress(1, 0)
	return nil
}

// read folds the events of a stretch of versions and says how many there were.
func (f *fold) read(ctx context.Context, tx pgx.Tx, after, upto int64) (int64, error) {
	rows, err := tx.Query(ctx, `select version, ts, type, schema_version, body, hash from event
		where tenant_id = $1 and version > $2 and version <= $3 order by version, ts`, string(f.tenant), after, upto)
	if err != nil {
		return 0, fmt.Errorf("read events: %w", err)
	}
	defer rows.Close()
	n := int64(0)
	for rows.Next() {
		var s stored
		if err := rows.Scan(&s.version, &s.ts, &s.kind, &s.schema, &s.body, &s.hash); err != nil {
			return n, fmt.Errorf("read events: %w", err)
		}
		n++
		f.add(&s)
	}
	if err := rows.Err(); err != nil {
		return n, fmt.Errorf("read events: %w", err)
	}
	return n, nil
}

// stored is a row of event.
type stored struct {
	version int64
	ts      pgtype.Timestamptz
	kind    string
	schema  int
	body    []byte
	hash    []byte
}

// fold is a stream, as far as it was read.
type fold struct {
	tenant   domain.TenantID
	violated func(version int64, law Law, format string, args ...any)
	differs  func(Difference)

	// state holds the definitions only: what moves money is in books.
	state   domain.State
	defined int64 // version of the last event that changed the tenant's own row
	version int64
	last    time.Time
	hash    eventstore.Hash

	books books
	keys  keyring
	usage usage
	seeds []seed
	now   time.Time // of the check

	headless bool // there are events, and no head

	inherited int64 // the last version that an earlier build may have written
}

func newFold(h head, now time.Time, violated func(int64, Law, string, ...any)) *fold {
	return &fold{
		tenant: h.tenant, violated: violated, now: now,
		state: domain.NewState(h.tenant), hash: eventstore.Genesis(h.tenant),
		books: newBooks(), keys: newKeyring(),
		inherited: h.inherited,
	}
}

// add checks one event against everything before it. After a violation it goes on from what is stored,
// so that one wrong byte is one violation.
func (f *fold) add(s *stored) {
	if s.version != f.version+1 {
		f.violated(s.version, LawDense, "follows version %d", f.version)
	}
	f.version = s.version
	r := domain.Recorded{Tenant: f.tenant, Version: s.version, Time: s.ts.Time.UTC(), Body: s.body}
	if s.ts.InfinityModifier != pgtype.Finite || !r.Time.After(f.last) {
		f.violated(s.version, LawTime, "its time %s is not after %s", r.Time.Format(time.RFC3339Nano), f.last.Format(time.RFC3339Nano))
	}
	f.last = r.Time
	var err error
	if r.Event, err = domain.DecodeEvent(domain.EventType(s.kind), s.schema, s.body); err != nil {
		f.violated(s.version, LawChain, "it cannot be read: %v", err)
		copy(f.hash[:], s.hash)
		return
	}
	if link := eventstore.Link(f.hash, r, s.schema); !bytes.Equal(link[:], s.hash) {
		f.violated(s.version, LawChain, "its hash is %x, its bytes and the event before give %x", s.hash, link)
	}
	copy(f.hash[:], s.hash)
	copy(r.Hash[:], s.hash)
	f.fold(r)
}

// fold checks what the event says and takes it over.
func (f *fold) fold(r domain.Recorded) {
	f.usage.expect(f, r)
	f.keys.see(f, r)
	switch e := r.Event.(type) {
	case domain.TenantCreated, domain.TenantChanged, domain.TenantSuspended, domain.TenantResumed,
		domain.RateLimitChanged, domain.APIKeyIssued:
		f.defined = r.Version
		f.state = domain.Evolve(f.state, r)
	case domain.APIKeyRevoked, domain.APIKeySuspended, domain.APIKeyResumed, domain.APIKeyRotated, domain.BudgetRetired:
		f.state = domain.Evolve(f.state, r)
	case domain.BudgetDefined:
		f.books.defined[e.Budget] = r.Version
		f.state = domain.Evolve(f.state, r)
	case domain.BudgetChanged:
		f.budgetChanged(r, e)
		f.state = domain.Evolve(f.state, r)
	case domain.BudgetThresholdCrossed:
		f.crossed(r, e)
	case domain.WindowOpened:
		f.windowOpened(r, e)
	case domain.WindowSlid:
		f.slid(r, e)
	case domain.UsageReserved, domain.ReservationExtended, domain.UsageSettled, domain.ReservationReleased,
		domain.ReservationExpired, domain.UsageSettledLate, domain.UsageAdjusted:
		f.life(r)
	}
}

// life folds the events of a reservation.
func (f *fold) life(r domain.Recorded) {
	switch e := r.Event.(type) { //nolint:gochecksumtype // the others are in fold
	case domain.UsageReserved:
		f.reserved(r, e)
	case domain.ReservationExtended:
		f.extended(r, e)
	case domain.UsageSettled:
		f.settled(r, e)
	case domain.ReservationReleased:
		f.released(r, e)
	case domain.ReservationExpired:
		f.expired(r, e)
	case domain.UsageSettledLate:
		f.late(r, e)
	case domain.UsageAdjusted:
		f.adjusted(r, e)
	}
}

// finish compares the end of the stream with its head, and the books with themselves.
func (f *fold) finish(h head) {
	switch {
	case h.version != f.version:
		f.violated(h.version, LawDense, "the head is at version %d, the last event at %d", h.version, f.version)
	case f.version > 0 && (!h.finite || !h.ts.Equal(f.last)):
		f.violated(h.version, LawDense, "the head's time is %s, that of the last event %s", h.ts.Format(time.RFC3339Nano), f.last.Format(time.RFC3339Nano))
	case !bytes.Equal(h.hash, f.hash[:]):
		f.violated(h.version, LawChain, "the head's hash is %x, that of the last event %x", h.hash, f.hash)
	}
	f.sums()
}

// openUsage reads up to which version the usage rows must be there.
func (v *verifier) openUsage(ctx context.Context, tx pgx.Tx, f *fold, h head) error {
	if v.opts.UsageCursor == "" {
		return nil
	}
	err := tx.QueryRow(ctx, `select version from projection_cursor where name = $1 and tenant_id = $2`, v.opts.UsageCursor, string(h.tenant)).Scan(&f.usage.cursor)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("read the usage cursor: %w", err)
	}
	if f.usage.cursor > h.version || (v.opts.Quiet && f.usage.cursor < h.version) {
		f.violated(h.version, LawUsage, "the cursor is at version %d, the head at %d", f.usage.cursor, h.version)
	}
	return nil
}
