package projections

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	// usageName is the projection, the name of its cursors, and its consumer group when it runs alone.
	usageName = "usage"
	// usageEvents bounds one transaction. It is also what makes a rebuild fast: rows go in by the thousand.
	usageEvents = 2000
	// usageTenants bounds how many cursors one transaction locks.
	usageTenants = 200
)

//go:embed queries/lock_cursors.sql
var lockCursorsSQL string

//go:embed queries/read_after.sql
var readAfterSQL string

//go:embed queries/insert_usage.sql
var insertUsageSQL string

//go:embed queries/move_cursors.sql
var moveCursorsSQL string

// usage writes the UsageLedger: a row for every event that moved money. Rows and cursor move in one
// transaction, so each event has its row exactly once however many processes write.
//
// It takes from the stream only that tenants have moved, and reads the events from where they are kept.
// What somebody else wrote to Redis, or what is left there of another database, can so never become a row
// that finance reads.
type usage struct {
	pool    *pgxpool.Pool
	metrics *Metrics
	// applied is what the cursors were when they were last seen. Cursors only rise, so repetitions need no
	// look at the database; after a rebuild, when they begin anew, the comparison does.
	applied map[domain.TenantID]int64
}

// appliedMost bounds what usage remembers: some megabytes.
const appliedMost = 50_000

// UsageStore is what the projector of the UsageLedger reads, and where it writes.
type UsageStore interface {
	Heads
	Database
}

// NewUsage makes the projector of the UsageLedger.
func NewUsage(cfg Config, store UsageStore) (*Projector, error) {
	cfg = cfg.withDefaults()
	if _, err := cfg.options(); err != nil {
		return nil, err
	}
	return newProjector(cfg, store, &usage{pool: store.Pool(), metrics: cfg.Metrics, applied: map[domain.TenantID]int64{}}), nil
}

func (u *usage) name() string { return usageName }

func (u *usage) close() error { return nil } // the pool is the store's

func (u *usage) compared(context.Context, []domain.TenantID) error { return nil }

func (u *usage) cursors(ctx context.Context, tenants []domain.TenantID) (map[domain.TenantID]int64, error) {
	return usageCursors(ctx, u.pool, tenants)
}

func usageCursors(ctx context.Context, q querier, tenants []domain.TenantID) (map[domain.TenantID]int64, error) {
	rows, err := q.Query(ctx, `select tenant_id, version from projection_cursor where name = $1 and tenant_id = any ($2)`, usageName, tenants)
	if err != nil {
		return nil, fmt.Errorf("read usage cursors: %w", err)
	}
	cursors, err := collectCursors(rows)
	return cursors, wrap(err, "read usage cursors")
}

func collectCursors(rows pgx.Rows) (map[domain.TenantID]int64, error) {
	cursors := map[domain.TenantID]int64{}
	var tenant string
	var version int64
	_, err := pgx.ForEachRow(rows, []any{&tenant, &version}, func() error {
		cursors[domain.TenantID(tenant)] = version
		return nil
	})
	return cursors, err
}

// apply counts what the batch brings against the cursors and reads the events where they are kept.
func (u *usage) apply(ctx context.Context, batch []entry) (failures, error) {
	versions := map[domain.TenantID][]int64{}
	for _, e := range batch {
		versions[e.tenant] = append(versions[e.tenant], e.version)
	}
	var tenants []domain.TenantID
	for tenant, heard := range versions {
		if slices.Max(heard) > u.applied[tenant] {
			tenants = append(tenants, tenant)
			continue
		}
		u.metrics.applied.WithLabelValues(usageName, "duplicate").Add(float64(len(heard)))
	}
	return u.advance(ctx, tenants, versions)
}

func (u *usage) catchUp(ctx context.Context, tenants []domain.TenantID) (failures, error) {
	return u.advance(ctx, slices.Clone(tenants), nil)
}

// advance brings tenants up to date, some at a time.
func (u *usage) advance(ctx context.Context, tenants []domain.TenantID, heard map[domain.TenantID][]int64) (failures, error) {
	slices.Sort(tenants)
	failed := failures{}
	for chunk := range slices.Chunk(tenants, usageTenants) {
		for len(chunk) > 0 {
			step, err := u.step(ctx, chunk, heard)
			var refused *pgconn.PgError
			if errors.As(err, &refused) && isData(refused) {
				step.more, err = nil, u.singly(ctx, chunk, failed, err)
			}
			if err != nil {
				return failed, err
			}
			maps.Copy(failed, step.failed)
			chunk = step.more
		}
	}
	return failed, nil
}

