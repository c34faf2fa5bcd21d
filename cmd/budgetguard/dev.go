package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/embedded"
	"github.com/budgetguard/budgetguard/migrations"
)

func (a *app) devCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "dev", Short: "Run everything on this machine: gateway, worker, Postgres, Redis and, without a key, a mock provider", Args: noArgs,
		Long: "Run everything on this machine, on 127.0.0.1. Postgres and Redis are real and private; their data stays in --data.\nWithout OPENAI_KEY and OPENAI_BASE_URL a mock provider answers. Not for production: serve and worker are.",
	}
	settings := gatewaySettings()
	for i := range settings {
		switch settings[i].name {
		case "HOST":
			settings[i].initial = "127.0.0.1"
		case "TENANT_AUTH":
			settings[i].initial = "optional"
		}
	}
	known := bind(c, commonSettings(), settings)
	for _, s := range storageSettings() {
		known[s.name] = s // without a flag: dev has servers of its own
	}
	data := c.Flags().String("data", ".budgetguard", "directory for the data, the logs and dev.env")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := a.environ.readDotEnv(".env"); err != nil {
			return err
		}
		v := &values{environ: a.environ, command: c, known: known}
		dir, err := filepath.Abs(*data)
		if err != nil {
			return err
		}
		d := &dev{app: a, dir: dir, values: v}
		return errors.Join(d.run(c.Context()), d.stop(c.Context()))
	}
	return c
}

// dev is everything that runs on a developer's machine.
type dev struct {
	*app
	dir      string
	values   *values
	log      *slog.Logger
	note     devNote
	postgres *embedded.Server
	redis    *embedded.Server
	mock     *mock
	gateway  *gateway
}

func (d *dev) run(ctx context.Context) error {
	d.log = logger(d.values, d.stderr)
	if d.values.err != nil {
		return d.values.err
	}
	if err := d.startServers(ctx); err != nil {
		return err
	}
	if err := d.startMock(ctx); err != nil {
		return err
	}
	d.chooseAdminKey()
	d.chooseRecorder()
	cfg, err := readGatewayConfig(d.values, d.log)
	if err != nil {
		return err
	}
	wake := make(chan struct{}, 1)
	cfg.committed = func() {
		select {
		case wake <- struct{}{}:
		default: // the relay has a wake-up waiting already
		}
	}
	cfg.prepare = func(ctx context.Context, store *eventstore.Store, ledger *eventstore.Ledger) error {
		return d.prepareDemo(ctx, store, ledger, cfg)
	}
	g, err := openGateway(ctx, cfg)
	if err != nil {
		return err // openGateway has closed what it opened
	}
	d.gateway = g
	running, stop := context.WithCancel(ctx)
	defer stop()
	worked := make(chan error, 1)
	go func() { worked <- runWorker(running, d.gateway.workerConfig(wake)) }()
	d.note.gateway = d.gateway.address()
	if err := d.note.write(d.dir); err != nil {
		return err
	}
	if err := d.banner(ctx); err != nil {
		return err
	}
	err = d.gateway.serve(ctx)
	stop()
	return errors.Join(err, <-worked)
}

// startServers starts Postgres and Redis and brings the schema up.
func (d *dev) startServers(ctx context.Context) error {
	var err error
	if d.note, err = readDevNote(d.dir); err != nil {
		return err
	}
	d.progress("starting Postgres and Redis in %s", d.dir)
	cfg := embedded.Config{Dir: d.dir, Durable: true, Log: d.log}
	if d.postgres, err = embedded.StartPostgres(ctx, cfg); err != nil {
		return err
	}
	if d.redis, err = embedded.StartRedis(ctx, cfg); err != nil {
		return err
	}
	d.note.database, d.note.redis = d.postgres.URL(), d.redis.URL()
	// Never a database that happens to be in the environment.
	d.environ.set("DATABASE_URL", d.note.database)
	d.environ.set("REDIS_URL", d.note.redis)
	if _, err = migrations.Up(ctx, d.note.database); err != nil {
		return err
	}
	store, err := eventstore.OpenStore(ctx, d.note.database)
	if err != nil {
		return err
	}
	defer store.Close()
	_, err = store.PartitionsAhead(ctx, monthsAhead)
	return err
}

// startMock starts the fake provider where the environment names no real one.
func (d *dev) startMock(ctx context.Context) error {
	_, base, err := d.environ.lookup("OPENAI_BASE_URL")
	d.values.check("OPENAI_BASE_URL", err)
	if d.values.text("OPENAI_KEY") != "" || base || d.values.command.Flags().Changed("openai-base-url") {
		d.note.mock = ""
		return d.values.err
	}
	if d.mock, err = startMock(ctx, "127.0.0.1:0", d.values.text("PRICES_PATH"), filepath.Join(d.dir, "mock-bill.log"), d.log); err != nil {
		return err
	}
	d.note.mock = d.mock.url
	d.environ.set("OPENAI_BASE_URL", d.mock.url+"/v1")
	d.environ.set("OPENAI_KEY", "mock")
	return nil
}

// chooseRecorder puts the flight recorder beside the other data, unless it was put somewhere else.
func (d *dev) chooseRecorder() {
	if d.values.isDefault("RECORDER_DIR") {
		d.environ.set("RECORDER_DIR", filepath.Join(d.dir, "recorder"))
	}
}

