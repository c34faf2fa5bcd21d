package main

import (
	"context"
	"crypto/rand"
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

// registerAdmin puts the admin API on the back listener, and health on both.
func (g *gateway) registerAdmin(front, back *echo.Echo) error {
	server, err := admin.New(
		admin.Config{AdminKey: g.cfg.adminKey, KeyPepper: g.cfg.proxy.Pepper, DefaultRateLimit: g.cfg.proxy.RateLimit},
		admin.Deps{
			Ledger: g.ledger, Reader: reader{g.store}, Usage: usage{g.store.Pool()}, Policy: g.policy,
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

// ready tells what keeps the gateway from forwarding: a database that does not answer or is not migrated.
func (g *gateway) ready(ctx context.Context) error {
	if err := g.store.Ping(ctx); err != nil {
		return err
	}
	pending, err := migrations.Pending(ctx, g.cfg.database)
	if err == nil && pending > 0 {
		err = configError("%d migrations are missing", pending)
	}
	return err
}
