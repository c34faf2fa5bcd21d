package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/proxy"
)

// directory answers the proxy's questions about keys and tenants from the store, and makes tenants on
// first use where that is allowed.
type directory struct {
	store   *eventstore.Store
	ledger  *eventstore.Ledger
	limits  limits
	most    int // tenants made on first use
	adopter sync.Mutex
}

func (d *directory) Credential(ctx context.Context, hash string) (proxy.Credential, error) {
	k, err := d.store.KeyByHash(ctx, hash)
	return proxy.Credential{
		Tenant: k.Tenant, Key: k.Key, ExpiresAt: k.ExpiresAt, RevokedAt: k.RevokedAt, Suspended: k.Suspended,
		Models: k.Models, Tags: k.Tags, RequiredTags: k.RequiredTags,
	}, err
}

func (d *directory) Tenant(ctx context.Context, id domain.TenantID) (proxy.Tenant, error) {
	t, err := d.store.Tenant(ctx, id)
	return proxy.Tenant{Zone: t.Zone, RateLimit: t.RateLimit, EverKeyed: t.EverKeyed}, err
}

// adoptTimeout bounds the making of one tenant, which others wait for.
const adoptTimeout = 3 * time.Second

// Adopt makes a tenant that nobody has created. One at a time per gateway, so that a burst of new names
// cannot pass the bound by more than the number of gateways.
func (d *directory) Adopt(ctx context.Context, id domain.TenantID) error {
	ctx, cancel := context.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	d.adopter.Lock()
	defer d.adopter.Unlock()
	if _, err := d.store.Tenant(ctx, id); !errors.Is(err, domain.ErrTenantUnknown) {
		return err
	}
	ids, err := tenantIDs(ctx, d.store)
	if err != nil {
		return err
	}
	// A name that could be taken for another tenant's in a variable would stop the next start.
	if len(ids) >= d.most || d.limits.check(append(ids, id)) != nil {
		return domain.ErrTenantUnknown
	}
	return createTenant(ctx, d.ledger, d.limits, id, string(id))
}

// createTenant begins a tenant's stream with the environment's budgets or else the demo's. It does
// nothing for one that exists.
func createTenant(ctx context.Context, ledger *eventstore.Ledger, l limits, id domain.TenantID, name string) error {
	budgets, err := l.budgets(id)
	if err == nil && len(budgets) == 0 {
		var d domain.DefineBudget
		d, err = define(domain.Monthly, demoLimit, domain.SourceDemo)
		budgets = append(budgets, d)
	}
	if err != nil {
		return err
	}
	commands := []domain.Command{domain.CreateTenant{Name: name, Actor: "gateway"}}
	for _, b := range budgets {
		commands = append(commands, b)
	}
	_, err = ledger.Do(ctx, id, domain.All{Commands: commands})
	if errors.Is(err, domain.ErrTenantExists) {
		return nil
	}
	return err
}

// tenantIDs lists all tenants.
func tenantIDs(ctx context.Context, store *eventstore.Store) ([]domain.TenantID, error) {
	const page = 500
	var all []domain.TenantID
	for after := domain.TenantID(""); ; after = all[len(all)-1] {
		ids, err := store.TenantIDs(ctx, after, page)
		all = append(all, ids...)
		if err != nil || len(ids) < page {
			return all, err
		}
	}
}

// alignBudgets records, for every tenant, what the environment's budgets now differ in, and says so.
func alignBudgets(ctx context.Context, store *eventstore.Store, ledger *eventstore.Ledger, l limits, log *slog.Logger) error {
	all, err := tenantIDs(ctx, store)
	if err != nil {
		return err
	}
	if err := l.check(all); err != nil {
		return err
	}
	for _, name := range l.nameless(all) {
		log.WarnContext(ctx, "a budget variable names a tenant that does not exist (yet)", slog.String("tenant_in_variable", name))
	}
	for _, id := range all {
		if err := alignTenant(ctx, store, ledger, l, id, log); err != nil {
			return err
		}
	}
	return nil
}

func alignTenant(
	ctx context.Context, store *eventstore.Store, ledger *eventstore.Ledger, l limits, id domain.TenantID, log *slog.Logger,
) error {
	state, err := store.State(ctx, id)
	if err != nil {
		return err
	}
	d, err := l.differences(state)
	if err != nil {
		return err
	}
	if len(d.stays) > 0 {
		log.WarnContext(ctx, "budgets that no variable asks for any more stay in force; "+
			"retire them through the admin API: DELETE /admin/tenant/ID/budgets/BUDGET",
			slog.String("tenant", string(id)), slog.String("budgets", strings.Join(d.stays, ", ")))
	}
	if len(d.commands) == 0 {
		return nil
	}
	switch _, err := ledger.Do(ctx, id, domain.All{Commands: d.commands}); {
	case errors.Is(err, domain.ErrUnavailable): // a start that is tried again can succeed
		return dependencyError("budgets of tenant %s: %w", id, err)
	case err != nil:
		return configError("budgets of tenant %s: %w", id, err)
	}
	if len(d.set) > 0 {
		log.InfoContext(ctx, "budgets set by variables", slog.String("tenant", string(id)), slog.String("budgets", strings.Join(d.set, ", ")))
	}
	return nil
}
