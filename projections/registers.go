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
func registersKey(tenant domain.TenantID) string { return "bg:{" + string(tenant) + "}:balances" }

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
		ops = append(ops, definition(r)...)
		switch e := r.Event.(type) { //nolint:gochecksumtype // the others change no register, but by their postings
		case domain.WindowOpened:
			prune = r.Time.Add(-keepWindows)
		case domain.WindowSlid:
			for _, p := range e.Postings {
				ops = append(ops, operation{"slide", accountField(p.Account), r.Version, postingValue(p) + "|" + strconv.FormatInt(e.Oldest, 10)})
			}
			continue
		}
		at, charges := chargedAt(r)
		for _, p := range domain.Postings(r.Event) {
			field := accountField(p.Account)
			posted[p.Account] = operation{"post", field, r.Version, postingValue(p)}
			if charges {
				ops = append(ops, operation{"charge", field, r.Version, postingValue(p) + "|" + strconv.FormatInt(at.UnixMicro(), 10)})
			}
		}
	}
	for _, o := range posted { // only the last posting of each account counts
		ops = append(ops, o)
	}
	return ops, prune
}

// definition is what an administrative event, or a window that opens, writes.
func definition(r domain.Recorded) []operation {
	switch e := r.Event.(type) { //nolint:gochecksumtype // the others define nothing
	case domain.TenantCreated:
		return []operation{{"set", zoneField, r.Version, e.Zone.String()}}
	case domain.TenantChanged:
		return []operation{{"set", zoneField, r.Version, e.Zone.String()}}
	case domain.BudgetDefined:
		return []operation{{"set", budgetField(e.Budget), r.Version, budgetValue(domain.Budget{
			Period: e.Period, Span: e.Span, Scope: e.Scope, Window: domain.Window{Start: e.Start, End: e.End},
			Limit: e.Limit, AlertsAt: e.AlertsAt, Source: e.Source,
		})}}
	case domain.BudgetChanged:
		b := domain.Budget{Limit: e.Limit, Raises: e.Raises, AlertsAt: e.AlertsAt, Source: e.Source}
		return []operation{{"change", budgetField(e.Budget), r.Version, termsValue(b)}}
	case domain.BudgetRetired:
		return []operation{{"retire", budgetField(e.Budget), r.Version, string(e.Budget)}}
	case domain.WindowOpened:
		return []operation{{"set", accountField(e.Account), r.Version, accountValue(domain.OpenedAccount(e))}}
	}
	return nil
}

