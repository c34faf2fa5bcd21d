package proxy

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/policy"
)

// reserveTimeout is how long a request waits for its reservation before it is told to come again.
const reserveTimeout = 3 * time.Second

// firstTimeout is that of requests before the first reservation of this process succeeded: the ledger then
// connects, prepares its statements and loads the tenant, on a machine that may be starting everything else.
const firstTimeout = 15 * time.Second

// patience is how long a reservation may take now.
func (s *Server) patience() time.Duration {
	if s.warm.Load() {
		return reserveTimeout
	}
	return firstTimeout
}

// hold is the reservation of a request.
type hold struct {
	reservation domain.ReservationID
	at          time.Time
	key         string // the provider's
	revision    string
}

// early refuses what Postgres refused a moment ago, so that an exhausted tenant costs no lock.
func (x *exchange) early() error {
	x.held.key = x.r.Header.Get("X-OpenAI-Key")
	if x.held.key == "" {
		x.held.key = x.s.cfg.UpstreamKey
	}
	if x.held.key == "" {
		return badRequest("invalid_request", "", "there is no key for the provider: send X-OpenAI-Key or set OPENAI_KEY")
	}
	if x.attempt != "" {
		return nil // whether its key was used before is for the ledger to say, also where a new request had no room
	}
	return x.clamped(func() error { return x.s.Ledger.Refused(x.who.tenant, x.priced.bound) })
}

// allow asks the policy.
func (x *exchange) allow() error {
	current := x.s.Policy.Current()
	in := policy.Input{
		Route: string(x.route), Now: x.started.In(x.who.zone.Location()), Tenant: string(x.who.tenant), Model: x.asked.Model,
		APIKey: string(x.who.key), Tags: x.priced.tags, Estimate: x.priced.bound.String(), Stream: x.asked.Stream,
	}
	if current.NeedsBalances() {
		balances, err := x.s.Balances.Balances(x.r.Context(), x.who.tenant, x.started)
		if err != nil {
			return unavailable(err)
		}
		in = withBalances(in, domain.Request{KeyID: x.who.key, Model: x.asked.Model, Tags: x.priced.tags}, balances)
	}
	decision, err := current.Decide(x.r.Context(), in)
	if err != nil {
		x.s.log.WarnContext(x.r.Context(), "policy failed and so denies", slog.String("request_id", x.id), slog.String("error", err.Error()))
	}
	if !decision.Allow || err != nil {
		return &problem{
			status: http.StatusForbidden, code: "policy_denied", message: "Forbidden by policy",
			detail: "the installation's policy denies this request", messages: decision.Messages,
		}
	}
	x.held.revision = decision.Revision
	return nil
}

// withBalances adds what the tenant's budgets hold, tightest first. Usage and budget are those of the tightest
// one that the request counts in.
func withBalances(in policy.Input, of domain.Request, balances []domain.Balance) policy.Input {
	balances = slices.Clone(balances)
	slices.SortStableFunc(balances, func(a, b domain.Balance) int { return cmp.Compare(a.Available(), b.Available()) })
	for _, b := range balances {
		shown := policy.Budget{
			ID: string(b.Budget.ID), Period: string(b.Budget.Period), Scope: scopeInput(b.Budget.Scope), Limit: b.Limit.String(),
			Usage: (b.Held + b.Settled).String(), Spent: b.Settled.String(), Reserved: b.Held.String(), Remaining: b.Available().String(),
		}
		if b.Budget.Period != domain.Total {
			shown.ResetsAt = b.Window.End
		}
		in.Budgets = append(in.Budgets, shown)
		if in.Budget == "" && b.Budget.Scope.Matches(of) {
			in.Usage, in.Budget = shown.Usage, shown.Limit
		}
	}
	return in
}

// scopeInput is a scope as policies see it: the part that is set, and nothing for the whole tenant.
func scopeInput(s domain.Scope) map[string]string {
	scope := map[string]string{}
	for name, part := range map[string]string{"apiKey": string(s.APIKey), "model": s.Model, "tag": s.Tag} {
		if part != "" {
			scope[name] = part
		}
	}
	return scope
}

// reserve holds the bound inside every budget, durably, or refuses.
func (x *exchange) reserve() error {
	return x.clamped(x.promise)
}

// promise asks the ledger once for the reservation.
func (x *exchange) promise() error {
	id, err := uuid.NewV7()
	if err != nil {
		return internal(err)
	}
	x.held.reservation = domain.ReservationID(id.String())
	ctx, cancel := context.WithTimeout(x.r.Context(), x.s.patience())
	defer cancel()
	began := x.s.cfg.Now()
	x.s.Recorder.Reserved(x.who.tenant, x.held.reservation)
	records, err := x.s.Ledger.Do(ctx, x.who.tenant, domain.Reserve{
		Request: x.request(), Amount: x.priced.bound, TTL: x.s.cfg.ReservationTTL,
		Keyless: x.who.key == "" && x.who.tenant != x.s.cfg.Demo,
	})
	x.s.Metrics.reserved(x.s.cfg.Now().Sub(began))
	switch {
	case errors.Is(err, domain.ErrUnavailable):
		x.s.Recorder.Doubted(x.held.reservation)
		return err
	case err != nil:
		x.s.Recorder.Closed(x.held.reservation)
		return err
	}
	x.s.warm.Store(true)
	h := x.w.Header()
	h.Set("X-BudgetGuard-Reservation", string(x.held.reservation))
	h.Set("X-BudgetGuard-Estimated-Usd", x.priced.bound.String())
	if x.lowered > 0 {
		h.Set(clampedHeader, strconv.FormatInt(x.lowered, 10))
	}
	last := records[len(records)-1]
	x.held.at = last.Time
	if remaining, ok := tightest(domain.Postings(last.Event)); ok {
		h.Set("X-BudgetGuard-Remaining-Usd", remaining.String())
	}
	spent := x.s.cfg.Now().Sub(x.started)
	h.Set("Server-Timing", "bg;dur="+strconv.FormatFloat(float64(spent.Microseconds())/1000, 'f', 3, 64))
	return nil
}

// request is what every event of the reservation says about the call.
func (x *exchange) request() domain.Request {
	r := domain.Request{
		Reservation: x.held.reservation, RequestID: x.id, Route: string(x.route), Provider: x.priced.model.Provider,
		Model: x.asked.Model, Tier: x.priced.demand.Tier, KeyID: x.who.key, Tags: x.priced.tags, Stream: x.asked.Stream,
		Estimate: x.priced.estimate, Prices: x.s.Prices.Version(), Policy: x.held.revision, Gateway: x.s.cfg.Gateway,
	}
	if x.attempt != "" {
		r.Idempotency, r.Fingerprint = x.attempt, x.fingerprint()
	}
	return r
}

// tightest is what the budget with the least left has left.
func tightest(postings []domain.Posting) (domain.Amount, bool) {
	if len(postings) == 0 {
		return 0, false
	}
	least := postings[0].Limit - postings[0].Settled - postings[0].Held
	for _, p := range postings[1:] {
		least = min(least, p.Limit-p.Settled-p.Held)
	}
	return least, true
}
