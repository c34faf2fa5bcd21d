package projections

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	// countersName is the projection, and its consumer group when it runs alone.
	countersName = "counters"
	// refills is how many tenants are read from Postgres at once, which has other readers too.
	refills = 4
	// freshKey says that a worker lately compared the registers with the streams and found them right.
	freshKey = "bg:{counters}:fresh"
	// freshPolls is for how many comparisons that holds: one may fail or be late.
	freshPolls = 5

	replyApplied   = "applied"
	replyDuplicate = "duplicate"
	replyGap       = "gap"
)

//go:embed queries/apply_registers.lua
var applyRegistersLua string

//go:embed queries/replace_registers.lua
var replaceRegistersLua string

// counters keeps each tenant's balances as registers in Redis; see the package's documentation.
type counters struct {
	client    *redis.Client
	states    States
	events    querier // of the ledger's database, which alone is believed
	metrics   *Metrics
	fresh     time.Duration
	applying  *redis.Script
	replacing *redis.Script

	// inspected is the tenant up to which values were compared, in the order of ids.
	inspected  domain.TenantID
	inspecting *redis.Script
	heads      Heads
	log        *slog.Logger
}

// CountersStore is what the projector of the registers reads.
type CountersStore interface {
	Heads
	States
	Database
}

// NewCounters makes the projector of the registers. Run it once: it disconnects at its end.
func NewCounters(cfg Config, store CountersStore) (*Projector, error) {
	cfg = cfg.withDefaults()
	client, err := cfg.client()
	if err != nil {
		return nil, err
	}
	return newProjector(cfg, store, &counters{
		client: client, states: store, events: store.Pool(), metrics: cfg.Metrics, fresh: freshPolls * cfg.Poll,
		applying: redis.NewScript(applyRegistersLua), replacing: redis.NewScript(replaceRegistersLua),
		inspecting: redis.NewScript(inspectRegistersLua), heads: store, log: cfg.Logger,
	}), nil
}

func (c *counters) close() error { return wrap(c.client.Close(), "disconnect registers") }

func (c *counters) name() string { return countersName }

func (c *counters) cursors(ctx context.Context, tenants []domain.TenantID) (map[domain.TenantID]int64, error) {
	return registerVersions(ctx, c.client, tenants)
}

func registerVersions(ctx context.Context, client *redis.Client, tenants []domain.TenantID) (map[domain.TenantID]int64, error) {
	pipe := client.Pipeline()
	replies := make([]*redis.StringCmd, len(tenants))
	for i, tenant := range tenants {
		replies[i] = pipe.HGet(ctx, registersKey(tenant), versionField)
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) && !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return nil, fmt.Errorf("read register versions: %w", err)
	}
	versions := make(map[domain.TenantID]int64, len(tenants))
	for i, tenant := range tenants {
		version, err := replies[i].Int64()
		if err == nil { // no hash, or one that is not ours: it is filled again
			versions[tenant] = version
		}
	}
	return versions, nil
}

// run is a stretch of one tenant's stream without holes.
type run struct {
	tenant      domain.TenantID
	after, upto int64
	events      []domain.Recorded
}

// apply reads from Postgres what the stream named and sends each stretch to its tenant's hash in one script,
// all in one round trip. Tenants with a gap are filled from Postgres at once.
func (c *counters) apply(ctx context.Context, batch []entry) (failures, error) {
	held, err := heldFor(ctx, c.events, batch)
	if err != nil {
		return nil, err
	}
	runs, unreadable := stretches(held)
	gaps := map[domain.TenantID]bool{}
	for _, tenant := range unreadable {
		gaps[tenant] = true // the balances can be had without reading the event
	}
	replies, err := c.send(ctx, runs)
	if err != nil {
		return nil, err
	}
	for i, reply := range replies {
		c.metrics.applied.WithLabelValues(countersName, reply).Add(float64(len(runs[i].events)))
		if reply == replyGap {
			gaps[runs[i].tenant] = true
		}
	}
	return c.refill(ctx, slices.Collect(maps.Keys(gaps)))
}

// stretches sorts what was received into runs. A tenant of which an event cannot be read is named, and
// its run ends before it.
func stretches(batch []entry) (runs []run, unreadable []domain.TenantID) {
	sorted := slices.Clone(batch)
	slices.SortFunc(sorted, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.version, b.version))
	})
	for _, e := range sorted {
		last := len(runs) - 1
		follows := last >= 0 && runs[last].tenant == e.tenant
		if follows && e.version == runs[last].upto {
			continue // received twice
		}
		r, err := e.recorded()
		if err != nil {
			unreadable = append(unreadable, e.tenant)
			continue
		}
		if !follows || e.version != runs[last].upto+1 {
			runs = append(runs, run{tenant: e.tenant, after: e.version - 1})
			last++
		}
		runs[last].upto = e.version
		runs[last].events = append(runs[last].events, r)
	}
	return runs, unreadable
}

