package projections

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	// headsPage bounds one page of the comparison of cursors with heads.
	headsPage = 1000
	// longestStop is after how many comparisons a tenant whose projection stands still is tried again at
	// the latest: half a minute.
	longestStop = 16
	// patience is after how many failed tenants in a row a comparison gives up: it is rather an outage.
	patience = 3
	// linger is how long a projector waits for more events after the first. Nobody waits for a projection, and
	// at twenty batches a second its fixed costs (a transaction, a script for each tenant) hardly show.
	linger = 50 * time.Millisecond
)

// failures are the tenants a projection could not bring up to date, with the reason of each.
type failures map[domain.TenantID]error

// projection is what differs between projectors. Its methods are called by one goroutine at a time; other
// processes may run the same projection on the same tenants.
type projection interface {
	name() string
	// apply takes what a subscription received, in any order, repeated or with holes, and leaves every
	// tenant in it at least at its newest version there. An error concerns all of them.
	apply(ctx context.Context, batch []entry) (failures, error)
	// catchUp brings tenants to their heads without the stream.
	catchUp(ctx context.Context, tenants []domain.TenantID) (failures, error)
	// cursors are the versions applied. A tenant without one is at 0.
	cursors(ctx context.Context, tenants []domain.TenantID) (map[domain.TenantID]int64, error)
	// compared ends a comparison that found nothing wrong but these: tenants whose cursor was ahead of the
	// head read before it.
	compared(ctx context.Context, ahead []domain.TenantID) error
	// close disconnects.
	close() error
}

// Projector keeps one projection up to date. Any number may run for the same projection.
type Projector struct {
	cfg        Config
	heads      Heads
	projection projection
	inbox      *inbox
	outage     outage

	// before are the tenants that were behind at the last comparison, with their heads at that time.
	before map[domain.TenantID]int64
	// stops are the tenants that could not be brought up to date.
	stops map[domain.TenantID]*stop
	// suspect is set when something failed: everything that is behind is caught up at the next chance.
	suspect bool
}

// stop is how often in a row a tenant failed and for how many comparisons it rests.
type stop struct{ failed, rest int }

func newProjector(cfg Config, heads Heads, p projection) *Projector {
	return &Projector{
		cfg: cfg, heads: heads, projection: p, inbox: newInbox(p.name()),
		outage: outage{log: cfg.Logger, what: "projection " + p.name()},
		before: map[domain.TenantID]int64{}, stops: map[domain.TenantID]*stop{}, suspect: true,
	}
}

// Run projects until ctx is done, and disconnects. Outages of Postgres and Redis are waited out. It has a
// consumer group of its own; in a Worker the projectors share one.
func (p *Projector) Run(ctx context.Context) error {
	return shared{cfg: p.cfg, group: p.projection.name(), projectors: []*Projector{p}}.Run(ctx)
}

// shared is one subscription and the projectors it feeds.
type shared struct {
	cfg        Config
	group      string
	projectors []*Projector
}

// Run returns when all have stopped and disconnected.
func (s shared) Run(ctx context.Context) error {
	var group errgroup.Group
	inboxes := make([]*inbox, len(s.projectors))
	for i, p := range s.projectors {
		inboxes[i] = p.inbox
		group.Go(func() error {
			p.follow(ctx)
			return p.projection.close()
		})
	}
	group.Go(func() error {
		newSubscription(s.cfg, s.group, inboxes).run(ctx)
		return nil
	})
	return group.Wait()
}

func (p *Projector) follow(ctx context.Context) {
	tick := time.NewTicker(p.cfg.Poll)
	defer tick.Stop()
	retry := pause{least: idleMost, most: 2 * time.Second}
	err := p.compare(ctx)
	for {
		p.outage.note(ctx, err)
		if err != nil {
			p.suspect = true
			retry.wait(ctx, nil)
			if err = p.compare(ctx); ctx.Err() == nil {
				continue
			}
		}
		retry.reset()
		select {
		case <-ctx.Done():
			return
		case e := <-p.inbox.entries:
			err = p.take(ctx, p.inbox.take(ctx, e))
		case <-p.inbox.missed:
			p.suspect = true
			err = p.compare(ctx)
		case <-tick.C:
			err = p.compare(ctx)
		}
	}
}

