package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/budgetguard/budgetguard/eventstore"
)

var errFormat = errors.New("want json or text")

func (a *app) serveCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "serve", Short: "Run a gateway", Args: noArgs,
		Long: "Run a gateway: /v1 for programs, /admin for operators. It needs a migrated database and Redis, and never falls back\nto servers of its own. Any number of gateways may share them.",
	}
	known := bind(c, storageSettings(), commonSettings(), gatewaySettings())
	migrate := c.Flags().Bool("migrate", false, "bring the database to the newest schema first")
	c.RunE = func(c *cobra.Command, _ []string) error {
		v := &values{environ: a.environ, command: c, known: known}
		log := logger(v, a.stderr)
		cfg, err := readGatewayConfig(v, log)
		if err != nil {
			return err
		}
		if err := checkMigrated(c, cfg.database, *migrate); err != nil {
			return err
		}
		g, err := openGateway(c.Context(), cfg)
		if err != nil {
			return err
		}
		g.warn(c.Context())
		_, _ = fmt.Fprintf(a.stdout, "budgetguard %s serves %s\n", version, g.address())
		ctx, stop := context.WithCancel(c.Context())
		reaped := make(chan struct{})
		go func() { defer close(reaped); g.keep(ctx) }()
		go keepPartitions(ctx, g.store, log)
		err = g.serve(ctx)
		stop()
		<-reaped
		return errors.Join(err, g.close(c.Context()))
	}
	return c
}

// keepPartitions makes the next months' partitions in time. Without the right to it, migrate has to; behind
// a long reader it tries again soon.
func keepPartitions(ctx context.Context, store *eventstore.Store, log *slog.Logger) {
	for {
		wait := partitionInterval
		if _, err := store.PartitionsAhead(ctx, monthsAhead); err != nil && ctx.Err() == nil {
			wait = partitionRetry
			log.WarnContext(ctx, "next month's partition could not be made yet; if this goes on, run budgetguard migrate", slog.String("error", err.Error()))
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
