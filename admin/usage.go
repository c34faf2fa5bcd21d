package admin

import (
	"context"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	// usagePath is the one route that a policy tells from others by the founding example.
	usagePath = "/admin/tenant-usage"

	// maxHours bounds the rows of groupBy=hour to those of a quarter.
	maxHours = 93 * 24 * time.Hour
)

type usageView struct {
	Tenant  *domain.TenantID `json:"tenant"` // null: all
	From    time.Time        `json:"from"`
	To      time.Time        `json:"to"`
	GroupBy Grouping         `json:"groupBy"`
	Rows    []usageRow       `json:"rows"`
	Total   domain.Amount    `json:"totalUsd"`
	// Presumed is the part of the total that no provider has confirmed.
	Presumed domain.Amount `json:"presumedUsd"`
}

type usageRow struct {
	Group            string        `json:"group"`
	Requests         int64         `json:"requests"`
	PromptTokens     int64         `json:"promptTokens"`
	CompletionTokens int64         `json:"completionTokens"`
	USD              domain.Amount `json:"usd"`
	Presumed         domain.Amount `json:"presumedUsd"`
}

// showUsage sums what was spent, by default this month's (in UTC) by model.
func (s *Server) showUsage(ctx context.Context, c *call) (answer, error) {
	q := UsageQuery{
		Tenant: c.tenant, GroupBy: readGrouping(c.query), Zone: c.state.Zone.Location(),
		From: c.query.instant("from", time.Date(c.now.Year(), c.now.Month(), 1, 0, 0, 0, 0, time.UTC)),
		To:   c.query.instant("to", c.now),
	}
	if c.tenant == "" && c.query.values.Has("tenant") {
		c.query.refuse("tenant", "want an id; leave it out for all tenants") // a script with an empty variable
	}
	if !q.From.Before(q.To) {
		c.query.refuse("to", "want a time after from")
	}
	if q.GroupBy == ByHour && q.To.Sub(q.From) > maxHours {
		c.query.refuse("groupBy", "by hour at most 93 days; use day")
	}
	if err := c.query.problem(); err != nil {
		return answer{}, err
	}
	report, err := s.deps.Usage.UsageSums(ctx, q)
	if err != nil {
		return answer{}, reading("usage", err)
	}
	view := usageView{
		From: q.From, To: q.To, GroupBy: q.GroupBy,
		Total: report.Total, Presumed: report.Presumed,
		Rows: make([]usageRow, 0, len(report.Rows)),
	}
	if c.tenant != "" {
		view.Tenant = &c.tenant
	}
	for _, row := range report.Rows {
		view.Rows = append(view.Rows, usageRow(row))
	}
	return ok(view), nil
}

func readGrouping(q query) Grouping {
	switch g := Grouping(q.values.Get("groupBy")); g {
	case "":
		return ByModel
	case ByModel, ByRoute, ByAPIKey, ByTag, ByDay, ByHour:
		return g
	}
	q.refuse("groupBy", "want one of model, route, apiKey, tag, day, hour")
	return ByModel
}
