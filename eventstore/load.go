package eventstore

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

const accountColumns = `a.account_id, a.budget_id, a.period, a.win_start, a.win_end, a.limit_nano, a.held, a.settled, a.presumed, a.cap, a.version`

// loadState rebuilds a tenant's state from the tables that move with its stream: O(what is open), however
// long the stream is. It must run under the head's lock or in one snapshot.
func loadState(ctx context.Context, q querier, tenant domain.TenantID) (domain.State, Hash, error) {
	state, hash := domain.NewState(tenant), Genesis(tenant)
	b := &pgx.Batch{}
	id := string(tenant)
	b.Queue(`select version, last_ts, last_hash from tenant_head where tenant_id = $1 and version > 0`, id).QueryRow(func(row pgx.Row) error {
		var stored []byte
		err := row.Scan(&state.Version, &state.LastTime, &stored)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		state.LastTime = state.LastTime.UTC()
		copy(hash[:], stored)
		return err
	})
	b.Queue(`select name, zone, rate_limit, suspended, created_at from tenant where tenant_id = $1`, id).Query(func(rows pgx.Rows) error {
		return eachRow(rows, func() error {
			var zone string
			err := rows.Scan(&state.Name, &zone, &state.RateLimit, &state.Suspended, &state.CreatedAt)
			if err == nil {
				state.CreatedAt = state.CreatedAt.UTC()
				state.Zone, err = domain.ParseZone(zone)
			}
			return err
		})
	})
	b.Queue(`select key_id, name, prefix, key_hash, created_at, expires_at, revoked_at, models, tags from api_key where tenant_id = $1`, id).
		Query(func(rows pgx.Rows) error { return scanKeys(rows, &state) })
	b.Queue(`select budget_id, period, scope, limit_nano, alerts_ppm, source from budget where tenant_id = $1 order by budget_id collate "C"`, id).
		Query(func(rows pgx.Rows) error { return scanBudgets(rows, &state) })
	b.Queue(`select e.version, e.ts, e.body, h.accounts from hold h
		join event e on e.tenant_id = h.tenant_id and e.version = h.opened and e.ts = h.opened_ts where h.tenant_id = $1`, id).
		Query(func(rows pgx.Rows) error { return scanHolds(rows, &state) })
	b.Queue(`select `+accountColumns+` from budget b cross join lateral (
		select * from account x where x.tenant_id = b.tenant_id and x.budget_id = b.budget_id order by win_start desc limit 1) a
		where b.tenant_id = $1`, id).
		Query(func(rows pgx.Rows) error { return scanAccounts(rows, &state) })
	b.Queue(`select `+accountColumns+` from account a where a.tenant_id = $1
		and a.account_id in (select distinct unnest(accounts) from hold where tenant_id = $1)`, id).
		Query(func(rows pgx.Rows) error { return scanAccounts(rows, &state) })
	if err := q.SendBatch(ctx, b).Close(); err != nil {
		return state, hash, fmt.Errorf("load %s: %w", tenant, err)
	}
	for id := range state.Current { // a retired budget has no newest window, though holds may keep its accounts
		if !slices.ContainsFunc(state.Budgets, func(b domain.Budget) bool { return b.ID == id }) {
			delete(state.Current, id)
		}
	}
	return state, hash, nil
}

// recognise tells whether the stream is the one this gateway knows: its last event is linked to the one
// before and is what the head says, nothing follows it, and what was seen committed is still there.
func recognise(ctx context.Context, q querier, tenant domain.TenantID, seen lanes.Mark, version int64, hash Hash) error {
	records, err := readEvents(ctx, q, tenant, version-2, 3)
	if err != nil {
		return err
	}
	before := Genesis(tenant)
	if version > 1 && len(records) > 0 {
		before, records = records[0].Hash, records[1:]
	}
	switch {
	case version == 0 && len(records) == 0:
	case len(records) != 1 || records[0].Version != version:
		return fmt.Errorf("%w: tenant %s: the head is at version %d, which is not the last event", ErrTampered, tenant, version)
	case records[0].Hash != hash || Link(before, records[0], domain.SchemaVersion) != hash:
		return fmt.Errorf("%w: tenant %s version %d: the head's hash is not that of its last event", ErrTampered, tenant, version)
	}
	if seen.Version == 0 {
		return nil
	}
	var stored []byte
	err = q.QueryRow(ctx, `select hash from event where tenant_id = $1 and version = $2`, string(tenant), seen.Version).Scan(&stored)
	if errors.Is(err, pgx.ErrNoRows) || (err == nil && !bytes.Equal(stored, seen.Hash[:])) {
		return fmt.Errorf("%w: tenant %s version %d was committed and is not there any more", ErrTampered, tenant, seen.Version)
	}
	if err != nil {
		return fmt.Errorf("read version %d of %s: %w", seen.Version, tenant, err)
	}
	return nil
}

func eachRow(rows pgx.Rows, scan func() error) error {
	defer rows.Close()
	for rows.Next() {
		if err := scan(); err != nil {
			return err
		}
	}
	return rows.Err()
}

