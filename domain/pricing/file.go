package pricing

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// catalogueFile is the catalogue's JSON form: USD per million tokens, null for "no figure known".
type catalogueFile struct {
	Models    []modelRow           `json:"models"`
	Seeds     []seedRow            `json:"seed_rows"`
	Providers map[string]limitsRow `json:"providers"`
}

type rateRow struct {
	Input          *json.Number `json:"input"`
	CachedInput    *json.Number `json:"cached_input"`
	CacheWrite     *json.Number `json:"cache_write"`
	CacheWriteLong *json.Number `json:"cache_write_1h"`
	Output         *json.Number `json:"output"`
	AudioInput     *json.Number `json:"audio_input"`
	AudioOutput    *json.Number `json:"audio_output"`
}

type longRow struct {
	rateRow

	Threshold int64 `json:"threshold_input_tokens"`
	// Rule says in words what is billed at the boundary: a prompt "> threshold", or of at least it.
	Rule string `json:"rule"`
}

type tierRow struct {
	rateRow

	Long *rateRow `json:"long_context"`
}

type changeRow struct {
	rateRow

	Effective string `json:"effective"`
}

type offPeakRow struct {
	rateRow

	PeakHours []string `json:"peak_hours_utc"`
}

// limitsRow are facts of a provider; a model's own win.
type limitsRow struct {
	OutputCaps   []string  `json:"output_caps"`
	Enforced     *bool     `json:"max_output_enforced"`
	Preamble     *int64    `json:"preamble_tokens"`
	ToolPreamble *int64    `json:"tool_preamble_tokens"`
	PerTool      *int64    `json:"per_tool_tokens"`
	PerMessage   *int64    `json:"per_message_tokens"`
	Percent      *int64    `json:"percent"`
	Reasoning    *bool     `json:"reasoning"`
	Image        *imageRow `json:"image"`
}

type modelRow struct {
	rateRow
	limitsRow

	ID              string      `json:"id"`
	Aliases         []string    `json:"aliases"`
	Provider        string      `json:"provider"`
	Encoding        *string     `json:"encoding"`
	EncodingAssumed bool        `json:"encoding_assumed"`
	MaxOutput       *int64      `json:"max_output_tokens"`
	ContextWindow   *int64      `json:"context_window"`
	Long            *longRow    `json:"long_context"`
	Flex            *tierRow    `json:"flex"`
	Priority        *tierRow    `json:"priority"`
	Changes         []changeRow `json:"price_changes"`
	OffPeak         *offPeakRow `json:"off_peak"`
	BillsByCall     bool        `json:"bills_by_call"`
	RoutesTo        []string    `json:"routes_to"`
}

// seedRow replaces the list price of a model and of its aliases by a flat one.
type seedRow struct {
	ID     string       `json:"id"`
	Input  *json.Number `json:"input"`
	Output *json.Number `json:"output"`
}

func (c *Catalogue) add(row modelRow, general limitsRow) error {
	if row.ID == "" {
		return errors.New("a row has no id")
	}
	m := &Model{
		ID: row.ID, Provider: row.Provider, BillsByCall: row.BillsByCall, routes: row.RoutesTo,
		tiers: map[domain.Tier]tierRates{},
	}
	if row.Encoding != nil {
		m.Encoding = *row.Encoding
	}
	m.MaxOutput, m.ContextWindow = given(row.MaxOutput, 0), given(row.ContextWindow, 0)
	if m.MaxOutput < 0 || m.ContextWindow < 0 {
		return errors.New("a token limit is negative")
	}

	if err := m.price(row); err != nil {
		return err
	}
	if err := m.limit(row, general); err != nil {
		return err
	}
	for _, name := range append([]string{row.ID}, row.Aliases...) {
		if name == "" {
			return errors.New("an alias is empty")
		}
		if _, taken := c.models[name]; taken {
			return fmt.Errorf("the name %q is used twice", name)
		}
		// Whoever names a product like one that bills searches or tools by the call must say so.
		if byCallName(name) && !m.BillsByCall {
			return fmt.Errorf("the name %q is that of a product billed by the call: "+
				"put it on a row with bills_by_call true", name)
		}
		c.models[name] = m
	}
	return nil
}

