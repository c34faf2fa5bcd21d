package projections

import (
	"context"
	_ "embed"
	"errors"
	"log/slog"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	// inspectAtOnce is how many tenants' registers one comparison checks value by value. Each costs
	// one read of a tenant's state, about a millisecond; at 64 every two seconds a thousand tenants
	// take half a minute.
	inspectAtOnce = 64

	replyRepaired = "repaired"
)

//go:embed queries/inspect_registers.lua
var inspectRegistersLua string

// inspect compares the next tenants' registers with what Postgres holds, value by value, and
// replaces what differs. Versions alone do not show an amount that somebody else wrote at the right
// version.
func (c *counters) inspect(ctx context.Context) error {
	heads, err := c.heads.Heads(ctx, c.inspected, inspectAtOnce)
	if err != nil {
		return err
	}
	c.inspected = "" // from the first tenant again
	if len(heads) == inspectAtOnce {
		c.inspected = heads[len(heads)-1].Tenant
	}

	// A few at a time: Postgres has other readers.
	group, inspecting := errgroup.WithContext(ctx)
	group.SetLimit(refills)
	for _, head := range heads {
		group.Go(func() error { return c.inspectOne(inspecting, head.Tenant) })
	}
	return group.Wait()
}

// inspectOne checks one tenant. The script gets the snapshot and looks at the hash after it was
// read, so an event that comes in between makes the hash newer, never wrong.
func (c *counters) inspectOne(ctx context.Context, tenant domain.TenantID) error {
	state, err := c.states.State(ctx, tenant)
	if errors.Is(err, domain.ErrTenantUnknown) {
		return c.drop(ctx, tenant)
	}
	if err != nil {
		return wrap(c.drop(ctx, tenant), "after "+err.Error()) // none are better than unproved ones
	}

	fields := snapshot(state)
	args := make([]any, 0, 1+len(fields))
	args = append(args, strconv.FormatInt(state.Version, 10))
	for _, f := range fields {
		args = append(args, f)
	}
	key := []string{registersKey(tenant)}
	reply, err := c.inspecting.Run(ctx, c.client, key, args...).Text()
	if err != nil {
		return wrap(err, "inspect registers of "+string(tenant))
	}

	// No part of BudgetGuard leaves such a difference: the operator should ask who else writes to
	// this Redis.
	if reply == replyRepaired {
		c.metrics.applied.WithLabelValues(countersName, replyRepaired).Inc()
		c.log.WarnContext(ctx, "registers in Redis differed from Postgres and were replaced; "+
			"find out who else can write to this Redis", slog.String("tenant", string(tenant)))
	}
	return nil
}
