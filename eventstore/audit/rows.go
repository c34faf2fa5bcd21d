package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
)

// A row, as a value that == compares. Times are microseconds of Unix; lists are text.
type (
	accountRow struct {
		Budget, Period                      string
		Start, End                          int64
		Limit, Held, Settled, Presumed, Cap int64
		Version                             int64
	}
	holdRow struct {
		Opened, At      int64
		Amount, Charged int64
		Accounts        string
		Expires         int64
	}
	tenantRow struct {
		Name, Zone, RateLimit string
		Suspended, EverKeyed  bool
		Created, Version      int64
	}
	keyRow struct {
		Name, Prefix, Hash        string
		Created, Expires, Revoked int64
		Models, Tags              string
	}
	budgetRow struct {
		Period, Scope  string
		Limit          int64
		Alerts, Source string
	}
)

// compareRows compares every table that moves with the stream with what the events say. The queries go
// out together: one round trip a tenant.
func compareRows(ctx context.Context, tx pgx.Tx, f *fold) error {
	b := &pgx.Batch{}
	queue(b, f, `select account_id::text, budget_id, period, win_start, win_end, limit_nano, held, settled, presumed, cap, version
		from account where tenant_id = $1`, "account", f.accountRows(), scanAccount)
	queue(b, f, `select reservation_id::text, opened, opened_ts, amount, 0::bigint, accounts, expires_at
		from hold where tenant_id = $1`, "hold", holdRows(f.books.open), scanHold)
	queue(b, f, `select reservation_id::text, opened, opened_ts, amount, charged, accounts, expires_at
		from presumption where tenant_id = $1`, "presumption", holdRows(f.books.presumed), scanHold)
	queue(b, f, `select tenant_id, name, zone, coalesce(rate_limit::text, ''), suspended, ever_keyed, created_at, version
		from tenant where tenant_id = $1`, "tenant", f.tenantRows(), scanTenant)
	queue(b, f, `select key_id, name, prefix, key_hash, created_at, expires_at, revoked_at, models, tags
		from api_key where tenant_id = $1`, "api_key", f.keyRows(), scanKey)
	queue(b, f, `select budget_id, period, scope, limit_nano, alerts_ppm, source
		from budget where tenant_id = $1`, "budget", f.budgetRows(), scanBudget)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("compare the tables: %w", err)
	}
	return nil
}

// queue adds a query whose rows must be those expected, each under its key.
func queue[R comparable](b *pgx.Batch, f *fold, sql, table string, expected map[string]R, scan func(pgx.Rows) (string, R, error)) {
	b.Queue(sql, string(f.tenant)).Query(func(rows pgx.Rows) error {
		defer rows.Close()
		for rows.Next() {
			key, row, err := scan(rows)
			if err != nil {
				return err
			}
			want, ok := expected[key]
			switch {
			case !ok:
				f.violated(f.version, LawRows, "%s %s: a row that no event made: %+v", table, key, row)
			case want != row:
				f.violated(f.version, LawRows, "%s %s: the row is %+v, the events say %+v", table, key, row, want)
			}
			delete(expected, key)
		}
		for key, want := range expected {
			f.violated(f.version, LawRows, "%s %s: the row is missing: %+v", table, key, want)
		}
		return rows.Err()
	})
}

func (f *fold) accountRows() map[string]accountRow {
	rows := make(map[string]accountRow, len(f.books.accounts))
	for id, a := range f.books.accounts {
		rows[strconv.FormatInt(int64(id), 10)] = accountRow{
			Budget: string(a.budget), Period: string(a.period), Start: a.window.Start.UnixMicro(), End: a.window.End.UnixMicro(),
			Limit: int64(a.limit), Held: int64(a.held), Settled: int64(a.settled), Presumed: int64(a.presumed),
			Cap: int64(a.cap), Version: a.version,
		}
	}
	return rows
}

func scanAccount(rows pgx.Rows) (key string, r accountRow, err error) {
	var start, end time.Time
	err = rows.Scan(&key, &r.Budget, &r.Period, &start, &end, &r.Limit, &r.Held, &r.Settled, &r.Presumed, &r.Cap, &r.Version)
	r.Start, r.End = start.UnixMicro(), end.UnixMicro()
	return key, r, err
}

