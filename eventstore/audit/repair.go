package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
)

// RepairOptions say what Repair does.
type RepairOptions struct {
	// Tenant restricts the repair to one stream. Empty is all.
	Tenant domain.TenantID
	// Apply writes. Without it nothing is changed.
	Apply bool
	// Progress, if set, is called after each tenant with how many were looked at.
	Progress func(tenants, events int64)
}

// Refusal is a tenant that was left alone, because its events do not verify: nothing can be rebuilt from them.
type Refusal struct {
	Tenant domain.TenantID `json:"tenant"`
	Reason string          `json:"reason"`
}

// Repaired is what Repair found, and with Apply has put right.
type Repaired struct {
	Tenants int64 `json:"tenants"`
	Events  int64 `json:"events"`
	Applied bool  `json:"applied"`
	// Differences are at most the first thousand; Total counts all.
	Differences []Difference `json:"differences"`
	Total       int64        `json:"total"`
	Refused     []Refusal    `json:"refused"`
}

// Repair compares the tables that move with the events with what the events say, and with Apply makes them so: one
// transaction a tenant, under its head's lock, beside running gateways. They load the tenant again afterwards, since
// its fence has moved. What is not rebuilt: the events, the usage rows (a projection has its own rebuild), the outbox.
// An error means that it could not be done; what was repaired until then stays repaired.
func Repair(ctx context.Context, pool *pgxpool.Pool, opts RepairOptions) (Repaired, error) {
	report := Repaired{Applied: opts.Apply, Differences: []Difference{}, Refused: []Refusal{}}
	for after := ""; ; {
		tenants, err := streams(ctx, pool, after, string(opts.Tenant))
		if err != nil {
			return report, fmt.Errorf("repair: list the tenants: %w", err)
		}
		for _, tenant := range tenants {
			r := &repair{tenant: domain.TenantID(tenant), apply: opts.Apply, report: &report}
			if err := r.run(ctx, pool); err != nil {
				return report, fmt.Errorf("repair tenant %s: %w", tenant, err)
			}
			if opts.Progress != nil {
				opts.Progress(report.Tenants, report.Events)
			}
		}
		if len(tenants) < page {
			return report, nil
		}
		after = tenants[len(tenants)-1]
	}
}

// streams lists the tenants that have events, a row or a head, after one. The events are skipped through by their
// key, a tenant at a time.
func streams(ctx context.Context, pool *pgxpool.Pool, after, only string) ([]string, error) {
	rows, err := pool.Query(ctx, `with recursive t (id) as (
			select (select min(tenant_id) from event where tenant_id > $1)
			union all
			select (select min(tenant_id) from event where tenant_id > t.id) from t where t.id is not null)
		select id from (
			select id from t where id is not null union select tenant_id from tenant_head
			union select tenant_id from account union select tenant_id from account_archive union select tenant_id from hold
			union select tenant_id from presumption union select tenant_id from attempt union select tenant_id from tenant
			union select tenant_id from api_key union select tenant_id from budget) x
		where id > $1 and ($2 = '' or id = $2) order by id limit $3`, after, only, page)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// repair is the repair of one tenant.
type repair struct {
	tenant domain.TenantID
	apply  bool
	report *Repaired

	found  []Difference
	broken string // why nothing can be rebuilt from the events
}

// run compares in a snapshot, and where there is something to do, once more under the lock.
func (r *repair) run(ctx context.Context, pool *pgxpool.Pool) error {
	events, err := r.look(ctx, pool)
	r.report.Tenants++
	r.report.Events += events
	switch {
	case err != nil:
		return err
	case r.broken != "":
		r.report.Refused = append(r.report.Refused, Refusal{Tenant: r.tenant, Reason: r.broken})
		return nil
	}

	if r.apply && len(r.found) > 0 {
		if err := r.write(ctx, pool); err != nil {
			return err
		}
	}
	r.report.Total += int64(len(r.found))
	room := min(len(r.found), maxListed-len(r.report.Differences))
	r.report.Differences = append(r.report.Differences, r.found[:room]...)
	return nil
}

// look compares without a lock.
func (r *repair) look(ctx context.Context, pool *pgxpool.Pool) (int64, error) {
	var events int64
	err := pgx.BeginTxFunc(ctx, pool, snapshot(), func(tx pgx.Tx) error {
		f, h, err := r.begin(ctx, tx, "")
		if err != nil {
			return err
		}
		if events, err = r.fold(ctx, tx, f); err != nil {
			return err
		}
		return r.compare(ctx, tx, f, h)
	})
	return events, err
}

// write puts right what differs. The long way through the events comes before the lock, so that the tenant waits for
// the last few of them only.
func (r *repair) write(ctx context.Context, pool *pgxpool.Pool) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		f, _, err := r.begin(ctx, tx, "")
		if err != nil {
			return err
		}
		if _, err := r.fold(ctx, tx, f); err != nil {
			return err
		}

		// A head that is lost is made, so that it can be locked.
		genesis := eventstore.Genesis(r.tenant)
		if _, err := tx.Exec(ctx, `insert into tenant_head (tenant_id, version, last_ts, last_hash)
			values ($1, 0, '-infinity', $2) on conflict do nothing`, string(r.tenant), genesis[:]); err != nil {
			return fmt.Errorf("make the head: %w", err)
		}
		_, h, err := r.begin(ctx, tx, " for update")
		if err != nil {
			return err
		}
		if _, err := r.fold(ctx, tx, f); err != nil { // what came meanwhile
			return err
		}

		r.found = nil
		if err := r.compare(ctx, tx, f, h); err != nil {
			return err
		}
		if r.broken != "" {
			return fmt.Errorf("%w: %s", eventstore.ErrTampered, r.broken)
		}
		return r.rebuild(ctx, tx, f, h)
	})
}

