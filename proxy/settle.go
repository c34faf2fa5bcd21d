package proxy

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/domain/pricing"
	"github.com/budgetguard/budgetguard/proxy/provider"
	"github.com/budgetguard/budgetguard/proxy/sse"
)

// settleMetered charges what the answer cost, and returns the charge: the dearest reading of every usage
// that can be believed, never below what was counted. See bill.
func (x *exchange) settleMetered(m *sse.Meter) domain.Amount {
	x.noteUnknown(m)
	b, err := x.bill(m)
	if err != nil { // a tier without a price, or more than can be booked: charge the hold and say why
		x.s.log.ErrorContext(x.r.Context(), "usage cannot be priced; the whole hold is charged",
			slog.String("request_id", x.id), slog.String("error", err.Error()))
		x.presume("usage_not_priced")
		return x.priced.bound
	}
	if b.basis == domain.BasisCounted && x.asked.BestOf > x.asked.N {
		// Candidates that were not returned are billed and cannot be counted.
		x.presume("best_of_without_usage")
		return x.priced.bound
	}

	if b.cost > x.priced.bound {
		x.overran(b.usage, b.cost)
	}
	x.send(domain.Settle{
		Reservation: x.held.reservation, Charged: b.cost, Basis: b.basis, Usage: b.usage,
		AnsweredModel: m.Model(), AnsweredTier: b.tier,
	})
	return b.cost
}

// bill is what an answer cost, and how that was found.
type bill struct {
	usage domain.Usage
	cost  domain.Amount
	tier  domain.Tier
	basis domain.Basis
}

// bill is the dearest of what the answer's usages can mean and, where no usage can be about all of the
// answer, of what was counted: the bound of the prompt, and the larger of tokens and pieces of text.
func (x *exchange) bill(m *sse.Meter) (bill, error) {
	var dearest bill
	consider := func(usage domain.Usage, basis domain.Basis) error {
		cost, tier, err := x.cost(m, usage)
		if err == nil && (dearest.basis == "" || cost > dearest.cost) {
			dearest = bill{usage: usage, cost: cost, tier: tier, basis: basis}
		}
		return err
	}

	for _, report := range m.Reports() {
		for _, usage := range report.Readings() {
			if !x.believable(m, usage) {
				continue
			}
			if x.asked.LongCacheWrite && !report.SplitsWrites() {
				usage.CacheWriteLong = usage.CacheWrite // which of them live longer is not said
			}
			if err := consider(x.completed(m, usage), domain.BasisProvider); err != nil {
				return bill{}, err
			}
		}
	}
	if dearest.basis == "" || m.Later() > 0 || m.Suspect() {
		counted := domain.Usage{Prompt: x.priced.estimate.PromptTokens, Completion: x.counted(m)}
		if err := consider(counted, domain.BasisCounted); err != nil {
			return bill{}, err
		}
	}
	return dearest, nil
}

// believable reports whether a usage can be about this answer: providers have sent zeros and negative
// counts, and none of them bills by those.
func (x *exchange) believable(m *sse.Meter, usage domain.Usage) bool {
	return usage.Prompt > 0 && (usage.Completion > 0 || m.Deltas() == 0 || x.asked.EchoOnly())
}

// told reports whether the answer brought a usage that can be believed.
func (x *exchange) told(m *sse.Meter) bool {
	return slices.ContainsFunc(m.Reports(), func(r provider.Report) bool {
		return slices.ContainsFunc(r.Readings(), func(u domain.Usage) bool { return x.believable(m, u) })
	})
}

// completed is a usage with what it cannot know: the text that came after it, and at least what was seen
// of the answer. Every piece of a stream is a token at least, as all recorded traffic shows. Of counted
// text only three quarters less sixteen tokens are held against a provider's own figure: names that were
// rewritten on the way, and tool calls that are shown in another notation, have counted up to a third
// more.
func (x *exchange) completed(m *sse.Meter, usage domain.Usage) domain.Usage {
	usage.Completion += m.Later()
	if x.asked.Echo {
		return usage // the text repeats the prompt, which is no output
	}
	seen := m.Deltas()
	if x.s.Tokens.Exact(x.priced.model.Encoding) {
		seen = max(seen, x.visible(m)*3/4-16)
	}
	usage.Completion = max(usage.Completion, seen)
	return usage
}

// visible is the number of tokens of the answer's text.
func (x *exchange) visible(m *sse.Meter) int64 {
	n := m.Overflow()
	for _, text := range m.Texts() {
		n += x.s.Tokens.Count(x.priced.model.Encoding, text)
	}
	return n
}

