package pricing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// ErrPrice is the kind of every refusal to price a request or to read a catalogue.
var ErrPrice = errors.New("no price")

// Catalogue holds the prices of every model that may be forwarded, by id and alias. It never changes
// after Parse and is safe for concurrent use.
type Catalogue struct {
	version string
	models  map[string]*Model
}

// Model is one row of the catalogue.
type Model struct {
	ID       string
	Provider string
	// Encoding names the tokenizer, empty where none is public: then only bytes bound the tokens.
	Encoding string
	// MaxOutput is the most completion tokens one choice can have. ContextWindow bounds both together.
	MaxOutput, ContextWindow int64

	tiers         map[domain.Tier]tierRates
	longThreshold int64
	changes       []rateChange
}

type tierRates struct {
	standard Rates
	long     *Rates
}

type rateChange struct {
	from  time.Time
	rates Rates
}

// Parse reads a catalogue in the form of the embedded one. Version is how events will name it.
// Negative, over-precise or contradictory prices and names used twice are ErrPrice.
func Parse(data []byte, version string) (*Catalogue, error) {
	var file catalogueFile
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&file); err != nil {
		return nil, fmt.Errorf("%w: read catalogue: %w", ErrPrice, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: read catalogue: data after the document", ErrPrice)
	}
	if len(file.Models) == 0 {
		return nil, fmt.Errorf("%w: the catalogue has no models", ErrPrice)
	}
	c := &Catalogue{version: version, models: make(map[string]*Model, 2*len(file.Models))}
	for _, row := range file.Models {
		if err := c.add(row); err != nil {
			return nil, fmt.Errorf("%w: model %q: %w", ErrPrice, row.ID, err)
		}
	}
	for _, seed := range file.Seeds {
		if err := c.override(seed); err != nil {
			return nil, fmt.Errorf("%w: seed row %q: %w", ErrPrice, seed.ID, err)
		}
	}
	return c, nil
}

// Version is the name given to Parse.
func (c *Catalogue) Version() string { return c.version }

// Model finds a model by its exact id or alias.
func (c *Catalogue) Model(name string) (*Model, bool) {
	m, ok := c.models[name]
	return m, ok
}

// Raised is the catalogue with every price higher by a percentage, rounded up: what a provider charges in
// some regions. Its version says so.
func (c *Catalogue) Raised(percent int64) *Catalogue {
	raised := &Catalogue{version: fmt.Sprintf("%s+%d%%", c.version, percent), models: make(map[string]*Model, len(c.models))}
	copies := make(map[*Model]*Model, len(c.models))
	for name, m := range c.models {
		if copies[m] == nil {
			copies[m] = m.raised(percent)
		}
		raised.models[name] = copies[m]
	}
	return raised
}

func (m *Model) raised(percent int64) *Model {
	r := *m
	r.tiers = make(map[domain.Tier]tierRates, len(m.tiers))
	for tier, rates := range m.tiers {
		up := tierRates{standard: rates.standard.raised(percent)}
		if rates.long != nil {
			long := rates.long.raised(percent)
			up.long = &long
		}
		r.tiers[tier] = up
	}
	r.changes = slices.Clone(m.changes)
	for i := range r.changes {
		r.changes[i].rates = r.changes[i].rates.raised(percent)
	}
	return &r
}

// Names lists every id and alias, sorted.
func (c *Catalogue) Names() []string {
	names := make([]string, 0, len(c.models))
	for name := range c.models {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Nearest lists the names most like the given one, nearest first, at most n.
func (c *Catalogue) Nearest(name string, n int) []string {
	const longestName = 64 // the distance is quadratic in the length, and a longer name is no typing error
	if len(name) > longestName {
		name = name[:longestName]
	}
	names := c.Names()
	distance := make(map[string]int, len(names))
	for _, known := range names {
		distance[known] = editDistance(strings.ToLower(name), known)
	}
	slices.SortStableFunc(names, func(a, b string) int { return distance[a] - distance[b] })
	return names[:min(n, len(names))]
}

// Rates are the prices of a prompt of so many tokens at a tier and an instant. A prompt at or above the
// long-context threshold is priced wholly at the long rates: sources differ on the boundary itself, so
// the dearer reading counts. A tier the catalogue has no figure for is ErrPrice.
func (m *Model) Rates(tier domain.Tier, promptTokens int64, at time.Time) (Rates, error) {
	if tier == domain.TierAuto {
		return m.dearest(promptTokens, at), nil
	}
	rates, ok := m.tiers[tier]
	if !ok {
		return Rates{}, fmt.Errorf("%w: model %s has no price for service tier %q", ErrPrice, m.ID, tier)
	}
	if rates.long != nil && promptTokens >= m.longThreshold {
		return *rates.long, nil
	}
	standard := rates.standard
	if tier == domain.TierDefault {
		for _, change := range m.changes {
			if !at.Before(change.from) {
				standard = change.rates
			}
		}
	}
	return standard, nil
}

// dearest is the element-wise maximum over all tiers: what "auto" could be billed at.
func (m *Model) dearest(promptTokens int64, at time.Time) Rates {
	var top Rates
	for tier := range m.tiers {
		r, err := m.Rates(tier, promptTokens, at)
		if err != nil {
			continue // unreachable: the tier comes from the map itself
		}
		top.Input, top.Output = max(top.Input, r.Input), max(top.Output, r.Output)
		top.CachedInput, top.CacheWrite = max(top.CachedInput, r.CachedInput), max(top.CacheWrite, r.CacheWrite)
		top.AudioInput, top.AudioOutput = max(top.AudioInput, r.AudioInput), max(top.AudioOutput, r.AudioOutput)
	}
	return top
}

// Bound is the most a request can cost: so many prompt tokens at most, so many completion tokens over
// all choices, at the dearest of the standard and long rates the prompt could be billed at.
func (m *Model) Bound(tier domain.Tier, promptTokens, completionTokens int64, at time.Time) (domain.Amount, error) {
	short, err := m.Rates(tier, 0, at)
	if err != nil {
		return 0, err
	}
	long, err := m.Rates(tier, promptTokens, at)
	if err != nil {
		return 0, err
	}
	a, err := short.Bound(promptTokens, completionTokens)
	if err != nil {
		return 0, err
	}
	b, err := long.Bound(promptTokens, completionTokens)
	if err != nil {
		return 0, err
	}
	return max(a, b), nil
}

// Cost is what usage costs at a tier and an instant, rounded up once. See Rates for its errors.
func (m *Model) Cost(tier domain.Tier, usage domain.Usage, at time.Time) (domain.Amount, error) {
	rates, err := m.Rates(tier, usage.Prompt, at)
	if err != nil {
		return 0, err
	}
	return rates.Cost(usage)
}

// editDistance is Levenshtein's, over bytes, with two rows.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j+1]+1, row[j]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

// ParseTier reads the service_tier of a request or an answer. "fast" is what newer models call priority
// (OpenAI model pages, 2026-11). An unknown tier is ErrPrice: it could cost anything.
func ParseTier(s string) (domain.Tier, error) {
	switch s {
	case "auto":
		return domain.TierAuto, nil
	case "default", "standard":
		return domain.TierDefault, nil
	case "flex":
		return domain.TierFlex, nil
	case "priority", "fast":
		return domain.TierPriority, nil
	}
	return "", fmt.Errorf("%w: unknown service tier %q", ErrPrice, s)
}
