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

// raiseBudget lifts a limit for a while: to an instant, or as a top-up to the end of the present window.
func (s *Server) raiseBudget(ctx context.Context, c *call) (answer, error) {
	raise := domain.RaiseBudget{ID: domain.BudgetID(c.param("budgetId")), Actor: actor}
	if by := c.body.amount("usd"); by != nil {
		raise.By = *by
	} else {
		c.body.want("usd", "want by how many dollars the limit is raised, such as \"5.00\"")
	}
	if until := c.body.instant("until"); until != nil {
		raise.Until = *until
	}
	raise.Reason = c.body.textOrNone("reason")
	if err := c.body.problem(); err != nil {
		return answer{}, err
	}
	if _, err := s.deps.Ledger.Do(ctx, c.tenant, raise); err != nil {
		return answer{}, err
	}
	return s.budgetsOf(ctx, c)
}

// identity is what makes two budgets of a tenant one.
type identity struct {
	period     domain.Period
	scope      domain.Scope
	duration   domain.Length
	start, end string
}

func identityOf(b domain.DefineBudget) identity {
	return identity{period: b.Period, scope: b.Scope, duration: b.Span.Duration, start: b.Span.StartDate, end: b.Span.EndDate}
}

// readBudgets reads budgets that were set by hand. The same budget twice in one body is a mistake: the
// second would silently win.
func readBudgets(elements []fields) []domain.DefineBudget {
	budgets := make([]domain.DefineBudget, 0, len(elements))
	seen := map[identity]bool{}
	for _, f := range elements {
		b := readBudget(f)
		id := identityOf(b)
		if seen[id] && b.Period != "" {
			f.refuse("period", "%s is there twice, with the same scope, duration and dates", b.Period)
		}
		seen[id] = true
		budgets = append(budgets, b)
	}
	return budgets
}

// readBudget reads one budget. What goes with which period is the domain's to say.
func readBudget(f fields) domain.DefineBudget {
	b := domain.DefineBudget{
		Source: domain.SourceAdmin, Actor: actor, Period: readPeriod(f), Span: readSpan(f), Scope: readScope(f), AlertsAt: f.shares("alertsAt"),
	}
	if limit := f.amount("limitUsd"); limit != nil {
		b.Limit = *limit
	} else {
		f.want("limitUsd", "want the limit in dollars, such as \"12.50\"")
	}
	f.rest()
	return b
}

func readPeriod(f fields) domain.Period {
	text := f.text("period", maxNameBytes)
	if text == nil {
		f.want("period", "want a period, such as \"monthly\"")
		return ""
	}
	period, err := domain.ParsePeriod(*text)
	if err != nil {
		f.refuse("period", "%s", err)
	}
	return period
}

func readSpan(f fields) domain.Span {
	var span domain.Span
	var err error
	if text := f.text("duration", maxNameBytes); text != nil {
		if span.Duration, err = domain.ParseLength(*text); err != nil {
			f.refuse("duration", "%s", reason(err))
		}
	}
	if text := f.text("weekStart", maxNameBytes); text != nil {
		if span.WeekStart, err = domain.ParseWeekday(*text); err != nil {
			f.refuse("weekStart", "%s", reason(err))
		}
	}
	if day := f.whole("anchorDay"); day != nil {
		if span.AnchorDay = *day; span.AnchorDay < 1 || span.AnchorDay > maxAnchorDay {
			f.refuse("anchorDay", "want 1 to %d, the day a monthly window begins on", maxAnchorDay)
		}
	}
	span.StartDate, span.EndDate = f.textOrNone("startDate"), f.textOrNone("endDate")
	return span
}

// maxAnchorDay is the last day a month can have.
const maxAnchorDay = 31

func readScope(f fields) domain.Scope {
	object, ok := f.object("scope")
	if !ok {
		return domain.Scope{}
	}
	for _, name := range []string{"apiKey", "model", "tag"} {
		if object.members[name] == "" {
			object.refuse(name, "want it not empty; leave it out for the whole tenant")
		}
	}
	scope := domain.Scope{
		APIKey: domain.KeyID(object.textOrNone("apiKey")), Model: object.textOrNone("model"), Tag: object.textOrNone("tag"),
	}
	object.rest()
	return scope
}

// withDefaults adds the environment's budgets for what the body does not set: its own would win anyway.
func withDefaults(budgets, defaults []domain.DefineBudget) []domain.DefineBudget {
	set := map[identity]bool{}
	for _, b := range budgets {
		set[identityOf(b)] = true
	}
	for _, d := range defaults {
		if !set[identityOf(d)] {
			budgets = append(budgets, d)
		}
	}
	return budgets
}
