package admin

import (
	"cmp"
	"slices"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// tenantView is a tenant in JSON. Limits of a tenant that has none of its own are null.
type tenantView struct {
	ID              domain.TenantID `json:"id"`
	Name            string          `json:"name"`
	Timezone        string          `json:"timezone"`
	RateLimitPerMin *int64          `json:"rateLimitPerMin"`
	Suspended       bool            `json:"suspended"`
	CreatedAt       time.Time       `json:"createdAt"`
	Version         int64           `json:"version"`
	Budgets         []budgetView    `json:"budgets"`
	APIKeys         []keyView       `json:"apiKeys"`
}

// budgetView is a budget with the balance of its present window. What remains is negative after an
// overrun or a limit cut.
type budgetView struct {
	ID     domain.BudgetID `json:"id"`
	Period domain.Period   `json:"period"`
	Scope  domain.Scope    `json:"scope"`
	domain.Span
	Limit       domain.Amount      `json:"limitUsd"`
	Base        domain.Amount      `json:"baseLimitUsd"`
	Spent       domain.Amount      `json:"spentUsd"`
	Reserved    domain.Amount      `json:"reservedUsd"`
	Presumed    domain.Amount      `json:"presumedUsd"`
	Remaining   domain.Amount      `json:"remainingUsd"`
	WindowStart time.Time          `json:"windowStart"`
	WindowEnd   time.Time          `json:"windowEnd"`
	Raises      []domain.Raise     `json:"raises"`
	AlertsAt    []domain.Threshold `json:"alertsAt"`
	Source      domain.Source      `json:"source"`
}

// keyView is a key without its secret and without its hash. Models null is every model.
type keyView struct {
	ID        domain.KeyID      `json:"id"`
	Name      string            `json:"name"`
	Prefix    string            `json:"prefix"`
	CreatedAt time.Time         `json:"createdAt"`
	ExpiresAt *time.Time        `json:"expiresAt"`
	RevokedAt *time.Time        `json:"revokedAt"`
	Suspended bool              `json:"suspended"`
	Models    []string          `json:"models"`
	Tags      map[string]string `json:"tags"`
	Required  []string          `json:"requiredTags"`
	// OldUntil is how long the secret before the last rotation works, or worked.
	OldUntil *time.Time `json:"oldUntil"`
}

func viewTenant(s domain.State, at time.Time) tenantView {
	return tenantView{
		ID: s.Tenant, Name: s.Name, Timezone: s.Zone.String(), RateLimitPerMin: s.RateLimit,
		Suspended: s.Suspended, CreatedAt: s.CreatedAt.UTC(), Version: s.Version,
		Budgets: viewBudgets(s, at), APIKeys: viewKeys(s),
	}
}

// viewBudgets lists all budgets, by id. A custom one is shown before and after its window too.
func viewBudgets(s domain.State, at time.Time) []budgetView {
	balances := s.Balances(at)
	views := make([]budgetView, 0, len(s.Budgets))
	for _, b := range s.Budgets {
		if len(balances) > 0 && balances[0].Budget.ID == b.ID {
			views = append(views, viewBudget(balances[0]))
			balances = balances[1:]
			continue
		}
		views = append(views, viewBudget(outside(s, b, at)))
	}
	return views
}

// outside is the balance of a custom budget that is not there yet, or is over.
func outside(s domain.State, b domain.Budget, at time.Time) domain.Balance {
	raises := b.Raises
	b.Raises = nil
	for _, r := range raises {
		if at.Before(r.Until) {
			b.Raises = append(b.Raises, r)
		} else {
			b.Limit -= r.By
		}
	}
	shown := domain.Balance{Budget: b, Window: b.Window, Limit: b.Limit}
	if a := s.Accounts[s.Current[b.ID]]; a != nil {
		shown.Held, shown.Settled, shown.Presumed = a.Held, a.Settled, a.Presumed
	}
	return shown
}

func viewBudget(b domain.Balance) budgetView {
	return budgetView{
		ID: b.Budget.ID, Period: b.Budget.Period, Scope: b.Budget.Scope, Span: b.Budget.Span,
		Limit: b.Limit, Base: b.Budget.Base(), Spent: b.Settled, Reserved: b.Held, Presumed: b.Presumed, Remaining: b.Available(),
		WindowStart: b.Window.Start.UTC().Truncate(time.Microsecond), WindowEnd: b.Window.End.UTC(),
		Raises: append([]domain.Raise{}, b.Budget.Raises...), AlertsAt: append([]domain.Threshold{}, b.Budget.AlertsAt...),
		Source: b.Budget.Source,
	}
}

// viewKeys lists the keys by age, revoked ones too: their names are in the ledger.
func viewKeys(s domain.State) []keyView {
	views := make([]keyView, 0, len(s.Keys))
	for _, k := range s.Keys {
		views = append(views, viewKey(k))
	}
	slices.SortFunc(views, func(a, b keyView) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return views
}

func viewKey(k domain.Key) keyView {
	tags := k.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	if len(k.Models) == 0 {
		k.Models = nil // as the tables do not tell from an empty list
	}
	return keyView{
		ID: k.ID, Name: k.Name, Prefix: k.Prefix, CreatedAt: k.CreatedAt.UTC(),
		ExpiresAt: utc(k.ExpiresAt), RevokedAt: utc(k.RevokedAt), Suspended: k.Suspended, Models: k.Models, Tags: tags,
		Required: append([]string{}, k.RequiredTags...), OldUntil: utc(k.OldUntil),
	}
}

func utc(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	shown := at.UTC()
	return &shown
}
