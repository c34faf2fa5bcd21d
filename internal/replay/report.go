package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// report is the sum of a file.
type report struct {
	File      string  `json:"file"`
	Exchanges int     `json:"exchanges"`
	NotServed int     `json:"notServed"`
	Passed    int     `json:"passed"`
	Seconds   float64 `json:"seconds"`
	// Priced are those whose hold, bound and charge were held against a recorded usage. Of the others
	// that were forwarded only the bytes and the end of the hold were checked; Unpriced says why.
	Priced   int            `json:"priced"`
	Unpriced map[string]int `json:"unpriced"`
	Refused  map[string]int `json:"refused"`
	// Example names an exchange of each reason for a refusal.
	Example  map[string]string `json:"example"`
	Settled  map[string]int    `json:"settled"`
	Released int               `json:"released"`
	Overrun  int               `json:"overrun"`
	// Unknown counts exchanges by token counts in their usage that this command does not know.
	Unknown    map[string]int `json:"unknownFigures"`
	Models     []modelReport  `json:"models"`
	Violations []violation    `json:"violations"`
	Rows       []rowReport    `json:"rows,omitempty"`
}

// modelReport is how close the bounds of a model's prompts came to what was counted.
type modelReport struct {
	Model     string `json:"model"`
	Exchanges int    `json:"exchanges"`
	Bound     int64  `json:"bound"`   // sum
	Counted   int64  `json:"counted"` // sum
	// Least is the smallest difference of the two, in the exchange named by Closest.
	Least   int64  `json:"least"`
	Closest string `json:"closest"`
}

type violation struct {
	ID    string   `json:"id"`
	Model string   `json:"model"`
	What  []string `json:"what"`
}

// rowReport is one exchange. Amounts are in dollars, empty where there is none.
type rowReport struct {
	ID      string `json:"id"`
	Model   string `json:"model"`
	Outcome string `json:"outcome"`
	Bound   int64  `json:"bound"`
	Counted int64  `json:"counted"`
	Held    string `json:"heldUsd"`
	Cost    string `json:"costUsd"`
	Charged string `json:"chargedUsd"`
}

func summarize(file string, records []record, all []*played, took time.Duration) report {
	r := report{
		File: file, Exchanges: len(records), NotServed: len(records) - len(all),
		Seconds: took.Seconds(),
		Refused: map[string]int{}, Settled: map[string]int{}, Example: map[string]string{},
		Unpriced: map[string]int{}, Unknown: map[string]int{},
	}
	models := map[string]*modelReport{}
	for _, p := range all {
		r.count(p)
		r.Rows = append(r.Rows, p.row())
		if p.priced {
			if models[p.record.Asked] == nil {
				models[p.record.Asked] = &modelReport{Model: p.record.Asked}
			}
			models[p.record.Asked].add(p)
		}
		for _, name := range unknownFigures(p.record.Usage) {
			r.Unknown[name]++
		}
		if len(p.violations) > 0 {
			v := violation{ID: p.record.ID, Model: p.record.Asked, What: p.violations}
			r.Violations = append(r.Violations, v)
		}
	}

	for _, name := range slices.Sorted(maps.Keys(models)) {
		r.Models = append(r.Models, *models[name])
	}
	slices.SortFunc(r.Violations, func(a, b violation) int { return cmp.Compare(a.ID, b.ID) })
	return r
}

// count adds an exchange to the sums.
func (r *report) count(p *played) {
	switch {
	case p.code != "":
		r.Refused[p.code]++
		r.Example[p.code] = p.record.ID
		return
	case p.released != "":
		r.Released++
	case p.settled != nil:
		r.Settled[basisName(p.settled)]++
	}
	if p.settled != nil && p.settled.Overrun > 0 {
		r.Overrun++
	}

	switch {
	case p.priced:
		r.Priced++
	case p.record.Status != http.StatusOK:
		r.Unpriced["the provider refused or failed"]++
	case len(readings(p.record.Usage, false)) == 0:
		r.Unpriced["no usage was recorded"]++
	default:
		r.Unpriced["the catalogue's file has no price"]++
	}
	if len(p.violations) == 0 {
		r.Passed++
	}
}

