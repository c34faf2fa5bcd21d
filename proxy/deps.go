package proxy

import (
	"context"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/domain/pricing"
	"github.com/budgetguard/budgetguard/policy"
	"github.com/budgetguard/budgetguard/proxy/flight"
	"github.com/budgetguard/budgetguard/proxy/ratelimit"
	"github.com/budgetguard/budgetguard/proxy/tokens"
)

// Ledger is where money is reserved and settled.
type Ledger interface {
	// Do carries out a command; its errors are the kinds of package domain.
	Do(ctx context.Context, tenant domain.TenantID, c domain.Command) ([]domain.Recorded, error)
	// Refused is *domain.BudgetExceededError if an estimate no larger was refused a moment ago.
	Refused(tenant domain.TenantID, amount domain.Amount) error
}

// Credential is what a key stands for.
type Credential struct {
	Tenant    domain.TenantID
	Key       domain.KeyID
	ExpiresAt *time.Time
	RevokedAt *time.Time
	Suspended bool
	// Models are the only ones the key may use, all if empty. Tags are pinned: they win over the request's.
	Models []string
	Tags   map[string]string
	// RequiredTags are the names of tags that each request must have.
	RequiredTags []string
}

// Tenant is what a request must know of its tenant.
type Tenant struct {
	Zone domain.Zone
	// RateLimit is the tenant's own requests per minute, nil for the installation's default, 0 for none.
	RateLimit *int64
	// EverKeyed says that the id alone is no credential.
	EverKeyed bool
}

// Directory finds credentials and tenants.
type Directory interface {
	// Credential finds a key by its stored hash; domain.ErrKeyUnknown if there is none.
	Credential(ctx context.Context, hash string) (Credential, error)
	// Tenant finds a tenant; domain.ErrTenantUnknown if there is none.
	Tenant(ctx context.Context, id domain.TenantID) (Tenant, error)
	// Adopt makes an unknown tenant with the installation's budgets, while fewer than the most allowed
	// exist; domain.ErrTenantUnknown beyond. Making one that exists is no error.
	Adopt(ctx context.Context, id domain.TenantID) error
}

// Balances tells what a tenant's budgets hold now, for policies. It may lag behind the ledger.
type Balances interface {
	Balances(ctx context.Context, tenant domain.TenantID, now time.Time) ([]domain.Balance, error)
}

// Allowances keeps what overruns taught about the bounds of each model's requests, for every gateway
// and for the next process.
type Allowances interface {
	// Allowances lists what is known, by the id of the model's row in the catalogue.
	Allowances(ctx context.Context) (map[string]pricing.Allowance, error)
	// RaiseAllowance adds to what is known of a model; it is durable when it returns.
	RaiseAllowance(ctx context.Context, model string, by pricing.Allowance) error
}

// Limiter admits requests at a rate.
type Limiter interface {
	// Admit takes one of the tenant's requests per minute if one is left.
	Admit(ctx context.Context, tenant string, perMinute int64) ratelimit.Verdict
}

// Deps are what a Server works with. All but Recorder are needed.
type Deps struct {
	Ledger     Ledger
	Directory  Directory
	Balances   Balances
	Allowances Allowances
	Limiter    Limiter
	Prices     *pricing.Catalogue
	Policy     *policy.Engine
	Tokens     *tokens.Counter
	Metrics    *Metrics
	// Recorder keeps how far each call came, for the next process; nil keeps nothing.
	Recorder *flight.Recorder
}
