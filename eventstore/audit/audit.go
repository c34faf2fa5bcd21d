package audit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
)

const (
	// maxWorkers bounds the tenants that are checked at once: memory, and what a busy database lends.
	maxWorkers = 2
	// maxListed bounds the violations a report lists. All are counted; the first ones tell the story.
	maxListed = 1000
	// chunk is how many versions are read at a time.
	chunk = 5000
	// page is how many tenants are listed at a time.
	page = 1000
)

// Law names what a violation breaks.
type Law string

// The laws that Verify checks.
const (
	LawDense       Law = "dense"       // versions run 1..n without gap or repetition, and the head is the last
	LawChain       Law = "chain"       // every hash recomputes from the stored bytes, and every event can be read
	LawTime        Law = "time"        // times rise strictly
	LawPosting     Law = "posting"     // each posting is the balance before plus what the event moved
	LawOverspend   Law = "overspend"   // use stays within the limit unless a forced posting says why not
	LawSums        Law = "sums"        // held is the sum of the open reservations, settled that of the charges
	LawClosing     Law = "closing"     // a reservation is closed at most once, on the accounts it was opened on
	LawWindow      Law = "window"      // a reservation counts in the windows that contain it; windows do not overlap
	LawBudgets     Law = "budgets"     // a reservation posts to every budget that it matches
	LawSeed        Law = "seed"        // a new budget begins with what its window had spent and held
	LawThreshold   Law = "threshold"   // a threshold is told of when it is reached, once a window
	LawIdempotency Law = "idempotency" // an idempotency key pays for one reservation that is not released
	LawRows        Law = "rows"        // the tables are what the events say
	LawUsage       Law = "usage"       // the usage rows are what the events say, up to their cursor
	LawOutbox      Law = "outbox"      // the outbox names what exists, once
	LawGuards      Law = "guards"      // the schema is what the migrations made, and nothing of it is switched off
)

// Options says what Verify checks beyond the laws of every stream. The zero value is right for a ledger
// that is in use.
type Options struct {
	// Tenant restricts the check to one stream. Empty is all.
	Tenant domain.TenantID
	// Workers is how many tenants are checked at once: 1 or 2; 0 is 2. Each takes a connection of the
	// pool, and one more lists the tenants.
	Workers int
	// UsageCursor names the cursor in projection_cursor up to which the usage rows must equal the events.
	// Empty leaves them out.
	UsageCursor string
	// Quiet says that nothing is written and the projections had time: the outbox must be empty, and the
	// usage cursors at the heads.
	Quiet bool
	// Progress, if set, is told from time to time how far the check is. Calls do not overlap.
	Progress func(tenants, events int64)
}

// Violation is one broken law.
type Violation struct {
	Tenant domain.TenantID `json:"tenant"`
	// Version is the event's, or that of the event a row stands for; 0 where there is none.
	Version int64  `json:"version"`
	Law     Law    `json:"law"`
	Detail  string `json:"detail"`
	// Difference is the row that differs, where one does.
	Difference *Difference `json:"difference,omitempty"`
}

// String is one line for people.
func (v Violation) String() string {
	if v.Tenant == "" { // of no tenant, but of the database
		return fmt.Sprintf("%s: %s", v.Law, v.Detail)
	}
	return fmt.Sprintf("%s version %d: %s: %s", v.Tenant, v.Version, v.Law, v.Detail)
}

// Report is what Verify found. The ledger is sound if Total is 0.
type Report struct {
	Tenants int64 `json:"tenants"`
	Events  int64 `json:"events"`
	// Violations are at most the first thousand, by tenant and version; Total counts all.
	Violations []Violation `json:"violations"`
	Total      int64       `json:"total"`
}

// Err is nil for a sound ledger, else an error that names the first violation and the number of all.
func (r Report) Err() error {
	if r.Total == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d violations, the first: %s", eventstore.ErrTampered, r.Total, r.Violations[0])
}

// verifier collects what the workers find.
type verifier struct {
	opts Options

	now time.Time // the database's, when the check began

	mu     sync.Mutex
	report Report
}