func scanKeys(rows pgx.Rows, state *domain.State) error {
	return eachRow(rows, func() error {
		var k domain.Key
		var id string
		if err := rows.Scan(&id, &k.Name, &k.Prefix, &k.Hash, &k.CreatedAt, &k.ExpiresAt, &k.RevokedAt, &k.Models, &k.Tags); err != nil {
			return err
		}
		k.ID, k.CreatedAt = domain.KeyID(id), k.CreatedAt.UTC()
		if k.ExpiresAt != nil {
			*k.ExpiresAt = k.ExpiresAt.UTC()
		}
		if k.RevokedAt != nil {
			*k.RevokedAt = k.RevokedAt.UTC()
		}
		state.Keys[k.ID] = k
		return nil
	})
}

func scanBudgets(rows pgx.Rows, state *domain.State) error {
	return eachRow(rows, func() error {
		var b domain.Budget
		var id, period, source string
		var scope []byte
		var alerts []int64
		var limit int64
		if err := rows.Scan(&id, &period, &scope, &limit, &alerts, &source); err != nil {
			return err
		}
		if err := json.Unmarshal(scope, &b.Scope); err != nil {
			return fmt.Errorf("scope of budget %s: %w", id, err)
		}
		b.ID, b.Period, b.Source, b.Limit = domain.BudgetID(id), domain.Period(period), domain.Source(source), domain.Amount(limit)
		for _, a := range alerts {
			b.AlertsAt = append(b.AlertsAt, domain.Threshold(a))
		}
		state.Budgets = append(state.Budgets, b)
		return nil
	})
}

func scanHolds(rows pgx.Rows, state *domain.State) error {
	return eachRow(rows, func() error {
		var r domain.Reservation
		var body string
		var accounts []int64
		if err := rows.Scan(&r.Version, &r.At, &body, &accounts); err != nil {
			return err
		}
		if err := reserved(&r, body, accounts); err != nil {
			return err
		}
		state.AdoptReservation(r)
		return nil
	})
}

// reserved fills a reservation from the body of its usage.reserved event.
func reserved(r *domain.Reservation, body string, accounts []int64) error {
	e, err := decode(domain.TypeUsageReserved, domain.SchemaVersion, []byte(body))
	if err != nil {
		return fmt.Errorf("version %d: %w", r.Version, err)
	}
	event, ok := e.(domain.UsageReserved)
	if !ok {
		return fmt.Errorf("%w: version %d opened a hold and is a %s", ErrTampered, r.Version, domain.TypeOf(e))
	}
	r.Request, r.Amount, r.ExpiresAt, r.At = event.Request, event.Amount, event.ExpiresAt, r.At.UTC()
	r.Accounts = make([]domain.AccountID, len(accounts))
	for i, a := range accounts {
		r.Accounts[i] = domain.AccountID(a)
	}
	return nil
}

func scanAccounts(rows pgx.Rows, state *domain.State) error {
	return eachRow(rows, func() error {
		a, err := scanAccount(rows)
		if err != nil {
			return err
		}
		state.AdoptAccount(a)
		return nil
	})
}

func scanAccount(rows pgx.Rows) (domain.Account, error) {
	var a domain.Account
	var id, limit, held, settled, presumed, top int64
	var budget, period string
	err := rows.Scan(&id, &budget, &period, &a.Window.Start, &a.Window.End, &limit, &held, &settled, &presumed, &top, &a.Version)
	a.ID, a.Budget, a.Period = domain.AccountID(id), domain.BudgetID(budget), domain.Period(period)
	a.Window.Start, a.Window.End = a.Window.Start.UTC(), a.Window.End.UTC()
	a.Limit, a.Held, a.Settled = domain.Amount(limit), domain.Amount(held), domain.Amount(settled)
	a.Presumed, a.Cap = domain.Amount(presumed), domain.Amount(top)
	return a, err
}

// loadPresumption puts into the state what a closed reservation was charged by presumption, if it was.
func loadPresumption(ctx context.Context, q querier, state *domain.State, id domain.ReservationID) error {
	var p domain.Presumption
	var charged int64
	var accounts []int64
	var body string
	err := q.QueryRow(ctx, `select e.version, e.ts, e.body, p.accounts, p.charged from presumption p
		join event e on e.tenant_id = p.tenant_id and e.version = p.opened and e.ts = p.opened_ts
		where p.tenant_id = $1 and p.reservation_id = $2::text::uuid`, string(state.Tenant), string(id)).Scan(&p.Version, &p.At, &body, &accounts, &charged)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read presumption %s: %w", id, err)
	}
	if err := reserved(&p.Reservation, body, accounts); err != nil {
		return err
	}
	p.Charged = domain.Amount(charged)
	rows, err := q.Query(ctx, `select `+accountColumns+` from account a where a.tenant_id = $1 and a.account_id = any ($2)`, string(state.Tenant), accounts)
	if err != nil {
		return fmt.Errorf("read accounts of %s: %w", id, err)
	}
	found, err := pgx.CollectRows(rows, func(pgx.CollectableRow) (domain.Account, error) { return scanAccount(rows) })
	if err != nil {
		return fmt.Errorf("read accounts of %s: %w", id, err)
	}
	state.AdoptPresumption(p, found)
	return nil
}
