package main

import (
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/migrations"
)

// monthsAhead is how many monthly partitions exist beyond the present one.
const monthsAhead = 3

func (a *app) migrateCommand() *cobra.Command {
	c := &cobra.Command{Use: "migrate", Short: "Bring the database to the newest schema", Args: noArgs}
	known := bind(c, []setting{
		{"DATABASE_URL", "", true, "Postgres"},
		{"MIGRATE_DATABASE_URL", "", true, "Postgres as the role that owns the tables; default DATABASE_URL"},
	})
	c.RunE = func(c *cobra.Command, _ []string) error {
		v := &values{environ: a.environ, command: c, known: known}
		url := v.text("MIGRATE_DATABASE_URL")
		if url == "" {
			url = v.needed("DATABASE_URL")
		}
		if v.err != nil {
			return v.err
		}
		ran, err := migrations.Up(c.Context(), url)
		for _, m := range ran {
			_, _ = fmt.Fprintf(a.stdout, "applied %s\n", m.Name)
		}
		if err != nil {
			return err
		}
		if len(ran) == 0 {
			_, _ = fmt.Fprintln(a.stdout, "the schema is up to date")
		}
		store, err := eventstore.OpenStore(c.Context(), url)
		if err != nil {
			return err
		}
		defer store.Close()
		_, err = store.PartitionsAhead(c.Context(), monthsAhead)
		return err
	}
	return c
}

// checkMigrated says what to do about a database that lacks migrations.
func checkMigrated(c *cobra.Command, url string, migrate bool) error {
	if migrate {
		_, err := migrations.Up(c.Context(), url)
		return err
	}
	if _, err := pgx.ParseConfig(url); err != nil {
		return configError("DATABASE_URL: %w", err)
	}
	pending, err := migrations.Pending(c.Context(), url)
	if err != nil {
		return dependencyError("the database cannot be read: %w", err)
	}
	if pending > 0 {
		return configError("the database lacks %d migrations; run: budgetguard migrate (or serve --migrate)", pending)
	}
	return nil
}

// partitionInterval is how often processes look whether next month's partition is there.
const (
	partitionInterval = 6 * time.Hour
	partitionRetry    = 10 * time.Minute
)
