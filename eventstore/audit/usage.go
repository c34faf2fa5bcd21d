package audit

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
)

// usageRow is a row of usage_row, as a value that == compares.
type usageRow struct {
	At, Posted         int64
	Kind, Route, Model string
	Key, Reservation   string
	USD, Reserved      int64
	Prompt, Completion int64
	Tags               string
}

// usage is the part of the usage rows that stands beside the chunk of events being read.
type usage struct {
	cursor int64 // up to here the rows must be there; after it they must not
	rows   map[int64]usageRow
}

// usage reads the rows of a stretch of versions.
func (v *verifier) usage(ctx context.Context, tx pgx.Tx, f *fold, after, upto int64) error {
	if v.opts.UsageCursor == "" {
		return nil
	}
	rows, err := tx.Query(ctx, `select version, ts, posted_at, kind, route, model, coalesce(api_key_id, ''), coalesce(reservation_id::text, ''),
			usd_nano, reserved_nano, prompt_tok, comp_tok, tags
		from usage_row where tenant_id = $1 and version > $2 and version <= $3`, string(f.tenant), after, upto)
	if err != nil {
		return fmt.Errorf("read usage rows: %w", err)
	}
	defer rows.Close()
	f.usage.rows = map[int64]usageRow{}
	for rows.Next() {
		var r usageRow
		var version int64
		var at, posted time.Time
		var tags map[string]string
		if err := rows.Scan(&version, &at, &posted, &r.Kind, &r.Route, &r.Model, &r.Key, &r.Reservation,
			&r.USD, &r.Reserved, &r.Prompt, &r.Completion, &tags); err != nil {
			return fmt.Errorf("read usage rows: %w", err)
		}
		r.At, r.Posted, r.Tags = at.UnixMicro(), posted.UnixMicro(), sorted(tags)
		f.usage.rows[version] = r
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read usage rows: %w", err)
	}
	return nil
}

// usageOutside finds rows before the first version and behind the newest one.
func (v *verifier) usageOutside(ctx context.Context, tx pgx.Tx, f *fold, newest int64) error {
	if v.opts.UsageCursor == "" {
		return nil
	}
	rows, err := tx.Query(ctx, `select version, usd_nano from usage_row
		where tenant_id = $1 and (version < 1 or version > $2) order by version`, string(f.tenant), newest)
	if err != nil {
		return fmt.Errorf("read usage rows: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var version, usd int64
		if err := rows.Scan(&version, &usd); err != nil {
			return fmt.Errorf("read usage rows: %w", err)
		}
		f.violated(version, LawUsage, "a usage row of %s, and there is no such event: the newest is version %d",
			domain.Amount(usd).String()+" USD", newest)
	}
	return rows.Err()
}

// expect compares the row of an event, if it should have one.
func (u *usage) expect(f *fold, r domain.Recorded) {
	if u.rows == nil || r.Version > u.cursor {
		return
	}
	want, ok := usageOf(r)
	if !ok {
		return
	}
	d := Difference{Tenant: f.tenant, Version: r.Version, Table: "usage_row", Key: strconv.FormatInt(r.Version, 10)}
	d.Row = want.label("usage_row", d.Key)
	switch row, there := u.rows[r.Version]; {
	case !there:
		d.Fault, d.Columns = FaultMissing, told(want, true)
		f.violated(r.Version, LawUsage, "%s", d)
	case row != want:
		d.Fault, d.Columns = FaultChanged, compared(row, want)
		f.violated(r.Version, LawUsage, "%s", d)
	}
	delete(u.rows, r.Version)
}

// finish reports the rows of a chunk that no event explains.
func (u *usage) finish(f *fold) {
	for _, version := range slices.Sorted(maps.Keys(u.rows)) {
		row := u.rows[version]
		d := Difference{Fault: FaultUnexplained, Columns: told(row, false)}
		d.Row = row.label("usage_row", strconv.FormatInt(version, 10))
		f.violated(version, LawUsage, "%s (the cursor is at version %d)", d, u.cursor)
	}
	u.rows = nil
}

func (r usageRow) label(_, key string) string { return "usage row of version " + key }

func (r usageRow) columns() []named {
	return []named{
		{"ts", instant(r.At)},
		{"posted at", instant(r.Posted)},
		{"kind", r.Kind},
		{"route", r.Route},
		{"model", r.Model},
		{"API key", r.Key},
		{"reservation", r.Reservation},
		{"charge", usd(r.USD)},
		{"reserved", usd(r.Reserved)},
		{"prompt tokens", strconv.FormatInt(r.Prompt, 10)},
		{"completion tokens", strconv.FormatInt(r.Completion, 10)},
		{"tags", r.Tags},
	}
}

// usageOf is the row of an event that moves money.
func usageOf(r domain.Recorded) (usageRow, bool) {
	switch e := r.Event.(type) { //nolint:gochecksumtype // the others charge nothing
	case domain.UsageSettled:
		row := usageRowOf(r, "settled", e.Request, e.ReservedAt)
		row.USD, row.Reserved = int64(e.Charged), int64(e.Reserved)
		row.Prompt, row.Completion = e.Usage.Prompt, e.Usage.Completion
		return row, true
	case domain.ReservationExpired:
		row := usageRowOf(r, "expired", e.Request, e.ReservedAt)
		row.USD, row.Reserved = int64(e.Charged), int64(e.Reserved)
		return row, true
	case domain.UsageSettledLate:
		row := usageRowOf(r, "late", e.Request, e.ReservedAt)
		row.USD = int64(e.Delta)
		row.Prompt, row.Completion = e.Usage.Prompt, e.Usage.Completion
		return row, true
	case domain.UsageAdjusted:
		of := domain.Request{Reservation: e.Reservation, Route: e.Route, Model: e.Model, KeyID: e.KeyID, Tags: e.Tags}
		at := e.ReservedAt
		if at.IsZero() {
			at = r.Time
		}
		row := usageRowOf(r, "adjusted", of, at)
		row.USD = int64(e.Delta)
		return row, true
	}
	return usageRow{}, false
}

func usageRowOf(r domain.Recorded, kind string, of domain.Request, at time.Time) usageRow {
	return usageRow{
		At: at.UnixMicro(), Posted: r.Time.UnixMicro(), Kind: kind, Route: of.Route, Model: of.Model,
		Key: string(of.KeyID), Reservation: strings.ToLower(string(of.Reservation)), Tags: sorted(of.Tags),
	}
}
