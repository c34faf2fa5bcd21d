package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/budgetguard/budgetguard/admin"
	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/migrations"
)

// reader is the store under the name that admin asks for.
type reader struct{ *eventstore.Store }

func (r reader) Events(ctx context.Context, tenant domain.TenantID, after int64, limit int) ([]domain.Recorded, error) {
	return r.Read(ctx, tenant, after, limit)
}

// named is the ledger, and refuses tenants whose name a budget variable could take for another's: they
// would stop the next start.
type named struct {
	*eventstore.Ledger
	store  *eventstore.Store
	limits limits
}

func (n named) Do(ctx context.Context, tenant domain.TenantID, c domain.Command) ([]domain.Recorded, error) {
	if creates(c) {
		if err := n.check(ctx, tenant); err != nil {
			return nil, err
		}
	}
	return n.Ledger.Do(ctx, tenant, c)
}

func (n named) check(ctx context.Context, tenant domain.TenantID) error {
	ids, err := tenantIDs(ctx, n.store)
	if err != nil {
		return err
	}
	if !slices.Contains(ids, tenant) {
		ids = append(ids, tenant)
	}
	if err := n.limits.check(ids); err != nil {
		return fmt.Errorf("%w: id: %w", domain.ErrInvalid, err)
	}
	return nil
}

func creates(c domain.Command) bool {
	all, ok := c.(domain.All)
	if !ok || len(all.Commands) == 0 {
		return false
	}
	_, creates := all.Commands[0].(domain.CreateTenant)
	return creates
}

// registerAdmin puts the admin API on the back listener, and health on both.
func (g *gateway) registerAdmin(front, back *echo.Echo) error {
	server, err := admin.New(
		admin.Config{AdminKey: g.cfg.adminKey, KeyPepper: g.cfg.proxy.Pepper, DefaultRateLimit: g.cfg.proxy.RateLimit},
		admin.Deps{
			Ledger: named{g.ledger, g.store, g.cfg.limits}, Reader: reader{g.store}, Usage: usage{g.store.Pool()}, Policy: g.policy,
			Defaults: func(t domain.TenantID) []domain.DefineBudget {
				budgets, _ := g.cfg.limits.budgets(t) // only chance could fail, and crypto/rand does not
				return budgets
			},
			Ready:       g.ready,
			Projections: g.lags,
			Metrics:     g.cfg.registry,
			Now:         time.Now, Rand: rand.Reader, Log: g.cfg.log,
		})
	if err != nil {
		return err
	}
	server.Register(back)
	server.RegisterHealth(back)
	if front != back {
		server.RegisterHealth(front)
	}
	return nil
}

// ready says what keeps the gateway from forwarding: a database that does not answer or is not migrated.
// It uses one connection of the store and no lock, whoever migrates meanwhile.
func (g *gateway) ready(ctx context.Context) error {
	missing, err := migrations.Missing(ctx, g.store.Pool())
	if err != nil {
		return err
	}
	if missing > 0 {
		return configError("%d migrations are missing; run: budgetguard migrate", missing)
	}
	return nil
}
