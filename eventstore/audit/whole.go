package audit

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/migrations"
)

// whole checks what no single stream shows: the schema, rows of tenants without a head, the outbox, cursors and
// heartbeats.
func (v *verifier) whole(ctx context.Context, tx pgx.Tx) error {
	drift, err := migrations.Drift(ctx, tx)
	if err != nil {
		return err
	}
	for _, line := range drift {
		v.violated("", 0, LawGuards, "%s", line)
	}

	tables := []string{"event", "account", "account_archive", "hold", "presumption", "attempt", "tenant", "api_key", "budget"}
	if v.opts.UsageCursor != "" {
		tables = append(tables, "usage_row", "projection_cursor")
	}
	for _, table := range tables {
		if err := v.orphans(ctx, tx, table); err != nil {
			return fmt.Errorf("find rows of %s without a stream: %w", table, err)
		}
	}
	if err := v.outbox(ctx, tx); err != nil {
		return fmt.Errorf("check the outbox: %w", err)
	}
	if err := v.cursors(ctx, tx); err != nil {
		return fmt.Errorf("check the cursors: %w", err)
	}
	if v.opts.Tenant != "" {
		return nil
	}
	return v.sessions(ctx, tx)
}

// cursors checks that no projection says that it is further than its tenant. The one of the usage rows is checked with
// them.
func (v *verifier) cursors(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `select c.tenant_id, c.name, c.version, h.version from projection_cursor c
		join tenant_head h on h.tenant_id = c.tenant_id
		where ($1 = '' or c.tenant_id = $1) and (c.version < 0 or c.version > h.version) and c.name <> $2
		order by c.tenant_id, c.name`, string(v.opts.Tenant), v.opts.UsageCursor)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var tenant, name string
		var version, head int64
		if err := rows.Scan(&tenant, &name, &version, &head); err != nil {
			return err
		}
		v.violated(domain.TenantID(tenant), version, LawUsage, "the cursor %s is at version %d, the head at %d", name, version, head)
	}
	return rows.Err()
}

// sessions checks that no gateway's times are ahead of the database's clock, by which it would be taken for alive after
// its end, or before its start. A minute is for clocks that were set.
func (v *verifier) sessions(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `select gateway from gateway_session
		where greatest(started_at, heartbeat_at, ended_at, cleared_at) > now() + interval '1 minute'
			or least(heartbeat_at, ended_at, cleared_at) < started_at - interval '1 minute'
		order by gateway`)
	if err != nil {
		return fmt.Errorf("check the gateways' sessions: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var gateway string
		if err := rows.Scan(&gateway); err != nil {
			return fmt.Errorf("check the gateways' sessions: %w", err)
		}
		v.violated("", 0, LawRows, "gateway_session %.80q: its times are in the future, or before its start", gateway)
	}
	return rows.Err()
}

func (v *verifier) orphans(ctx context.Context, tx pgx.Tx, table string) error {
	rows, err := tx.Query(ctx, `select t.tenant_id, count(*) from `+table+` t
		where ($1 = '' or t.tenant_id = $1) and not exists (select from tenant_head h where h.tenant_id = t.tenant_id)
		group by t.tenant_id order by t.tenant_id`, string(v.opts.Tenant))
	if err != nil {
		return err
	}
	defer rows.Close()
	law := LawRows
	if table == "event" {
		law = LawDense
	}
	for rows.Next() {
		var tenant string
		var n int64
		if err := rows.Scan(&tenant, &n); err != nil {
			return err
		}
		v.violated(domain.TenantID(tenant), 0, law, "%d rows of %s, and no head", n, table)
	}
	return rows.Err()
}

// outbox checks that every row names versions that exist, and none twice. Rows of one tenant come in the
// order of their versions.
func (v *verifier) outbox(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `select o.id, cardinality(o.after) = cardinality(o.tenants) and cardinality(o.upto) = cardinality(o.tenants),
			coalesce(x.tenant, ''), coalesce(x.after, -1), coalesce(x.upto, -1), coalesce(h.version, 0)
		from outbox o left join lateral unnest(o.tenants, o.after, o.upto) x (tenant, after, upto) on true
		left join tenant_head h on h.tenant_id = x.tenant
		where $1 = '' or x.tenant = $1 order by x.tenant, x.after`, string(v.opts.Tenant))
	if err != nil {
		return err
	}
	defer rows.Close()
	var last domain.TenantID
	var covered int64
	for rows.Next() {
		var id, after, upto, head int64
		var even bool
		var tenant domain.TenantID
		if err := rows.Scan(&id, &even, &tenant, &after, &upto, &head); err != nil {
			return err
		}
		if tenant != last {
			last, covered = tenant, 0
		}
		switch {
		case v.opts.Quiet:
			v.violated(tenant, upto, LawOutbox, "row %d is not published: versions after %d up to %d", id, after, upto)
		case !even || after < 0 || after >= upto || upto > head:
			v.violated(tenant, upto, LawOutbox, "row %d names versions after %d up to %d; the head is at %d", id, after, upto, head)
		case after < covered:
			v.violated(tenant, upto, LawOutbox, "row %d names versions after %d, which another row names too", id, after)
		}
		covered = max(covered, upto)
	}
	return rows.Err()
}
