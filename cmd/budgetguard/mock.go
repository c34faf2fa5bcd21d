package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/budgetguard/budgetguard/internal/mockupstream"
)

func (a *app) mockCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "mock-upstream", Short: "Run an OpenAI-compatible fake provider with an exact bill", Args: noArgs,
		Example: "  budgetguard mock-upstream --addr 127.0.0.1:4000\n  curl http://127.0.0.1:4000/bill",
	}
	known := bind(c, commonSettings(), []setting{{"PRICES_PATH", "", false, "JSON catalogue; default embedded"}})
	addr := c.Flags().String("addr", "127.0.0.1:4000", "address to listen on; port 0 picks a free one and prints it")
	journal := c.Flags().String("journal", "", "file that keeps the bill over restarts; none by default")
	c.RunE = func(c *cobra.Command, _ []string) error {
		v := &values{environ: a.environ, command: c, known: known}
		log := logger(v, a.stderr)
		if v.err != nil {
			return v.err
		}
		m, err := startMock(c.Context(), *addr, v.text("PRICES_PATH"), *journal, log)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(a.stdout, "mock upstream on %s\n", m.url)
		<-c.Context().Done()
		return m.stop(c.Context())
	}
	return c
}

// mock is a fake provider that runs in this process.
type mock struct {
	url     string
	server  *http.Server
	failed  chan error
	journal *os.File
}

func startMock(ctx context.Context, addr, pricesPath, journal string, log *slog.Logger) (m *mock, err error) {
	data, err := catalogueBytes(pricesPath)
	if err != nil {
		return nil, err
	}
	m = &mock{failed: make(chan error, 1)}
	cfg := mockupstream.Config{Prices: data, Now: time.Now, Logger: log}
	if journal != "" {
		//nolint:gosec // the operator names the file
		if m.journal, err = os.OpenFile(journal, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
			return nil, fmt.Errorf("open journal: %w", err)
		}
		cfg.Past, cfg.Journal = m.journal, m.journal
	}
	provider, err := mockupstream.New(cfg)
	if err != nil {
		return nil, configError("mock upstream: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, cannotListen(addr, err)
	}
	m.url = "http://" + listener.Addr().String()
	m.server = &http.Server{Handler: provider.Handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() { m.failed <- m.server.Serve(listener) }()
	return m, nil
}

func (m *mock) stop(ctx context.Context) error {
	const patience = time.Second
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if m.journal != nil {
		defer func() { _ = m.journal.Close() }() // each line was written when it was due
	}
	if err := m.server.Shutdown(bounded); err != nil {
		return m.server.Close()
	}
	if err := <-m.failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
