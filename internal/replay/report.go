package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/budgetguard/budgetguard/domain"
)

// report is the sum of a file.
type report struct {
	File       string         `json:"file"`
	Exchanges  int            `json:"exchanges"`
	NotServed  int            `json:"notServed"`
	Passed     int            `json:"passed"`
	Refused    map[string]int `json:"refused"`
	Settled    map[string]int `json:"settled"`
	Released   int            `json:"released"`
	Violations []violation    `json:"violations"`
	// Example names an exchange of each reason for a refusal.
	Example map[string]string `json:"example"`
}

type violation struct {
	ID    string   `json:"id"`
	Model string   `json:"model"`
	What  []string `json:"what"`
}

func summarize(file string, records []record, all []*played) report {
	r := report{
		File: file, Exchanges: len(records), NotServed: len(records) - len(all),
		Refused: map[string]int{}, Settled: map[string]int{}, Example: map[string]string{},
	}
	for _, p := range all {
		switch {
		case p.code != "":
			r.Refused[p.code]++
			r.Example[p.code] = p.record.ID
		case p.released:
			r.Released++
		case p.settled != nil:
			r.Settled[basisName(p.settled)]++
		}
		if p.code == "" && len(p.violations) == 0 {
			r.Passed++
		}
		if len(p.violations) > 0 {
			r.Violations = append(r.Violations, violation{p.record.ID, p.record.Asked, p.violations})
		}
	}
	slices.SortFunc(r.Violations, func(a, b violation) int { return cmp.Compare(a.ID, b.ID) })
	return r
}

func basisName(s *domain.UsageSettled) string {
	if s.Basis == domain.BasisPresumed {
		return "presumed: " + s.Reason
	}
	return string(s.Basis)
}

// print writes the report as a table, at most so many violations one by one.
func (r report) print(to io.Writer, most int) error {
	t := tabwriter.NewWriter(to, 0, 4, 2, ' ', 0)
	line := func(name string, n int, note string) { _, _ = fmt.Fprintf(t, "%s\t%d\t%s\n", name, n, note) } // Flush tells
	_, _ = fmt.Fprintf(t, "%s\t\t\n", r.File)
	line("exchanges", r.Exchanges, "")
	line("  of an endpoint that is not served", r.NotServed, "")
	line("  passed and right in all", r.Passed, "")
	for _, reason := range slices.Sorted(maps.Keys(r.Refused)) {
		line("  refused: "+reason, r.Refused[reason], "for instance "+r.Example[reason])
	}
	for _, basis := range slices.Sorted(maps.Keys(r.Settled)) {
		line("  charged by "+basis, r.Settled[basis], "")
	}
	line("  given back", r.Released, "")
	line("violations", len(r.Violations), "")
	for i, v := range r.Violations {
		if i == most {
			_, _ = fmt.Fprintf(t, "  … and %d more\t\t\n", len(r.Violations)-most)
			break
		}
		for _, what := range v.What {
			_, _ = fmt.Fprintf(t, "  %s\t\t%s: %s\n", v.ID, v.Model, what)
		}
	}
	return t.Flush()
}
