package eventstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/budgetguard/budgetguard/domain"
)

// What a state does not hold, because it is closed: it is recalled when a command is about it.

const presumptionSQL = `select e.version, e.ts, e.body, p.accounts, p.amount, p.expires_at, p.charged, p.released from presumption p
	join event e on e.tenant_id = p.tenant_id and e.version = p.opened and e.ts = p.opened_ts where p.tenant_id = $1`

// recallPresumption puts into the state what a closed reservation was charged by presumption, if it was.
func recallPresumption(ctx context.Context, q querier, state *domain.State, id domain.ReservationID) error {
	if _, err := uuid.Parse(string(id)); err != nil {
		return nil //nolint:nilerr // no such reservation was ever made; asking would fail the whole turn
	}
	return recallPresumptions(ctx, q, state, presumptionSQL+` and p.reservation_id = $2::text::uuid`, string(state.Tenant), string(id))
}

func recallPresumptions(ctx context.Context, q querier, state *domain.State, sql string, args ...any) error {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("read presumptions of %s: %w", state.Tenant, err)
	}
	var found []domain.Presumption
	err = eachRow(rows, func() error {
		var p domain.Presumption
		var h heldRow
		var body string
		var charged int64
		if err := rows.Scan(&h.version, &h.at, &body, &h.accounts, &h.amount, &h.expires, &charged, &p.Released); err != nil {
			return err
		}
		var err error
		p.Reservation, err = reserved(h, body)
		p.Charged = domain.Amount(charged)
		found = append(found, p)
		return err
	})
	if err != nil {
		return fmt.Errorf("read presumptions of %s: %w", state.Tenant, err)
	}
	var ids []domain.AccountID
	for _, p := range found {
		ids = append(ids, p.Accounts...)
	}
	accounts, err := recallAccounts(ctx, q, state, ids)
	if err != nil {
		return err
	}
	for _, p := range found {
		state.AdoptPresumption(p, accounts)
	}
	return nil
}

