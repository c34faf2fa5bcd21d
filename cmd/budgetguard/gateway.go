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

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/domain/pricing"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/policy"
	"github.com/budgetguard/budgetguard/projections"
	"github.com/budgetguard/budgetguard/proxy"
	"github.com/budgetguard/budgetguard/proxy/ratelimit"
	"github.com/budgetguard/budgetguard/proxy/tokens"
)

// gatewayConfig is everything serve needs, read and checked before anything starts.
type gatewayConfig struct {
	database, redis string
	listen          string
	adminListen     string
	adminKey        string
	autoTenants     int
	policyPath      string
	pricesPath      string
	limits          limits
	expireFree      bool
	orphanAfter     time.Duration
	recorder        recorderConfig
	shutdown        time.Duration
	proxy           proxy.Config
	extractIP       echo.IPExtractor
	log             *slog.Logger
	committed       func()
	registry        *prometheus.Registry
	prepare         func(context.Context, *eventstore.Store, *eventstore.Ledger) error
}

const minAdminKey = 16

func readGatewayConfig(v *values, log *slog.Logger) (gatewayConfig, error) {
	tier, err := pricing.ParseTier(v.text("OPENAI_SERVICE_TIER"))
	v.check("OPENAI_SERVICE_TIER", err)
	origins, err := proxy.ParseOrigins(v.text("CORS_ORIGINS"))
	v.check("CORS_ORIGINS", err)
	v.refuseStrangers()
	c := gatewayConfig{
		database: v.needed("DATABASE_URL"), redis: v.needed("REDIS_URL"),
		listen:      net.JoinHostPort(v.text("HOST"), fmt.Sprint(v.number("PORT", 0, 65535))),
		adminListen: v.text("ADMIN_ADDR"), adminKey: v.text("ADMIN_API_KEY"),
		autoTenants: int(v.number("MAX_AUTO_TENANTS", 0, 1_000_000)),
		policyPath:  v.text("OPA_POLICY_PATH"), pricesPath: v.text("PRICES_PATH"),
		expireFree:  v.choice("EXPIRY_POLICY", "charge", "release") == "release",
		orphanAfter: orphanAfter(v), recorder: readRecorderConfig(v),
		shutdown: v.duration("SHUTDOWN_TIMEOUT", 0, time.Hour),
		proxy: proxy.Config{
			Upstream: v.base("OPENAI_BASE_URL"), UpstreamKey: v.text("OPENAI_KEY"), Gateway: gatewayName(),
			AuthOptional: v.choice("TENANT_AUTH", "required", "optional") == "optional", Demo: demoTenant,
			Pepper: []byte(v.text("KEY_PEPPER")), RateLimit: v.number("MAX_REQS_PER_MIN", 0, domain.MaxRateLimit),
			ServiceTier: tier, Errors: proxy.Dialect(v.choice("ERROR_FORMAT", "auto", "plain", "openai")),
			Origins:         origins,
			MaxBody:         v.number("MAX_BODY_BYTES", 1, 1<<30),
			MaxInFlight:     v.number("MAX_INFLIGHT_BODY_BYTES", 1<<20, 1<<40),
			ReservationTTL:  v.duration("RESERVATION_TTL", time.Second, 24*time.Hour),
			UpstreamTimeout: v.duration("UPSTREAM_TIMEOUT", time.Millisecond, 24*time.Hour),
			DrainTimeout:    v.duration("DRAIN_TIMEOUT", 0, 24*time.Hour),
			KeepAlive:       v.duration("STREAM_KEEPALIVE", 0, time.Hour),
			Now:             time.Now, Logger: log,
		},
		extractIP: extractIP(v), log: log, registry: prometheus.NewRegistry(),
	}
	if c.adminKey != "" && len(c.adminKey) < minAdminKey {
		v.check("ADMIN_API_KEY", fmt.Errorf("has fewer than %d characters; make one with: openssl rand -hex 24", minAdminKey))
	}
	if c.limits, err = limitsOf(v); err != nil && v.err == nil {
		v.err = err
	}
	return c, v.err
}

// gatewayName tells this process from others in events: the machine, and a piece of chance.
func gatewayName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "gateway"
	}
	return host + "-" + uuid.NewString()[:8]
}

// extractIP is the client's address: the connection's, or what a trusted proxy says it is. Echo's default
// would believe X-Forwarded-For from anybody.
func extractIP(v *values) echo.IPExtractor {
	prefixes := v.prefixes("TRUSTED_PROXIES")
	if len(prefixes) == 0 {
		return echo.ExtractIPDirect()
	}
	options := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, p := range prefixes {
		_, network, err := net.ParseCIDR(p.Masked().String())
		v.check("TRUSTED_PROXIES", err)
		options = append(options, echo.TrustIPRange(network))
	}
	return echo.ExtractIPFromXFFHeader(options...)
}