func holdRows(holds map[domain.ReservationID]hold) map[string]holdRow {
	rows := make(map[string]holdRow, len(holds))
	for id, h := range holds {
		rows[strings.ToLower(string(id))] = holdRow{
			Opened: h.version, At: h.at.UnixMicro(), Amount: int64(h.amount), Charged: int64(h.charged),
			Accounts: fmt.Sprint(h.accounts), Expires: h.expires.UnixMicro(),
		}
	}
	return rows
}

func scanHold(rows pgx.Rows) (key string, r holdRow, err error) {
	var at, expires time.Time
	var accounts []int64
	err = rows.Scan(&key, &r.Opened, &at, &r.Amount, &r.Charged, &accounts, &expires)
	r.At, r.Accounts, r.Expires = at.UnixMicro(), fmt.Sprint(accounts), expires.UnixMicro()
	return key, r, err
}

func (f *fold) tenantRows() map[string]tenantRow {
	if f.defined == 0 {
		return nil
	}
	s := f.state
	row := tenantRow{
		Name: s.Name, Zone: s.Zone.String(), Suspended: s.Suspended, EverKeyed: len(s.Keys) > 0,
		Created: s.CreatedAt.UnixMicro(), Version: f.defined,
	}
	if s.RateLimit != nil {
		row.RateLimit = strconv.FormatInt(*s.RateLimit, 10)
	}
	return map[string]tenantRow{string(f.tenant): row}
}

func scanTenant(rows pgx.Rows) (key string, r tenantRow, err error) {
	var created time.Time
	err = rows.Scan(&key, &r.Name, &r.Zone, &r.RateLimit, &r.Suspended, &r.EverKeyed, &created, &r.Version)
	r.Created = created.UnixMicro()
	return key, r, err
}

func (f *fold) keyRows() map[string]keyRow {
	rows := make(map[string]keyRow, len(f.state.Keys))
	for id, k := range f.state.Keys {
		rows[string(id)] = keyRow{
			Name: k.Name, Prefix: k.Prefix, Hash: k.Hash, Created: k.CreatedAt.UnixMicro(),
			Expires: micros(k.ExpiresAt), Revoked: micros(k.RevokedAt), Models: fmt.Sprintf("%q", k.Models), Tags: sorted(k.Tags),
		}
	}
	return rows
}

func scanKey(rows pgx.Rows) (key string, r keyRow, err error) {
	var created time.Time
	var expires, revoked *time.Time
	var models []string
	var tags map[string]string
	err = rows.Scan(&key, &r.Name, &r.Prefix, &r.Hash, &created, &expires, &revoked, &models, &tags)
	r.Created, r.Expires, r.Revoked = created.UnixMicro(), micros(expires), micros(revoked)
	r.Models, r.Tags = fmt.Sprintf("%q", models), sorted(tags)
	return key, r, err
}

// micros is a time that may be missing; no key was ever made at the epoch.
func micros(t *time.Time) int64 {
	if t == nil {
		return 0
	}
	return t.UnixMicro()
}

// sorted is a map as text; no tags and an empty set of them are the same.
func sorted(tags map[string]string) string {
	if len(tags) == 0 {
		return ""
	}
	text, err := json.Marshal(tags) // its keys come sorted
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (f *fold) budgetRows() map[string]budgetRow {
	rows := make(map[string]budgetRow, len(f.state.Budgets))
	for _, b := range f.state.Budgets {
		rows[string(b.ID)] = budgetRow{
			Period: string(b.Period), Scope: fmt.Sprintf("%+v", b.Scope), Limit: int64(b.Limit),
			Alerts: fmt.Sprint(b.AlertsAt), Source: string(b.Source),
		}
	}
	return rows
}

func scanBudget(rows pgx.Rows) (key string, r budgetRow, err error) {
	var scope domain.Scope
	var alerts []int64
	err = rows.Scan(&key, &r.Period, &scope, &r.Limit, &alerts, &r.Source)
	r.Scope, r.Alerts = fmt.Sprintf("%+v", scope), fmt.Sprint(alerts)
	return key, r, err
}
