package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"

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

// Pending tells how many migrations the database at url still lacks.
func Pending(ctx context.Context, url string) (int, error) {
	pending := 0
	err := with(ctx, url, func(p *goose.Provider) error {
		statuses, err := p.Status(ctx)
		for _, s := range statuses {
			if s.State == goose.StatePending {
				pending++
			}
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read migration status: %w", err)
	}
	return pending, nil
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
