package audit

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
)

// rebuild takes away every row that differs and writes what the events say, if they say anything. Then it compares
// again: what is still different is an error, and nothing of it stays.
func (r *repair) rebuild(ctx context.Context, tx pgx.Tx, f *fold, h head) error {
	b := &pgx.Batch{}
	lostRows := map[string]map[string]bool{}
	for _, d := range r.found {
		if lostRows[d.Table] == nil {
			lostRows[d.Table] = map[string]bool{}
		}
		lostRows[d.Table][d.Key] = true
	}

	// Rows go first: two of them may have changed places. The hash of a key is unique.
	for table, keys := range lostRows {
		remove(b, string(f.tenant), table, slices.Sorted(maps.Keys(keys)))
	}
	// Budgets come before accounts and count in the head, which is set right at the end.
	if err := f.put(b, lostRows); err != nil {
		return err
	}
	f.putHead(b, h)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("write the rows: %w", err)
	}

	var left []Difference
	f.headless = false
	f.differs = func(d Difference) { left = append(left, d) }
	if err := compareRows(ctx, tx, f); err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("after the repair %d rows still differ, the first: %s; nothing was changed", len(left), left[0])
	}
	return nil
}

// remove deletes rows by their keys, as the queries of compareRows name them.
func remove(b *pgx.Batch, tenant, table string, keys []string) {
	tables := []string{table}
	column := map[string]string{
		"account": "account_id::text", "hold": "reservation_id::text", "presumption": "reservation_id::text",
		"attempt": "encode(key, 'hex')", "tenant": "tenant_id", "api_key": "key_id", "budget": "budget_id",
	}[table]
	switch table {
	case "tenant_head":
		return // it is locked, and set right
	case "account":
		tables = append(tables, "account_archive")
	}
	for _, t := range tables {
		b.Queue(`delete from `+t+` where tenant_id = $1 and `+column+` = any ($2)`, tenant, keys)
	}
}

// put writes the rows with these keys, of each table.
func (f *fold) put(b *pgx.Batch, keys map[string]map[string]bool) error {
	if len(keys["tenant"]) > 0 && f.defined > 0 {
		f.putTenant(b)
	}
	for id, k := range f.state.Keys {
		if keys["api_key"][string(id)] {
			if err := f.putKey(b, k); err != nil {
				return err
			}
		}
	}
	for _, budget := range f.state.Budgets {
		if keys["budget"][string(budget.ID)] {
			if err := f.putBudget(b, budget); err != nil {
				return err
			}
		}
	}
	for id, a := range f.books.accounts {
		if keys["account"][strconv.FormatInt(int64(id), 10)] {
			f.putAccount(b, id, a)
		}
	}

	for id, h := range f.books.open {
		if keys["hold"][rowKey(id)] {
			b.Queue(`insert into hold (tenant_id, reservation_id, opened, opened_ts, amount, accounts, expires_at)
				values ($1, $2::text::uuid, $3, $4, $5, $6, $7)`,
				string(f.tenant), string(id), h.version, h.at, int64(h.amount), numbers(h.accounts), h.expires)
		}
	}
	for id, h := range f.books.presumed {
		if keys["presumption"][rowKey(id)] {
			b.Queue(`insert into presumption (tenant_id, reservation_id, opened, opened_ts, amount, charged, accounts, expires_at, released)
				values ($1, $2::text::uuid, $3, $4, $5, $6, $7, $8, $9)`, string(f.tenant), string(id), h.version, h.at,
				int64(h.amount), int64(h.charged), numbers(h.accounts), h.expires, h.released)
		}
	}
	for key, t := range f.keys.taken {
		if keys["attempt"][hex.EncodeToString(key[:])] {
			b.Queue(`insert into attempt (tenant_id, key, fingerprint, reservation_id, version, at, state, charged)
				values ($1, $2, $3, $4, $5, $6, $7, $8)`, string(f.tenant), key[:], t.Fingerprint, string(t.Reservation),
				t.version, t.At, string(t.State), int64(t.Charged))
		}
	}
	return nil
}

func (f *fold) putTenant(b *pgx.Batch) {
	s := f.state
	b.Queue(`insert into tenant (tenant_id, name, zone, rate_limit, suspended, ever_keyed, created_at, version)
		values ($1, $2, $3, $4, $5, $6, $7, $8)`,
		string(f.tenant), s.Name, s.Zone.String(), s.RateLimit, s.Suspended, len(s.Keys) > 0, s.CreatedAt, f.defined)
}