// Verify checks the ledger in one snapshot, beside whatever is being written. An error means that it
// could not be checked, not that something is wrong: that is in the report.
func Verify(ctx context.Context, pool *pgxpool.Pool, opts Options) (Report, error) {
	if opts.Workers <= 0 || opts.Workers > maxWorkers {
		opts.Workers = maxWorkers
	}
	v := &verifier{opts: opts}
	if err := pgx.BeginTxFunc(ctx, pool, snapshot(), func(tx pgx.Tx) error { return v.run(ctx, pool, tx) }); err != nil {
		return v.report, fmt.Errorf("verify the ledger: %w", err)
	}
	slices.SortStableFunc(v.report.Violations, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Version, b.Version))
	})
	return v.report, nil
}

func snapshot() pgx.TxOptions {
	return pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
}

func (v *verifier) run(ctx context.Context, pool *pgxpool.Pool, tx pgx.Tx) error {
	var name string
	if err := tx.QueryRow(ctx, `select pg_export_snapshot(), now()`).Scan(&name, &v.now); err != nil {
		return fmt.Errorf("export the snapshot: %w", err)
	}
	heads := make(chan head)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(heads)
		return v.list(ctx, tx, heads)
	})
	for range v.opts.Workers {
		group.Go(func() error { return v.work(ctx, pool, name, heads) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return v.whole(context.WithoutCancel(ctx), tx)
}

// work checks tenants in the snapshot of that name until there are no more.
func (v *verifier) work(ctx context.Context, pool *pgxpool.Pool, name string, heads <-chan head) error {
	return pgx.BeginTxFunc(ctx, pool, snapshot(), func(tx pgx.Tx) error {
		// SET takes no parameters; the name comes from the server and is quoted all the same.
		if _, err := tx.Exec(ctx, `set transaction snapshot '`+strings.ReplaceAll(name, `'`, `''`)+`'`); err != nil {
			return fmt.Errorf("join the snapshot: %w", err)
		}
		for h := range heads {
			if err := v.stream(ctx, tx, h); err != nil {
				return fmt.Errorf("tenant %s: %w", h.tenant, err)
			}
		}
		return ctx.Err()
	})
}

// head is a row of tenant_head.
type head struct {
	tenant  domain.TenantID
	version int64
	ts      time.Time
	finite  bool
	hash    []byte
	// inherited is up to where builds before this one's migrations wrote.
	inherited int64
}

// list sends the heads in the order of their tenants.
func (v *verifier) list(ctx context.Context, tx pgx.Tx, heads chan<- head) error {
	after := ""
	for {
		rows, err := tx.Query(ctx, `select tenant_id, version, last_ts, last_hash, inherited from tenant_head
			where tenant_id > $1 and ($2 = '' or tenant_id = $2) order by tenant_id limit $3`, after, string(v.opts.Tenant), page)
		if err != nil {
			return fmt.Errorf("list tenants: %w", err)
		}
		found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (head, error) {
			var h head
			var tenant string
			var ts pgtype.Timestamptz
			err := row.Scan(&tenant, &h.version, &ts, &h.hash, &h.inherited)
			h.tenant, h.ts, h.finite = domain.TenantID(tenant), ts.Time.UTC(), ts.InfinityModifier == pgtype.Finite
			return h, err
		})
		if err != nil {
			return fmt.Errorf("list tenants: %w", err)
		}
		for _, h := range found {
			select {
			case heads <- h:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if len(found) < page {
			return nil
		}
		after = string(found[len(found)-1].tenant)
	}
}

func (v *verifier) violated(tenant domain.TenantID, version int64, law Law, format string, args ...any) {
	v.record(Violation{Tenant: tenant, Version: version, Law: law, Detail: fmt.Sprintf(format, args...)})
}

func (v *verifier) differs(d Difference) {
	v.record(Violation{
		Tenant: d.Tenant, Version: d.Version, Law: LawRows, Detail: d.String(), Difference: &d,
	})
}

// record counts a violation, and lists it if there is room.
func (v *verifier) record(found Violation) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Total++
	if len(v.report.Violations) < maxListed {
		v.report.Violations = append(v.report.Violations, found)
	}
}

func (v *verifier) progress(tenants, events int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Tenants += tenants
	v.report.Events += events
	if v.opts.Progress != nil {
		v.opts.Progress(v.report.Tenants, v.report.Events)
	}
}