// byCallName reports whether a name is that of a product that bills calls beside tokens: models that
// search with every request (OpenAI pricing, "web search": *-search-preview and *-search-api) or run
// tools by themselves (deep research; Groq's compound systems; Perplexity's sonar; OpenRouter's web
// search, ":online").
func byCallName(name string) bool {
	name = strings.ToLower(name)
	for _, part := range [...]string{"-search-", "deep-research", "compound", "sonar"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return strings.HasSuffix(name, "-search") || strings.HasSuffix(name, ":online")
}

// given is a figure, or what stands for none.
func given[T any](value *T, otherwise T) T {
	if value == nil {
		return otherwise
	}
	return *value
}

// limit sets what is known of the provider's limits: the row's facts, then the provider's, then the
// careful default.
func (m *Model) limit(row modelRow, general limitsRow) error {
	own := row.limitsRow
	m.Limits = Limits{
		OutputCaps:   []string{capTokens},
		Enforced:     given(own.Enforced, given(general.Enforced, false)),
		Preamble:     given(own.Preamble, given(general.Preamble, 0)),
		ToolPreamble: given(own.ToolPreamble, given(general.ToolPreamble, 0)),
		PerTool:      given(own.PerTool, given(general.PerTool, 0)),
		PerMessage:   given(own.PerMessage, given(general.PerMessage, 0)),
		Percent:      given(own.Percent, given(general.Percent, 0)),
	}
	for _, caps := range [][]string{general.OutputCaps, own.OutputCaps} {
		if len(caps) > 0 {
			m.Limits.OutputCaps = caps
		}
	}
	if m.MaxOutput == 0 {
		// A maximum that is not known proves nothing; one of zero is known where output has no price.
		m.Limits.Enforced = row.MaxOutput != nil && m.tiers[domain.TierDefault].standard.Output == 0
	}
	if row.EncodingAssumed {
		m.Limits.Percent = max(m.Limits.Percent, assumedPercent)
	}
	l := m.Limits
	if min(l.Preamble, l.ToolPreamble, l.PerTool, l.PerMessage, l.Percent) < 0 {
		return errors.New("an overhead in tokens is negative")
	}
	for _, field := range l.OutputCaps {
		if field != capTokens && field != capCompletionTokens {
			return fmt.Errorf("output_caps: %q is no field that caps an answer", field)
		}
	}

	// Hidden tokens are the dearer reading of a row that does not say.
	m.Reasoning = given(own.Reasoning, given(general.Reasoning, true))
	image := general.Image
	if own.Image != nil {
		image = own.Image
	}
	var err error
	m.image, err = image.rule()
	return err
}

// assumedPercent is the margin on text whose tokenizer is only assumed.
const assumedPercent = 5

func (m *Model) price(row modelRow) error {
	standard := tierRow{rateRow: row.rateRow}
	if row.Long != nil {
		if row.Long.Threshold <= 0 {
			return errors.New("long_context has no threshold")
		}
		// A rule that names no operator is read as the dearer one.
		m.long = longRule{row.Long.Threshold, !strings.Contains(row.Long.Rule, "> threshold")}
		standard.Long = &row.Long.rateRow
	}
	base, err := row.fill()
	if err != nil {
		return err
	}
	for tier, r := range map[domain.Tier]*tierRow{
		domain.TierDefault: &standard, domain.TierFlex: row.Flex, domain.TierPriority: row.Priority,
	} {
		if r == nil {
			continue
		}
		rates, err := r.rates()
		if err != nil {
			return fmt.Errorf("tier %s: %w", tier, err)
		}
		rates.standard = rates.standard.surcharged(r.rateRow, base)
		if rates.long != nil {
			long := rates.long.surcharged(*r.Long, rates.standard)
			rates.long = &long
		}
		m.tiers[tier] = rates
	}
	m.fillLong()
	if err := m.change(row.Changes); err != nil {
		return err
	}
	return m.cheapen(row.OffPeak)
}

// change adds the dated prices. A change gives the default tier's; other tiers and long prompts change
// by the same ratio, since "no figure known" must not mean that they stay.
func (m *Model) change(rows []changeRow) error {
	for _, row := range rows {
		from, err := time.Parse(time.DateOnly, row.Effective)
		if err != nil {
			return fmt.Errorf("price change %q: want a day such as 2027-01-01", row.Effective)
		}
		rates, err := row.fill()
		if err != nil {
			return fmt.Errorf("price change %s: %w", row.Effective, err)
		}
		before := m.tiers[domain.TierDefault].standard
		rates = rates.surcharged(row.rateRow, before)
		change := rateChange{from: from, tiers: map[domain.Tier]tierRates{}}
		for tier, old := range m.tiers {
			next := tierRates{standard: old.standard.scaled(rates, before)}
			if tier == domain.TierDefault {
				next.standard = rates
			}
			if old.long != nil {
				long := old.long.scaled(rates, before)
				next.long = &long
			}
			change.tiers[tier] = next
		}
		m.changes = append(m.changes, change)
	}
	slices.SortStableFunc(m.changes, func(a, b rateChange) int { return a.from.Compare(b.from) })
	return nil
}

// cheapen adds the prices outside the hours of the peak.
func (m *Model) cheapen(row *offPeakRow) error {
	if row == nil {
		return nil
	}
	rates, err := row.fill()
	if err != nil {
		return fmt.Errorf("off_peak: %w", err)
	}
	if len(row.PeakHours) == 0 {
		return errors.New("off_peak has no peak_hours_utc")
	}
	if len(m.changes) > 0 || m.long.threshold > 0 {
		return errors.New("off_peak beside price_changes or long_context is not supported")
	}
	peak := m.tiers[domain.TierDefault].standard
	rates = rates.surcharged(row.rateRow, peak)
	if peak.dearer(rates) != peak {
		return errors.New("off_peak is dearer than the row's own prices, which are those of the peak")
	}
	m.offPeak = &offPeak{rates: rates}
	for _, text := range row.PeakHours {
		peak, err := parseHours(text)
		if err != nil {
			return fmt.Errorf("off_peak: %w", err)
		}
		m.offPeak.peaks = append(m.offPeak.peaks, peak)
	}
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

func (r *tierRow) rates() (tierRates, error) {
	standard, err := r.fill()
	if err != nil || r.Long == nil {
		return tierRates{standard: standard}, err
	}
	long, err := r.Long.fill()
	return tierRates{standard: standard, long: &long}, err
}

// fill reads the prices of a row and fills its gaps with what their kind costs elsewhere.
func (r rateRow) fill() (Rates, error) {
	if r.Input == nil || r.Output == nil {
		return Rates{}, errors.New("input and output prices are needed")
	}
	var rates Rates
	for _, p := range []struct {
		text *json.Number
		to   *Price
		gap  *Price
	}{
		{r.Input, &rates.Input, nil},
		{r.Output, &rates.Output, nil},
		{r.CachedInput, &rates.CachedInput, &rates.Input},
		{r.CacheWrite, &rates.CacheWrite, &rates.Input},
		{r.CacheWriteLong, &rates.CacheWriteLong, nil},
		{r.AudioInput, &rates.AudioInput, &rates.Input},
		{r.AudioOutput, &rates.AudioOutput, &rates.Output},
	} {
		if p.text == nil {
			if p.gap != nil {
				*p.to = *p.gap
			}
			continue
		}
		price, err := parsePrice(p.text.String())
		if err != nil {
			return Rates{}, err
		}
		*p.to = price
	}

	// Who has a price for writing has a dearer one for a longer life: twice the input wherever it is
	// documented (Anthropic, prompt caching).
	if r.CacheWriteLong == nil {
		rates.CacheWriteLong = rates.CacheWrite
		if r.CacheWrite != nil {
			rates.CacheWriteLong = max(rates.CacheWrite, rates.Input.times(2, 1))
		}
	}
	return rates, nil
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
	m.offPeak = nil
	return nil
}