func (c *counters) send(ctx context.Context, runs []run) ([]string, error) {
	if len(runs) == 0 {
		return nil, nil
	}
	pipe := c.client.Pipeline()
	commands := make([]*redis.Cmd, len(runs))
	arguments := make([][]any, len(runs))
	for i, r := range runs {
		arguments[i] = r.arguments()
		commands[i] = c.applying.EvalSha(ctx, pipe, []string{registersKey(r.tenant)}, arguments[i]...)
	}
	if _, err := pipe.Exec(ctx); err != nil && !redis.HasErrorPrefix(err, "NOSCRIPT") {
		return nil, fmt.Errorf("apply registers: %w", err)
	}
	replies := make([]string, len(runs))
	for i, r := range runs {
		reply, err := commands[i].Text()
		if redis.HasErrorPrefix(err, "NOSCRIPT") { // a Redis that was started anew
			reply, err = c.applying.Eval(ctx, c.client, []string{registersKey(r.tenant)}, arguments[i]...).Text()
		}
		if err != nil {
			return nil, fmt.Errorf("apply registers of %s: %w", r.tenant, err)
		}
		replies[i] = reply
	}
	return replies, nil
}

func (r run) arguments() []any {
	ops, prune := operations(r.events)
	cutoff := int64(0)
	if !prune.IsZero() {
		cutoff = max(0, prune.UnixMicro())
	}
	args := make([]any, 0, 3+4*len(ops))
	args = append(args, r.after, r.upto, cutoff)
	for _, o := range ops {
		args = append(args, o.name, o.field, o.version, o.value)
	}
	return args
}

func (c *counters) catchUp(ctx context.Context, tenants []domain.TenantID) (failures, error) {
	return c.refill(ctx, tenants)
}

// compared looks at tenants whose registers were newer than the stream was a moment before. That is
// usual while events come in. A snapshot taken now and still older means that the registers are of a
// stream that is not ours, such as one lost by restoring Postgres: the snapshot wins.
func (c *counters) compared(ctx context.Context, ahead []domain.TenantID) error {
	for _, tenant := range ahead {
		before, err := registerVersions(ctx, c.client, []domain.TenantID{tenant})
		if err != nil {
			return err
		}
		state, err := c.states.State(ctx, tenant)
		switch {
		case err != nil:
			err = c.drop(ctx, tenant)
		case state.Version < before[tenant]:
			err = c.put(ctx, state, true)
		}
		if err != nil {
			return err
		}
	}
	if err := c.inspect(ctx); err != nil {
		return err
	}
	return wrap(c.client.Set(ctx, freshKey, "1", c.fresh).Err(), "vouch for the registers")
}

// refill writes tenants' registers from Postgres. A tenant whose state cannot be read loses its registers:
// none are better than wrong ones, and readers go to Postgres then.
func (c *counters) refill(ctx context.Context, tenants []domain.TenantID) (failures, error) {
	failed := failures{}
	var mu sync.Mutex
	group, filling := errgroup.WithContext(ctx)
	group.SetLimit(refills)
	for _, tenant := range tenants {
		group.Go(func() error {
			state, err := c.states.State(filling, tenant)
			if err == nil {
				return c.put(filling, state, false)
			}
			if !errors.Is(err, domain.ErrTenantUnknown) { // that one is only in the stream: of another database
				mu.Lock()
				failed[tenant] = err
				mu.Unlock()
			}
			return c.drop(filling, tenant)
		})
	}
	return failed, group.Wait()
}

func (c *counters) drop(ctx context.Context, tenant domain.TenantID) error {
	return wrap(c.client.Del(ctx, registersKey(tenant)).Err(), "drop registers of "+string(tenant))
}

func (c *counters) put(ctx context.Context, s domain.State, force bool) error {
	forced := "0"
	if force {
		forced = "1"
	}
	fields := snapshot(s)
	args := make([]any, 0, 2+len(fields))
	args = append(args, strconv.FormatInt(s.Version, 10), forced)
	for _, f := range fields {
		args = append(args, f)
	}
	return wrap(c.replacing.Run(ctx, c.client, []string{registersKey(s.Tenant)}, args...).Err(), "fill registers of "+string(s.Tenant))
}
