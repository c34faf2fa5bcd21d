package projections

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	versionField = "version"
	zoneField    = "zone"
	budgetPrefix = "b:"
	// keepWindows is how long the register of a window stays after its end: closings of reservations come
	// in that time, and nobody asks for its balance later.
	keepWindows = 48 * time.Hour
)

// errRegisters says that a hash does not read as registers.
var errRegisters = errors.New("unreadable registers")

// registersKey is the hash of a tenant. The braces keep all keys of a tenant on one node of a cluster.
func registersKey(tenant domain.TenantID) string { return "bg:{" + string(tenant) + "}:accounts" }

func budgetField(id domain.BudgetID) string { return budgetPrefix + string(id) }

func accountField(id domain.AccountID) string { return strconv.FormatInt(int64(id), 10) }

// operation is one change of a hash; queries/apply_registers.lua knows what each name does.
type operation struct {
	name, field string
	version     int64
	value       string
}

// operations are what a run of events does to the hash, and the end before which windows leave it.
func operations(run []domain.Recorded) (ops []operation, prune time.Time) {
	posted := map[domain.AccountID]operation{}
	for _, r := range run {
		switch e := r.Event.(type) { //nolint:gochecksumtype // the others change no register, but by their postings
		case domain.TenantCreated:
			ops = append(ops, operation{"set", zoneField, r.Version, e.Zone.String()})
		case domain.TenantChanged:
			ops = append(ops, operation{"set", zoneField, r.Version, e.Zone.String()})
		case domain.BudgetDefined:
			b := domain.Budget{ID: e.Budget, Period: e.Period, Scope: e.Scope, Limit: e.Limit, AlertsAt: e.AlertsAt, Source: e.Source}
			ops = append(ops, operation{"set", budgetField(e.Budget), r.Version, budgetValue(b)})
		case domain.BudgetChanged:
			b := domain.Budget{Limit: e.Limit, AlertsAt: e.AlertsAt, Source: e.Source}
			ops = append(ops, operation{"change", budgetField(e.Budget), r.Version, termsValue(b)})
		case domain.BudgetRetired:
			ops = append(ops, operation{"retire", budgetField(e.Budget), r.Version, string(e.Budget)})
		case domain.WindowOpened:
			a := domain.Account{
				Budget: e.Budget, Period: e.Period, Window: domain.Window{Start: e.Start, End: e.End},
				Limit: e.Limit, Held: e.Held, Settled: e.Settled, Presumed: e.Presumed,
			}
			ops = append(ops, operation{"set", accountField(e.Account), r.Version, accountValue(a)})
			prune = r.Time.Add(-keepWindows)
		}
		for _, p := range domain.Postings(r.Event) {
			value := balanceValue(p.Limit, p.Settled, p.Held, p.Presumed)
			posted[p.Account] = operation{"post", accountField(p.Account), r.Version, value}
		}
	}
	for _, o := range posted { // only the last posting of each account counts
		ops = append(ops, o)
	}
	return ops, prune
}

// snapshot is a state as fields and values in turn.
func snapshot(s domain.State) []string {
	at := strconv.FormatInt(s.Version, 10) + "|"
	fields := []string{zoneField, at + s.Zone.String()}
	for _, b := range s.Budgets {
		fields = append(fields, budgetField(b.ID), at+budgetValue(b))
	}
	for _, a := range s.Accounts {
		fields = append(fields, accountField(a.ID), strconv.FormatInt(a.Version, 10)+"|"+accountValue(*a))
	}
	return fields
}

func budgetValue(b domain.Budget) string {
	scope, err := json.Marshal(b.Scope) //nolint:gosec // apiKey is the id of a key, not the key
	if err != nil {
		panic("a scope of three strings does not encode: " + err.Error()) // a bug, not an input
	}
	return string(b.Period) + "|" + termsValue(b) + "|" + string(scope)
}

func termsValue(b domain.Budget) string {
	alerts := make([]string, len(b.AlertsAt))
	for i, t := range b.AlertsAt {
		alerts[i] = strconv.FormatInt(int64(t), 10)
	}
	return string(b.Source) + "|" + strconv.FormatInt(int64(b.Limit), 10) + "|" + strings.Join(alerts, ",")
}

