package proxy_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/audit"
	"github.com/budgetguard/budgetguard/internal/apikey"
	"github.com/budgetguard/budgetguard/proxy"
)

// directory answers the proxy from the store, as cmd's does.
type directory struct {
	store   *eventstore.Store
	ledger  *eventstore.Ledger
	most    int
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

func (d *directory) Adopt(ctx context.Context, id domain.TenantID) error {
	d.adopter.Lock()
	defer d.adopter.Unlock()
	ids, err := d.store.TenantIDs(ctx, "", d.most)
	if err != nil {
		return err
	}
	if len(ids) >= d.most {
		return domain.ErrTenantUnknown
	}
	_, err = d.ledger.Do(ctx, id, domain.CreateTenant{Name: string(id), Actor: "gateway"})
	if err != nil && !errors.Is(err, domain.ErrTenantExists) {
		return err
	}
	_, err = d.ledger.Do(ctx, id, domain.DefineBudget{ID: "bud_1", Period: domain.Monthly, Limit: 50_000_000, Source: domain.SourceDemo, Actor: "gateway"})
	return err
}

// balances reads what policies see.
type balances struct{ store *eventstore.Store }

func (b balances) Balances(ctx context.Context, tenant domain.TenantID, now time.Time) ([]domain.Balance, error) {
	s, err := b.store.State(ctx, tenant)
	return s.Balances(now), err
}

func writePolicy(tb testing.TB, rego string) string {
	tb.Helper()
	if rego == "" {
		return ""
	}
	path := filepath.Join(tb.TempDir(), "policy.rego")
	check(tb, os.WriteFile(path, []byte(rego), 0o600))
	return path
}

func usd(s string) domain.Amount {
	a, err := domain.ParseAmount(s)
	if err != nil {
		panic(err)
	}
	return a
}

// do carries out a command that must succeed.
func (g *gateway) do(tenant domain.TenantID, c domain.Command) {
	g.tb.Helper()
	_, err := g.ledger.Do(g.tb.Context(), tenant, c)
	check(g.tb, err)
}

// tenant makes a tenant with a monthly budget, none where the limit is empty, and answers a key of it.
func (g *gateway) tenant(id domain.TenantID, limit string) string {
	g.tb.Helper()
	g.keyless(id, limit)
	return g.key(id, domain.IssueKey{})
}

func (g *gateway) keyless(id domain.TenantID, limit string) {
	g.tb.Helper()
	g.do(id, domain.CreateTenant{Name: string(id), Actor: "admin"})
	if limit != "" {
		g.budget(id, domain.Monthly, limit)
	}
}

func (g *gateway) budget(id domain.TenantID, p domain.Period, limit string) {
	g.tb.Helper()
	g.do(id, domain.DefineBudget{ID: domain.BudgetID("bud_" + p), Period: p, Limit: usd(limit), Source: domain.SourceAdmin, Actor: "admin"})
}

// key issues a key as c says; its id and hash are filled in where they are missing.
func (g *gateway) key(id domain.TenantID, c domain.IssueKey) string {
	g.tb.Helper()
	k, err := apikey.New(rand.Reader)
	check(g.tb, err)
	if c.ID == "" {
		c.ID, err = apikey.NewKeyID(rand.Reader)
		check(g.tb, err)
	}
	if c.Hash == "" {
		c.Hash = apikey.Hash(nil, k.Secret())
	}
	c.Prefix, c.Actor = k.Prefix(), "admin"
	g.do(id, c)
	return k.Secret()
}

// rotate gives a key a new secret.
func (g *gateway) rotate(tenant domain.TenantID, id domain.KeyID, grace time.Duration) string {
	g.tb.Helper()
	k, err := apikey.New(rand.Reader)
	check(g.tb, err)
	g.do(tenant, domain.RotateKey{ID: id, Prefix: k.Prefix(), Hash: apikey.Hash(nil, k.Secret()), Grace: grace, Actor: "admin"})
	return k.Secret()
}

// events are all of a tenant.
func (g *gateway) events(id domain.TenantID) []domain.Event {
	g.tb.Helper()
	records, err := g.store.Read(context.WithoutCancel(g.tb.Context()), id, 0, 1_000_000)
	check(g.tb, err)
	events := make([]domain.Event, 0, len(records))
	for _, r := range records {
		events = append(events, r.Event)
	}
	return events
}

// of are those events of a tenant that have one type, once no hold is open any more.
func of[E domain.Event](g *gateway, id domain.TenantID) []E {
	g.tb.Helper()
	g.quiet()
	var found []E
	for _, e := range g.events(id) {
		if e, ok := e.(E); ok {
			found = append(found, e)
		}
	}
	return found
}

// settled is the one settlement of a tenant.
func (g *gateway) settled(id domain.TenantID) domain.UsageSettled {
	g.tb.Helper()
	all := of[domain.UsageSettled](g, id)
	if len(all) != 1 {
		g.tb.Fatalf("tenant %s has %d settlements, want one; log:\n%s", id, len(all), g.log)
	}
	return all[0]
}

// released is the one release of a tenant.
func (g *gateway) released(id domain.TenantID) domain.ReservationReleased {
	g.tb.Helper()
	all := of[domain.ReservationReleased](g, id)
	if len(all) != 1 {
		g.tb.Fatalf("tenant %s has %d releases, want one; log:\n%s", id, len(all), g.log)
	}
	return all[0]
}

func (g *gateway) openHolds() int64 {
	n, err := g.store.OpenHolds(context.WithoutCancel(g.tb.Context()))
	check(g.tb, err)
	return n
}

// quiet waits until no hold is open.
func (g *gateway) quiet() {
	g.tb.Helper()
	eventually(g.tb, "the last hold closes", func() bool {
		n, err := g.store.OpenHolds(context.WithoutCancel(g.tb.Context()))
		return err == nil && n == 0
	})
}

// charges is what was settled of all tenants, and whether any window is above its limit by more than the
// recorded overruns.
func (g *gateway) charges(tb testing.TB) domain.Amount {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	ids, err := g.store.TenantIDs(ctx, "", 1_000_000)
	check(tb, err)
	var sum domain.Amount
	for _, id := range ids {
		var overrun domain.Amount
		for _, e := range g.events(id) {
			if s, ok := e.(domain.UsageSettled); ok {
				sum, overrun = sum+s.Charged, overrun+s.Overrun
			}
		}
		s, err := g.store.State(ctx, id)
		check(tb, err)
		for _, a := range s.Accounts {
			if a.Use() > a.Limit+overrun {
				tb.Errorf("tenant %s: %s of %s are used", id, a.Use(), a.Limit)
			}
		}
	}
	return sum
}

// audit is what must hold after every test.
func (g *gateway) audit(tb testing.TB, b books) {
	tb.Helper()
	if b != leftBehind {
		g.quiet()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Minute)
	defer cancel()
	charged, bill := g.charges(tb), domain.Amount(g.mock.Bill(time.Time{}, time.Time{}).TotalNano)
	if b == exact && charged != bill || b == atLeast && charged < bill {
		tb.Errorf("%s were settled, and the provider bills %s", charged, bill)
	}
	report, err := audit.Verify(ctx, g.store.Pool(), audit.Options{})
	check(tb, err)
	check(tb, report.Err())
}
