package audit

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
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
		Crossed                             string
		Duration, Oldest                    int64
		Buckets                             string
		Slides                              int64
	}
	holdRow struct {
		Opened, At      int64
		Amount, Charged int64
		Accounts        string
		Expires         int64
		Released        bool
	}
	attemptRow struct {
		Fingerprint, Reservation, State string
		At, Charged                     int64
	}
	tenantRow struct {
		Name, Zone, RateLimit string
		Suspended, EverKeyed  bool
		Created, Version      int64
	}
	keyRow struct {
		Name, Prefix, Hash        string
		Created, Expires, Revoked int64
		Models, Tags, Required    string
		Suspended                 bool
		OldHash                   string
		OldUntil                  int64
	}
	budgetRow struct {
		Period, Span, Scope string
		Start, End          int64
		Limit, Lowers       int64
		Raises              string
		Alerts, Source      string
		Opened              int64
	}
	headRow struct{ Budgets int64 }
)

// compareRows compares every table that moves with the stream with what the events say. The queries go
// out together: one round trip a tenant.
func compareRows(ctx context.Context, tx pgx.Tx, f *fold) error {
	b := &pgx.Batch{}
	const columns = `account_id::text, budget_id, period, win_start, win_end, limit_nano, held, settled, presumed, cap, version,
		crossed, duration_min, oldest_bucket, buckets, slides_at`
	queue(b, f, `select `+columns+` from account where tenant_id = $1 union all select `+columns+` from account_archive where tenant_id = $1`,
		"account", f.accountRows(), nil, scanAccount)
	queue(b, f, `select reservation_id::text, opened, opened_ts, amount, 0::bigint, accounts, expires_at, false
		from hold where tenant_id = $1`, "hold", holdRows(f.books.open), nil, scanHold)
	queue(b, f, `select reservation_id::text, opened, opened_ts, amount, charged, accounts, expires_at, released
		from presumption where tenant_id = $1`, "presumption", holdRows(f.books.presumed), f.purgedPresumption(), scanHold)
	queue(b, f, `select encode(key, 'hex'), fingerprint, reservation_id, state, at, charged
		from attempt where tenant_id = $1`, "attempt", f.attemptRows(), f.purgedAttempt, scanAttempt)
	queue(b, f, `select tenant_id, name, zone, coalesce(rate_limit::text, ''), suspended, ever_keyed, created_at, version
		from tenant where tenant_id = $1`, "tenant", f.tenantRows(), nil, scanTenant)
	queue(b, f, `select key_id, name, prefix, key_hash, created_at, expires_at, revoked_at, models, tags, required_tags, suspended, coalesce(old_hash, ''), old_until
		from api_key where tenant_id = $1`, "api_key", f.keyRows(), nil, scanKey)
	queue(b, f, `select budget_id, period, span, scope, win_start, win_end, limit_nano, raises, lowers_at, alerts_ppm, source, opened
		from budget where tenant_id = $1`, "budget", f.budgetRows(), nil, scanBudget)
	queue(b, f, `select tenant_id, budgets from tenant_head where tenant_id = $1 and version > 0`, "tenant_head", f.headRows(), nil, scanHead)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("compare the tables: %w", err)
	}
	return nil
}

// queue adds a query whose rows must be those expected, each under its key. A row that purged tells of may be missing:
// it is so old that housekeeping may have taken it, or not yet, or it was never written.
func queue[R tableRow](
	b *pgx.Batch, f *fold, sql, table string, expected map[string]R,
	purged func(string, R) bool, scan func(pgx.Rows) (string, R, error),
) {
	differ := func(key string, fault Fault, named R, columns []Column) {
		f.differs(Difference{
			Tenant: f.tenant, Version: f.version, Table: table, Key: key,
			Row: named.label(table, key), Fault: fault, Columns: columns,
		})
	}
	b.Queue(sql, string(f.tenant)).Query(func(rows pgx.Rows) error {
		defer rows.Close()
		for rows.Next() {
			key, row, err := scan(rows)
			if err != nil {
				return err
			}

			want, ok := expected[key]
			switch {
			case !ok && purged != nil && purged(key, row):
			case !ok:
				differ(key, FaultUnexplained, row, told(row, false))
			case want != row:
				differ(key, FaultChanged, want, compared(row, want))
			}
			delete(expected, key)
		}

		// What is left was found nowhere.
		for _, key := range slices.Sorted(maps.Keys(expected)) {
			want := expected[key]
			if purged != nil && purged(key, want) {
				continue
			}
			differ(key, FaultMissing, want, told(want, true))
		}
		return rows.Err()
	})
}

