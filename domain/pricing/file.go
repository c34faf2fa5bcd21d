package pricing

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// catalogueFile is the catalogue's JSON form: USD per million tokens, null for "no figure known".
type catalogueFile struct {
	Models []modelRow `json:"models"`
	Seeds  []seedRow  `json:"seed_rows"`
}

type rateRow struct {
	Input       *json.Number `json:"input"`
	CachedInput *json.Number `json:"cached_input"`
	CacheWrite  *json.Number `json:"cache_write"`
	Output      *json.Number `json:"output"`
	AudioInput  *json.Number `json:"audio_input"`
	AudioOutput *json.Number `json:"audio_output"`
}

type longRow struct {
	rateRow

	Threshold int64 `json:"threshold_input_tokens"`
}

type tierRow struct {
	rateRow

	Long *rateRow `json:"long_context"`
}

type changeRow struct {
	rateRow

	Effective string `json:"effective"`
}

type modelRow struct {
	rateRow

	ID            string      `json:"id"`
	Aliases       []string    `json:"aliases"`
	Provider      string      `json:"provider"`
	Encoding      *string     `json:"encoding"`
	MaxOutput     *int64      `json:"max_output_tokens"`
	ContextWindow *int64      `json:"context_window"`
	Long          *longRow    `json:"long_context"`
	Flex          *tierRow    `json:"flex"`
	Priority      *tierRow    `json:"priority"`
	Changes       []changeRow `json:"price_changes"`
}

// seedRow replaces the list price of a model and of its aliases by a flat one.
type seedRow struct {
	ID     string       `json:"id"`
	Input  *json.Number `json:"input"`
	Output *json.Number `json:"output"`
}

func (c *Catalogue) add(row modelRow) error {
	if row.ID == "" {
		return errors.New("a row has no id")
	}
	m := &Model{ID: row.ID, Provider: row.Provider, tiers: map[domain.Tier]tierRates{}}
	if row.Encoding != nil {
		m.Encoding = *row.Encoding
	}
	if row.MaxOutput != nil {
		m.MaxOutput = *row.MaxOutput
	}
	if row.ContextWindow != nil {
		m.ContextWindow = *row.ContextWindow
	}
	if m.MaxOutput < 0 || m.ContextWindow < 0 {
		return errors.New("a token limit is negative")
	}
	if err := m.price(row); err != nil {
		return err
	}
	for _, name := range append([]string{row.ID}, row.Aliases...) {
		if name == "" {
			return errors.New("an alias is empty")
		}
		if _, taken := c.models[name]; taken {
			return fmt.Errorf("the name %q is used twice", name)
		}
		c.models[name] = m
	}
	return nil
}

func (m *Model) price(row modelRow) error {
	standard := tierRow{rateRow: row.rateRow}
	if row.Long != nil {
		if row.Long.Threshold <= 0 {
			return errors.New("long_context has no threshold")
		}
		m.longThreshold = row.Long.Threshold
		standard.Long = &row.Long.rateRow
	}
	for tier, r := range map[domain.Tier]*tierRow{domain.TierDefault: &standard, domain.TierFlex: row.Flex, domain.TierPriority: row.Priority} {
		if r == nil {
			continue
		}
		rates, err := r.rates()
		if err != nil {
			return fmt.Errorf("tier %s: %w", tier, err)
		}
		m.tiers[tier] = rates
	}
	m.fillLong()
	for _, change := range row.Changes {
		from, err := time.Parse(time.DateOnly, change.Effective)
		if err != nil {
			return fmt.Errorf("price change: %w", err)
		}
		rates, err := change.fill()
		if err != nil {
			return fmt.Errorf("price change %s: %w", change.Effective, err)
		}
		m.changes = append(m.changes, rateChange{from: from, rates: rates})
	}
	slices.SortStableFunc(m.changes, func(a, b rateChange) int { return a.from.Compare(b.from) })
	return nil
}

// fillLong gives tiers without a figure for long prompts the default tier's ratio: "no figure known" must
// not mean cheap.
func (m *Model) fillLong() {
	standard := m.tiers[domain.TierDefault]
	if standard.long == nil {
		return
	}
	for tier, rates := range m.tiers {
		if rates.long != nil {
			continue
		}
		long := rates.standard.scaled(*standard.long, standard.standard)
		m.tiers[tier] = tierRates{standard: rates.standard, long: &long}
	}
}

// scaled is r×by÷of, price by price and rounded up.
func (r Rates) scaled(by, of Rates) Rates {
	return Rates{
		Input: r.Input.times(by.Input, of.Input), CachedInput: r.CachedInput.times(by.CachedInput, of.CachedInput),
		CacheWrite: r.CacheWrite.times(by.CacheWrite, of.CacheWrite), Output: r.Output.times(by.Output, of.Output),
		AudioInput: r.AudioInput.times(by.AudioInput, of.AudioInput), AudioOutput: r.AudioOutput.times(by.AudioOutput, of.AudioOutput),
	}
}

func (r *tierRow) rates() (tierRates, error) {
	standard, err := r.fill()
	if err != nil || r.Long == nil {
		return tierRates{standard: standard}, err
	}
	long, err := r.Long.fill()
	return tierRates{standard: standard, long: &long}, err
}

// fill turns a row into rates; what the row leaves open costs what the kind it belongs to costs.
func (r rateRow) fill() (Rates, error) {
	if r.Input == nil || r.Output == nil {
		return Rates{}, errors.New("input and output prices are needed")
	}
	var rates Rates
	var err error
	read := func(to *Price, n *json.Number, fallback Price) {
		*to = fallback
		if n != nil && err == nil {
			*to, err = parsePrice(n.String())
		}
	}
	read(&rates.Input, r.Input, 0)
	read(&rates.Output, r.Output, 0)
	read(&rates.CachedInput, r.CachedInput, rates.Input)
	read(&rates.CacheWrite, r.CacheWrite, rates.Input)
	read(&rates.AudioInput, r.AudioInput, rates.Input)
	read(&rates.AudioOutput, r.AudioOutput, rates.Output)
	return rates, err
}

// override gives a model, found by id, and so all its aliases, one flat price at the default tier.
func (c *Catalogue) override(seed seedRow) error {
	m, ok := c.models[seed.ID]
	if !ok {
		return errors.New("no such model")
	}
	rates, err := rateRow{Input: seed.Input, Output: seed.Output}.fill()
	if err != nil {
		return err
	}
	m.tiers = map[domain.Tier]tierRates{domain.TierDefault: {standard: rates}}
	m.changes = nil
	return nil
}
