package admin

import (
	"context"

	"github.com/budgetguard/budgetguard/domain"
)

// rateLimitView has the tenant's own limit, null for none of its own, and the one that is enforced, 0 for
// no limit.
type rateLimitView struct {
	PerMin    *int64 `json:"rateLimitPerMin"`
	Effective int64  `json:"effective"`
}

func (s *Server) viewRateLimit(own *int64) rateLimitView {
	if own == nil {
		return rateLimitView{Effective: s.defaultRate}
	}
	return rateLimitView{PerMin: own, Effective: *own}
}

func (s *Server) showRateLimit(_ context.Context, c *call) (answer, error) {
	return ok(s.viewRateLimit(c.state.RateLimit)), nil
}

func (s *Server) setRateLimit(ctx context.Context, c *call) (answer, error) {
	if !c.body.has("rateLimitPerMin") {
		c.body.refuse("rateLimitPerMin", "want a number of requests per minute, 0 for no limit, null for the default")
	}
	set := domain.SetRateLimit{PerMin: c.body.whole("rateLimitPerMin"), Actor: actor}
	if err := c.body.problem(); err != nil {
		return answer{}, err
	}
	if _, err := s.deps.Ledger.Do(ctx, c.tenant, set); err != nil {
		return answer{}, err
	}
	return ok(s.viewRateLimit(set.PerMin)), nil
}