func accountValue(a domain.Account) string {
	return strings.Join([]string{
		string(a.Period), strconv.FormatInt(a.Window.Start.UnixMicro(), 10), strconv.FormatInt(a.Window.End.UnixMicro(), 10),
		balanceValue(a.Limit, a.Settled, a.Held, a.Presumed), string(a.Budget),
	}, "|")
}

func balanceValue(limit, spent, reserved, presumed domain.Amount) string {
	return fmt.Sprintf("%d|%d|%d|%d", int64(limit), int64(spent), int64(reserved), int64(presumed))
}

// parseRegisters reads a tenant's hash as far as balances need it. Its errors are errRegisters: the hash
// is not there, or not all of it reads.
func parseRegisters(tenant domain.TenantID, hash map[string]string) (domain.State, error) {
	s := domain.NewState(tenant)
	version, err := strconv.ParseInt(hash[versionField], 10, 64)
	if err != nil || version < 1 {
		return s, fmt.Errorf("%w: version %.40q", errRegisters, hash[versionField])
	}
	s.Version = version
	_, zone, _ := strings.Cut(hash[zoneField], "|")
	if s.Zone, err = domain.ParseZone(zone); err != nil {
		return s, fmt.Errorf("%w: zone of %s: %w", errRegisters, tenant, err)
	}
	for field, value := range hash { // budgets are adopted before their accounts
		id, ok := strings.CutPrefix(field, budgetPrefix)
		if !ok {
			continue
		}
		if err := parseBudget(&s, domain.BudgetID(id), value); err != nil {
			return s, fmt.Errorf("%w: %.80q of %s: %w", errRegisters, field, tenant, err)
		}
	}
	slices.SortFunc(s.Budgets, func(a, b domain.Budget) int { return strings.Compare(string(a.ID), string(b.ID)) })
	for field, value := range hash {
		if field == versionField || field == zoneField || strings.HasPrefix(field, budgetPrefix) {
			continue
		}
		if err := parseAccount(&s, field, value); err != nil {
			return s, fmt.Errorf("%w: %.80q of %s: %w", errRegisters, field, tenant, err)
		}
	}
	return s, nil
}

func parseBudget(s *domain.State, id domain.BudgetID, value string) error {
	const parts = 6
	part := strings.SplitN(value, "|", parts)
	if len(part) != parts {
		return errRegisters
	}
	b := domain.Budget{ID: id, Period: domain.Period(part[1]), Source: domain.Source(part[2])}
	numbers, err := parseInts(part[3])
	if err != nil {
		return err
	}
	b.Limit = domain.Amount(numbers[0])
	if part[4] != "" {
		alerts, err := parseInts(strings.Split(part[4], ",")...)
		if err != nil {
			return err
		}
		for _, a := range alerts {
			b.AlertsAt = append(b.AlertsAt, domain.Threshold(a))
		}
	}
	if err := json.Unmarshal([]byte(part[5]), &b.Scope); err != nil {
		return err
	}
	if _, err := domain.ParsePeriod(string(b.Period)); err != nil {
		return err
	}
	s.Budgets = append(s.Budgets, b)
	return nil
}

func parseAccount(s *domain.State, field, value string) error {
	const parts = 9
	part := strings.SplitN(value, "|", parts)
	if len(part) != parts {
		return errRegisters
	}
	n, err := parseInts(field, part[0], part[2], part[3], part[4], part[5], part[6], part[7])
	if err != nil {
		return err
	}
	s.AdoptAccount(domain.Account{
		ID: domain.AccountID(n[0]), Version: n[1], Period: domain.Period(part[1]), Budget: domain.BudgetID(part[8]),
		Window: domain.Window{Start: time.UnixMicro(n[2]).UTC(), End: time.UnixMicro(n[3]).UTC()},
		Limit:  domain.Amount(n[4]), Settled: domain.Amount(n[5]), Held: domain.Amount(n[6]), Presumed: domain.Amount(n[7]),
	})
	return nil
}

func parseInts(texts ...string) ([]int64, error) {
	numbers := make([]int64, len(texts))
	for i, text := range texts {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, err
		}
		numbers[i] = n
	}
	return numbers, nil
}