// chooseAdminKey keeps the key of the last run, or makes one.
func (d *dev) chooseAdminKey() {
	if own := d.values.text("ADMIN_API_KEY"); own != "" {
		d.note.adminKey = own
		return
	}
	if d.note.adminKey == "" {
		random := make([]byte, 24)
		_, _ = rand.Read(random) // never fails (crypto/rand, since Go 1.24)
		d.note.adminKey = "bga_" + hex.EncodeToString(random)
	}
	d.environ.set("ADMIN_API_KEY", d.note.adminKey)
}

// prepareDemo makes the demo tenant, gives it a budget if it has none, and a key if the last run's is
// not at hand.
func (d *dev) prepareDemo(ctx context.Context, store *eventstore.Store, ledger *eventstore.Ledger, cfg gatewayConfig) error {
	state, err := store.State(ctx, demoTenant)
	if err != nil && !errors.Is(err, domain.ErrTenantUnknown) {
		return err
	}
	if !state.Exists() || d.note.demoKey == "" {
		d.note.demoKey, err = seedDemo(ctx, ledger, cfg.limits, cfg.proxy.Pepper)
		return err
	}
	if len(state.Budgets) > 0 {
		return nil
	}
	budget, err := define(domain.Monthly, demoLimit, domain.SourceDemo)
	if err == nil {
		_, err = ledger.Do(ctx, demoTenant, budget)
	}
	return err
}

// banner says where everything is and which lines to paste.
func (d *dev) banner(ctx context.Context) error {
	state, err := d.gateway.store.State(ctx, demoTenant)
	if err != nil {
		return err
	}
	provider := d.note.mock + "  (a mock: answers are invented, the bill at " + d.note.mock + "/bill is exact)"
	if d.note.mock == "" {
		provider = d.gateway.cfg.proxy.Upstream.String()
	}
	back := d.gateway.adminAddress()
	_, err = fmt.Fprintf(d.stdout, bannerText, version, d.note.gateway, back, back, provider,
		filepath.Join(d.dir, devNoteFile), budgetLines(state, time.Now()), d.note.gateway, d.note.gateway, d.note.demoKey,
		d.note.gateway, back, d.note.adminKey, back, d.note.adminKey, raisedLimit(state))
	return err
}

const bannerText = `
BudgetGuard %s, for development: nothing here is for production

  Gateway    %s/v1     (point any OpenAI client here)
  API docs   %s/docs
  Metrics    %s/metrics
  Provider   %s
  Secrets    %s

The tenant "demo" has
%s
Try it, in a second terminal:

  curl -X POST -H "Content-Type: application/json" -H "X-Tenant-Id: demo" \
    -d '{"model":"gpt-3.5-turbo","messages":[{"role":"user","content":"hi"}]}' \
    %s/v1/chat/completions

  curl -X POST %s/v1/completions -H "Content-Type: application/json" \
    -H "X-Tenant-Id: demo" -H "X-API-Key: %s" -d '{"model":"gpt-3.5-turbo","prompt":"hello"}'

Spend until the budget stops you (402 within ten calls):

  for i in 1 2 3 4 5 6 7 8 9 10; do curl -si -X POST -H "Content-Type: application/json" -H "X-Tenant-Id: demo" \
    -d '{"model":"gpt-3.5-turbo","messages":[{"role":"user","content":"hi"}]}' \
    %s/v1/chat/completions | grep -Ei '^HTTP|^x-budgetguard-(cost|remaining)|"error"'; done

What it cost, and how to raise the limit:

  curl %s/admin/tenant/demo -H "X-Admin-Key: %s"
  curl -X POST %s/admin/tenant/demo/budgets -H "Content-Type: application/json" \
    -H "X-Admin-Key: %s" -d '{"period":"monthly","limitUsd":"%s"}'

Stop with Ctrl-C; everything is there again after the next start.
`

// budgetLines shows what each budget has left.
func budgetLines(state domain.State, now time.Time) string {
	text := ""
	for _, b := range state.Balances(now) {
		name := string(b.Budget.Period)
		if b.Budget.Scope != (domain.Scope{}) {
			name += " of " + b.Budget.Scope.String()
		}
		text += fmt.Sprintf("  %-10s %s of %s USD left  (%s spent, %s reserved)\n", name, b.Available(), b.Limit, b.Settled, b.Held)
	}
	if text == "" {
		return "  no budget: it is metered, not limited\n"
	}
	return text
}

// raisedLimit is a limit for the printed line that is above what the monthly budget has now.
func raisedLimit(state domain.State) string {
	const raise domain.Amount = 1_000_000_000
	for _, b := range state.Budgets {
		if b.Period == domain.Monthly && b.Scope == (domain.Scope{}) && b.Limit <= domain.MaxAmount-raise {
			return (b.Limit + raise).String()
		}
	}
	return raise.String()
}

func (d *dev) progress(format string, args ...any) {
	_, _ = fmt.Fprintf(d.stderr, format+"\n", args...)
}

// stop ends everything, servers last.
func (d *dev) stop(ctx context.Context) error {
	const patience = 30 * time.Second
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	var errs []error
	if d.gateway != nil {
		errs = append(errs, d.gateway.close(bounded))
	}
	if d.mock != nil {
		errs = append(errs, d.mock.stop(bounded))
	}
	if d.redis != nil {
		errs = append(errs, d.redis.Stop(bounded))
	}
	if d.postgres != nil {
		errs = append(errs, d.postgres.Stop(bounded))
	}
	return errors.Join(errs...)
}
