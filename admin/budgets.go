package admin

import (
	"context"
	"fmt"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/apikey"
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
	budgets := readBudgets(elements, false)
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

func (s *Server) listBudgets(_ context.Context, c *call) (answer, error) {
	return ok(struct {
		Budgets []budgetView `json:"budgets"`
	}{viewBudgets(c.state, c.now)}), nil
}

// changeBudget changes the parts of one budget that the body names.
func (s *Server) changeBudget(ctx context.Context, c *call) (answer, error) {
	change := domain.ChangeBudget{ID: domain.BudgetID(c.param("budgetId")), Actor: actor}

	// These make the budget the one it is: with another value it would be another budget.
	for _, name := range []string{"period", "scope", "duration", "startDate", "endDate"} {
		if c.body.has(name) {
			c.body.take(name)
			c.body.refuse(name, "this cannot change: it is part of what makes the budget the one it is; "+
				"define another budget with POST .../budgets and retire this one")
		}
	}
	readChange(c.body, &change)
	if err := c.body.problem(); err != nil {
		return answer{}, err
	}

	// Another first day of its months or weeks puts a budget with an id of its own in the place of this one.
	id, err := apikey.NewBudgetID(s.deps.Rand)
	if err != nil {
		return answer{}, err
	}
	change.NewID = id
	if _, err := s.deps.Ledger.Do(ctx, c.tenant, change); err != nil {
		return answer{}, err
	}
	return s.budgetsOf(ctx, c)
}

// readChange reads the parts of a budget that can change. null is none of it: no alerts, the first day of
// the month, monday. A limit cannot be none.
func readChange(f fields, change *domain.ChangeBudget) {
	if f.has("limitUsd") {
		if change.Limit = f.amount("limitUsd"); change.Limit == nil {
			f.want("limitUsd", "want the limit in dollars, such as \"12.50\"; leave it out to keep it")
		}
	}
	if f.has("alertsAt") {
		alerts := f.shares("alertsAt")
		change.AlertsAt = &alerts
	}
	named := keepOf(f)
	span := readSpan(f)
	if !named.WeekStart {
		change.WeekStart = &span.WeekStart
	}
	if !named.AnchorDay {
		change.AnchorDay = &span.AnchorDay
	}
}

// keepOf returns the parts of a budget that a body leaves out. It is asked for before the members are taken.
func keepOf(f fields) domain.Keep {
	return domain.Keep{
		Limit:     !f.has("limitUsd"),
		AlertsAt:  !f.has("alertsAt"),
		WeekStart: !f.has("weekStart"),
		AnchorDay: !f.has("anchorDay"),
	}
}

// endRaises takes back what a limit was raised by, before its time.
func (s *Server) endRaises(ctx context.Context, c *call) (answer, error) {
	end := domain.EndRaises{ID: domain.BudgetID(c.param("budgetId")), Actor: actor}
	if _, err := s.deps.Ledger.Do(ctx, c.tenant, end); err != nil {
		return answer{}, err
	}
	return s.budgetsOf(ctx, c)
}

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
// second would silently win. fresh says that the tenant has none yet, so that each needs a limit.
func readBudgets(elements []fields, fresh bool) []domain.DefineBudget {
	budgets := make([]domain.DefineBudget, 0, len(elements))
	seen := map[identity]bool{}
	for _, f := range elements {
		b := readBudget(f, fresh)
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
func readBudget(f fields, fresh bool) domain.DefineBudget {
	keep := keepOf(f)
	b := domain.DefineBudget{
		Source: domain.SourceAdmin, Actor: actor, Keep: keep,
		Period: readPeriod(f), Span: readSpan(f), Scope: readScope(f), AlertsAt: f.shares("alertsAt"),
	}
	if limit := f.amount("limitUsd"); limit != nil {
		b.Limit = *limit
	} else if fresh || !keep.Limit {
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