// begin reads the head. A missing one is as if nothing had been written.
func (r *repair) begin(ctx context.Context, tx pgx.Tx, lock string) (*fold, head, error) {
	h := head{tenant: r.tenant}
	var now time.Time
	var ts pgtype.Timestamptz
	err := tx.QueryRow(ctx, `select version, last_ts, last_hash, inherited, clock_timestamp()
		from tenant_head where tenant_id = $1`+lock, string(r.tenant)).Scan(&h.version, &ts, &h.hash, &h.inherited, &now)
	if errors.Is(err, pgx.ErrNoRows) {
		err = tx.QueryRow(ctx, `select clock_timestamp()`).Scan(&now)
	}
	if err != nil {
		return nil, h, fmt.Errorf("read the head: %w", err)
	}
	h.ts, h.finite = ts.Time.UTC(), ts.InfinityModifier == pgtype.Finite

	f := newFold(h, now, func(version int64, law Law, format string, args ...any) {
		// Only what makes the events no history at all stops a repair: the tables are made what they say.
		if r.broken == "" && slices.Contains([]Law{LawDense, LawChain, LawTime}, law) {
			r.broken = fmt.Sprintf("version %d: %s: %s", version, law, fmt.Sprintf(format, args...))
		}
	})
	f.differs = func(d Difference) { r.found = append(r.found, d) }
	return f, h, nil
}

// fold reads on from where it is.
func (r *repair) fold(ctx context.Context, tx pgx.Tx, f *fold) (events int64, err error) {
	for {
		n, err := f.read(ctx, tx, f.version, f.version+chunk)
		events += n
		if err != nil || n < chunk {
			return events, err
		}
	}
}

// compare finds what differs at the end of the stream.
func (r *repair) compare(ctx context.Context, tx pgx.Tx, f *fold, h head) error {
	var newest int64
	if err := tx.QueryRow(ctx, `select coalesce(max(version), 0) from event where tenant_id = $1`, string(r.tenant)).
		Scan(&newest); err != nil {
		return fmt.Errorf("find the newest event: %w", err)
	}
	switch {
	case newest != f.version:
		f.violated(f.version+1, LawDense, "there is no such event, and the newest is version %d", newest)
	case h.version > 0:
		f.finish(h) // a head that says something else than the events is not overruled by them
	case f.version > 0:
		f.headless = true
		r.found = append(r.found, r.headless(f))
	}
	if f.last.After(f.now) {
		f.now = f.last
	}
	return compareRows(ctx, tx, f)
}

// headless is a stream whose head is lost.
func (r *repair) headless(f *fold) Difference {
	return Difference{
		Tenant: r.tenant, Version: f.version, Table: "tenant_head", Key: string(r.tenant),
		Row: "head", Fault: FaultMissing, Columns: []Column{{Name: "version", Should: fmt.Sprint(f.version)}},
	}
}
