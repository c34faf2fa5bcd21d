package audit

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
)

// whole checks what no single stream shows: rows of tenants without a head, and the outbox.
func (v *verifier) whole(ctx context.Context, tx pgx.Tx) error {
	tables := []string{"event", "account", "account_archive", "hold", "presumption", "attempt", "tenant", "api_key", "budget"}
	if v.opts.UsageCursor != "" {
		tables = append(tables, "usage_row")
	}
	for _, table := range tables {
		if err := v.orphans(ctx, tx, table); err != nil {
			return fmt.Errorf("find rows of %s without a stream: %w", table, err)
		}
	}
	if err := v.outbox(ctx, tx); err != nil {
		return fmt.Errorf("check the outbox: %w", err)
	}
	return nil
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
