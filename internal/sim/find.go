package sim

import (
	"fmt"
	"strings"
)

// Found is a planted bug and the run that found it.
type Found struct {
	Bug     Bug
	Seed    uint64
	Steps   int
	Failure error
}

// Find runs seeds from 1 on with a bug planted, each for so many steps, until one fails.
func Find(b Bug, seeds, steps int) (Found, bool) {
	for seed := range uint64(seeds) { //nolint:gosec // not negative
		if r := Run(Config{Seed: seed + 1, Steps: steps, Bug: b}); r.Failure != nil {
			return Found{Bug: b, Seed: seed + 1, Steps: r.Steps, Failure: r.Failure}, true
		}
	}
	return Found{Bug: b}, false
}

// Table is what docs/reliability.md shows of the seeded bugs.
func Table(found []Found) string {
	var b strings.Builder
	b.WriteString("| Seeded bug | Seed | Steps | What the simulation says |\n|---|--:|--:|---|\n")
	for _, f := range found {
		says := "(not found)"
		if f.Failure != nil {
			says = short(f.Failure.Error())
		}
		_, _ = fmt.Fprintf(&b, "| %s | %d | %d | %s |\n", f.Bug, f.Seed, f.Steps, says)
	}
	return b.String()
}

// short is the beginning of a text, in one line.
func short(text string) string {
	const most = 150
	text, _, _ = strings.Cut(text, "\n")
	text = strings.ReplaceAll(text, "|", "/")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
