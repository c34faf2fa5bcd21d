package eventstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// checkSettings makes sure that a new connection has the settings that were asked for as it began.
// A pooler between us and Postgres may drop them without a word (PgBouncer's
// ignore_startup_parameters), and with them the bounds on how long a statement waits.
func checkSettings(ctx context.Context, conn *pgx.Conn, wanted map[string]string) error {
	names, values := make([]string, 0, len(wanted)), make([]string, 0, len(wanted))
	for name, value := range wanted {
		names, values = append(names, name), append(values, value)
	}

	// Setting a value for this one statement gives it in Postgres' own spelling, so 2s and 2000 are
	// equal. The simple protocol leaves nothing prepared, which a pooler could hand to another
	// connection.
	rows, err := conn.Query(ctx, `select n from (select n, current_setting(n) as has, v from
			unnest($1::text[], $2::text[]) s (n, v) offset 0) now
		where has <> set_config(n, v, true)`, pgx.QueryExecModeSimpleProtocol, names, values)
	if err != nil {
		return fmt.Errorf("check the settings of the connection: %w", err)
	}
	lost, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("check the settings of the connection: %w", err)
	}
	if len(lost) == 0 {
		return nil
	}

	slices.Sort(lost)
	return fmt.Errorf("the connection does not have the settings that were asked for (%s): something between "+
		"BudgetGuard and Postgres drops them, such as PgBouncer with ignore_startup_parameters; "+
		"let DATABASE_URL point to Postgres itself, see \"PgBouncer\" in docs/operations.md",
		strings.Join(lost, ", "))
}

// explainRefusal adds what to do where a pooler refused the settings of a connection: PgBouncer
// says "unsupported startup parameter" with SQLSTATE 08P01, as if the URL were wrong.
func explainRefusal(err error) error {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || !strings.Contains(refused.Message, "unsupported startup parameter") {
		return err
	}
	return fmt.Errorf("a pooler (PgBouncer) refuses BudgetGuard's settings; let DATABASE_URL point to Postgres "+
		"itself, or see \"PgBouncer\" in docs/operations.md: %w", err)
}
