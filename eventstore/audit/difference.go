package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// Fault is what is wrong with a row.
type Fault string

// The faults of rows.
const (
	FaultMissing     Fault = "missing"
	FaultUnexplained Fault = "unexplained" // no event made it
	FaultChanged     Fault = "changed"
)

// Difference is a row of a table that is not what the events say.
type Difference struct {
	Tenant domain.TenantID `json:"tenant"`
	// Version is the last one that the events were read to.
	Version int64  `json:"version"`
	Table   string `json:"table"`
	Key     string `json:"key"`
	// Row names the row for people.
	Row   string `json:"row"`
	Fault Fault  `json:"fault"`
	// Columns are those that differ, or all of a row that is missing or unexplained.
	Columns []Column `json:"columns"`
}

// Column is what a column has, and what the events say. One of the two is empty where there is no row.
type Column struct {
	Name   string `json:"name"`
	Is     string `json:"is"`
	Should string `json:"should"`
}

// String is one line for people.
func (d Difference) String() string {
	texts := make([]string, len(d.Columns))
	for i, c := range d.Columns {
		switch d.Fault {
		case FaultMissing:
			texts[i] = c.Name + " " + c.Should
		case FaultUnexplained:
			texts[i] = c.Name + " " + c.Is
		case FaultChanged:
			texts[i] = fmt.Sprintf("%s is %s, the events say %s", c.Name, c.Is, c.Should)
		}
	}
	switch d.Fault {
	case FaultMissing:
		return fmt.Sprintf("%s: the row is missing; the events say %s", d.Row, strings.Join(texts, ", "))
	case FaultUnexplained:
		return fmt.Sprintf("%s: no event made this row: %s", d.Row, strings.Join(texts, ", "))
	case FaultChanged:
	}
	return d.Row + ": " + strings.Join(texts, "; ")
}

// tableRow is a row of a table, as a value that == compares.
type tableRow interface {
	comparable
	// label names the row with that key.
	label(table, key string) string
	columns() []named
}

// named is a column and its value as people read it.
type named struct{ name, value string }

// compared are the columns in which two rows differ.
func compared[R tableRow](is, should R) []Column {
	var list []Column
	wanted := should.columns()
	for i, c := range is.columns() {
		if c != wanted[i] {
			list = append(list, Column{Name: c.name, Is: c.value, Should: wanted[i].value})
		}
	}
	return list
}

// told are the columns of a row that is missing, or that no event made.
func told[R tableRow](r R, missing bool) []Column {
	var list []Column
	for _, c := range r.columns() {
		switch {
		case slices.Contains([]string{"", noTime, "[]", "{}", "0", "0s"}, c.value): // nothing worth a word
		case missing:
			list = append(list, Column{Name: c.name, Should: c.value})
		default:
			list = append(list, Column{Name: c.name, Is: c.value})
		}
	}
	return list
}

// noTime is a time that a row does not have.
const noTime = "never"

// usd is an amount of nano-dollars as people read it.
func usd(nano int64) string { return domain.Amount(nano).String() + " USD" }

// instant is a time of microseconds as people read it.
func instant(micros int64) string {
	if micros == 0 {
		return noTime
	}
	return time.UnixMicro(micros).UTC().Format(time.RFC3339Nano)
}

// windowName is a window as people name it: a month, a day, an hour, or its bounds.
func windowName(period string, start, end int64) string {
	from := time.UnixMicro(start).UTC()
	switch domain.Period(period) { //nolint:exhaustive // the others have no short name
	case domain.Monthly:
		// The bounds are those of the tenant's zone: its month holds the day after the first instant.
		return period + " " + from.Add(24*time.Hour).Format("2006-01")
	case domain.Daily:
		return period + " from " + from.Format("2006-01-02 15:04Z")
	case domain.Hourly:
		return period + " " + from.Format("2006-01-02 15:04Z")
	}
	return fmt.Sprintf("%s from %s to %s", period, instant(start), instant(end))
}

func (r accountRow) label(_, key string) string {
	return fmt.Sprintf("account %s of budget %s (account %s, version %d)",
		windowName(r.Period, r.Start, r.End), r.Budget, key, r.Version)
}

func (r accountRow) columns() []named {
	return []named{
		{"budget", r.Budget},
		{"period", r.Period},
		{"start", instant(r.Start)},
		{"end", instant(r.End)},
		{"limit", usd(r.Limit)},
		{"held", usd(r.Held)},
		{"settled", usd(r.Settled)},
		{"presumed", usd(r.Presumed)},
		{"cap", usd(r.Cap)},
		{"version", fmt.Sprint(r.Version)},
		{"thresholds crossed", r.Crossed},
		{"length", (time.Duration(r.Duration) * time.Minute).String()},
		{"oldest part", fmt.Sprint(r.Oldest)},
		{"parts", r.Buckets},
		{"slides at", instant(r.Slides)},
	}
}

func (r holdRow) label(table, key string) string { return table + " of reservation " + key }

func (r holdRow) columns() []named {
	return []named{
		{"opened by version", fmt.Sprint(r.Opened)},
		{"opened at", instant(r.At)},
		{"amount", usd(r.Amount)},
		{"charged", usd(r.Charged)},
		{"accounts", r.Accounts},
		{"expires at", instant(r.Expires)},
		{"given back", yes(r.Released)},
	}
}

func (r attemptRow) label(_, key string) string { return "idempotency key with digest " + key }

func (r attemptRow) columns() []named {
	return []named{
		{"fingerprint", r.Fingerprint},
		{"reservation", r.Reservation},
		{"state", r.State},
		{"at", instant(r.At)},
		{"charged", usd(r.Charged)},
	}
}

func (r tenantRow) label(_, _ string) string { return "tenant" }

func (r tenantRow) columns() []named {
	return []named{
		{"name", r.Name},
		{"zone", r.Zone},
		{"rate limit", r.RateLimit},
		{"suspended", yes(r.Suspended)},
		{"a key was issued once", yes(r.EverKeyed)},
		{"created at", instant(r.Created)},
		{"version", fmt.Sprint(r.Version)},
	}
}

func (r keyRow) label(_, key string) string { return "API key " + key }

// columns do not show hashes whole: they are what a key is compared with.
func (r keyRow) columns() []named {
	return []named{
		{"name", r.Name},
		{"prefix", r.Prefix},
		{"hash", fingerprint(r.Hash)},
		{"created at", instant(r.Created)},
		{"expires at", instant(r.Expires)},
		{"revoked at", instant(r.Revoked)},
		{"models", r.Models},
		{"tags", r.Tags},
		{"required tags", r.Required},
		{"suspended", yes(r.Suspended)},
		{"old hash", fingerprint(r.OldHash)},
		{"old hash until", instant(r.OldUntil)},
	}
}

func (r budgetRow) label(_, key string) string { return "budget " + key }

func (r budgetRow) columns() []named {
	return []named{
		{"period", r.Period},
		{"span", r.Span},
		{"scope", r.Scope},
		{"start", instant(r.Start)},
		{"end", instant(r.End)},
		{"limit", usd(r.Limit)},
		{"raises", r.Raises},
		{"first raise ends", instant(r.Lowers)},
		{"alerts", r.Alerts},
		{"source", r.Source},
		{"newest account", fmt.Sprint(r.Opened)},
	}
}

func (r headRow) label(_, _ string) string { return "head" }

func (r headRow) columns() []named { return []named{{"budgets in force", fmt.Sprint(r.Budgets)}} }

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
