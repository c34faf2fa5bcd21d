package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/budgetguard/budgetguard/admin"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/projections"
)

func (a *app) workerCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "worker", Short: "Publish events, keep the projections and close overdue reservations", Args: noArgs,
		Long: "Runs the relay to Redis Streams, the projectors, the reaper and hourly housekeeping. Any number of workers may run: they share the work\nand what one leaves behind another takes over.",
	}
	known := bind(c, storageSettings(), commonSettings(), reaperSettings(), orphanSettings(), []setting{{"ADMIN_ADDR", "", false, "listener for /metrics and /health; none by default"}})
	c.RunE = func(c *cobra.Command, _ []string) error {
		v := &values{environ: a.environ, command: c, known: known}
		w := workerConfig{
			database: v.needed("DATABASE_URL"), redis: v.needed("REDIS_URL"), log: logger(v, a.stderr),
			expireFree: v.choice("EXPIRY_POLICY", "charge", "release") == "release", orphanAfter: orphanAfter(v), registry: prometheus.NewRegistry(),
		}
		listen := v.text("ADMIN_ADDR")
		if v.err != nil {
			return v.err
		}
		if err := checkMigrated(c, w.database, false); err != nil {
			return err
		}
		ctx, stop := context.WithCancel(c.Context())
		defer stop()
		closeServer, err := serveMetrics(ctx, listen, w.registry, w.log)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(a.stdout, "budgetguard %s works\n", version)
		return errors.Join(runWorker(ctx, w), closeServer())
	}
	return c
}

// workerConfig is what a worker needs, in a process of its own or in dev.
type workerConfig struct {
	database, redis string
	expireFree      bool
	orphanAfter     time.Duration
	log             *slog.Logger
	registry        *prometheus.Registry
	wake            <-chan struct{}
	// store and ledger are the gateway's in dev; a worker of its own opens them.
	store    *eventstore.Store
	ledger   *eventstore.Ledger
	replayed <-chan struct{}
}

func (g *gateway) workerConfig(wake <-chan struct{}) workerConfig {
	return workerConfig{
		database: g.cfg.database, redis: g.cfg.redis, expireFree: g.cfg.expireFree, orphanAfter: g.cfg.orphanAfter, log: g.cfg.log, registry: g.cfg.registry,
		wake: wake, store: g.store, ledger: g.ledger, replayed: g.blackBox.replayed,
	}
}

// runWorker runs until ctx is done.
func runWorker(ctx context.Context, w workerConfig) (err error) {
	if w.store == nil {
		closeAll, err := w.open(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeAll()) }()
	}
	metrics, err := projections.NewMetrics(w.registry)
	if err != nil {
		return err
	}
	worker, err := projections.NewWorker(projections.Config{
		RedisURL: w.redis, FreeExpired: w.expireFree, OrphanAfter: w.orphanAfter, Wake: w.wake, Logger: w.log, Metrics: metrics,
	}, afterReplay{w.store, w.replayed}, w.ledger)
	if err != nil {
		return configError("REDIS_URL: %w", err)
	}
	partitions, stop := context.WithCancel(ctx)
	defer stop()
	go keepPartitions(partitions, w.store, w.log)
	return worker.Run(ctx)
}

func (w *workerConfig) open(ctx context.Context) (closeAll func() error, err error) {
	if w.store, err = eventstore.OpenStore(ctx, w.database); err != nil {
		return nil, configError("DATABASE_URL: %w", err)
	}
	w.ledger, err = eventstore.OpenLedger(ctx, eventstore.Config{
		URL: w.database, Now: time.Now, Logger: w.log, Turned: ledgerMetrics(w.registry, w.store),
	})
	if err != nil {
		w.store.Close()
		return nil, configError("DATABASE_URL: %w", err)
	}
	return func() error {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
		defer cancel()
		err := w.ledger.Close(bounded)
		w.store.Close()
		return err
	}, nil
}

// serveMetrics answers /metrics and /health of a worker, where an address is given.
func serveMetrics(ctx context.Context, addr string, registry *prometheus.Registry, log *slog.Logger) (stop func() error, err error) {
	if addr == "" {
		return func() error { return nil }, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, cannotListen(addr, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	crowd := newCrowd(roomFor(descriptors()), registry, log)
	server := newServer(mux, crowd, log)
	go func() { _ = server.Serve(gate{Listener: listener, crowd: crowd}) }() // ends with Close
	return server.Close, nil
}

// keep closes overdue reservations and records what time changes, in a gateway; workers do too, and racing is
// harmless.
func (g *gateway) keep(ctx context.Context) {
	cfg := projections.Config{
		RedisURL: g.cfg.redis, FreeExpired: g.cfg.expireFree, OrphanAfter: g.cfg.orphanAfter, Logger: g.cfg.log,
	}
	var parts sync.WaitGroup
	for name, part := range map[string]interface{ Run(context.Context) error }{
		"reaper": projections.NewReaper(cfg, afterReplay{g.store, g.blackBox.replayed}, g.ledger), "ager": projections.NewAger(cfg, g.store, g.ledger),
	} {
		parts.Go(func() {
			if err := part.Run(ctx); err != nil && ctx.Err() == nil {
				g.cfg.log.ErrorContext(ctx, "a part ended", slog.String("part", name), slog.String("error", err.Error()))
			}
		})
	}
	parts.Wait()
}

// watch opens what shows the projections: the registers that policies look at, and how far they lag.
func (g *gateway) watch() (err error) {
	cfg := projections.Config{RedisURL: g.cfg.redis, Logger: g.cfg.log}
	if g.registers, err = projections.NewRegisters(cfg, g.store); err != nil {
		return err
	}
	g.lag, err = projections.NewLags(cfg, g.store)
	return err
}

func (g *gateway) lags(ctx context.Context) ([]admin.ProjectionLag, error) {
	lags, err := g.lag.Read(ctx)
	if err != nil {
		return nil, err
	}
	shown := make([]admin.ProjectionLag, len(lags))
	for i, l := range lags {
		shown[i] = admin.ProjectionLag(l)
	}
	return shown, nil
}

// usage sums the UsageLedger for admin.
type usage struct{ pool *pgxpool.Pool }

func (u usage) UsageSums(ctx context.Context, q admin.UsageQuery) (admin.UsageReport, error) {
	report, err := projections.UsageSums(ctx, u.pool, projections.UsageQuery{
		Tenant: q.Tenant, From: q.From, To: q.To, GroupBy: projections.Grouping(q.GroupBy), Zone: q.Zone,
	})
	shown := admin.UsageReport{Total: report.Total.USD, Presumed: report.Total.Presumed}
	for _, r := range report.Rows {
		shown.Rows = append(shown.Rows, admin.UsageSum(r))
	}
	return shown, err
}
