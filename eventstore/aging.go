package eventstore

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
)

// Aging lists tenants of which time alone has changed something by the database's clock: spend left a rolling
// window, a raise ended. Those that wait longest come first.
func (s *Store) Aging(ctx context.Context, limit int) ([]domain.TenantID, error) {
	rows, err := s.pool.Query(ctx, `select tenant_id from (
			select a.tenant_id, a.slides_at as due from account a
			where a.slides_at <= clock_timestamp()
				and exists (select from budget b where b.tenant_id = a.tenant_id and b.budget_id = a.budget_id)
			union all
			select tenant_id, lowers_at from budget where lowers_at <= clock_timestamp()) aging
		group by tenant_id order by min(due), tenant_id limit $1`, limit)
	if err != nil {
		return nil, fmt.Errorf("read what has aged: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read what has aged: %w", err)
	}
	tenants := make([]domain.TenantID, len(ids))
	for i, id := range ids {
		tenants[i] = domain.TenantID(id)
	}
	return tenants, nil
}
