package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/apikey"
)

// demoTenant exists in dev and after seed. Its budget is small enough that a loop of ten calls without
// max_tokens runs into it: the demo model's hold is 0.0082 USD and a call costs about 0.0004.
const demoTenant domain.TenantID = "demo"

// demoLimit is 0.01 USD.
const demoLimit domain.Amount = 10_000_000

// limits are the budgets the environment asks for.
type limits struct {
	everybody map[domain.Period]domain.Amount
	// named says that BUDGET_<PERIOD>_USD is set, which a tenant named usd would be confused with.
	named bool
	// tenant is by the name in the variable: upper case, every other character an underscore.
	tenant map[string]map[domain.Period]domain.Amount
	// custom are the dates of the period custom.
	custom domain.Span
}

// environmentPeriods are those that a variable can name.
func environmentPeriods() []domain.Period { return append(domain.CalendarPeriods(), domain.Custom) }

// limitsOf reads every budget variable. For one tenant and period the last named of these wins:
// DEFAULT_BUDGET_USD, MAX_MONTHLY_USD, BUDGET_<PERIOD>_USD, BUDGET_<PERIOD>_<TENANT>.
func limitsOf(v *values) (limits, error) {
	l := limits{everybody: map[domain.Period]domain.Amount{}, tenant: map[string]map[domain.Period]domain.Amount{}}
	for _, name := range v.environ.names() {
		if strings.HasPrefix(name, "BUDGET_ROLLING_") {
			return l, configError("%s: %w", name, errRollingVariable)
		}
	}
	if err := l.readDefaults(v); err != nil {
		return l, err
	}
	for _, p := range environmentPeriods() {
		prefix := "BUDGET_" + strings.ToUpper(string(p)) + "_"
		for _, name := range v.environ.names() {
			name = strings.TrimSuffix(name, "_FILE") // the value may be in a file
			tenant, ok := strings.CutPrefix(name, prefix)
			if !ok || tenant == "" {
				continue
			}
			limit, err := limitOf(v, name)
			if err != nil {
				return l, err
			}
			if tenant == "USD" {
				l.everybody[p], l.named = limit, true
				continue
			}
			if l.tenant[tenant] == nil {
				l.tenant[tenant] = map[domain.Period]domain.Amount{}
			}
			l.tenant[tenant][p] = limit
		}
	}
	return l, l.readDates(v)
}

// errRollingVariable says where rolling budgets come from: a variable has no place for their duration.
var errRollingVariable = errors.New(`rolling budgets are set through the admin API, each with its duration: ` +
	`POST /admin/tenant/ID/budgets {"period":"rolling","duration":"24h","limitUsd":"5"}`)

// readDates reads the dates of the period custom, which needs both.
func (l *limits) readDates(v *values) error {
	l.custom = domain.Span{StartDate: v.text("BUDGET_START_DATE"), EndDate: v.text("BUDGET_END_DATE")}
	asked := strings.Contains(","+strings.ReplaceAll(v.text("BUDGET_PERIODS"), " ", "")+",", ",custom,")
	_, asks := l.everybody[domain.Custom]
	for _, own := range l.tenant {
		_, named := own[domain.Custom]
		asks = asks || named
	}
	start, end := l.custom.StartDate != "", l.custom.EndDate != ""
	switch {
	case start != end, (asked || asks) && !start:
		return configError("the period custom needs BUDGET_START_DATE and BUDGET_END_DATE: " +
			"dates such as 2026-12-01 and 2026-12-31 (which still counts), or RFC 3339 instants")
	case !start:
		return nil
	}
	// The domain says whether they are dates, on a tenant that nobody ever sees.
	trial, _, err := domain.Execute(domain.NewState("trial"), domain.CreateTenant{Name: "trial"}, time.Unix(0, 0))
	if err == nil {
		_, err = domain.Decide(trial, domain.DefineBudget{ID: "trial", Period: domain.Custom, Span: l.custom, Source: domain.SourceEnvironment}, trial.LastTime)
	}
	if err != nil {
		return configError("BUDGET_START_DATE, BUDGET_END_DATE: %w", err)
	}
	return nil
}

func (l *limits) readDefaults(v *values) error {
	for part := range strings.SplitSeq(v.text("BUDGET_PERIODS"), ",") {
		period, err := domain.ParsePeriod(strings.TrimSpace(part))
		if err != nil {
			return configError("BUDGET_PERIODS: %w", err)
		}
		if period == domain.Rolling {
			return configError("BUDGET_PERIODS: %w", errRollingVariable)
		}
		if text := v.text("DEFAULT_BUDGET_USD"); text != "" {
			if l.everybody[period], err = parseLimit("DEFAULT_BUDGET_USD", text); err != nil {
				return err
			}
		}
	}
	if text := v.text("MAX_MONTHLY_USD"); text != "" {
		limit, err := parseLimit("MAX_MONTHLY_USD", text)
		if err != nil {
			return err
		}
		l.everybody[domain.Monthly] = limit
	}
	return nil
}

func limitOf(v *values, name string) (domain.Amount, error) {
	text, _, err := v.environ.lookup(name)
	if err != nil {
		return 0, err
	}
	return parseLimit(name, text)
}

