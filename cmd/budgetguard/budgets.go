package main

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

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
}

// limitsOf reads every budget variable. For one tenant and period the last named of these wins:
// DEFAULT_BUDGET_USD, MAX_MONTHLY_USD, BUDGET_<PERIOD>_USD, BUDGET_<PERIOD>_<TENANT>.
func limitsOf(v *values) (limits, error) {
	l := limits{everybody: map[domain.Period]domain.Amount{}, tenant: map[string]map[domain.Period]domain.Amount{}}
	for _, name := range v.environ.names() {
		if name == "BUDGET_START_DATE" || name == "BUDGET_END_DATE" || strings.HasPrefix(name, "BUDGET_CUSTOM_") || strings.HasPrefix(name, "BUDGET_ROLLING_") {
			return l, configError("%s: custom and rolling budgets are not built yet; unset it", name)
		}
	}
	if err := l.readDefaults(v); err != nil {
		return l, err
	}
	for _, p := range domain.CalendarPeriods() {
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
	return l, nil
}

func (l *limits) readDefaults(v *values) error {
	for part := range strings.SplitSeq(v.text("BUDGET_PERIODS"), ",") {
		period, err := domain.ParsePeriod(strings.TrimSpace(part))
		if err != nil {
			return configError("BUDGET_PERIODS: %w", err)
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
	for _, p := range domain.CalendarPeriods() {
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

// differences are the commands that bring a tenant's budgets to what the environment asks. What the
// environment set once and asks no more is retired; what an operator set is never touched.
func (l limits) differences(s domain.State) ([]domain.Command, error) {
	asked, err := l.budgets(s.Tenant)
	if err != nil {
		return nil, err
	}
	var commands []domain.Command
	for _, b := range s.Budgets {
		wanted := slices.ContainsFunc(asked, func(d domain.DefineBudget) bool { return d.Period == b.Period && d.Scope == b.Scope })
		if b.Source == domain.SourceEnvironment && !wanted {
			commands = append(commands, domain.RetireBudget{ID: b.ID, Actor: domain.Actor(domain.SourceEnvironment)})
		}
		if b.Source == domain.SourceDemo && l.any(s.Tenant) && !wanted {
			commands = append(commands, domain.RetireBudget{ID: b.ID, Actor: domain.Actor(domain.SourceEnvironment)})
		}
	}
	for _, d := range asked {
		commands = append(commands, d)
	}
	return commands, nil
}