// keptFor is how long a given back reservation, or an idempotency key, is kept at least.
const keptFor = domain.AttemptLife

// purgedPresumption tolerates too that an earlier build wrote none for a release. No money is in it: what comes of
// that is that a bill for a call which nobody should have billed is refused as one of an unknown reservation.
func (f *fold) purgedPresumption() func(string, holdRow) bool {
	unkept := map[string]bool{}
	for id, h := range f.books.presumed {
		if h.unkept {
			unkept[rowKey(id)] = true
		}
	}
	return func(key string, r holdRow) bool {
		return r.Released && (unkept[key] || r.At < f.now.Add(-keptFor).UnixMicro())
	}
}

func (f *fold) purgedAttempt(_ string, r attemptRow) bool {
	return r.At < f.now.Add(-keptFor).UnixMicro()
}

func (f *fold) attemptRows() map[string]attemptRow {
	rows := make(map[string]attemptRow, len(f.keys.taken))
	for key, t := range f.keys.taken {
		rows[hex.EncodeToString(key[:])] = attemptRow{
			Fingerprint: t.Fingerprint, Reservation: string(t.Reservation), State: string(t.State), At: t.At.UnixMicro(), Charged: int64(t.Charged),
		}
	}
	return rows
}

func scanAttempt(rows pgx.Rows) (key string, r attemptRow, err error) {
	var at time.Time
	err = rows.Scan(&key, &r.Fingerprint, &r.Reservation, &r.State, &at, &r.Charged)
	r.At = at.UnixMicro()
	return key, r, err
}

func (f *fold) accountRows() map[string]accountRow {
	rows := make(map[string]accountRow, len(f.books.accounts))
	for id, a := range f.books.accounts {
		row := accountRow{
			Budget: string(a.budget), Period: string(a.period), Start: a.window.Start.UnixMicro(), End: a.window.End.UnixMicro(),
			Limit: int64(a.limit), Held: int64(a.held), Settled: int64(a.settled), Presumed: int64(a.presumed),
			Cap: int64(a.cap), Version: a.version, Crossed: crossedText(a.crossed),
		}
		if a.duration != 0 {
			row.Duration, row.Oldest = int64(time.Duration(a.duration)/time.Minute), a.oldest
			row.Buckets, row.Slides = a.partsText()
		}
		rows[strconv.FormatInt(int64(id), 10)] = row
	}
	return rows
}

func crossedText(thresholds []domain.Threshold) string {
	sorted := slices.Clone(thresholds)
	slices.Sort(sorted)
	return fmt.Sprint(sorted)
}

// partsText are the parts of a rolling account as text, and when the first one leaves.
func (a *account) partsText() (text string, slides int64) {
	triples, slides := a.triples()
	return fmt.Sprint(triples), slides
}

// triples are the parts of a rolling account as the table has them, and when the first one leaves.
func (a *account) triples() (triples []int64, slides int64) {
	triples = []int64{}
	for _, number := range slices.Sorted(maps.Keys(a.parts)) {
		p := a.parts[number]
		if p.settled == 0 && p.presumed == 0 {
			continue
		}
		if len(triples) == 0 {
			width := time.Duration(a.duration).Microseconds() / 60
			slides = (number+1)*width + time.Duration(a.duration).Microseconds()
		}
		triples = append(triples, number, int64(p.settled), int64(p.presumed))
	}
	return triples, slides
}

func scanAccount(rows pgx.Rows) (key string, r accountRow, err error) {
	var start, end time.Time
	var slides *time.Time
	var crossed []domain.Threshold
	var buckets []int64
	err = rows.Scan(&key, &r.Budget, &r.Period, &start, &end, &r.Limit, &r.Held, &r.Settled, &r.Presumed, &r.Cap, &r.Version,
		&crossed, &r.Duration, &r.Oldest, &buckets, &slides)
	r.Start, r.End, r.Slides = start.UnixMicro(), end.UnixMicro(), micros(slides)
	r.Crossed = crossedText(crossed)
	if buckets != nil {
		r.Buckets = fmt.Sprint(buckets)
	}
	return key, r, err
}

