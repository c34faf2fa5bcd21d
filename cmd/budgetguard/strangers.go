package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

const (
	// nearMiss is how many letters a misspelled variable is away from the one that was meant.
	nearMiss = 2
	// distinct is the shortest name of ours that another program's variable is not near to by chance: PORT
	// and HOST are within two letters of PATH and HOME.
	distinct = 8
)

// refuseStrangers makes an error of variables that were meant for us and name nothing: every BUDGET_* that
// is no budget variable, and names within two letters of one of ours. A limit that is misspelled would
// otherwise not be there.
func (v *values) refuseStrangers() {
	known := allVariables()
	names := v.environ.names()
	slices.Sort(names) // so that the same environment gets the same error
	for _, name := range names {
		base := strings.TrimSuffix(name, "_FILE")
		if slices.Contains(known, base) || slices.Contains(known, name) || isBudgetVariable(base) {
			continue
		}
		nearest, distance := nearestName(base, known)
		switch {
		case strings.HasPrefix(base, "BUDGET_"):
			v.check(name, fmt.Errorf("names no budget; did you mean %s? budget variables are "+
				"BUDGET_<PERIOD>_USD and BUDGET_<PERIOD>_<TENANT>", nearest))
		case distance <= nearMiss && len(nearest) >= distinct && strings.Contains(base, "_"):
			v.check(name, fmt.Errorf("is no variable; did you mean %s? rename it, or take it out of this environment", nearest))
		}
	}
}

// allVariables are those of every command, since one environment serves them all.
func allVariables() []string {
	var names []string
	for _, s := range slices.Concat(storageSettings(), commonSettings(), gatewaySettings()) {
		names = append(names, s.name)
	}
	return append(names, "MIGRATE_DATABASE_URL")
}

// isBudgetVariable reports whether a name is BUDGET_<PERIOD>_ and something.
func isBudgetVariable(name string) bool {
	for _, p := range environmentPeriods() {
		if rest, ok := strings.CutPrefix(name, "BUDGET_"+strings.ToUpper(string(p))+"_"); ok && rest != "" {
			return true
		}
	}
	// It has an error of its own, which says where rolling budgets come from.
	return strings.HasPrefix(name, "BUDGET_ROLLING_")
}

// nearestName is the known name that is most like a name, and how many letters lie between them. Of budget
// variables the name's own end is kept: BUDGET_MONTLY_ACME was meant as BUDGET_MONTHLY_ACME.
func nearestName(name string, known []string) (string, int) {
	candidates := slices.Clone(known)
	if cut := strings.LastIndex(name, "_"); cut > 0 && strings.HasPrefix(name, "BUDGET_") {
		for _, p := range environmentPeriods() {
			candidates = append(candidates, "BUDGET_"+strings.ToUpper(string(p))+name[cut:])
		}
	}
	nearest := slices.MinFunc(candidates, func(a, b string) int {
		return levenshtein.ComputeDistance(name, a) - levenshtein.ComputeDistance(name, b)
	})
	return nearest, levenshtein.ComputeDistance(name, nearest)
}
