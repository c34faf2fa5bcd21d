package admin

import (
	"context"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/policy"
)

// Ledger appends what a command decides to a tenant's stream. When Do returns without an error the events
// are durable; no events means that it was so already. Errors are of the kinds of package domain.
type Ledger interface {
	Do(ctx context.Context, tenant domain.TenantID, c domain.Command) ([]domain.Recorded, error)
}

// Reader reads the ledger as of now: what Do has returned before is in what it gives.
type Reader interface {
	// State is a tenant's state, or domain.ErrTenantUnknown. It is only read here, or cloned first.
	State(ctx context.Context, tenant domain.TenantID) (domain.State, error)
	// TenantIDs lists at most limit ids greater than after, ascending.
	TenantIDs(ctx context.Context, after domain.TenantID, limit int) ([]domain.TenantID, error)
	// Events lists at most limit events with versions greater than after, ascending, with their bodies.
	Events(ctx context.Context, tenant domain.TenantID, after int64, limit int) ([]domain.Recorded, error)
}

// Usage sums the UsageLedger.
type Usage interface {
	UsageSums(ctx context.Context, q UsageQuery) (UsageReport, error)
}

// Policy decides whether a request may go on. *policy.Engine is one.
type Policy interface {
	Decide(ctx context.Context, in policy.Input) (policy.Decision, error)
}

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

// UsageQuery asks for sums over From <= ts < To.
type UsageQuery struct {
	Tenant   domain.TenantID // empty: all tenants
	From, To time.Time       // UTC
	GroupBy  Grouping
	Zone     *time.Location // never nil; the tenant's, or UTC for all tenants
}

// UsageReport is the answer: a row a group, in the order they are shown, and the total of all.
type UsageReport struct {
	Rows  []UsageSum
	Total domain.Amount
	// Presumed is the part of Total that no provider has confirmed.
	Presumed domain.Amount
}

// UsageSum is what one group has used.
type UsageSum struct {
	Group                                    string
	Requests, PromptTokens, CompletionTokens int64
	USD                                      domain.Amount
	// Presumed is the part of USD that no provider has confirmed.
	Presumed domain.Amount
}

// ProjectionLag is how far a projection is behind the streams.
type ProjectionLag struct {
	Name string
	// Events and Tenants still to be applied, and how long ago the oldest of the events happened.
	Events, Tenants int64
	Age             time.Duration
	// Err says why nothing could be measured. It goes to the log; the answer has that it is so.
	Err error
}