func (m *modelReport) add(p *played) {
	slack := p.bound - p.counted
	if m.Exchanges == 0 || slack < m.Least {
		m.Least, m.Closest = slack, p.record.ID
	}
	m.Exchanges++
	m.Bound += p.bound
	m.Counted += p.counted
}

func (p *played) row() rowReport {
	row := rowReport{ID: p.record.ID, Model: p.record.Asked, Bound: p.bound, Counted: p.counted}
	switch {
	case p.code != "":
		row.Outcome = "refused: " + p.code
	case p.released != "":
		row.Outcome = "given back: " + p.released
	case p.settled != nil:
		row.Outcome = basisName(p.settled)
		row.Charged = p.settled.Charged.String()
	}
	if p.reserved != nil {
		row.Held = p.reserved.Amount.String()
	}
	if p.priced {
		row.Cost = domain.Amount(p.cost).String()
	}
	return row
}

func basisName(s *domain.UsageSettled) string {
	if s.Basis == domain.BasisPresumed {
		return "presumed: " + s.Reason
	}
	return string(s.Basis)
}

// print writes the report as tables, at most so many violations one by one.
func (r report) print(to io.Writer, most int) error {
	t := tabwriter.NewWriter(to, 0, 4, 2, ' ', 0)
	line := func(cells ...any) { // Flush reports the error
		row := make([]string, len(cells))
		for i, cell := range cells {
			row[i] = fmt.Sprint(cell)
		}
		_, _ = fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	line(r.File)
	line("exchanges", r.Exchanges, fmt.Sprintf("in %.1f s", r.Seconds))
	line("  of an endpoint that is not served", r.NotServed)
	for _, reason := range slices.Sorted(maps.Keys(r.Refused)) {
		line("  refused: "+reason, r.Refused[reason], "for instance "+r.Example[reason])
	}
	line("  passed and right in all that was checked", r.Passed)
	line("money checked by a recorded usage", r.Priced)
	for _, why := range slices.Sorted(maps.Keys(r.Unpriced)) {
		line("  not: "+why, r.Unpriced[why])
	}
	for _, basis := range slices.Sorted(maps.Keys(r.Settled)) {
		line("charged by "+basis, r.Settled[basis])
	}
	line("given back", r.Released)
	line("charged above the hold", r.Overrun)
	for _, name := range slices.Sorted(maps.Keys(r.Unknown)) {
		line("unknown figure "+name, r.Unknown[name])
	}
	line("violations", len(r.Violations))
	if err := t.Flush(); err != nil {
		return err
	}
	if err := r.printViolations(to, most); err != nil {
		return err
	}
	return r.printModels(to)
}

func (r report) printViolations(to io.Writer, most int) error {
	for i, v := range r.Violations {
		if i == most {
			_, err := fmt.Fprintf(to, "  … and %d more\n", len(r.Violations)-most)
			return err
		}
		for _, what := range v.What {
			if _, err := fmt.Fprintf(to, "  %s %s: %s\n", v.ID, v.Model, what); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r report) printModels(to io.Writer) error {
	t := tabwriter.NewWriter(to, 0, 4, 2, ' ', 0)
	// Flush reports the errors.
	_, _ = fmt.Fprintln(t, "prompt tokens of\tcalls\tcounted\tbounded\tleast slack\tin")
	for _, m := range r.Models {
		_, _ = fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s\n",
			m.Model, m.Exchanges, m.Counted, m.Bound, m.Least, m.Closest)
	}
	return t.Flush()
}

// printRows writes every exchange.
func (r report) printRows(to io.Writer) error {
	t := tabwriter.NewWriter(to, 0, 4, 2, ' ', 0)
	// Flush reports the errors.
	_, _ = fmt.Fprintln(t, "exchange\tmodel\toutcome\tbound\tcounted\theld\tcost\tcharged")
	for _, p := range r.Rows {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n",
			p.ID, p.Model, p.Outcome, p.Bound, p.Counted, p.Held, p.Cost, p.Charged)
	}
	return t.Flush()
}