// take applies what was received. Tenants that stand still are left to the comparison, which is patient.
func (p *Projector) take(ctx context.Context, entries []entry) error {
	moving := entries[:0]
	for _, e := range entries {
		if _, stopped := p.stops[e.tenant]; !stopped {
			moving = append(moving, e)
		}
	}
	if len(moving) == 0 {
		return nil
	}
	failed, err := p.projection.apply(ctx, moving)
	if err != nil {
		return err
	}
	p.settle(ctx, nil, failed)
	return nil
}

// compare reads all heads and cursors and catches up the tenants that have been behind for a whole
// interval: those that are only a moment behind will get their events from the stream. When something is
// suspect there is no such patience.
func (p *Projector) compare(ctx context.Context) error {
	c := comparison{behind: map[domain.TenantID]int64{}, all: p.suspect}
	p.suspect = false
	for after := domain.TenantID(""); ; {
		heads, err := p.heads.Heads(ctx, after, headsPage)
		if err != nil {
			return err
		}
		if len(heads) == 0 {
			break
		}
		after = heads[len(heads)-1].Tenant
		tenants := make([]domain.TenantID, len(heads))
		for i, h := range heads {
			tenants[i] = h.Tenant
		}
		cursors, err := p.projection.cursors(ctx, tenants)
		if err != nil {
			return err
		}
		var late []domain.TenantID
		for _, h := range heads {
			if p.judge(&c, h.Tenant, h.Version, cursors[h.Tenant]) {
				late = append(late, h.Tenant)
			}
		}
		if err := p.catchUp(ctx, &c, late); err != nil {
			return err
		}
	}
	p.before = c.behind
	p.show(c)
	return p.projection.compared(ctx, c.ahead)
}

// comparison is what one reading of all heads and cursors finds.
type comparison struct {
	all    bool
	behind map[domain.TenantID]int64
	ahead  []domain.TenantID
	events int64
	failed int // in a row
}

// judge tells whether a tenant must be caught up now.
func (p *Projector) judge(c *comparison, tenant domain.TenantID, head, cursor int64) bool {
	if cursor >= head {
		if cursor > head {
			c.ahead = append(c.ahead, tenant)
		}
		delete(p.stops, tenant) // another process brought it on
		return false
	}
	c.behind[tenant] = head
	c.events += head - cursor
	if stopped, ok := p.stops[tenant]; ok {
		stopped.rest--
		return stopped.rest <= 0
	}
	return c.all || cursor < p.before[tenant]
}

func (p *Projector) catchUp(ctx context.Context, c *comparison, late []domain.TenantID) error {
	if len(late) == 0 {
		return nil
	}
	failed, err := p.projection.catchUp(ctx, late)
	if err != nil {
		return err
	}
	p.settle(ctx, late, failed)
	if len(failed) < len(late) {
		c.failed = 0
		return nil
	}
	if c.failed += len(failed); c.failed < patience {
		return nil
	}
	for _, err := range failed {
		return err
	}
	return nil
}

// settle notes which of the tenants that were tried move, and which stand still.
func (p *Projector) settle(ctx context.Context, tried []domain.TenantID, failed failures) {
	for _, tenant := range tried {
		if _, ok := failed[tenant]; ok {
			continue
		}
		if stopped, ok := p.stops[tenant]; ok && stopped.failed > 1 {
			p.cfg.Logger.InfoContext(ctx, "projection goes on",
				slog.String("projection", p.projection.name()), slog.String("tenant", string(tenant)))
		}
		delete(p.stops, tenant)
	}
	for tenant, err := range failed {
		stopped, ok := p.stops[tenant]
		if !ok {
			stopped = &stop{}
			p.stops[tenant] = stopped
		}
		stopped.failed++
		stopped.rest = min(1<<min(stopped.failed-1, 10), longestStop)
		if stopped.failed == 2 { // the first may have been an outage that ended
			p.cfg.Logger.ErrorContext(ctx, "projection stopped", slog.String("projection", p.projection.name()),
				slog.String("tenant", string(tenant)), slog.String("error", err.Error()))
		}
	}
}

func (p *Projector) show(c comparison) {
	m, name := p.cfg.Metrics, p.projection.name()
	m.lagEvents.WithLabelValues(name).Set(float64(c.events))
	m.lagTenants.WithLabelValues(name).Set(float64(len(c.behind)))
	still := 0
	for _, s := range p.stops {
		if s.failed > 1 {
			still++
		}
	}
	m.stopped.WithLabelValues(name).Set(float64(still))
}