func (f *fold) putKey(b *pgx.Batch, k domain.Key) error {
	tags, err := json.Marshal(k.Tags)
	if err != nil {
		return fmt.Errorf("encode the tags of key %s: %w", k.ID, err)
	}
	var old *string
	if k.OldHash != "" {
		old = &k.OldHash
	}
	b.Queue(`insert into api_key (tenant_id, key_id, name, prefix, key_hash, created_at, expires_at, revoked_at, models, tags,
			required_tags, suspended, old_hash, old_until)
		values ($1, $2, $3, $4, $5, $6, $7, $8, coalesce($9::text[], '{}'), $10, coalesce($11::text[], '{}'), $12, $13, $14)`,
		string(f.tenant), string(k.ID), k.Name, k.Prefix, k.Hash, k.CreatedAt, k.ExpiresAt, k.RevokedAt, k.Models, tags,
		k.RequiredTags, k.Suspended, old, k.OldUntil)
	return nil
}

func (f *fold) putBudget(b *pgx.Batch, budget domain.Budget) error {
	raises := budget.Raises
	if raises == nil {
		raises = []domain.Raise{}
	}
	texts := make([][]byte, 0, 3)
	for _, part := range []any{budget.Span, budget.Scope, raises} {
		encoded, err := json.Marshal(part)
		if err != nil {
			return fmt.Errorf("encode budget %s: %w", budget.ID, err)
		}
		texts = append(texts, encoded)
	}

	alerts := make([]int64, len(budget.AlertsAt))
	for i, t := range budget.AlertsAt {
		alerts[i] = int64(t)
	}
	var start, end *time.Time
	if !budget.Window.End.IsZero() {
		start, end = &budget.Window.Start, &budget.Window.End
	}
	b.Queue(`insert into budget (tenant_id, budget_id, period, span, scope, win_start, win_end, limit_nano, raises, lowers_at,
			alerts_ppm, source) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		string(f.tenant), string(budget.ID), string(budget.Period), texts[0], texts[1], start, end, int64(budget.Limit),
		texts[2], moment(budgetRowOf(budget).Lowers), alerts, string(budget.Source))
	return nil
}

func (f *fold) putAccount(b *pgx.Batch, id domain.AccountID, a *account) {
	crossed := make([]int64, len(a.crossed))
	for i, t := range a.crossed {
		crossed[i] = int64(t)
	}
	var parts []int64
	var slides, oldest int64
	if a.duration != 0 {
		parts, slides = a.triples()
		oldest = a.oldest
	}
	b.Queue(`insert into account (tenant_id, account_id, budget_id, period, win_start, win_end, limit_nano, held, settled,
			presumed, cap, version, crossed, duration_min, oldest_bucket, buckets, slides_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`,
		string(f.tenant), int64(id), string(a.budget), string(a.period), a.window.Start, a.window.End, int64(a.limit),
		int64(a.held), int64(a.settled), int64(a.presumed), int64(a.cap), a.version, crossed,
		int64(time.Duration(a.duration)/time.Minute), oldest, parts, moment(slides))
}

// putHead ends what was decided on the rows as they were: gateways whose fence is another one load the tenant again. The
// fence of a head that was lost is unknown; the seconds since 1970 are more than it can have been.
func (f *fold) putHead(b *pgx.Batch, h head) {
	for budget, account := range f.books.newest {
		b.Queue(`update budget set opened = $3 where tenant_id = $1 and budget_id = $2 and opened <> $3`,
			string(f.tenant), string(budget), int64(account))
	}
	b.Queue(`update budget set opened = 0 where tenant_id = $1 and opened <> 0 and not budget_id = any ($2)`,
		string(f.tenant), budgetIDs(f.books.newest))
	if h.version > 0 {
		b.Queue(`update tenant_head set fence = fence + 1, budgets = $2 where tenant_id = $1`,
			string(f.tenant), len(f.state.Budgets))
		return
	}
	if f.version == 0 { // rows of a tenant that has no events: the head was only made to be locked
		b.Queue(`delete from tenant_head where tenant_id = $1 and version = 0`, string(f.tenant))
		return
	}
	hash := f.hash
	b.Queue(`update tenant_head set version = $2, last_ts = $3, last_hash = $4, budgets = $5,
			fence = extract(epoch from clock_timestamp())::bigint where tenant_id = $1`,
		string(f.tenant), f.version, f.last, hash[:], len(f.state.Budgets))
}

func budgetIDs(newest map[domain.BudgetID]domain.AccountID) []string {
	ids := make([]string, 0, len(newest))
	for id := range newest {
		ids = append(ids, string(id))
	}
	return ids
}

func numbers(accounts []domain.AccountID) []int64 {
	list := make([]int64, len(accounts))
	for i, id := range accounts {
		list[i] = int64(id)
	}
	return list
}

// moment is a time of microseconds, or none.
func moment(micros int64) *time.Time {
	if micros == 0 {
		return nil
	}
	t := time.UnixMicro(micros).UTC()
	return &t
}
