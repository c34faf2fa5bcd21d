package proxy

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/domain/pricing"
)

const (
	// allowanceLife is how long what the gateways learnt is believed before it is read again.
	allowanceLife = 5 * time.Second
	// allowancePatience bounds one read or write of it, and the wait before the next try of a write.
	allowancePatience = 2 * time.Second
)

// allowances are what overruns taught about the bounds of each model's requests: this gateway's at
// once, and the other gateways' within seconds. Safe for concurrent use.
type allowances struct {
	store   Allowances
	now     func() time.Time
	flights singleflight.Group

	mu     sync.RWMutex
	stored map[string]pricing.Allowance // as last read, nil before the first read
	until  time.Time                    // when that is read again
	learnt map[string]pricing.Allowance // by this process, perhaps not stored yet
}

func newAllowances(store Allowances, now func() time.Time) *allowances {
	return &allowances{store: store, now: now, learnt: map[string]pricing.Allowance{}}
}

// of is the allowance of a model, by the id of its row. No hold is made before what is stored was
// read once; after that an old answer is better than none, since Postgres decides about the hold
// anyway.
func (a *allowances) of(ctx context.Context, model string) (pricing.Allowance, error) {
	if allowance, fresh := a.known(model); fresh {
		return allowance, nil
	}
	_, err, _ := a.flights.Do("", func() (any, error) { return nil, a.refresh(ctx) })
	allowance, fresh := a.known(model)
	if err != nil && !fresh {
		return pricing.Allowance{}, err
	}
	return allowance, nil
}

// known is what is known of a model, and reports whether that is recent.
func (a *allowances) known(model string) (pricing.Allowance, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.stored[model].Or(a.learnt[model]), a.now().Before(a.until)
}

// refresh reads what is stored. When that fails what was read before stays in force for a while.
func (a *allowances) refresh(ctx context.Context) error {
	// The caller that reads does so for all who wait, and may leave.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), allowancePatience)
	defer cancel()
	stored, err := a.store.Allowances(ctx)

	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		a.stored = stored
	}
	if a.stored != nil {
		a.until = a.now().Add(allowanceLife)
	}
	return err
}

// learn raises a model's allowance at once, and reports whether that was news.
func (a *allowances) learn(model string, by pricing.Allowance) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.stored[model].Or(a.learnt[model])
	a.learnt[model] = a.learnt[model].Or(by)
	return before.Or(by) != before
}

// overran notes that a call was charged more than it was held at, and raises the bounds of its model so
// that the same call again is held at that.
func (x *exchange) overran(usage domain.Usage, charged domain.Amount) {
	x.s.Metrics.overran()
	model := x.priced.model.ID
	d := x.priced.demand
	lesson := pricing.Allowance{}.After(pricing.Overrun{
		PromptBound: d.Prompt, PromptBilled: usage.Prompt,
		Cap: d.Output + d.Predicted, Answers: d.Prompts * d.Answers, AnswersBilled: usage.Completion,
	})

	// Where more tokens do not explain the charge, the answer was billed at another price.
	held, _, err := x.priced.most(lesson)
	if err == nil {
		lesson = lesson.AfterCost(held, charged)
	}
	raised := x.s.allowed.learn(model, lesson)
	x.s.log.WarnContext(x.r.Context(), "overrun: the charge is above the reservation; the model's bounds are raised",
		slog.String("request_id", x.id), slog.String("model", model),
		slog.String("reserved_usd", x.priced.bound.String()), slog.String("charged_usd", charged.String()),
		slog.Int64("prompt_tokens", lesson.Prompt), slog.Int64("answer_tokens", lesson.Answer),
		slog.Bool("uncapped", lesson.Uncapped), slog.Int64("cost_permille", lesson.CostPermille))
	if raised {
		x.s.remember(x.r.Context(), model, lesson)
	}
}

// remember makes what an overrun taught durable. It does not wait: until it is written, this gateway
// knows it all the same. It gives up when the server is cut.
func (s *Server) remember(ctx context.Context, model string, by pricing.Allowance) {
	ctx = context.WithoutCancel(ctx)
	s.pending.Go(func() {
		for {
			bounded, cancel := context.WithTimeout(ctx, allowancePatience)
			err := s.Allowances.RaiseAllowance(bounded, model, by)
			if err == nil {
				cancel()
				return
			}
			s.log.WarnContext(ctx, "an overrun's lesson is not stored yet; it is tried again",
				slog.String("model", model), slog.String("error", err.Error()))

			// What is left of this try's time is the pause before the next one.
			select {
			case <-bounded.Done():
			case <-s.cut.Done():
			}
			cancel()
			if s.cut.Err() != nil {
				return
			}
		}
	})
}
