package admin

import (
	"context"
	"log/slog"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/policy"
)

// permit asks the policy. It sees the tenant's budgets wherever a request is about one tenant.
func (s *Server) permit(ctx context.Context, r route, c *call) error {
	decision, err := s.deps.Policy.Decide(ctx, policyInput(r.path, c))
	if err != nil && ctx.Err() == nil {
		s.deps.Log.ErrorContext(ctx, "policy denies because it failed",
			slog.String("route", r.path), slog.String("revision", decision.Revision), slog.String("error", err.Error()))
	}
	switch {
	case err != nil:
		return &problem{code: codePolicy, detail: "The policy could not be evaluated, and so it denies."}
	case !decision.Allow:
		return &problem{code: codePolicy, detail: "The policy in force (revision " + decision.Revision + ") denies this request.", messages: decision.Messages}
	}
	return nil
}

func policyInput(path string, c *call) policy.Input {
	in := policy.Input{Route: path, Now: c.now, Tenant: string(c.tenant), Admin: true}
	if c.tenant == "" || !c.state.Exists() {
		return in
	}
	in.Now = c.now.In(c.state.Zone.Location())
	var tightest *domain.Balance
	balances := c.state.Balances(c.now)
	for i := range balances {
		b := &balances[i]
		matches := b.Budget.Scope.Matches(domain.Request{}) // an operator's request is nobody's key, model or tag
		if matches && (tightest == nil || b.Available() < tightest.Available()) {
			tightest = b
		}
		in.Budgets = append(in.Budgets, policyBudget(b))
	}
	if tightest != nil {
		in.Usage, in.Budget = (tightest.Held + tightest.Settled).String(), tightest.Limit.String()
	}
	return in
}

func policyBudget(b *domain.Balance) policy.Budget {
	shown := policy.Budget{
		ID: string(b.Budget.ID), Period: string(b.Budget.Period), Scope: map[string]string{},
		Limit: b.Limit.String(), Usage: (b.Held + b.Settled).String(),
		Spent: b.Settled.String(), Reserved: b.Held.String(), Remaining: b.Available().String(),
	}
	if b.Budget.Period != domain.Total {
		shown.ResetsAt = b.Window.End.In(time.UTC)
	}
	for name, value := range map[string]string{"apiKey": string(b.Budget.Scope.APIKey), "model": b.Budget.Scope.Model, "tag": b.Budget.Scope.Tag} {
		if value != "" {
			shown.Scope[name] = value
		}
	}
	return shown
}