func parseLimit(name, text string) (domain.Amount, error) {
	limit, err := domain.ParseAmount(text)
	if err != nil {
		return 0, configError("%s: %w", name, err)
	}
	if limit < 0 || limit > domain.MaxAmount {
		return 0, configError("%s: want 0 to %s", name, domain.MaxAmount)
	}
	return limit, nil
}

// variableName is how a tenant is written in a variable's name.
func variableName(t domain.TenantID) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - 'a' + 'A'
		}
		if r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, string(t))
}

// check refuses an environment in which a variable could mean two tenants, or a tenant and everybody.
func (l limits) check(tenants []domain.TenantID) error {
	owner := map[string]domain.TenantID{}
	for _, t := range tenants {
		name := variableName(t)
		if other, taken := owner[name]; taken && l.tenant[name] != nil {
			return configError("BUDGET_<PERIOD>_%s could mean tenant %s or %s; set their budgets through the admin API", name, other, t)
		}
		owner[name] = t
		if name == "USD" && l.named {
			return configError("a tenant is named %s, so BUDGET_<PERIOD>_USD could mean it or everybody; set budgets through the admin API", t)
		}
	}
	return nil
}

// any tells whether the environment limits a tenant at all.
func (l limits) any(t domain.TenantID) bool {
	return len(l.everybody) > 0 || len(l.tenant[variableName(t)]) > 0
}

// budgets are the definitions the environment asks for a tenant, shortest period first.
func (l limits) budgets(t domain.TenantID) ([]domain.DefineBudget, error) {
	var definitions []domain.DefineBudget
	for _, p := range environmentPeriods() {
		limit, ok := l.everybody[p]
		if own, named := l.tenant[variableName(t)][p]; named {
			limit, ok = own, true
		}
		if !ok {
			continue
		}
		d, err := define(p, limit, domain.SourceEnvironment)
		if err != nil {
			return nil, err
		}
		if p == domain.Custom {
			d.Span = l.custom
		}
		definitions = append(definitions, d)
	}
	return definitions, nil
}

func define(p domain.Period, limit domain.Amount, source domain.Source) (domain.DefineBudget, error) {
	id, err := apikey.NewBudgetID(rand.Reader)
	if err != nil {
		return domain.DefineBudget{}, fmt.Errorf("make a budget id: %w", err)
	}
	return domain.DefineBudget{ID: id, Period: p, Limit: limit, Source: source, Actor: domain.Actor(source)}, nil
}

// difference lists the changes that a start makes to the budgets of one tenant.
type difference struct {
	commands []domain.Command
	// set says in words which budgets are set; stays names those that a variable once asked for and none
	// asks for now.
	set, stays []string
}

// differences brings a tenant's budgets to what the environment asks. What the environment asked once and
// does not ask now stays: a variable that is lost or misspelled must not loosen a limit. What an operator
// set is never touched. The demo's budget gives way to any that is named.
func (l limits) differences(s domain.State) (difference, error) {
	asked, err := l.budgets(s.Tenant)
	if err != nil {
		return difference{}, err
	}
	var d difference
	for _, b := range s.Budgets {
		wanted := slices.ContainsFunc(asked, func(a domain.DefineBudget) bool { return sameBudget(a, b) })
		switch {
		case wanted:
		case b.Source == domain.SourceEnvironment:
			d.stays = append(d.stays, fmt.Sprintf("%s of %s USD", b.Period, b.Limit))
		case b.Source == domain.SourceDemo && l.any(s.Tenant):
			d.commands = append(d.commands, domain.RetireBudget{ID: b.ID, Actor: domain.Actor(domain.SourceEnvironment)})
			d.set = append(d.set, fmt.Sprintf("%s of the demo retired", b.Period))
		}
	}
	for _, a := range asked {
		d.commands = append(d.commands, a)
		if text := changeOf(a, s); text != "" {
			d.set = append(d.set, text)
		}
	}
	return d, nil
}

// sameBudget reports whether a definition is of a budget that is there.
func sameBudget(a domain.DefineBudget, b domain.Budget) bool {
	return a.Period == b.Period && a.Scope == b.Scope &&
		a.Span.StartDate == b.Span.StartDate && a.Span.EndDate == b.Span.EndDate
}

// changeOf says what a definition changes, empty for nothing.
func changeOf(a domain.DefineBudget, s domain.State) string {
	for _, b := range s.Budgets {
		if !sameBudget(a, b) {
			continue
		}
		if b.Source == domain.SourceAdmin || b.Base() == a.Limit && b.Source == a.Source {
			return ""
		}
		return fmt.Sprintf("%s from %s to %s USD", a.Period, b.Base(), a.Limit)
	}
	return fmt.Sprintf("%s of %s USD", a.Period, a.Limit)
}

// nameless are the tenants that variables name and that do not exist, as the variables spell them.
func (l limits) nameless(tenants []domain.TenantID) []string {
	var names []string
	for name := range l.tenant {
		known := slices.ContainsFunc(tenants, func(t domain.TenantID) bool { return variableName(t) == name })
		if !known {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