// counted bounds the answer's tokens from below by its pieces and from above by its text, which another
// tokenizer cuts into fewer than ours may: no more than the request allowed are believed of the text
// alone. What an echo repeats of the prompt is counted as well: where it ends is not known.
func (x *exchange) counted(m *sse.Meter) int64 {
	return max(min(x.visible(m), x.priced.estimate.CompletionTokens), m.Deltas())
}

// cost prices usage at the tier that answered, if the answer says so, else at the one asked for. What
// the answer says of its model may make it dearer than the model asked for; cheaper only where the
// catalogue knows that the one stands for the other. A tier without a price is pricing.ErrPrice, because
// it could cost anything. Dated prices are those of the reservation's time.
func (x *exchange) cost(m *sse.Meter, usage domain.Usage) (domain.Amount, domain.Tier, error) {
	tier, ended := x.answeredTier(m), x.s.cfg.Now()
	asked := x.priced.model
	cost, err := asked.Cost(tier, usage, x.started, ended)
	answered, known := x.s.Prices.Model(m.Model())
	if !known || answered.ID == asked.ID {
		return cost, tier, err
	}

	other, otherErr := answered.Cost(tier, usage, x.started, ended)
	if otherErr != nil {
		return cost, tier, err // the model asked for may have the price that the other lacks
	}
	if err == nil && !asked.Routes(answered) {
		other = max(other, cost)
	}
	return other, tier, otherErr
}

// answeredTier is the tier that was billed.
func (x *exchange) answeredTier(m *sse.Meter) domain.Tier {
	said := m.ServiceTier()
	if said == "" {
		return x.priced.demand.Tier
	}
	tier, err := pricing.ParseTier(said)
	switch {
	case err != nil:
		return domain.TierAuto // a name of the provider's own: the dearest we know
	case tier == domain.TierAuto:
		return x.priced.demand.Tier
	}
	return tier
}

// noteUnknown counts figures that no table knows, since they may be billed, and warns once of each.
func (x *exchange) noteUnknown(m *sse.Meter) {
	for _, name := range m.UnknownFigures() {
		if x.s.unknowns.first(name) {
			x.s.log.WarnContext(x.r.Context(), "a usage has a figure that is not known here; if it is billed, charges are too low",
				slog.String("figure", name), slog.String("model", x.priced.model.ID), slog.String("request_id", x.id))
		}
		x.s.Metrics.unknownFigure()
	}
}

// presume charges the whole hold: the provider may have billed, and nobody can say how much. As long as
// the answer has not begun, the client is told not to send the request again by itself: each try would be
// presumed as well.
func (x *exchange) presume(reason string) {
	x.s.Metrics.presumed(reason)
	if !x.answering {
		x.w.Header().Set("X-Should-Retry", "false")
	}
	x.send(domain.SettlePresumed{Reservation: x.held.reservation, Reason: reason})
}

// release gives the hold back, on proof that nothing is billed.
func (x *exchange) release(reason string) {
	x.send(domain.Release{Reservation: x.held.reservation, Reason: reason})
}

// send hands a closing command to the ledger and does not wait: the ledger carries it out even if the
// database is away for a while, and until then the hold stands, which is the safe side.
func (x *exchange) send(c domain.Command) {
	began := x.s.cfg.Now()
	ctx := context.WithoutCancel(x.r.Context())
	tenant, id, reservation, s := x.who.tenant, x.id, x.held.reservation, x.s
	s.Recorder.Closing(c)
	s.pending.Go(func() {
		_, err := s.Ledger.Do(ctx, tenant, c)
		s.Metrics.settled(s.cfg.Now().Sub(began))
		if final(err) {
			s.Recorder.Closed(reservation)
		}
		if err != nil {
			level := slog.LevelError
			if errors.Is(err, domain.ErrUnavailable) { // until the shutdown
				level = slog.LevelWarn
			}
			s.log.Log(ctx, level, "settlement refused; the hold is left to the reaper", slog.String("request_id", id),
				slog.String("tenant", string(tenant)), slog.String("error", err.Error()))
		}
	})
}

// final tells whether a closing command's answer is the ledger's last word; else the recorder keeps the
// command for the next start.
func final(err error) bool {
	for _, kind := range []error{domain.ErrReservationUnknown, domain.ErrInvalid, domain.ErrAmount} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return err == nil
}
