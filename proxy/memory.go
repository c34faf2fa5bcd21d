package proxy

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	// credentialLife and tenantLife are how long a look-up is believed. Both are hints: the stream decides
	// whether a key or a tenant may spend, so a stale one can cost an answer, never money.
	credentialLife = 5 * time.Second
	tenantLife     = time.Second
	// maxRemembered bounds each memory; unknown keys are remembered too, so an attacker fills it at will.
	maxRemembered = 20_000
)

// memory remembers what the directory said for a moment.
type memory struct {
	now       func() time.Time
	directory Directory
	flights   singleflight.Group

	mu          sync.Mutex
	credentials map[string]remembered[Credential]
	tenants     map[domain.TenantID]remembered[Tenant]
}

type remembered[T any] struct {
	value T
	err   error
	until time.Time
}

func newMemory(now func() time.Time, d Directory) *memory {
	return &memory{now: now, directory: d, credentials: map[string]remembered[Credential]{}, tenants: map[domain.TenantID]remembered[Tenant]{}}
}

func (m *memory) credential(ctx context.Context, hash string) (Credential, error) {
	return recall(ctx, m, m.credentials, hash, "key:"+hash, credentialLife, func(ctx context.Context) (Credential, error) {
		return m.directory.Credential(ctx, hash)
	})
}

func (m *memory) tenant(ctx context.Context, id domain.TenantID) (Tenant, error) {
	return recall(ctx, m, m.tenants, id, "tenant:"+string(id), tenantLife, func(ctx context.Context) (Tenant, error) {
		return m.directory.Tenant(ctx, id)
	})
}

func (m *memory) forget(id domain.TenantID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.tenants, id)
}

// lookupTimeout bounds one question to the directory, which several requests may wait for.
const lookupTimeout = 3 * time.Second

func recall[K comparable, T any](ctx context.Context, m *memory, held map[K]remembered[T], key K, flight string, life time.Duration, ask func(context.Context) (T, error)) (T, error) {
	m.mu.Lock()
	r, ok := held[key]
	m.mu.Unlock()
	if ok && m.now().Before(r.until) {
		return r.value, r.err
	}
	answer, err, _ := m.flights.Do(flight, func() (any, error) {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupTimeout)
		defer cancel()
		value, err := ask(bounded)
		if err == nil || errors.Is(err, domain.ErrKeyUnknown) || errors.Is(err, domain.ErrTenantUnknown) {
			m.mu.Lock()
			defer m.mu.Unlock()
			if len(held) >= maxRemembered {
				clear(held)
			}
			held[key] = remembered[T]{value: value, err: err, until: m.now().Add(life)}
		}
		return value, err
	})
	value, _ := answer.(T)
	return value, err
}
