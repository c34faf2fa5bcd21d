package eventstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	// tidyBatch bounds one statement, and so how long a tenant's head is locked: some milliseconds.
	tidyBatch = 200
	// tidyRounds bounds the statements for one tenant, or for all attempts; the rest is left to the next time.
	tidyRounds = 500
	// tidyTenants is how many tenants are listed at once.
	tidyTenants = 200
)

// Tidied is how many rows a round of housekeeping took away.
type Tidied struct {
	Attempts, Presumptions, Accounts int64
}

// Tidy takes away what nobody asks for any more: idempotency keys whose life is over, releases that no evidence
// can still turn into a charge, and, into the archive, accounts whose window ended long ago and which no
// reservation and no presumption refers to. All of it can be found in the events. Any number of processes may
// tidy at once, beside any traffic: rows that somebody works on are left for the next time.
func (s *Store) Tidy(ctx context.Context) (Tidied, error) {
	var t Tidied
	for range tidyRounds {
		n, err := s.forgetAttempts(ctx)
		t.Attempts += n
		if err != nil {
			return t, err
		}
		if n < tidyBatch {
			break
		}
	}
	for after := domain.TenantID(""); ; {
		tenants, err := s.untidy(ctx, after)
		if err != nil {
			return t, err
		}
		for _, tenant := range tenants {
			if err := s.tidyTenant(ctx, tenant, &t); err != nil {
				return t, err
			}
		}
		if len(tenants) < tidyTenants {
			return t, nil
		}
		after = tenants[len(tenants)-1]
	}
}

// forgetAttempts deletes idempotency keys that are new again. The hour keeps clear of the instant at which an
// append decides that.
func (s *Store) forgetAttempts(ctx context.Context) (int64, error) {
	tag, err := s.pool.Exec(ctx, `delete from attempt where (tenant_id, key) in (
		select tenant_id, key from attempt where at < clock_timestamp() - attempt_life() - interval '1 hour'
		limit $1 for update skip locked)`, tidyBatch)
	if err != nil {
		return 0, fmt.Errorf("forget idempotency keys: %w", err)
	}
	return tag.RowsAffected(), nil
}

// The conditions of what a tenant can do without.
const (
	staleRelease = `p.released and p.opened_ts < clock_timestamp() - interval '7 days'`
	endedAccount = `a.win_end < clock_timestamp() - interval '90 days' and not exists (
		select from budget b where b.tenant_id = a.tenant_id and b.budget_id = a.budget_id and not exists (
			select from account n where n.tenant_id = a.tenant_id and n.budget_id = a.budget_id and n.win_start > a.win_start))`
)

// untidy lists the tenants after one of which something may be taken away.
func (s *Store) untidy(ctx context.Context, after domain.TenantID) ([]domain.TenantID, error) {
	rows, err := s.pool.Query(ctx, `select tenant_id from (
			select p.tenant_id from presumption p where `+staleRelease+` union select a.tenant_id from account a where `+endedAccount+`) due
		where tenant_id > $1 order by tenant_id limit $2`, string(after), tidyTenants)
	if err != nil {
		return nil, fmt.Errorf("read what can be tidied: %w", err)
	}
	tenants, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (domain.TenantID, error) {
		var id string
		err := row.Scan(&id)
		return domain.TenantID(id), err
	})
	if err != nil {
		return nil, fmt.Errorf("read what can be tidied: %w", err)
	}
	return tenants, nil
}

// tidyTenant works under the head's lock: what an append has read under it must be there when it writes. A
// tenant whose head is locked is left for the next time.
func (s *Store) tidyTenant(ctx context.Context, tenant domain.TenantID, t *Tidied) error {
	for range tidyRounds {
		var releases, accounts int64
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			var version int64
			err := tx.QueryRow(ctx, `select version from tenant_head where tenant_id = $1 for update skip locked`, string(tenant)).Scan(&version)
			if errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			if err != nil {
				return err
			}
			if releases, err = affected(ctx, tx, `delete from presumption where tenant_id = $1 and reservation_id in (
				select p.reservation_id from presumption p where p.tenant_id = $1 and `+staleRelease+` limit $2)`, tenant); err != nil {
				return err
			}
			accounts, err = affected(ctx, tx, `with used as (
					select unnest(accounts) as id from hold where tenant_id = $1 union select unnest(accounts) from presumption where tenant_id = $1),
				moved as (
					delete from account where tenant_id = $1 and account_id in (
						select a.account_id from account a where a.tenant_id = $1 and `+endedAccount+`
							and not exists (select from used u where u.id = a.account_id) limit $2)
					returning *)
				insert into account_archive select * from moved`, tenant)
			return err
		})
		if err != nil {
			return fmt.Errorf("tidy %s: %w", tenant, err)
		}
		t.Presumptions, t.Accounts = t.Presumptions+releases, t.Accounts+accounts
		if releases < tidyBatch && accounts < tidyBatch {
			return nil
		}
	}
	return nil
}

func affected(ctx context.Context, tx pgx.Tx, sql string, tenant domain.TenantID) (int64, error) {
	tag, err := tx.Exec(ctx, sql, string(tenant), tidyBatch)
	return tag.RowsAffected(), err
}
