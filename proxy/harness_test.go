package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/domain/pricing"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/mockupstream"
	"github.com/budgetguard/budgetguard/internal/testenv"
	"github.com/budgetguard/budgetguard/policy"
	"github.com/budgetguard/budgetguard/proxy"
	"github.com/budgetguard/budgetguard/proxy/ratelimit"
)

// books says how the settled sum and the mock's bill must agree when a test is over.
type books int

const (
	exact      books = iota // every answer was seen: not a nano-dollar apart
	atLeast                 // something was presumed or counted: the bill is not above what was settled
	unbilled                // the upstream is not the mock
	leftBehind              // a hold is meant to stay open
)

// setup is what a test wants to be different. The zero value is a gateway in front of the mock.
type setup struct {
	books    books
	config   func(*proxy.Config)
	deps     func(*proxy.Deps)
	upstream http.Handler // instead of the mock
	address  string       // instead of a recorder around it
	database string       // instead of a fresh one
	redis    string
	policy   string // Rego
	most     int    // tenants made on first use
}

// gateway is everything between a client and the provider, the provider included.
type gateway struct {
	tb       testing.TB
	url      string
	server   *proxy.Server
	store    *eventstore.Store
	ledger   *eventstore.Ledger
	registry *prometheus.Registry
	log      *logBuffer
	redis    *redis.Client
	*provider
}

// provider is the mock behind a recorder.
type provider struct {
	mock     *mockupstream.Server
	recorder *recorder
}

func newProvider(tb testing.TB, handler http.Handler) *provider {
	tb.Helper()
	mock, err := mockupstream.New(mockupstream.Config{Prices: pricing.Embedded(), Now: time.Now})
	check(tb, err)
	if handler == nil {
		handler = mock.Handler()
	}
	r := &recorder{handler: handler}
	web := httptest.NewServer(r)
	r.url = web.URL
	tb.Cleanup(web.Close)
	tb.Cleanup(func() { check(tb, mock.Change(func(s *mockupstream.Settings) { s.Hold = false })) })
	return &provider{mock: mock, recorder: r}
}

// settings changes the mock.
func (p *provider) settings(tb testing.TB, edit func(*mockupstream.Settings)) {
	tb.Helper()
	check(tb, p.mock.Change(edit))
}

func start(tb testing.TB, s setup) *gateway {
	tb.Helper()
	return startBehind(tb, s, newProvider(tb, s.upstream))
}

// startBehind is start with a provider that is there already.
func startBehind(tb testing.TB, s setup, p *provider) *gateway {
	tb.Helper()
	g := &gateway{tb: tb, provider: p, registry: prometheus.NewRegistry(), log: &logBuffer{}}
	if s.database == "" {
		s.database = testenv.Database(tb)
	}
	if s.redis == "" {
		s.redis = testenv.Redis(tb)
	}
	logger := slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	g.store, err = eventstore.OpenStore(tb.Context(), s.database)
	check(tb, err)
	g.ledger, err = eventstore.OpenLedger(tb.Context(), eventstore.Config{URL: s.database, Now: time.Now, Logger: logger})
	check(tb, err)
	options, err := redis.ParseURL(s.redis)
	check(tb, err)
	g.redis = redis.NewClient(options)
	engine, err := policy.Load(writePolicy(tb, s.policy))
	check(tb, err)

	cfg := g.configuration(tb, s, logger)
	deps := proxy.Deps{
		Ledger: g.ledger, Directory: &directory{store: g.store, ledger: g.ledger, most: s.most}, Balances: balances{g.store},
		Allowances: g.store,
		Limiter:    ratelimit.NewPatient(g.redis, time.Now, time.Minute), Prices: catalogue(), Policy: engine, Tokens: counter(),
		Metrics: proxy.NewMetrics(g.registry),
	}
	if s.deps != nil {
		s.deps(&deps)
	}
	g.server = proxy.New(cfg, deps)
	e := echo.New()
	g.server.Register(e)
	web := httptest.NewUnstartedServer(e)
	web.Config.ReadHeaderTimeout, web.Config.MaxHeaderBytes = 10*time.Second, 64<<10
	web.Config.ErrorLog = slog.NewLogLogger(logger.Handler(), slog.LevelError)
	web.Start()
	g.url = web.URL
	tb.Cleanup(func() { g.close(tb, s.books, web) })
	return g
}

func (g *gateway) configuration(tb testing.TB, s setup, logger *slog.Logger) proxy.Config {
	tb.Helper()
	if s.address == "" {
		s.address = g.recorder.url
	}
	base, err := url.Parse(s.address + "/v1")
	check(tb, err)
	cfg := proxy.Config{
		Upstream: base, UpstreamKey: upstreamKey, Gateway: "test", Demo: "demo", ServiceTier: domain.TierDefault,
		Errors: proxy.DialectAuto, MaxBody: 32 << 20, ReservationTTL: 15 * time.Minute, UpstreamTimeout: 30 * time.Second,
		DrainTimeout: 20 * time.Second, Now: time.Now, Logger: logger,
	}
	if s.config != nil {
		s.config(&cfg)
	}
	return cfg
}

// close ends the gateway and audits it. The order is that of a real shutdown.
func (g *gateway) close(tb testing.TB, b books, web *httptest.Server) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	check(tb, g.mock.Change(func(s *mockupstream.Settings) { s.Hold = false }))
	if !tb.Failed() {
		g.audit(tb, b)
	}
	http.DefaultClient.CloseIdleConnections()
	web.CloseClientConnections()
	web.Close()
	errs := errors.Join(g.server.Cut(ctx), g.ledger.Close(ctx), g.redis.Close())
	g.store.Close()
	check(tb, errs)
	for _, secret := range []string{upstreamKey, callersKey, prompt, "bgk_"} {
		if strings.Contains(g.log.String(), secret) {
			tb.Errorf("the log has %q in it:\n%s", secret, g.log.String())
		}
	}
	if tb.Failed() {
		tb.Logf("the log:\n%s", g.log.String())
	}
}

// The secrets and the prompt of the tests, none of which may show up in a log.
const (
	upstreamKey = "sk-upstream-secret"
	callersKey  = "sk-callers-secret"
	prompt      = "xylophones rarely dream"
)

// logBuffer collects what is logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// eventually waits for what another goroutine brings about.
func eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(time.Minute)
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline:
			tb.Fatalf("%s: never happened", what)
		}
	}
}