// rowKey is a reservation as Postgres writes its UUID.
func rowKey(id domain.ReservationID) string { return strings.ToLower(string(id)) }

func holdRows(holds map[domain.ReservationID]hold) map[string]holdRow {
	rows := make(map[string]holdRow, len(holds))
	for id, h := range holds {
		rows[rowKey(id)] = holdRow{
			Opened: h.version, At: h.at.UnixMicro(), Amount: int64(h.amount), Charged: int64(h.charged),
			Accounts: fmt.Sprint(h.accounts), Expires: h.expires.UnixMicro(), Released: h.released,
		}
	}
	return rows
}

func scanHold(rows pgx.Rows) (key string, r holdRow, err error) {
	var at, expires time.Time
	var accounts []int64
	err = rows.Scan(&key, &r.Opened, &at, &r.Amount, &r.Charged, &accounts, &expires, &r.Released)
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
			Required: fmt.Sprintf("%q", k.RequiredTags), Suspended: k.Suspended, OldHash: k.OldHash, OldUntil: micros(k.OldUntil),
		}
	}
	return rows
}

func scanKey(rows pgx.Rows) (key string, r keyRow, err error) {
	var created time.Time
	var expires, revoked, oldUntil *time.Time
	var models, required []string
	var tags map[string]string
	err = rows.Scan(&key, &r.Name, &r.Prefix, &r.Hash, &created, &expires, &revoked, &models, &tags, &required, &r.Suspended, &r.OldHash, &oldUntil)
	r.Created, r.Expires, r.Revoked = created.UnixMicro(), micros(expires), micros(revoked)
	r.Models, r.Tags = fmt.Sprintf("%q", models), sorted(tags)
	r.Required, r.OldUntil = fmt.Sprintf("%q", required), micros(oldUntil)
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
	return text(tags) // its keys come sorted
}

// text is a value as the tables hold it: JSON.
func text(value any) string {
	encoded, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(encoded)
}

// fingerprint is enough of a hash to tell it from another.
func fingerprint(hash string) string {
	const shown = 8
	return hash[:min(shown, len(hash))]
}

func (f *fold) budgetRows() map[string]budgetRow {
	rows := make(map[string]budgetRow, len(f.state.Budgets))
	for _, b := range f.state.Budgets {
		row := budgetRowOf(b)
		row.Opened = int64(f.books.newest[b.ID])
		rows[string(b.ID)] = row
	}
	return rows
}

// headRows say how many budgets are in force: what the gateways compare with the rows of budget.
func (f *fold) headRows() map[string]headRow {
	if f.headless || f.version == 0 {
		return nil
	}
	return map[string]headRow{string(f.tenant): {Budgets: int64(len(f.state.Budgets))}}
}

func scanHead(rows pgx.Rows) (key string, r headRow, err error) {
	err = rows.Scan(&key, &r.Budgets)
	return key, r, err
}

func budgetRowOf(b domain.Budget) budgetRow {
	row := budgetRow{
		Period: string(b.Period), Span: text(b.Span), Scope: text(b.Scope), Limit: int64(b.Limit),
		Alerts: fmt.Sprint(b.AlertsAt), Source: string(b.Source),
	}
	if !b.Window.End.IsZero() {
		row.Start, row.End = b.Window.Start.UnixMicro(), b.Window.End.UnixMicro()
	}
	for i, raise := range b.Raises {
		if until := raise.Until.UnixMicro(); i == 0 || until < row.Lowers {
			row.Lowers = until
		}
		row.Raises += fmt.Sprintf("%s until %s;", usd(int64(raise.By)), instant(raise.Until.UnixMicro()))
	}
	return row
}

func scanBudget(rows pgx.Rows) (key string, r budgetRow, err error) {
	var b domain.Budget
	var start, end, lowers *time.Time
	var alerts []domain.Threshold
	var limit, opened int64
	err = rows.Scan(&key, &b.Period, &b.Span, &b.Scope, &start, &end, &limit, &b.Raises, &lowers, &alerts, &b.Source, &opened)
	b.Limit, b.AlertsAt = domain.Amount(limit), alerts
	if start != nil && end != nil {
		b.Window = domain.Window{Start: *start, End: *end}
	}
	r = budgetRowOf(b)
	r.Lowers, r.Opened = micros(lowers), opened
	return key, r, err
}
