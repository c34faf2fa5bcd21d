package eventstore

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
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
		tags, err := json.Marshal(e.Tags)
		if err != nil {
			return err
		}
		models := e.Models
		if models == nil {
			models = []string{}
		}
		b.Queue(`insert into api_key (tenant_id, key_id, name, prefix, key_hash, created_at, expires_at, models, tags) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			tenant, string(e.KeyID), e.Name, e.Prefix, e.KeyHash, r.Time, e.ExpiresAt, models, tags)
	case domain.APIKeyRevoked:
		b.Queue(`update api_key set revoked_at = $3 where tenant_id = $1 and key_id = $2`, tenant, string(e.KeyID), r.Time)
	case domain.BudgetDefined:
		scope, err := json.Marshal(e.Scope) //nolint:gosec // the id of a key is no secret
		if err != nil {
			return err
		}
		b.Queue(`insert into budget (tenant_id, budget_id, period, scope, limit_nano, alerts_ppm, source) values ($1, $2, $3, $4, $5, $6, $7)`,
			tenant, string(e.Budget), string(e.Period), scope, int64(e.Limit), partsPerMillion(e.AlertsAt), string(e.Source))
	case domain.BudgetChanged:
		b.Queue(`update budget set limit_nano = $3, alerts_ppm = $4, source = $5 where tenant_id = $1 and budget_id = $2`,
			tenant, string(e.Budget), int64(e.Limit), partsPerMillion(e.AlertsAt), string(e.Source))
	case domain.BudgetRetired:
		b.Queue(`delete from budget where tenant_id = $1 and budget_id = $2`, tenant, string(e.Budget))
	}
	return nil
}

func partsPerMillion(thresholds []domain.Threshold) []int64 {
	ppm := make([]int64, len(thresholds))
	for i, t := range thresholds {
		ppm[i] = int64(t)
	}
	return ppm
}