// recallAccounts reads accounts that the state does not have. Those that were archived come back.
func recallAccounts(ctx context.Context, q querier, state *domain.State, ids []domain.AccountID) ([]domain.Account, error) {
	var missing []int64
	for _, id := range ids {
		if _, ok := state.Accounts[id]; !ok {
			missing = append(missing, int64(id))
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	rows, err := q.Query(ctx, `with back as (delete from account_archive where tenant_id = $1 and account_id = any ($2) returning *)
		insert into account select * from back`, string(state.Tenant), missing)
	if err != nil {
		return nil, fmt.Errorf("bring accounts back: %w", err)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("bring accounts back: %w", err)
	}
	rows, err = q.Query(ctx, `select `+accountColumns+` from account a where a.tenant_id = $1 and a.account_id = any ($2)`, string(state.Tenant), missing)
	if err != nil {
		return nil, fmt.Errorf("read accounts of %s: %w", state.Tenant, err)
	}
	accounts, err := pgx.CollectRows(rows, func(pgx.CollectableRow) (domain.Account, error) { return scanAccount(rows) })
	if err != nil {
		return nil, fmt.Errorf("read accounts of %s: %w", state.Tenant, err)
	}
	return accounts, nil
}

// recallClosed puts into the state a reservation that an adjustment is about: its presumption, or what its
// charge says of it.
func recallClosed(ctx context.Context, q querier, state *domain.State, id domain.ReservationID) error {
	if err := recallPresumption(ctx, q, state, id); err != nil {
		return err
	}
	if _, presumed := state.Presumed[id]; presumed {
		return nil
	}
	if _, err := uuid.Parse(string(id)); err != nil {
		return nil //nolint:nilerr // there is none
	}
	version, err := chargeOf(ctx, q, state.Tenant, id)
	if err != nil || version == 0 {
		return err
	}
	records, err := readEvents(ctx, q, state.Tenant, version-1, 1)
	if err != nil || len(records) == 0 {
		return err
	}
	r, ok := domain.ClosedBy(records[0])
	if !ok {
		return nil
	}
	accounts, err := recallAccounts(ctx, q, state, r.Accounts)
	if err == nil {
		state.AdoptClosed(r, accounts)
	}
	return err
}

// chargeOf is the version that charged a reservation, or corrected that, last, or 0. The usage rows know it up to their cursor;
// of what came after, the events do. It is for a transaction of the journal, whose sessions make no bitmaps: only
// through one can the index of the reservations, a BRIN, be used, else every row of the tenant is read.
func chargeOf(ctx context.Context, tx querier, tenant domain.TenantID, id domain.ReservationID) (int64, error) {
	var version int64
	b := &pgx.Batch{}
	b.Queue(`set local enable_bitmapscan = on`)
	b.Queue(`select coalesce((
		select max(version) from (
			select version from usage_row where tenant_id = $1 and reservation_id = $2::text::uuid
			union all
			select version from event where tenant_id = $1
				and version > coalesce((select version from projection_cursor where name = 'usage' and tenant_id = $1), 0)
				and type in ('usage.settled', 'usage.settled_late', 'reservation.expired', 'usage.adjusted')
				and body::jsonb ->> 'reservationId' = $2) found), 0)`, string(tenant), string(id)).QueryRow(func(row pgx.Row) error {
		return row.Scan(&version)
	})
	b.Queue(`set local enable_bitmapscan = off`) // plans of the append are kept for long
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return 0, fmt.Errorf("find the charge of %s: %w", id, err)
	}
	return version, nil
}

// recallAttempt puts into the state what an idempotency key was used for last, if it was. What the state knows can
// be a reservation that is still open, though the life of its key is over.
func recallAttempt(ctx context.Context, q querier, state *domain.State, key domain.AttemptKey) error {
	a := domain.Attempt{AttemptKey: key}
	digest := AttemptDigest(key)
	var reservation, phase string
	var charged int64
	err := q.QueryRow(ctx, `select fingerprint, reservation_id, version, at, state, charged from attempt where tenant_id = $1 and key = $2`,
		string(state.Tenant), digest[:]).Scan(&a.Fingerprint, &reservation, &a.Version, &a.At, &phase, &charged)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read an idempotency key of %s: %w", state.Tenant, err)
	}
	a.Reservation, a.State, a.Charged, a.At = domain.ReservationID(reservation), domain.AttemptState(phase), domain.Amount(charged), a.At.UTC()
	if known, ok := state.Attempts[key]; !ok || a.At.After(known.At) {
		state.AdoptAttempt(a)
	}
	return nil
}

const (
	// tailChunk is how many events after the usage cursor are read at a time.
	tailChunk = 2000
	// pastPatience bounds the answer to a question about the past, and each of its statements: the tenant waits, and
	// its turn ends by force after five seconds. Less than lock_timeout, so that it says what is slow.
	pastPatience = 1900 * time.Millisecond
)

// patiently answers a question about the past, or says that it takes too long. Then the transaction is as it was.
func (l *lockedHead) patiently(ctx context.Context, state *domain.State, past domain.Past) (domain.Past, error) {
	if _, err := l.tx.Exec(ctx, fmt.Sprintf(`savepoint past; set local statement_timeout = %d`, pastPatience.Milliseconds())); err != nil {
		return past, fmt.Errorf("ask for the past of %s: %w", state.Tenant, err)
	}
	answer, err := l.recallPast(ctx, state, past)
	end := `set local statement_timeout to default; release past`
	var stopped *pgconn.PgError
	switch {
	case errors.As(err, &stopped) && stopped.Code == "57014": // query_canceled
		err = tooLong(state)
		fallthrough
	case errors.Is(err, domain.ErrUnavailable):
		end = `rollback to past; release past`
	case err != nil:
		return past, err
	}
	if _, failed := l.tx.Exec(ctx, end); failed != nil {
		return past, fmt.Errorf("ask for the past of %s: %w", state.Tenant, failed)
	}
	return answer, err
}

