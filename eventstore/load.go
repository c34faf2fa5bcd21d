package eventstore

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

const accountColumns = `a.account_id, a.budget_id, a.period, a.win_start, a.win_end, a.limit_nano, a.held, a.settled, a.presumed, a.cap, a.version,
	a.crossed, a.duration_min, a.oldest_bucket, a.buckets`

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
		state.LastTime, state.Used = state.LastTime.UTC(), true // or not: nobody remembers
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
	b.Queue(`select key_id, name, prefix, key_hash, created_at, expires_at, revoked_at, models, tags,
			required_tags, suspended, coalesce(old_hash, ''), old_until from api_key where tenant_id = $1`, id).
		Query(func(rows pgx.Rows) error { return scanKeys(rows, &state) })
	b.Queue(`select budget_id, period, span, scope, win_start, win_end, limit_nano, raises, alerts_ppm, source from budget where tenant_id = $1 order by budget_id collate "C"`, id).
		Query(func(rows pgx.Rows) error { return scanBudgets(rows, &state) })
	b.Queue(`select e.version, e.ts, e.body, h.accounts, h.amount, h.expires_at from hold h
		join event e on e.tenant_id = h.tenant_id and e.version = h.opened and e.ts = h.opened_ts where h.tenant_id = $1`, id).
		Query(func(rows pgx.Rows) error { return scanHolds(rows, &state) })
	b.Queue(`select `+accountColumns+` from budget b cross join lateral (
		select * from account x where x.tenant_id = b.tenant_id and x.budget_id = b.budget_id order by win_start desc limit 1) a
		where b.tenant_id = $1`, id).
		Query(func(rows pgx.Rows) error { return scanAccounts(rows, &state) })
	b.Queue(`select `+accountColumns+` from account a where a.tenant_id = $1
		and a.account_id in (select distinct unnest(accounts) from hold where tenant_id = $1)`, id).
		Query(func(rows pgx.Rows) error { return scanAccounts(rows, &state) })
	want := queueExpectation(b, id)
	if err := q.SendBatch(ctx, b).Close(); err != nil {
		return state, hash, fmt.Errorf("load %s: %w", tenant, err)
	}
	for id := range state.Current { // a retired budget has no newest window, though holds may keep its accounts
		if !slices.ContainsFunc(state.Budgets, func(b domain.Budget) bool { return b.ID == id }) {
			delete(state.Current, id)
		}
	}
	return state, hash, want.check(&state)
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
		if err := rows.Scan(&id, &k.Name, &k.Prefix, &k.Hash, &k.CreatedAt, &k.ExpiresAt, &k.RevokedAt, &k.Models, &k.Tags,
			&k.RequiredTags, &k.Suspended, &k.OldHash, &k.OldUntil); err != nil {
			return err
		}
		k.ID, k.CreatedAt = domain.KeyID(id), k.CreatedAt.UTC()
		for _, t := range []*time.Time{k.ExpiresAt, k.RevokedAt, k.OldUntil} {
			if t != nil {
				*t = t.UTC()
			}
		}
		state.Keys[k.ID] = k
		return nil
	})
}

func scanBudgets(rows pgx.Rows, state *domain.State) error {
	return eachRow(rows, func() error {
		b, err := scanBudget(rows)
		state.Budgets = append(state.Budgets, b)
		return err
	})
}

func scanBudget(rows pgx.Rows) (domain.Budget, error) {
	var b domain.Budget
	var id, period, source string
	var span, scope, raises []byte
	var start, end *time.Time
	var alerts []int64
	var limit int64
	if err := rows.Scan(&id, &period, &span, &scope, &start, &end, &limit, &raises, &alerts, &source); err != nil {
		return b, err
	}
	for _, part := range []struct {
		text []byte
		into any
	}{{span, &b.Span}, {scope, &b.Scope}, {raises, &b.Raises}} {
		if err := json.Unmarshal(part.text, part.into); err != nil {
			return b, fmt.Errorf("budget %s: %w", id, err)
		}
	}
	if len(b.Raises) == 0 {
		b.Raises = nil
	}
	if start != nil && end != nil {
		b.Window = domain.Window{Start: start.UTC(), End: end.UTC()}
	}
	b.ID, b.Period, b.Source, b.Limit = domain.BudgetID(id), domain.Period(period), domain.Source(source), domain.Amount(limit)
	for _, a := range alerts {
		b.AlertsAt = append(b.AlertsAt, domain.Threshold(a))
	}
	return b, nil
}

func scanHolds(rows pgx.Rows, state *domain.State) error {
	return eachRow(rows, func() error {
		var body string
		var h heldRow
		if err := rows.Scan(&h.version, &h.at, &body, &h.accounts, &h.amount, &h.expires); err != nil {
			return err
		}
		r, err := reserved(h, body)
		if err != nil {
			return err
		}
		state.AdoptReservation(r)
		return nil
	})
}

// heldRow is what a row of hold, or of presumption, knows better than the event that opened it.
type heldRow struct {
	version, amount int64
	at, expires     time.Time
	accounts        []int64
}

// reserved is a reservation from its row and the body of its usage.reserved event.
func reserved(h heldRow, body string) (domain.Reservation, error) {
	r := domain.Reservation{Amount: domain.Amount(h.amount), Version: h.version, At: h.at.UTC(), ExpiresAt: h.expires.UTC()}
	e, err := decode(domain.TypeUsageReserved, domain.SchemaVersion, []byte(body))
	if err != nil {
		return r, fmt.Errorf("version %d: %w", h.version, err)
	}
	event, ok := e.(domain.UsageReserved)
	if !ok {
		return r, fmt.Errorf("%w: version %d opened a hold and is a %s", ErrTampered, h.version, domain.TypeOf(e))
	}
	r.Request, r.Accounts = event.Request, accountIDs(h.accounts)
	return r, nil
}

func accountIDs(numbers []int64) []domain.AccountID {
	ids := make([]domain.AccountID, len(numbers))
	for i, n := range numbers {
		ids[i] = domain.AccountID(n)
	}
	return ids
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
	var id, limit, held, settled, presumed, top, duration int64
	var budget, period string
	var crossed, buckets []int64
	err := rows.Scan(&id, &budget, &period, &a.Window.Start, &a.Window.End, &limit, &held, &settled, &presumed, &top, &a.Version,
		&crossed, &duration, &a.Oldest, &buckets)
	a.ID, a.Budget, a.Period = domain.AccountID(id), domain.BudgetID(budget), domain.Period(period)
	a.Window.Start, a.Window.End = a.Window.Start.UTC(), a.Window.End.UTC()
	a.Limit, a.Held, a.Settled = domain.Amount(limit), domain.Amount(held), domain.Amount(settled)
	a.Presumed, a.Cap = domain.Amount(presumed), domain.Amount(top)
	for _, t := range crossed {
		a.Crossed = append(a.Crossed, domain.Threshold(t))
	}
	a.Duration = domain.Length(time.Duration(duration) * time.Minute)
	for ; len(buckets) >= 3; buckets = buckets[3:] {
		a.Buckets = append(a.Buckets, domain.Bucket{Number: buckets[0], Settled: domain.Amount(buckets[1]), Presumed: domain.Amount(buckets[2])})
	}
	return a, err
}