// chargedAt is the time by which a rolling window counts what an event charged, if it charged anything.
func chargedAt(r domain.Recorded) (time.Time, bool) {
	switch e := r.Event.(type) { //nolint:gochecksumtype // the others charge nothing
	case domain.UsageSettled:
		return e.ReservedAt, true
	case domain.ReservationExpired:
		return e.ReservedAt, true
	case domain.UsageSettledLate:
		return e.ReservedAt, true
	case domain.UsageAdjusted:
		if e.ReservedAt.IsZero() {
			return r.Time, true
		}
		return e.ReservedAt, true
	}
	return time.Time{}, false
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

// shape is what never changes of a budget.
type shape struct {
	Scope domain.Scope `json:"scope"`
	Span  domain.Span  `json:"span"`
	Start time.Time    `json:"start,omitzero"`
	End   time.Time    `json:"end,omitzero"`
}

func budgetValue(b domain.Budget) string {
	fixed, err := json.Marshal(shape{Scope: b.Scope, Span: b.Span, Start: b.Window.Start, End: b.Window.End})
	if err != nil {
		panic("a scope and a span do not encode: " + err.Error()) // a bug, not an input
	}
	return string(b.Period) + "|" + termsValue(b) + "|" + string(fixed)
}

func termsValue(b domain.Budget) string {
	alerts := make([]string, len(b.AlertsAt))
	for i, t := range b.AlertsAt {
		alerts[i] = strconv.FormatInt(int64(t), 10)
	}
	raises := make([]string, len(b.Raises))
	for i, r := range b.Raises {
		raises[i] = fmt.Sprintf("%d:%d", int64(r.By), r.Until.UnixMicro())
	}
	return fmt.Sprintf("%s|%d|%s|%s", b.Source, int64(b.Limit), strings.Join(raises, ","), strings.Join(alerts, ","))
}

func accountValue(a domain.Account) string {
	buckets := make([]string, len(a.Buckets))
	for i, b := range a.Buckets {
		buckets[i] = fmt.Sprintf("%d:%d:%d", b.Number, int64(b.Settled), int64(b.Presumed))
	}
	return fmt.Sprintf("%s|%d|%d|%s|%d|%d|%s|%s", a.Period, a.Window.Start.UnixMicro(), a.Window.End.UnixMicro(),
		balanceValue(a.Limit, a.Settled, a.Held, a.Presumed),
		time.Duration(a.Duration).Microseconds(), a.Oldest, strings.Join(buckets, ","), a.Budget)
}

func postingValue(p domain.Posting) string {
	return balanceValue(p.Limit, p.Settled, p.Held, p.Presumed)
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
	const parts = 7
	part := strings.SplitN(value, "|", parts)
	if len(part) != parts {
		return errRegisters
	}
	b := domain.Budget{ID: id, Source: domain.Source(part[2])}
	numbers, err := parseInts(part[3])
	if err != nil {
		return err
	}
	b.Limit = domain.Amount(numbers[0])
	raises, errRaises := parseTuples(part[4], 2)
	alerts, errAlerts := parseTuples(part[5], 1)
	if err := errors.Join(errRaises, errAlerts); err != nil {
		return err
	}
	for _, r := range raises {
		b.Raises = append(b.Raises, domain.Raise{By: domain.Amount(r[0]), Until: time.UnixMicro(r[1]).UTC()})
	}
	for _, a := range alerts {
		b.AlertsAt = append(b.AlertsAt, domain.Threshold(a[0]))
	}
	var fixed shape
	if err := json.Unmarshal([]byte(part[6]), &fixed); err != nil {
		return err
	}
	b.Scope, b.Span, b.Window = fixed.Scope, fixed.Span, domain.Window{Start: fixed.Start, End: fixed.End}
	if b.Period, err = domain.ParsePeriod(part[1]); err != nil {
		return err
	}
	if (b.Period == domain.Rolling) != (b.Span.Duration != 0) {
		return errRegisters
	}
	s.Budgets = append(s.Budgets, b)
	return nil
}

func parseAccount(s *domain.State, field, value string) error {
	const parts = 12
	part := strings.SplitN(value, "|", parts)
	if len(part) != parts {
		return errRegisters
	}
	n, err := parseInts(field, part[0], part[2], part[3], part[4], part[5], part[6], part[7], part[8], part[9])
	if err != nil {
		return err
	}
	a := domain.Account{
		ID: domain.AccountID(n[0]), Version: n[1], Period: domain.Period(part[1]), Budget: domain.BudgetID(part[11]),
		Window: domain.Window{Start: time.UnixMicro(n[2]).UTC(), End: time.UnixMicro(n[3]).UTC()},
		Limit:  domain.Amount(n[4]), Settled: domain.Amount(n[5]), Held: domain.Amount(n[6]), Presumed: domain.Amount(n[7]),
		Duration: domain.Length(time.Duration(n[8]) * time.Microsecond), Oldest: n[9],
	}
	if a.Duration != 0 && a.Duration.BucketWidth() < time.Microsecond {
		return errRegisters
	}
	buckets, err := parseTuples(part[10], 3)
	if err != nil {
		return err
	}
	for _, b := range buckets {
		a.Buckets = append(a.Buckets, domain.Bucket{Number: b[0], Settled: domain.Amount(b[1]), Presumed: domain.Amount(b[2])})
	}
	if a.Duration == 0 && a.Buckets != nil {
		return errRegisters
	}
	s.AdoptAccount(a)
	return nil
}

// parseTuples reads "1:2,3:4", each with as many numbers as are wanted; nothing is no tuples.
func parseTuples(text string, size int) ([][]int64, error) {
	if text == "" {
		return nil, nil
	}
	var tuples [][]int64
	for element := range strings.SplitSeq(text, ",") {
		numbers, err := parseInts(strings.Split(element, ":")...)
		if err != nil {
			return nil, err
		}
		if len(numbers) != size {
			return nil, errRegisters
		}
		tuples = append(tuples, numbers)
	}
	return tuples, nil
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