// tooLong refuses a command whose question about the past takes too long, as it does while the usage rows are far
// behind.
func tooLong(state *domain.State) error {
	return fmt.Errorf("%w: what the window of a budget of %s had cost takes too long to add up; try again later, and see that the worker runs",
		domain.ErrUnavailable, state.Tenant)
}

// recallPast answers what a window had cost before a budget was: the usage rows up to their cursor, in one
// snapshot with it, and the events after. Presumptions of the window come into the state, so that what is
// known later corrects the new budget too: those in its scope, and of more than a budget can take over one more.
func (l *lockedHead) recallPast(ctx context.Context, state *domain.State, past domain.Past) (domain.Past, error) {
	asked := l.now()
	cursor, err := sumUsage(ctx, l.tx, state.Tenant, &past)
	if err != nil {
		return past, err
	}
	for {
		if l.now().Sub(asked) > pastPatience {
			return past, tooLong(state)
		}
		records, err := readEvents(ctx, l.tx, state.Tenant, cursor, tailChunk)
		if err != nil {
			return past, err
		}
		for _, r := range records {
			past.Add(r)
			cursor = r.Version
		}
		if len(records) < tailChunk {
			break
		}
	}
	err = recallPresumptions(ctx, l.tx, state, presumptionSQL+` and p.opened_ts >= $2 and p.opened_ts < $3 and not p.released
			and ($4 = '' or e.body::jsonb ->> 'apiKeyId' = $4) and ($5 = '' or e.body::jsonb ->> 'model' = $5)
			and ($6 = '' or case when strpos($6, '=') > 0
				then e.body::jsonb -> 'tags' ->> split_part($6, '=', 1) = substr($6, strpos($6, '=') + 1) else e.body::jsonb -> 'tags' ? $6 end)
		limit $7`, string(state.Tenant), past.Window.Start, past.Window.End,
		string(past.Scope.APIKey), past.Scope.Model, past.Scope.Tag, domain.MaxAdopted+1)
	return past, err
}

// sumUsage adds the usage rows of a window and scope, by bucket, and says up to which version they go.
func sumUsage(ctx context.Context, q querier, tenant domain.TenantID, past *domain.Past) (cursor int64, err error) {
	const sql = `
		with cursor as (select coalesce((select version from projection_cursor where name = 'usage' and tenant_id = $1), 0) as version)
		select c.version, s.bucket, s.usd from cursor c left join (
			select case when $4::bigint = 0 then 0 else (extract(epoch from ts) * 1000000)::bigint / $4::bigint end as bucket, sum(usd_nano)::bigint as usd
			from usage_row where tenant_id = $1 and ts >= $2 and ts < $3
				and ($5 = '' or api_key_id = $5) and ($6 = '' or model = $6)
				and ($7 = '' or case when strpos($7, '=') > 0
					then tags ->> split_part($7, '=', 1) = substr($7, strpos($7, '=') + 1) else tags ? $7 end)
			group by 1) s on true`
	rows, err := q.Query(ctx, sql, string(tenant), past.Window.Start, past.Window.End, past.Duration.BucketWidth().Microseconds(),
		string(past.Scope.APIKey), past.Scope.Model, past.Scope.Tag)
	if err != nil {
		return 0, fmt.Errorf("sum usage of %s: %w", tenant, err)
	}
	err = eachRow(rows, func() error {
		var bucket, usd *int64
		if err := rows.Scan(&cursor, &bucket, &usd); err != nil {
			return err
		}
		if bucket != nil && usd != nil {
			past.Count(*bucket, domain.Amount(*usd))
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("sum usage of %s: %w", tenant, err)
	}
	return cursor, nil
}
