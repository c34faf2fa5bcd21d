package proxy

import (
	"context"
	"errors"
	"log/slog"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/domain/pricing"
	"github.com/budgetguard/budgetguard/proxy/sse"
)

// settleMetered charges what the answer's usage costs or, without a usage that can be believed, what was
// counted: the prompt's bound and the larger of counted tokens and content chunks, each of which is a
// token at least. It returns the charge.
func (x *exchange) settleMetered(m *sse.Meter) domain.Amount {
	command := domain.Settle{Reservation: x.held.reservation, AnsweredModel: m.Model(), Basis: domain.BasisProvider}
	usage, told := believable(m)
	if !told && x.asked.BestOf > x.asked.N { // candidates that were not returned are billed and cannot be counted
		x.presume("best_of_without_usage")
		return x.priced.bound
	}
	command.Usage = domain.Usage{
		Prompt: usage.Prompt, Cached: usage.Cached, CacheWrite: usage.CacheWrite, AudioPrompt: usage.AudioIn,
		Completion: usage.Completion, Reasoning: usage.Reasoning, AudioAnswer: usage.AudioOut,
	}
	if !told {
		command.Basis = domain.BasisCounted
		command.Usage = domain.Usage{Prompt: x.priced.estimate.PromptTokens, Completion: x.counted(m)}
	}
	cost, tier, err := x.cost(m, command.Usage)
	if err != nil { // a tier without a price, or more than can be booked: charge the hold and say why
		x.s.log.ErrorContext(x.r.Context(), "usage cannot be priced", slog.String("request_id", x.id), slog.String("error", err.Error()))
		x.presume("usage_not_priced")
		return x.priced.bound
	}
	command.Charged, command.AnsweredTier = cost, tier
	if cost > x.priced.bound {
		x.overran(command.Usage, cost)
	}
	x.send(command)
	return cost
}

// believable is the provider's usage, unless it says that nothing was asked or that what came is nothing:
// providers have sent zeros and negative counts, and none of them bills by those.
func believable(m *sse.Meter) (sse.Usage, bool) {
	usage, told := m.Usage()
	if !told || m.Outrun() || usage.Prompt <= 0 || (usage.Completion <= 0 && m.Deltas() > 0) {
		return sse.Usage{}, false
	}
	return usage, true
}

// counted bounds the answer's tokens from below by its chunks and from above by its text, which another
// tokenizer cuts into fewer than ours may: no more than the request allowed are believed of the text alone.
func (x *exchange) counted(m *sse.Meter) int64 {
	var n int64
	for _, text := range m.Texts() {
		n += x.s.Tokens.Count(x.priced.model.Encoding, text)
	}
	return max(min(n+m.Overflow(), x.priced.estimate.CompletionTokens), m.Deltas())
}

// cost prices usage by the model and tier that answered, as far as the catalogue knows them, else by those
// that were asked for; a tier that has no price for either is pricing.ErrPrice, because it could cost
// anything. Prices are those of the reservation's time.
func (x *exchange) cost(m *sse.Meter, usage domain.Usage) (domain.Amount, domain.Tier, error) {
	model := x.priced.model
	if answered, ok := x.s.Prices.Model(m.Model()); ok {
		model = answered
	}
	tier := x.priced.tier
	if said := m.ServiceTier(); said != "" {
		answered, err := pricing.ParseTier(said)
		switch {
		case err != nil:
			tier = domain.TierAuto // a name of the provider's own: the dearest we know
		case answered != domain.TierAuto:
			tier = answered
		}
	}
	ended := x.s.cfg.Now()
	cost, err := model.Cost(tier, usage, x.started, ended)
	if errors.Is(err, pricing.ErrPrice) { // the model that answered has no price there: the one asked for may
		cost, err = x.priced.model.Cost(tier, usage, x.started, ended)
	}
	return cost, tier, err
}

// presume charges the whole hold: the provider may have billed, and nobody can say how much.
func (x *exchange) presume(reason string) {
	x.s.Metrics.presumed(reason)
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