// gateway is a running serve: everything it opened, to be closed in turn.
type gateway struct {
	cfg       gatewayConfig
	store     *eventstore.Store
	ledger    *eventstore.Ledger
	redis     *redis.Client
	registers *projections.Registers
	lag       *projections.Lags
	policy    *policy.Engine
	blackBox  *blackBox
	session   *session
	proxy     *proxy.Server
	crowd     *crowd
	servers   []*http.Server
	listeners []net.Listener
}

// openGateway connects, checks and binds. It serves nothing yet.
func openGateway(ctx context.Context, cfg gatewayConfig) (g *gateway, err error) {
	g = &gateway{cfg: cfg, crowd: newCrowd(roomFor(descriptors()), cfg.registry, cfg.log)}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close(ctx))
		}
	}()
	if g.store, err = eventstore.OpenStore(ctx, cfg.database); err != nil {
		return g, configError("DATABASE_URL: %w", err)
	}
	if err = g.store.Ping(ctx); err != nil {
		return g, dependencyError("Postgres does not answer: %w\ncheck DATABASE_URL and that the server runs", err)
	}
	if g.redis, err = ratelimit.Open(cfg.redis); err != nil {
		return g, configError("REDIS_URL: %w", err)
	}
	g.ledger, err = eventstore.OpenLedger(ctx, eventstore.Config{
		URL: cfg.database, Now: time.Now, Logger: cfg.log, Committed: cfg.committed, Turned: ledgerMetrics(cfg.registry, g.store),
	})
	if err != nil {
		return g, configError("DATABASE_URL: %w", err)
	}
	if err = g.watch(); err != nil {
		return g, configError("REDIS_URL: %w", err)
	}
	cfg.registry.MustRegister(newLagCollector(g.lags))
	if g.policy, err = policy.Load(cfg.policyPath); err != nil {
		return g, configError("OPA_POLICY_PATH: %w", err)
	}
	if g.blackBox, err = g.openBlackBox(ctx); err != nil {
		return g, err
	}
	if g.proxy, err = g.openProxy(); err != nil {
		return g, err
	}
	if err = g.bind(ctx); err != nil {
		return g, err
	}
	// Last, so that a start that fails has changed no budget.
	if err = alignBudgets(ctx, g.store, g.ledger, cfg.limits, cfg.log); err != nil {
		return g, err
	}
	if cfg.prepare != nil {
		if err = cfg.prepare(ctx, g.store, g.ledger); err != nil {
			return g, err
		}
	}
	g.session = g.beginSession(ctx)
	g.blackBox.start(ctx)
	return g, nil
}

func (g *gateway) openProxy() (*proxy.Server, error) {
	prices, err := catalogue(g.cfg.pricesPath)
	if err != nil {
		return nil, err
	}
	if percent := surcharge(g.cfg.proxy.Upstream); percent > 0 {
		prices = prices.Raised(percent)
	}
	counter, err := tokens.New()
	if err != nil {
		return nil, fmt.Errorf("load vocabularies: %w", err)
	}
	cfg := g.cfg.proxy
	cfg.Authenticated = g.crowd.prove
	return proxy.New(cfg, proxy.Deps{
		Ledger:     g.ledger,
		Directory:  &directory{store: g.store, ledger: g.ledger, limits: g.cfg.limits, most: g.cfg.autoTenants},
		Balances:   g.registers,
		Allowances: g.store,
		Limiter:    ratelimit.New(g.redis, time.Now),
		Prices:     prices, Policy: g.policy, Tokens: counter, Metrics: proxy.NewMetrics(g.cfg.registry),
		Recorder: g.blackBox.recorder,
	}), nil
}

// bind opens the listeners, one for everything or one more for administration.
func (g *gateway) bind(ctx context.Context) error {
	front := newEcho(g.cfg.extractIP)
	front.HTTPErrorHandler = g.elsewhere
	g.proxy.Register(front)
	back := front
	addresses, engines := []string{g.cfg.listen}, []*echo.Echo{front}
	if g.cfg.adminListen != "" {
		back = newEcho(g.cfg.extractIP)
		addresses, engines = append(addresses, g.cfg.adminListen), append(engines, back)
	}
	if err := g.registerAdmin(front, back); err != nil {
		return err
	}
	for i, address := range addresses {
		listener, err := g.listen(ctx, address)
		if err != nil {
			return err
		}
		g.listeners = append(g.listeners, listener)
		g.servers = append(g.servers, newServer(engines[i], g.crowd, g.cfg.log))
	}
	return nil
}

// address is where the gateway listens, as a client would write it; adminAddress is that of /admin.
func (g *gateway) address() string      { return urlOf(g.listeners[0]) }
func (g *gateway) adminAddress() string { return urlOf(g.listeners[len(g.listeners)-1]) }

