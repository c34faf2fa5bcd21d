package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/domain/pricing"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/policy"
	"github.com/budgetguard/budgetguard/proxy"
	"github.com/budgetguard/budgetguard/proxy/tokens"
)

// stage is a gateway in front of a provider that answers what was recorded.
type stage struct {
	// tenant is who all exchanges are played for. It has no budget: everything is metered.
	tenant   domain.TenantID
	store    *eventstore.Store
	ledger   *eventstore.Ledger
	server   *proxy.Server
	gateway  *httptest.Server
	provider *httptest.Server

	mu   sync.Mutex
	open map[string]*played // by request id
}

// openStage starts the gateway on a migrated database. The caller closes it.
func openStage(
	ctx context.Context, database string, catalogue []byte, tenant domain.TenantID,
) (*stage, error) {
	s := &stage{tenant: tenant, open: map[string]*played{}}
	s.provider = httptest.NewServer(http.HandlerFunc(s.answer))
	base, err := url.Parse(s.provider.URL + "/v1")
	if err != nil {
		return s, err
	}
	log := slog.New(slog.DiscardHandler)
	now := time.Now //nolint:forbidigo // the edge: this command lives in the machine's time
	if s.store, err = eventstore.OpenStore(ctx, database); err != nil {
		return s, err
	}
	cfg := eventstore.Config{URL: database, Now: now, Logger: log}
	s.ledger, err = eventstore.OpenLedger(ctx, cfg)
	if err != nil {
		return s, err
	}
	_, err = s.ledger.Do(ctx, tenant, domain.CreateTenant{Name: "replay", Actor: "replay"})
	if err != nil {
		return s, fmt.Errorf("make the tenant: %w", err)
	}
	prices, err := pricing.Parse(catalogue, "replay")
	if err != nil {
		return s, err
	}
	counter, err := tokens.New()
	if err != nil {
		return s, err
	}
	engine, err := policy.Load("") //nolint:contextcheck // the embedded one; nothing is waited for
	if err != nil {
		return s, err
	}

	s.server = proxy.New(proxy.Config{
		Upstream: base, UpstreamKey: "replay", Gateway: "replay", AuthOptional: true, Demo: tenant,
		ServiceTier: domain.TierDefault, Errors: proxy.DialectPlain, MaxBody: 64 << 20,
		ReservationTTL: time.Hour, UpstreamTimeout: time.Minute, DrainTimeout: time.Minute,
		Now: now, Logger: log,
	}, proxy.Deps{
		Ledger: s.ledger, Directory: s, Allowances: nothingLearnt{}, Prices: prices,
		Policy: engine, Tokens: counter, Metrics: proxy.NewMetrics(prometheus.NewRegistry()),
	})
	front := echo.New()
	s.server.Register(front) //nolint:contextcheck // each request brings its own
	s.gateway = httptest.NewServer(front)
	return s, nil
}

func (s *stage) close(ctx context.Context) error {
	var err error
	if s.gateway != nil {
		s.gateway.Close()
		err = s.server.Cut(ctx)
	}
	if s.ledger != nil {
		err = errors.Join(err, s.ledger.Close(ctx))
	}
	if s.store != nil {
		s.store.Close()
	}
	s.provider.Close()
	return err
}

// nothingLearnt forgets overruns, so that each exchange is held by the catalogue alone and the
// order in which they are played does not matter.
type nothingLearnt struct{}

func (nothingLearnt) Allowances(context.Context) (map[string]pricing.Allowance, error) {
	return map[string]pricing.Allowance{}, nil
}
func (nothingLearnt) RaiseAllowance(context.Context, string, pricing.Allowance) error { return nil }

// Credential finds no keys: the tenant is named by its id.
func (s *stage) Credential(context.Context, string) (proxy.Credential, error) {
	return proxy.Credential{}, domain.ErrKeyUnknown
}

// Tenant is the one tenant.
func (s *stage) Tenant(ctx context.Context, id domain.TenantID) (proxy.Tenant, error) {
	t, err := s.store.Tenant(ctx, id)
	return proxy.Tenant{Zone: t.Zone, RateLimit: t.RateLimit, EverKeyed: t.EverKeyed}, err
}

// Adopt makes no tenants.
func (s *stage) Adopt(context.Context, domain.TenantID) error { return domain.ErrTenantUnknown }

// answer is the provider.
func (s *stage) answer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	p := s.open[r.Header.Get("X-Request-Id")]
	s.mu.Unlock()
	if err != nil || p == nil {
		http.Error(w, "this request was never recorded", http.StatusTeapot)
		return
	}
	p.sent = string(body)
	for name, value := range p.record.headers() {
		w.Header().Set(name, value)
	}
	w.WriteHeader(p.record.Status)
	_, _ = io.WriteString(w, p.record.Response) // the gateway says whether it came
}
