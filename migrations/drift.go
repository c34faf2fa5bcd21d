package migrations

import (
	"context"
	_ "embed" // the schema that the migrations add up to
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed testdata/schema.sql
var schemaSQL string

//go:embed testdata/schema.golden.txt
var schemaLines string

// guardsSQL finds what makes a guard do nothing while its definition is as it should be: one line a thing. What belongs
// to an extension is none of ours, and goose's own table neither.
//
//go:embed guards.sql.txt
var guardsSQL string

// Querier is a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// setPath makes names be shown as the golden schema has them, whatever else the path of the session finds first. It
// lasts until the end of the transaction.
const setPath = `select set_config('search_path', $1, true)`

// Drift compares the schema of a migrated database with what the migrations add up to, and says in one line each what is
// missing, changed or switched off. Tables, functions, columns and indexes that an operator added are no drift: they
// take no guard away. Triggers, rules and constraints that were added to our tables are. The transaction's search path is
// as before afterwards, unless there is an error.
func Drift(ctx context.Context, tx Querier) ([]string, error) {
	before, err := lines(ctx, tx, `select current_setting('search_path')`)
	if err != nil {
		return nil, fmt.Errorf("read the search path: %w", err)
	}
	if _, err := lines(ctx, tx, setPath, "public"); err != nil {
		return nil, fmt.Errorf("set the search path: %w", err)
	}
	found, err := drift(ctx, tx)
	if err != nil {
		return nil, err
	}
	if _, err := lines(ctx, tx, setPath, before[0]); err != nil {
		return nil, fmt.Errorf("set the search path back: %w", err)
	}
	return found, nil
}

func drift(ctx context.Context, q Querier) ([]string, error) {
	live, err := lines(ctx, q, schemaSQL)
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	off, err := lines(ctx, q, guardsSQL)
	if err != nil {
		return nil, fmt.Errorf("read the guards: %w", err)
	}
	return append(compare(things(live), things(strings.Split(strings.TrimSpace(schemaLines), "\n"))), off...), nil
}

func lines(ctx context.Context, q Querier, sql string, args ...any) ([]string, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// thing is a part of the schema: its name, such as "table account: constraint account_cap", and what it is.
type thing struct{ name, definition string }

// things reads the lines of the schema, where what belongs to a table is indented.
func things(schema []string) []thing {
	list := make([]thing, 0, len(schema))
	table := ""
	for _, line := range schema {
		inner, indented := strings.CutPrefix(line, "    ")
		if indented {
			list = append(list, thing{name: table + ": " + nameOf(inner), definition: inner})
			continue
		}
		kind, rest, _ := strings.Cut(strings.TrimPrefix(line, "partitioned "), " ")
		name, definition, _ := strings.Cut(rest, " ")
		table = kind + " " + name
		list = append(list, thing{name: table, definition: definition})
	}
	return list
}

// nameOf is the kind and name of a part of a table.
func nameOf(line string) string {
	for _, c := range []struct{ start, kind string }{
		{"constraint ", "constraint"},
		{"CREATE TRIGGER ", "trigger"},
		{"CREATE UNIQUE INDEX ", "index"},
		{"CREATE INDEX ", "index"},
	} {
		if rest, ok := strings.CutPrefix(line, c.start); ok {
			name, _, _ := strings.Cut(rest, " ")
			return c.kind + " " + strings.TrimSuffix(name, ":")
		}
	}
	name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
	if name == "SELECT" {
		return "definition"
	}
	return "column " + name
}

// compare names what is missing or changed, and the guards that were added.
func compare(live, wanted []thing) []string {
	has := map[string]string{}
	for _, t := range live {
		has[t.name] = t.definition
	}

	var found []string
	known := map[string]bool{}
	for _, t := range wanted {
		known[t.name] = true
		definition, there := has[t.name]
		switch {
		case !there:
			found = append(found, t.name+" is missing")
		case definition != t.definition:
			found = append(found, fmt.Sprintf("%s is not what the migrations made: %.200s", t.name, definition))
		}
	}

	for _, t := range live {
		added := strings.Contains(t.name, ": trigger ") || strings.Contains(t.name, ": constraint ")
		table, _, _ := strings.Cut(t.name, ":")
		if added && known[table] && !known[t.name] {
			found = append(found, t.name+" is not of the migrations")
		}
	}
	return found
}