func urlOf(l net.Listener) string {
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return l.Addr().String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// serve answers until ctx is done, then finishes what runs within the shutdown's deadline.
func (g *gateway) serve(ctx context.Context) error {
	failed := make(chan error, len(g.servers))
	for i, s := range g.servers {
		go func() { failed <- s.Serve(g.listeners[i]) }()
	}
	go g.policy.Watch(ctx, ticks(ctx, policy.PollInterval), g.policyChanged)
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	g.cfg.log.InfoContext(ctx, "stopping: finishing open requests", slog.Duration("at_most", g.cfg.shutdown))
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.cfg.shutdown)
	defer cancel()
	for _, s := range g.servers {
		if err := s.Shutdown(bounded); err != nil {
			g.cfg.log.WarnContext(ctx, "requests are cut at the shutdown's deadline", slog.String("error", err.Error()))
			_ = s.Close() // no connection may bring another request; what runs is ended and presumed by close
		}
	}
	return nil
}

func (g *gateway) policyChanged(c policy.Change) {
	if c.Err != nil {
		g.cfg.log.Error("the new policy is refused, the old one stays", slog.String("error", c.Err.Error()))
		return
	}
	g.cfg.log.Info("policy in force", slog.String("revision", c.Revision))
}

// settleTimeout bounds what is still to be written once no request runs any more.
const settleTimeout = 10 * time.Second

// close ends what openGateway opened, in the order in which money flows: calls, settlements, database.
func (g *gateway) close(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for _, l := range g.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	for _, s := range g.servers {
		_ = s.Close() // ends a writer whose client does not read
	}
	if g.session != nil {
		g.blackBox.halt()
	}
	if g.proxy != nil {
		errs = append(errs, within(ctx, g.proxy.Cut))
	}
	if g.ledger != nil {
		errs = append(errs, within(ctx, g.closeLedger))
	}
	errs = append(errs, g.land(ctx, errors.Join(errs...) == nil))
	if g.redis != nil {
		errs = append(errs, g.redis.Close())
	}
	if g.registers != nil {
		errs = append(errs, g.registers.Close())
	}
	if g.lag != nil {
		errs = append(errs, g.lag.Close())
	}
	if g.store != nil {
		g.store.Close()
	}
	return errors.Join(errs...)
}

// closeLedger leaves what is in doubt to the recorder unless everything was written.
func (g *gateway) closeLedger(ctx context.Context) error {
	err := g.ledger.Close(ctx)
	if err == nil && g.blackBox != nil {
		g.blackBox.recorder.Drained()
	}
	return err
}

// land ends the flight recorder and the session, once nothing more is written to the ledger.
func (g *gateway) land(ctx context.Context, clean bool) error {
	var err error
	left := 0
	if g.blackBox != nil {
		left, err = g.blackBox.close(ctx)
	}
	if g.session != nil {
		g.session.end(ctx, clean && left == 0)
	}
	return err
}

// within gives one step of closing its own time, whatever the step before it took.
func within(ctx context.Context, step func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return step(bounded)
}

func newEcho(extract echo.IPExtractor) *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = extract
	e.HTTPErrorHandler = elsewhere
	e.Pre(bodyless)
	return e
}

// elsewhere answers what belongs to neither /v1 nor /admin where clients call: a path that is not there
// is most often a base URL without /v1, and the proxy says so in the form that its client reads.
func (g *gateway) elsewhere(err error, c echo.Context) {
	if errors.Is(err, echo.ErrNotFound) && !c.Response().Committed {
		g.proxy.NotFound(c.Response(), c.Request())
		return
	}
	elsewhere(err, c)
}

// elsewhere answers requests that no route takes.
func elsewhere(err error, c echo.Context) {
	status, text := http.StatusInternalServerError, "Internal error"
	var known *echo.HTTPError
	if errors.As(err, &known) {
		status, text = known.Code, http.StatusText(known.Code)
	}
	id := "req_" + uuid.NewString()
	c.Response().Header().Set("X-Request-Id", id)
	if !c.Response().Committed {
		_ = c.JSON(status, map[string]string{"error": text, "requestId": id}) // the client may have gone
	}
}

// ticks is a channel of a ticker that stops with ctx.
func ticks(ctx context.Context, every time.Duration) <-chan time.Time {
	ticker := time.NewTicker(every)
	context.AfterFunc(ctx, ticker.Stop)
	return ticker.C
}

// warn tells an operator at the start what could surprise later.
func (g *gateway) warn(ctx context.Context) {
	log := g.cfg.log
	if g.cfg.proxy.AuthOptional {
		log.WarnContext(ctx, "TENANT_AUTH=optional: anybody who reaches this address can spend as a tenant without keys")
	}
	if g.cfg.expireFree {
		log.WarnContext(ctx, "EXPIRY_POLICY=release: budgets are soft, a call that outlives its hold is not counted until it settles")
	}
	if g.cfg.adminKey == "" {
		log.WarnContext(ctx, "ADMIN_API_KEY is not set: /admin answers 503")
	}
	if len(g.cfg.limits.everybody) == 0 && len(g.cfg.limits.tenant) == 0 {
		log.WarnContext(ctx, "no budget variable is set: tenants without a budget of their own are metered, not limited")
	}
	owner, err := g.store.OwnsEvents(ctx)
	if err == nil && owner {
		log.WarnContext(ctx, "this role owns the table event and could drop its triggers: run serve under a role of its own (docs/operations.md)")
	}
}