// singly finds the tenant whose row Postgres refuses, so that it alone stands still.
func (u *usage) singly(ctx context.Context, tenants []domain.TenantID, failed failures, reason error) error {
	if len(tenants) == 1 {
		failed[tenants[0]] = reason
		return nil
	}
	for _, tenant := range tenants {
		one, err := u.advance(ctx, []domain.TenantID{tenant}, nil)
		if err != nil {
			return err
		}
		maps.Copy(failed, one)
	}
	return nil
}

// isData tells whether Postgres refused the values and not the moment.
func isData(e *pgconn.PgError) bool {
	class := e.Code[:min(2, len(e.Code))]
	return class == "22" || class == "23"
}

// step is what one transaction did: tenants that have more events, and those that stand still.
type step struct {
	more   []domain.TenantID
	failed failures
}

// step applies the next events of some tenants, sorted, in one transaction of three round trips.
func (u *usage) step(ctx context.Context, tenants []domain.TenantID, heard map[domain.TenantID][]int64) (step, error) {
	done := step{failed: failures{}}
	var ledger *usageRows
	var cursors map[domain.TenantID]int64
	err := u.pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
		each := max(1, usageEvents/len(tenants))
		var entries []entry
		var err error
		if cursors, entries, err = begin(ctx, c, tenants, each); err == nil {
			ledger = newUsageRows(cursors)
			for _, e := range entries {
				ledger.add(e)
			}
			done.failed, done.more = ledger.failed, ledger.unfinished(each)
			err = ledger.write(ctx, c)
		}
		if err != nil {
			_, _ = c.Exec(ctx, `rollback`) // where that fails the pool closes the connection
		}
		return err
	})
	if err != nil {
		return step{}, fmt.Errorf("project usage: %w", err)
	}
	u.remember(cursors, ledger.upto)
	u.count(heard, tenants, cursors, ledger.events)
	return done, nil
}

func (u *usage) remember(cursors, upto map[domain.TenantID]int64) {
	if len(u.applied) > appliedMost {
		clear(u.applied)
	}
	maps.Copy(u.applied, cursors)
	maps.Copy(u.applied, upto)
}

// begin starts a transaction, makes the cursors that are missing, locks all, in one order everywhere, and
// reads the events behind them.
func begin(ctx context.Context, c *pgxpool.Conn, tenants []domain.TenantID, each int) (cursors map[domain.TenantID]int64, entries []entry, err error) {
	b := &pgx.Batch{}
	b.Queue(`begin isolation level read committed`) // each statement sees what was committed while the one before waited
	// The commit need not survive a crash of the database: rows and cursors move together, so what is lost
	// is lost of both, and is written again from the events.
	b.Queue(`set local synchronous_commit = off`)
	// Only for streams there are: the entry that named the tenant may be of another database.
	b.Queue(`insert into projection_cursor (name, tenant_id, version)
		select $1, tenant_id, 0 from tenant_head where tenant_id = any ($2) order by tenant_id on conflict do nothing`, usageName, tenants)
	b.Queue(lockCursorsSQL, usageName, tenants).Query(func(rows pgx.Rows) error {
		var err error
		cursors, err = collectCursors(rows)
		return err
	})
	b.Queue(readAfterSQL, usageName, tenants, each).Query(func(rows pgx.Rows) error {
		var err error
		entries, err = pgx.CollectRows(rows, scanEntry)
		return err
	})
	err = c.SendBatch(ctx, b).Close()
	return cursors, entries, wrap(err, "lock usage cursors and read events")
}

// count says how many events were applied, and how the stream behaved: it repeated one, or left a hole
// before one. What was heard of a tenant is counted once.
func (u *usage) count(heard map[domain.TenantID][]int64, tenants []domain.TenantID, cursors map[domain.TenantID]int64, applied int) {
	duplicates, gaps := 0, 0
	for _, tenant := range tenants {
		versions := heard[tenant]
		delete(heard, tenant)
		slices.Sort(versions)
		next := cursors[tenant] + 1
		for _, v := range versions {
			switch {
			case v < next:
				duplicates++
			case v > next:
				gaps++
			}
			next = max(next, v+1)
		}
	}
	u.metrics.applied.WithLabelValues(usageName, "applied").Add(float64(applied))
	u.metrics.applied.WithLabelValues(usageName, "duplicate").Add(float64(duplicates))
	u.metrics.applied.WithLabelValues(usageName, "gap").Add(float64(gaps))
}
