package admin

import (
	"context"
	"fmt"

	"github.com/budgetguard/budgetguard/domain"
)

// defineBudgets upserts one budget or a list of them, all or none of what the body says.
func (s *Server) defineBudgets(ctx context.Context, c *call) (answer, error) {
	elements, pointer := []fields{c.body}, func(int) string { return "#" }
	if c.body.has("budgets") {
		elements, _ = c.body.objects("budgets")
		pointer = nthBudget
		if len(elements) == 0 {
			c.body.refuse("budgets", "want at least one budget")
		}
	}
	budgets := readBudgets(elements)
	if err := c.body.problem(); err != nil {
		return answer{}, err
	}
	commands, err := s.identified(budgets)
	if err != nil {
		return answer{}, err
	}
	c.state = c.state.Clone()
	if err := try(c, pointer, commands...); err != nil {
		return answer{}, err
	}
	if err := s.do(ctx, c.tenant, commands); err != nil {
		return answer{}, err
	}
	return s.budgetsOf(ctx, c)
}

// budgetsOf answers with what the tenant has now.
func (s *Server) budgetsOf(ctx context.Context, c *call) (answer, error) {
	view, err := s.view(ctx, c)
	return ok(struct {
		Budgets []budgetView `json:"budgets"`
	}{view.Budgets}), err
}

func nthBudget(i int) string { return fmt.Sprintf("#/budgets/%d", i) }

func (s *Server) retireBudget(ctx context.Context, c *call) (answer, error) {
	retire := domain.RetireBudget{ID: domain.BudgetID(c.param("budgetId")), Actor: actor}
	_, err := s.deps.Ledger.Do(ctx, c.tenant, retire)
	return answer{}, err
}

// readBudgets reads budgets that were set by hand. The same period twice in one body is a mistake: the
// second would silently win.
func readBudgets(elements []fields) []domain.DefineBudget {
	budgets := make([]domain.DefineBudget, 0, len(elements))
	seen := map[domain.Period]bool{}
	for _, f := range elements {
		b := readBudget(f)
		if seen[b.Period] && b.Period != "" {
			f.refuse("period", "%s is there twice", b.Period)
		}
		seen[b.Period] = true
		budgets = append(budgets, b)
	}
	return budgets
}

func readBudget(f fields) domain.DefineBudget {
	b := domain.DefineBudget{Source: domain.SourceAdmin, Actor: actor, AlertsAt: f.shares("alertsAt")}
	for _, name := range []string{"duration", "startDate", "endDate"} {
		if _, there := f.take(name); there {
			f.refuse(name, "rolling and custom budgets are not built yet")
		}
	}
	if limit := f.amount("limitUsd"); limit != nil {
		b.Limit = *limit
	} else {
		f.want("limitUsd", "want the limit in dollars, such as \"12.50\"")
	}
	if scope, ok := f.object("scope"); ok && len(scope.members) > 0 {
		f.refuse("scope", "budgets of a key, a model or a tag are not built yet; leave it out for the whole tenant")
		return b
	}
	if text := f.text("period", maxNameBytes); text != nil {
		period, err := domain.ParsePeriod(*text)
		if err != nil {
			f.refuse("period", "%s", err)
			return b
		}
		b.Period = period
	} else {
		f.want("period", "want a period, such as \"monthly\"")
	}
	return b
}

// withDefaults adds the environment's budgets for what the body does not set: its own would win anyway.
func withDefaults(budgets, defaults []domain.DefineBudget) []domain.DefineBudget {
	all := budgets
	for _, d := range defaults {
		if !sets(budgets, d) {
			all = append(all, d)
		}
	}
	return all
}

func sets(budgets []domain.DefineBudget, d domain.DefineBudget) bool {
	for _, b := range budgets {
		if b.Period == d.Period && b.Scope == d.Scope {
			return true
		}
	}
	return false
}
