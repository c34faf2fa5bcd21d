package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the database/sql driver "pgx" that goose runs on
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed *.sql
var files embed.FS

// Applied is one migration that Up ran.
type Applied struct {
	Version int64
	Name    string
}

// Up brings the database at url to the newest schema and says what it ran. Several processes may call it
// at once: an advisory lock of the session lets one work and the others wait.
func Up(ctx context.Context, url string) ([]Applied, error) {
	var ran []Applied
	err := with(ctx, url, func(p *goose.Provider) error {
		results, err := p.Up(ctx)
		for _, r := range results {
			ran = append(ran, Applied{Version: r.Source.Version, Name: r.Source.Path})
		}
		return err
	})
	if err != nil {
		return ran, fmt.Errorf("migrate: %w", err)
	}
	return ran, nil
}

// querier is the one method that Missing needs; a connection, a transaction and a pool of pgx have it.
type querier interface {
	Query(ctx context.Context, sql string, arguments ...any) (pgx.Rows, error)
}

// Pending says how many migrations the database at url still lacks. It opens one connection for it.
func Pending(ctx context.Context, url string) (pending int, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, fmt.Errorf("read migration status: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	return Missing(ctx, conn)
}

// Missing is Pending over a connection that is there already. It only reads, and takes no lock: a
// readiness probe asks this, and must wait neither for a migration that runs nor for another probe.
// While a migration runs it counts what has not been committed yet as missing.
func Missing(ctx context.Context, db querier) (int, error) {
	applied, err := versions(ctx, db)
	if err != nil {
		return 0, fmt.Errorf("read migration status: %w", err)
	}
	entries, err := files.ReadDir(".")
	if err != nil {
		return 0, fmt.Errorf("read migration status: %w", err)
	}

	missing := 0
	for _, entry := range entries {
		version, err := goose.NumericComponent(entry.Name())
		if err != nil {
			return 0, fmt.Errorf("read migration status: %w", err)
		}
		if !applied[version] {
			missing++
		}
	}
	return missing, nil
}

// undefinedTable is Postgres' code for a table that does not exist: nothing was migrated yet.
const undefinedTable = "42P01"

// versions reads the table in which goose notes what it ran. It deletes the row of what it undoes.
func versions(ctx context.Context, db querier) (map[int64]bool, error) {
	const applied = `select version_id from ` + goose.DefaultTablename + ` where is_applied`
	rows, _ := db.Query(ctx, applied) // CollectRows reports its error too
	listed, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == undefinedTable {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}

	known := make(map[int64]bool, len(listed))
	for _, version := range listed {
		known[version] = true
	}
	return known, nil
}

func with(ctx context.Context, url string, use func(*goose.Provider) error) (err error) {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	if err := db.PingContext(ctx); err != nil {
		return err
	}
	return use(provider)
}
