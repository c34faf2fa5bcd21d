package projections

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	// readWithin bounds how long Redis may take to answer before Postgres is asked.
	readWithin = 50 * time.Millisecond
	// shunFor is how long Redis is not asked after it failed, so that an outage does not cost every request
	// the whole of readWithin.
	shunFor = time.Second
)

// errStale says that no worker vouches for the registers.
var errStale = errors.New("no worker has compared the registers lately")

// Registers reads balances: from Redis when it can vouch for them, else from Postgres. They may be a
// moment old; whether money may be spent is decided elsewhere. Safe for concurrent use.
type Registers struct {
	client  *redis.Client
	states  States
	metrics *Metrics
	shunned atomic.Int64 // until this time (microseconds) Redis is not asked
}

// NewRegisters makes a reader with its own connections. Close it.
func NewRegisters(cfg Config, states States) (*Registers, error) {
	cfg = cfg.withDefaults()
	options, err := cfg.options()
	if err != nil {
		return nil, err
	}
	// One try within the bound: Postgres is the second.
	options.MaxRetries = -1
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout, options.PoolTimeout = readWithin, readWithin, readWithin, readWithin
	return &Registers{client: redis.NewClient(options), states: states, metrics: cfg.Metrics}, nil
}

// Close disconnects.
func (r *Registers) Close() error { return wrap(r.client.Close(), "close registers") }

// Balances are the tenant's budgets with what their windows hold at now, in the order of their ids; a
// budget without a reservation in its present window has zeros. domain.ErrTenantUnknown if there is no
// such tenant; other errors are Postgres'.
func (r *Registers) Balances(ctx context.Context, tenant domain.TenantID, now time.Time) ([]domain.Balance, error) {
	if now.UnixMicro() >= r.shunned.Load() {
		state, err := r.read(ctx, tenant)
		if err == nil {
			r.metrics.fromCounter.Inc()
			return state.Balances(now), nil
		}
		if !errors.Is(err, errRegisters) && !errors.Is(err, errStale) {
			r.shunned.Store(now.Add(shunFor).UnixMicro())
		}
	}
	r.metrics.fromLedger.Inc()
	state, err := r.states.State(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("read balances of %s: %w", tenant, err)
	}
	return state.Balances(now), nil
}

func (r *Registers) read(ctx context.Context, tenant domain.TenantID) (domain.State, error) {
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	pipe := r.client.Pipeline()
	fresh := pipe.Exists(ctx, freshKey)
	hash := pipe.HGetAll(ctx, registersKey(tenant))
	if _, err := pipe.Exec(ctx); err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return domain.State{}, fmt.Errorf("read registers of %s: %w", tenant, err)
	}
	if fresh.Val() == 0 {
		return domain.State{}, errStale
	}
	return parseRegisters(tenant, hash.Val())
}
