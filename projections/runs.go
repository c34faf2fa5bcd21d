package projections

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
)

//go:embed queries/read_runs.sql
var readRunsSQL string

// querier is a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// coalesce joins the runs of outbox rows that follow each other in one tenant's stream. The order within
// a tenant stays: a row's id is drawn while its tenants' heads are locked.
func coalesce(rows []eventstore.OutboxRow) []eventstore.Run {
	var runs []eventstore.Run
	last := map[domain.TenantID]int{}
	for _, row := range rows {
		for _, run := range row.Runs {
			i, ok := last[run.Tenant]
			if ok && runs[i].Upto == run.After {
				runs[i].Upto = run.Upto
				continue
			}
			last[run.Tenant] = len(runs)
			runs = append(runs, run)
		}
	}
	return runs
}

// cut divides runs into pieces of at most size events, in order.
func cut(runs []eventstore.Run, size int64) [][]eventstore.Run {
	var pieces [][]eventstore.Run
	var piece []eventstore.Run
	room := size
	for _, run := range runs {
		for run.After < run.Upto {
			part := run
			part.Upto = min(run.Upto, run.After+room)
			piece = append(piece, part)
			run.After = part.Upto
			if room -= part.Upto - part.After; room == 0 {
				pieces, piece, room = append(pieces, piece), nil, size
			}
		}
	}
	if len(piece) > 0 {
		pieces = append(pieces, piece)
	}
	return pieces
}

// readRuns reads the events of runs, run by run. Every one of them must be there: an outbox row is
// committed with its events.
func readRuns(ctx context.Context, q querier, runs []eventstore.Run) ([]entry, error) {
	tenants, after, upto := make([]string, len(runs)), make([]int64, len(runs)), make([]int64, len(runs))
	want := int64(0)
	for i, run := range runs {
		tenants[i], after[i], upto[i] = string(run.Tenant), run.After, run.Upto
		want += run.Upto - run.After
	}
	rows, err := q.Query(ctx, readRunsSQL, tenants, after, upto)
	if err != nil {
		return nil, fmt.Errorf("read published runs: %w", err)
	}
	entries, err := pgx.CollectRows(rows, scanEntry)
	if err != nil {
		return nil, fmt.Errorf("read published runs: %w", err)
	}
	if int64(len(entries)) != want {
		return nil, fmt.Errorf("the outbox names %d events and %d are there: a bug, not an input", want, len(entries))
	}
	return entries, nil
}

func scanEntry(row pgx.CollectableRow) (entry, error) {
	var e entry
	var tenant, kind, body string
	err := row.Scan(&tenant, &e.version, &e.time, &kind, &e.schema, &body)
	e.tenant, e.kind, e.body = domain.TenantID(tenant), domain.EventType(kind), []byte(body)
	return e, err
}
