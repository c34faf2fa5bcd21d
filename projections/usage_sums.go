package projections

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/budgetguard/budgetguard/domain"
)

// maxGroups bounds an answer: a tag can have any number of values.
const maxGroups = 10_000

//go:embed queries/sum_usage.sql
var sumUsageSQL string

//go:embed queries/sum_usage_by_tag.sql
var sumUsageByTagSQL string

//go:embed queries/sum_usage_total.sql
var sumUsageTotalSQL string

// Grouping is what usage is summed by.
type Grouping string

// The groupings of the contract. Days and hours are those of the query's zone.
const (
	ByModel  Grouping = "model"
	ByRoute  Grouping = "route"
	ByAPIKey Grouping = "apiKey"
	ByTag    Grouping = "tag"
	ByDay    Grouping = "day"
	ByHour   Grouping = "hour"
)

// UsageQuery asks for sums over From <= ts < To, where ts is the time of the reservation.
type UsageQuery struct {
	Tenant   domain.TenantID // empty: all tenants
	From, To time.Time       // zero: no bound
	GroupBy  Grouping
	Zone     *time.Location // nil: UTC
}

// UsageReport is the answer. Days and hours are in their order, other groups with the dearest first. A
// row with several tags counts in the group of each, and once in the total.
type UsageReport struct {
	Rows  []UsageSum
	Total UsageSum
}

// UsageSum is what one group has used. Requests are those that were closed with a charge, late
// corrections and adjustments are in the other sums only.
type UsageSum struct {
	// Group is the model, route, key id, name=value of the tag, day as 2006-01-02, or hour as RFC 3339 in
	// the query's zone. It is empty for rows that have none.
	Group                                    string
	Requests, PromptTokens, CompletionTokens int64
	USD                                      domain.Amount
	// Presumed is the part of USD that no provider has confirmed.
	Presumed domain.Amount
}

// UsageSums sums the UsageLedger. It returns at most ten thousand groups; a grouping it does not know is
// domain.ErrInvalid.
func UsageSums(ctx context.Context, pool *pgxpool.Pool, q UsageQuery) (UsageReport, error) {
	statement := sumUsageSQL
	switch q.GroupBy {
	case ByModel, ByRoute, ByAPIKey, ByDay, ByHour:
	case ByTag:
		statement = sumUsageByTagSQL
	default:
		return UsageReport{}, fmt.Errorf("%w: groupBy %.40q; want model, route, apiKey, tag, day or hour", domain.ErrInvalid, q.GroupBy)
	}
	zone := q.Zone
	if zone == nil {
		zone = time.UTC
	}
	var report UsageReport
	err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		bounds := []any{string(q.Tenant), bound(q.From), bound(q.To)}
		total, err := sums(ctx, tx, sumUsageTotalSQL, bounds...)
		if err != nil || len(total) != 1 {
			return err
		}
		report.Total = total[0]
		if q.GroupBy != ByTag {
			bounds = append(bounds, string(q.GroupBy), zone.String())
		}
		report.Rows, err = sums(ctx, tx, statement, append(bounds, maxGroups)...)
		return err
	})
	if err != nil {
		return UsageReport{}, fmt.Errorf("sum usage: %w", err)
	}
	if q.GroupBy == ByHour {
		inZone(report.Rows, zone)
	}
	return report, nil
}

func sums(ctx context.Context, q querier, statement string, args ...any) ([]UsageSum, error) {
	rows, err := q.Query(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (UsageSum, error) {
		var s UsageSum
		var usd, presumed int64
		err := row.Scan(&s.Group, &s.Requests, &s.PromptTokens, &s.CompletionTokens, &usd, &presumed)
		s.USD, s.Presumed = domain.Amount(usd), domain.Amount(presumed)
		return s, err
	})
}

func bound(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// inZone writes the hours, which Postgres names in UTC, as the zone's clock shows them.
func inZone(rows []UsageSum, zone *time.Location) {
	for i := range rows {
		if at, err := time.Parse(time.RFC3339, rows[i].Group); err == nil {
			rows[i].Group = at.In(zone).Format(time.RFC3339)
		}
	}
}
