package projections

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	// lagTenants bounds how many streams a report looks at, lagSamples how many late ones it asks for the
	// age of their next event.
	lagTenants = 50_000
	lagSamples = 100
)

//go:embed queries/measure_outbox.sql
var measureOutboxSQL string

//go:embed queries/oldest_event.sql
var oldestEventSQL string

// Lag is how far something is behind the streams. Name is "relay", "usage" or "counters".
type Lag struct {
	Name string
	// Events and Tenants are still to be done. Age is how long ago the oldest of the events happened, by
	// the database's clock; of many late tenants some are asked.
	Events, Tenants int64
	Age             time.Duration
	// Err says why nothing could be measured.
	Err error
}

// LagStore is what a report of lags reads.
type LagStore interface {
	Heads
	Database
}

// Lags measures how far the relay and the projections are behind, from any process. Safe for concurrent
// use.
type Lags struct {
	client *redis.Client
	store  LagStore
}

// NewLags makes a reader with its own connection to Redis. Close it.
func NewLags(cfg Config, store LagStore) (*Lags, error) {
	client, err := cfg.withDefaults().client()
	if err != nil {
		return nil, err
	}
	return &Lags{client: client, store: store}, nil
}

// Close disconnects from Redis.
func (l *Lags) Close() error { return wrap(l.client.Close(), "close lags") }

// Read measures now. It is an error only where Postgres does not answer; a lag of Redis that cannot be
// measured says so itself.
func (l *Lags) Read(ctx context.Context) ([]Lag, error) {
	relay, err := outboxLag(ctx, l.store.Pool())
	if err != nil {
		return nil, err
	}
	pool := l.store.Pool()
	usage, err := l.measure(ctx, usageName, func(ctx context.Context, tenants []domain.TenantID) (map[domain.TenantID]int64, error) {
		return usageCursors(ctx, pool, tenants)
	})
	if err != nil {
		return nil, err
	}
	counters, err := l.measure(ctx, countersName, func(ctx context.Context, tenants []domain.TenantID) (map[domain.TenantID]int64, error) {
		return registerVersions(ctx, l.client, tenants)
	})
	if err != nil {
		counters = Lag{Name: countersName, Err: err}
	}
	return []Lag{relay, usage, counters}, nil
}

func outboxLag(ctx context.Context, pool *pgxpool.Pool) (Lag, error) {
	lag := Lag{Name: "relay"}
	var micros int64
	if err := pool.QueryRow(ctx, measureOutboxSQL).Scan(&lag.Events, &lag.Tenants, &micros); err != nil {
		return lag, fmt.Errorf("measure outbox: %w", err)
	}
	lag.Age = time.Duration(micros) * time.Microsecond
	return lag, nil
}

func (l *Lags) measure(ctx context.Context, name string, cursors func(context.Context, []domain.TenantID) (map[domain.TenantID]int64, error)) (Lag, error) {
	lag := Lag{Name: name}
	late, next := make([]string, 0, lagSamples), make([]int64, 0, lagSamples)
	after := domain.TenantID("")
	for range lagTenants / headsPage {
		heads, err := l.store.Heads(ctx, after, headsPage)
		if err != nil {
			return lag, err
		}
		if len(heads) == 0 {
			break
		}
		after = heads[len(heads)-1].Tenant
		tenants := make([]domain.TenantID, len(heads))
		for i, h := range heads {
			tenants[i] = h.Tenant
		}
		at, err := cursors(ctx, tenants)
		if err != nil {
			return lag, err
		}
		for _, h := range heads {
			if at[h.Tenant] >= h.Version {
				continue
			}
			lag.Tenants++
			lag.Events += h.Version - at[h.Tenant]
			if len(late) < lagSamples {
				late, next = append(late, string(h.Tenant)), append(next, at[h.Tenant]+1)
			}
		}
	}
	if len(late) == 0 {
		return lag, nil
	}
	var micros int64
	if err := l.store.Pool().QueryRow(ctx, oldestEventSQL, late, next).Scan(&micros); err != nil {
		return lag, fmt.Errorf("measure the age of %s: %w", name, err)
	}
	lag.Age = time.Duration(micros) * time.Microsecond
	return lag, nil
}
