package eventstore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

// define moves the definition tables with the administrative events of a turn, in its transaction.
func define(ctx context.Context, q querier, state domain.State, records []domain.Recorded) error {
	b := &pgx.Batch{}
	var version int64 // of the last event that changed the tenant's own row
	for _, r := range records {
		if err := defineOne(b, state, r, &version); err != nil {
			return err
		}
	}
	if version > 0 {
		b.Queue(`insert into tenant (tenant_id, name, zone, rate_limit, suspended, ever_keyed, created_at, version)
			values ($1, $2, $3, $4, $5, $6, $7, $8)
			on conflict (tenant_id) do update set name = excluded.name, zone = excluded.zone, rate_limit = excluded.rate_limit,
				suspended = excluded.suspended, ever_keyed = excluded.ever_keyed, version = excluded.version`,
			string(state.Tenant), state.Name, state.Zone.String(), state.RateLimit, state.Suspended, len(state.Keys) > 0, state.CreatedAt, version)
	}
	if b.Len() == 0 {
		return nil
	}
	if err := q.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("write definitions of %s: %w", state.Tenant, err)
	}
	return nil
}

func defineOne(b *pgx.Batch, state domain.State, r domain.Recorded, version *int64) error {
	tenant := string(state.Tenant)
	switch e := r.Event.(type) { //nolint:gochecksumtype // the others define nothing
	case domain.TenantCreated, domain.TenantChanged, domain.TenantSuspended, domain.TenantResumed, domain.RateLimitChanged:
		*version = r.Version
	case domain.APIKeyIssued:
		*version = r.Version // ever_keyed
		return issue(b, tenant, r.Time, e)
	case domain.APIKeyRevoked:
		b.Queue(`update api_key set revoked_at = $3 where tenant_id = $1 and key_id = $2`, tenant, string(e.KeyID), r.Time)
	case domain.APIKeySuspended:
		b.Queue(`update api_key set suspended = true where tenant_id = $1 and key_id = $2`, tenant, string(e.KeyID))
	case domain.APIKeyResumed:
		b.Queue(`update api_key set suspended = false where tenant_id = $1 and key_id = $2`, tenant, string(e.KeyID))
	case domain.APIKeyRotated:
		b.Queue(`update api_key set prefix = $3, key_hash = $4, old_hash = $5, old_until = $6 where tenant_id = $1 and key_id = $2`,
			tenant, string(e.KeyID), e.Prefix, e.KeyHash, e.OldKeyHash, e.OldUntil)
	case domain.BudgetDefined:
		return defineBudget(b, tenant, r.Version, e)
	case domain.BudgetChanged:
		return changeBudget(b, tenant, e)
	case domain.BudgetRetired:
		b.Queue(`delete from budget where tenant_id = $1 and budget_id = $2`, tenant, string(e.Budget))
	case domain.WindowOpened:
		adopt(b, tenant, e)
	}
	return nil
}

func issue(b *pgx.Batch, tenant string, at time.Time, e domain.APIKeyIssued) error {
	tags, err := json.Marshal(e.Tags)
	if err != nil {
		return err
	}
	b.Queue(`insert into api_key (tenant_id, key_id, name, prefix, key_hash, created_at, expires_at, models, tags, required_tags)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		tenant, string(e.KeyID), e.Name, e.Prefix, e.KeyHash, at, e.ExpiresAt, notNull(e.Models), tags, notNull(e.RequiredTags))
	return nil
}

func notNull(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}

// defineBudget refuses an id that had windows before it was defined: they would be in the way of the new
// budget's, and no reservation of the tenant could be written any more.
func defineBudget(b *pgx.Batch, tenant string, version int64, e domain.BudgetDefined) error {
	scope, err := json.Marshal(e.Scope) //nolint:gosec // the id of a key is no secret
	if err != nil {
		return err
	}
	span, err := json.Marshal(e.Span)
	if err != nil {
		return err
	}
	b.Queue(`insert into budget (tenant_id, budget_id, period, span, scope, win_start, win_end, limit_nano, alerts_ppm, source)
		select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10
		where not exists (select from account where tenant_id = $1 and budget_id = $2 and account_id < $11)
			and not exists (select from account_archive where tenant_id = $1 and budget_id = $2)`,
		tenant, string(e.Budget), string(e.Period), span, scope, known(e.Start), known(e.End), int64(e.Limit), partsPerMillion(e.AlertsAt), string(e.Source), version).
		Exec(func(tag pgconn.CommandTag) error {
			if tag.RowsAffected() == 0 {
				return fmt.Errorf("%w: budget %.80q had windows before, and was retired", lanes.ErrRefusedByDatabase, e.Budget)
			}
			return nil
		})
	return nil
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func changeBudget(b *pgx.Batch, tenant string, e domain.BudgetChanged) error {
	raises := []byte("[]")
	var lowers *time.Time
	if len(e.Raises) > 0 {
		var err error
		if raises, err = json.Marshal(e.Raises); err != nil {
			return err
		}
		first := slices.MinFunc(e.Raises, func(a, b domain.Raise) int { return a.Until.Compare(b.Until) })
		lowers = &first.Until
	}
	b.Queue(`update budget set limit_nano = $3, alerts_ppm = $4, source = $5, raises = $6, lowers_at = $7 where tenant_id = $1 and budget_id = $2`,
		tenant, string(e.Budget), int64(e.Limit), partsPerMillion(e.AlertsAt), string(e.Source), raises, lowers)
	return nil
}

// adopt makes reservations count in the account of a budget that came later, as far as they are not closed
// for good by now.
func adopt(b *pgx.Batch, tenant string, e domain.WindowOpened) {
	if len(e.Adopted) == 0 {
		return
	}
	ids := make([]string, len(e.Adopted))
	for i, id := range e.Adopted {
		ids[i] = string(id)
	}
	for _, table := range []string{"hold", "presumption"} {
		b.Queue(`update `+table+` set accounts = accounts || $3::bigint where tenant_id = $1 and reservation_id = any ($2::text[]::uuid[])
			and not (accounts @> array[$3::bigint])`, tenant, ids, int64(e.Account))
	}
}

func partsPerMillion(thresholds []domain.Threshold) []int64 {
	ppm := make([]int64, len(thresholds))
	for i, t := range thresholds {
		ppm[i] = int64(t)
	}
	return ppm
}
