package pricing

import (
	"fmt"
	"slices"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// Model is one row of the catalogue. It never changes and is safe for concurrent use.
type Model struct {
	ID       string
	Provider string
	// Encoding names the tokenizer, empty where none is public: then only bytes bound the tokens.
	Encoding string
	// MaxOutput is the most completion tokens one choice can have. ContextWindow bounds a prompt and one
	// answer together. Zero is unknown.
	MaxOutput, ContextWindow int64
	// BillsByCall reports that calls cost a fee beside their tokens, which the catalogue cannot price.
	BillsByCall bool
	// Reasoning reports that an answer may have tokens that are billed and not shown.
	Reasoning bool
	// Limits are how its provider bounds answers and what it adds to prompts.
	Limits Limits

	tiers   map[domain.Tier]tierRates
	long    longRule
	changes []rateChange
	offPeak *offPeak
	image   *imageRule
	routes  []string
}

type tierRates struct {
	standard Rates
	long     *Rates
}

// longRule is from which prompt on the long rates are billed.
type longRule struct {
	threshold int64
	// inclusive reports that a prompt of exactly the threshold is billed at the long rates.
	inclusive bool
}

// rateChange are all prices from a day on.
type rateChange struct {
	from  time.Time
	tiers map[domain.Tier]tierRates
}

func (m *Model) raised(percent int64) *Model {
	r := *m
	r.tiers = raisedTiers(m.tiers, percent)
	r.changes = slices.Clone(m.changes)
	for i := range r.changes {
		r.changes[i].tiers = raisedTiers(r.changes[i].tiers, percent)
	}
	if m.offPeak != nil {
		cheap := *m.offPeak
		cheap.rates = cheap.rates.raised(percent)
		r.offPeak = &cheap
	}
	return &r
}

func raisedTiers(tiers map[domain.Tier]tierRates, percent int64) map[domain.Tier]tierRates {
	raised := make(map[domain.Tier]tierRates, len(tiers))
	for tier, rates := range tiers {
		up := tierRates{standard: rates.standard.raised(percent)}
		if rates.long != nil {
			long := rates.long.raised(percent)
			up.long = &long
		}
		raised[tier] = up
	}
	return raised
}

// Routes reports whether a call to m may be answered by another row at that row's own price: m is an
// alias or a router of it. Otherwise what an answer says of its model may only make it dearer.
func (m *Model) Routes(to *Model) bool { return m.ID == to.ID || slices.Contains(m.routes, to.ID) }

// Rates are the dearest prices that a prompt of so many tokens can be billed at, at a tier and an
// instant. A prompt at the long-context threshold is priced wholly at the long rates, whatever the
// row's rule says of the boundary itself, and the hours of a day are those of the peak. A tier the
// catalogue has no figure for is ErrPrice.
func (m *Model) Rates(tier domain.Tier, promptTokens int64, at time.Time) (Rates, error) {
	return m.rates(tier, m.long.threshold > 0 && promptTokens >= m.long.threshold, at)
}

func (m *Model) rates(tier domain.Tier, long bool, at time.Time) (Rates, error) {
	tiers := m.tiersAt(at)
	if tier == domain.TierAuto {
		var top Rates
		for _, r := range tiers {
			top = top.dearer(r.of(long))
		}
		return top, nil
	}
	r, ok := tiers[tier]
	if !ok {
		return Rates{}, fmt.Errorf("%w: model %s has no price for service tier %q", ErrPrice, m.ID, tier)
	}
	return r.of(long), nil
}

func (t tierRates) of(long bool) Rates {
	if long && t.long != nil {
		return *t.long
	}
	return t.standard
}

// tiersAt are the prices in force at an instant.
func (m *Model) tiersAt(at time.Time) map[domain.Tier]tierRates {
	tiers := m.tiers
	for _, change := range m.changes {
		if !at.Before(change.from) {
			tiers = change.tiers
		}
	}
	return tiers
}

// Cost is what usage costs at a tier, for a call that began and ended at these instants, rounded up
// once. Dated prices are those of its beginning; of hours with different prices the dearest counts. See
// Rates for its errors.
func (m *Model) Cost(tier domain.Tier, usage domain.Usage, began, ended time.Time) (domain.Amount, error) {
	prompt := promptOf(usage)
	over := prompt > m.long.threshold || m.long.inclusive && prompt == m.long.threshold
	rates, err := m.rates(tier, m.long.threshold > 0 && over, began)
	if err != nil {
		return 0, err
	}
	if m.offPeak != nil && tier == domain.TierDefault && !m.offPeak.touchesPeak(began, ended) {
		rates = m.offPeak.rates
	}
	return rates.Cost(usage)
}

// promptOf is the length of a prompt: the sum of its parts where that is larger than the whole,
// since Rates.Cost bills every part. Absurd figures saturate; Rates.Cost refuses them.
func promptOf(u domain.Usage) int64 {
	var parts int64
	for _, part := range [...]int64{u.Cached, max(u.CacheWrite, u.CacheWriteLong), u.AudioPrompt} {
		parts += min(max(part, 0), tokensMax)
	}
	return max(u.Prompt, parts)
}

// ParseTier reads the service_tier of a request or an answer. "fast" is what newer models call priority
// (OpenAI model pages, 2026-11), "on_demand" what Groq calls its default. An unknown tier is ErrPrice:
// it could cost anything.
func ParseTier(s string) (domain.Tier, error) {
	switch s {
	case "auto":
		return domain.TierAuto, nil
	case "default", "standard", "on_demand":
		return domain.TierDefault, nil
	case "flex":
		return domain.TierFlex, nil
	case "priority", "fast":
		return domain.TierPriority, nil
	}
	return "", fmt.Errorf("%w: unknown service tier %q", ErrPrice, s)
}
