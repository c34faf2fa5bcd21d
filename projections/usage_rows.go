package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/budgetguard/budgetguard/domain"
)

// usageRows collects the rows of one transaction, column by column as they are inserted.
type usageRows struct {
	after, upto map[domain.TenantID]int64
	read        map[domain.TenantID]int
	failed      failures
	events      int

	tenants, kinds, routes, models, keys, reservations, tags, bases []string
	versions, usd, reserved, prompt, completion, presumed           []int64
	ts, posted                                                      []time.Time
}

func newUsageRows(cursors map[domain.TenantID]int64) *usageRows {
	return &usageRows{after: cursors, upto: map[domain.TenantID]int64{}, read: map[domain.TenantID]int{}, failed: failures{}}
}

// add takes the next event of a tenant. At the first that cannot be applied the tenant stands still.
func (u *usageRows) add(e entry) {
	u.read[e.tenant]++
	if _, stopped := u.failed[e.tenant]; stopped {
		return
	}
	if err := u.apply(e); err != nil {
		u.failed[e.tenant] = err
	}
}

func (u *usageRows) apply(e entry) error {
	last, ok := u.upto[e.tenant]
	if !ok {
		last = u.after[e.tenant]
	}
	if e.version != last+1 {
		return fmt.Errorf("version %d of %s follows %d: the stream has a hole", e.version, e.tenant, last)
	}
	if !e.free() {
		r, err := e.recorded()
		if err != nil {
			return err
		}
		if row, ok := usageOf(r); ok {
			if err := u.put(r, row); err != nil {
				return err
			}
		}
	}
	u.upto[e.tenant] = e.version
	u.events++
	return nil
}

// free tells that an event is one of the kinds that make up most of a stream and move no money, so that its
// body need not be decoded.
func (e entry) free() bool {
	return e.schema == domain.SchemaVersion && (e.kind == domain.TypeUsageReserved || e.kind == domain.TypeReservationReleased)
}

// unfinished are the tenants of which as many events were read as were asked for.
func (u *usageRows) unfinished(each int) []domain.TenantID {
	var more []domain.TenantID
	for tenant, n := range u.read {
		if _, stopped := u.failed[tenant]; !stopped && n == each {
			more = append(more, tenant)
		}
	}
	return more
}

// write inserts the rows, moves the cursors and commits.
func (u *usageRows) write(ctx context.Context, c *pgxpool.Conn) error {
	tenants, after, upto := make([]string, 0, len(u.upto)), make([]int64, 0, len(u.upto)), make([]int64, 0, len(u.upto))
	for tenant, version := range u.upto {
		tenants, after, upto = append(tenants, string(tenant)), append(after, u.after[tenant]), append(upto, version)
	}
	b := &pgx.Batch{}
	if len(u.versions) > 0 {
		b.Queue(insertUsageSQL, u.tenants, u.versions, u.ts, u.posted, u.kinds, u.routes, u.models, u.keys, u.reservations,
			u.usd, u.reserved, u.prompt, u.completion, u.tags, u.bases, u.presumed)
	}
	b.Queue(moveCursorsSQL, usageName, tenants, after, upto)
	moved, results := int64(0), c.SendBatch(ctx, b)
	for range b.Len() {
		tag, err := results.Exec()
		if err != nil {
			_ = results.Close()
			return fmt.Errorf("write usage rows: %w", err)
		}
		moved = tag.RowsAffected()
	}
	if err := results.Close(); err != nil {
		return fmt.Errorf("write usage rows: %w", err)
	}
	if moved != int64(len(tenants)) {
		return fmt.Errorf("%d of %d cursors moved: a bug, not an input", moved, len(tenants))
	}
	_, err := c.Exec(ctx, `commit`)
	return wrap(err, "write usage rows")
}

func (u *usageRows) put(r domain.Recorded, row usageRow) error {
	tags, err := json.Marshal(row.request.Tags)
	if err != nil {
		return fmt.Errorf("tags of version %d of %s: %w", r.Version, r.Tenant, err)
	}
	if len(row.request.Tags) == 0 {
		tags = []byte(`{}`)
	}
	u.tenants, u.versions = append(u.tenants, string(r.Tenant)), append(u.versions, r.Version)
	u.ts, u.posted = append(u.ts, row.at), append(u.posted, r.Time)
	u.kinds, u.routes = append(u.kinds, row.kind), append(u.routes, row.request.Route)
	u.models, u.keys = append(u.models, row.request.Model), append(u.keys, string(row.request.KeyID))
	u.reservations, u.tags = append(u.reservations, string(row.request.Reservation)), append(u.tags, string(tags))
	u.usd, u.reserved = append(u.usd, int64(row.usd)), append(u.reserved, int64(row.reserved))
	u.prompt, u.completion = append(u.prompt, row.usage.Prompt), append(u.completion, row.usage.Completion)
	u.bases, u.presumed = append(u.bases, string(row.basis)), append(u.presumed, int64(row.presumed))
	return nil
}

// byOperator is the basis of an adjustment: no provider and no gateway said it.
const byOperator domain.Basis = "operator"

// usageRow is what an event says to finance.
type usageRow struct {
	kind          string
	request       domain.Request
	at            time.Time
	usd, reserved domain.Amount
	usage         domain.Usage
	basis         domain.Basis
	// presumed is a difference, as usd is: what of the charge no provider has confirmed. The sum over the rows
	// of a reservation is what is presumed of it now.
	presumed domain.Amount
}

// usageOf is the row of an event, if it moves money. A release moves none: it gives back a hold.
func usageOf(r domain.Recorded) (usageRow, bool) {
	switch e := r.Event.(type) { //nolint:gochecksumtype // the others move no money
	case domain.UsageSettled:
		row := usageRow{kind: "settled", request: e.Request, at: e.ReservedAt, usd: e.Charged, reserved: e.Reserved}
		row.usage, row.basis = e.Usage, e.Basis
		if e.Basis == domain.BasisPresumed {
			row.presumed = e.Charged
		}
		return row, true
	case domain.ReservationExpired:
		row := usageRow{kind: "expired", request: e.Request, at: e.ReservedAt, usd: e.Charged, reserved: e.Reserved}
		row.basis, row.presumed = domain.BasisPresumed, e.Charged
		return row, true
	case domain.UsageSettledLate:
		return lateRow(e), true
	case domain.UsageAdjusted:
		return adjustedRow(r, e), true
	}
	return usageRow{}, false
}

// lateRow corrects a charge that was presumed. By evidence, all that was presumed no longer is.
func lateRow(e domain.UsageSettledLate) usageRow {
	row := usageRow{kind: "late", request: e.Request, at: e.ReservedAt, usd: e.Delta, usage: e.Usage, basis: e.Basis}
	row.presumed = -e.WasCharged
	if e.Basis == domain.BasisPresumed {
		row.presumed = e.Delta
	}
	return row
}

// adjustedRow is a correction by an operator. It confirms what was presumed of its reservation.
func adjustedRow(r domain.Recorded, e domain.UsageAdjusted) usageRow {
	of := domain.Request{Reservation: e.Reservation, Route: e.Route, Model: e.Model, KeyID: e.KeyID, Tags: e.Tags}
	at := e.ReservedAt
	if at.IsZero() {
		at = r.Time
	}
	return usageRow{kind: "adjusted", request: of, at: at, usd: e.Delta, basis: byOperator, presumed: -e.WasPresumed}
}
