package projections

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/eventstore"
)

// heldFor is what Postgres holds for what the stream said: the same tenants and versions, read
// where the ledger keeps them. A message only says where to look. Anybody who reaches Redis can
// write one, so nothing else of it is used: what Postgres does not hold is left out, and what it
// holds differently is Postgres'.
func heldFor(ctx context.Context, q querier, heard []entry) ([]entry, error) {
	runs := stretchesOf(heard)
	tenants, after, upto := make([]string, len(runs)), make([]int64, len(runs)), make([]int64, len(runs))
	for i, run := range runs {
		tenants[i], after[i], upto[i] = string(run.Tenant), run.After, run.Upto
	}

	// No more can come back than was heard: each stretch is as long as its messages are many.
	rows, err := q.Query(ctx, readRunsSQL, tenants, after, upto)
	if err != nil {
		return nil, fmt.Errorf("read what the stream named: %w", err)
	}
	held, err := pgx.CollectRows(rows, scanEntry)

	return held, wrap(err, "read what the stream named")
}

// stretchesOf joins the versions that were heard into stretches without holes, so that a usual
// batch is one look-up for each tenant. A version that nobody wrote costs one look-up that finds
// nothing.
func stretchesOf(heard []entry) []eventstore.Run {
	sorted := slices.Clone(heard)
	slices.SortFunc(sorted, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.version, b.version))
	})

	var runs []eventstore.Run
	for _, e := range sorted {
		last := len(runs) - 1
		if last >= 0 && runs[last].Tenant == e.tenant {
			if e.version == runs[last].Upto {
				continue // heard twice
			}
			if e.version == runs[last].Upto+1 {
				runs[last].Upto = e.version
				continue
			}
		}
		runs = append(runs, eventstore.Run{Tenant: e.tenant, After: e.version - 1, Upto: e.version})
	}
	return runs
}
