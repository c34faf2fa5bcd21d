package sim

import (
	"strconv"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// administer changes limits, keys and zones.
func (w *world) administer() {
	for {
		w.pause(w.rnd.between(50*time.Millisecond, w.mood.adminEvery))
		if w.quiet {
			w.suspend(never30Days(w.elapsed), func() bool { return !w.quiet })
		}
		g := pick(w.rnd, w.gateways)
		if !g.up {
			continue
		}
		tenant := pick(w.rnd, w.tenants)
		if w.rnd.chance(5) {
			w.adjust(tenant)
			continue
		}
		w.command(g, tenant, w.anyCommand(tenant))
	}
}

// anyCommand is one that administrators give.
func (w *world) anyCommand(tenant domain.TenantID) domain.Command {
	switch w.rnd.below(24) {
	case 0:
		return domain.SuspendTenant{Reason: "sim"}
	case 1, 2, 5:
		return domain.ResumeTenant{}
	case 3:
		zone, err := domain.ParseZone(pick(w.rnd, []string{"UTC", "Europe/Berlin", "America/New_York"}))
		if err != nil {
			w.fail("zone: %w", err)
		}
		return domain.ChangeTenant{Zone: &zone}
	case 4, 6:
		return domain.RetireBudget{ID: w.model.anyBudget(tenant, w.rnd)}
	case 7:
		return domain.SuspendKey{ID: pick(w.rnd, w.keys), Reason: "sim"}
	case 8, 9:
		return domain.ResumeKey{ID: pick(w.rnd, w.keys)}
	case 10, 11, 12, 13:
		raise := domain.RaiseBudget{ID: w.model.anyBudget(tenant, w.rnd), By: domain.Amount(1 + w.rnd.below(2000)), Reason: "sim"}
		if !w.rnd.chance(3) { // else until the window ends
			raise.Until = w.Now().Add(w.rnd.between(time.Second, 2*time.Hour))
		}
		return raise
	case 14:
		if w.model.tenant(tenant).customs() < 3 {
			return w.custom()
		}
	}
	return w.define(pick(w.rnd, w.budgets))
}

// budget is one that the simulation defines, changes and retires.
type budget struct {
	domain.DefineBudget

	least, most int
}

func (w *world) define(b budget) domain.DefineBudget {
	c := b.DefineBudget
	c.Source = domain.SourceAdmin
	c.Limit = domain.Amount(b.least + w.rnd.below(b.most-b.least))
	w.defined++
	c.ID = domain.BudgetID(string(c.ID) + "-" + strconv.Itoa(w.defined)) // used only if it is new
	if c.Period == domain.Monthly && w.rnd.chance(6) {
		c.Span.AnchorDay = 15 // so that it is another budget
	}
	return c
}

// custom is a budget for an hour or two that are about to begin, or have begun.
func (w *world) custom() domain.DefineBudget {
	start := w.Now().Truncate(time.Hour).Add(time.Duration(w.rnd.below(2)) * time.Hour)
	end := start.Add(time.Duration(1+w.rnd.below(2)) * time.Hour)
	return w.define(budget{domain.DefineBudget{
		ID: "custom", Period: domain.Custom, Span: domain.Span{StartDate: start.Format(time.RFC3339), EndDate: end.Format(time.RFC3339)},
	}, 300, 6000})
}

// someBudgets are those that a run has. Every hour, day and total is limited; the rest is in some runs.
func (w *world) someBudgets() []budget {
	half := []domain.Threshold{500_000, 900_000}
	minutes := func(n int) domain.Span { return domain.Span{Duration: domain.Length(n) * domain.Length(time.Minute)} }
	budgets := []budget{
		{domain.DefineBudget{ID: "hour", Period: domain.Hourly, AlertsAt: half}, 300, 6000},
		{domain.DefineBudget{ID: "day", Period: domain.Daily}, 2000, 40000},
		{domain.DefineBudget{ID: "total", Period: domain.Total}, 100_000, 10_000_000},
	}
	for _, b := range []budget{
		{domain.DefineBudget{ID: "minute", Period: domain.Rolling, Span: minutes(1), AlertsAt: half}, 300, 8000},
		{domain.DefineBudget{ID: "minutes", Period: domain.Rolling, Span: minutes(10)}, 300, 12_000},
		{domain.DefineBudget{ID: "month", Period: domain.Monthly, Span: domain.Span{AnchorDay: 28}}, 5000, 100_000},
		{domain.DefineBudget{ID: "key", Period: domain.Daily, Scope: domain.Scope{APIKey: "a"}, AlertsAt: half}, 500, 20_000},
		{domain.DefineBudget{ID: "model", Period: domain.Hourly, Scope: domain.Scope{Model: "n"}}, 300, 8000},
		{domain.DefineBudget{ID: "team", Period: domain.Rolling, Span: minutes(3), Scope: domain.Scope{Tag: "team=x"}, AlertsAt: half}, 300, 6000},
		{domain.DefineBudget{ID: "teams", Period: domain.Monthly, Scope: domain.Scope{Tag: "team"}}, 2000, 50_000},
	} {
		if w.rnd.chance(2) {
			budgets = append(budgets, b)
		}
	}
	return budgets
}

// customs is how many custom budgets there are.
func (t *modelTenant) customs() int {
	n := 0
	for _, b := range t.budgets {
		if b.Period == domain.Custom {
			n++
		}
	}
	return n
}

// adjust corrects what was spent, of a request that is over or of none, and now and then asks again, as a script
// does that was not answered.
func (w *world) adjust(tenant domain.TenantID) {
	w.defined++
	c := domain.Adjust{
		Delta: domain.Amount(w.rnd.below(300) - 200), Reason: "sim", Idempotency: "adjust-" + strconv.Itoa(w.defined), Actor: "sim",
	}
	if c.Delta == 0 {
		c.Delta = 1
	}
	if len(w.calls) > 0 && w.rnd.chance(2) {
		if of := pick(w.rnd, w.calls); of.finished {
			tenant, c.Reservation = of.tenant, of.reservation
		}
	}
	for range 1 + w.rnd.below(2) {
		if g := pick(w.rnd, w.gateways); g.up {
			w.command(g, tenant, c)
		}
	}
}
