package mockupstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// ErrPrices is the kind of every error about the price catalogue.
var ErrPrices = errors.New("price catalogue")

const (
	// A price has at most six places after the point per million tokens, which is one pico-dollar per token.
	pricePlaces = 6
	// No model costs 1,000,000 USD per million tokens; a longer number is a mistake in the catalogue.
	priceDigits = 6
)

// rates are prices in pico-dollars per token.
type rates struct{ input, output int64 }

// tier is the price of one service tier: flat, or with other rates for long prompts.
type tier struct {
	short rates
	long  *rates
}

// sheet is all prices of one model from an instant on.
type sheet struct {
	from      time.Time
	threshold int64 // prompt tokens above which the long rates hold; 0 = flat
	inclusive bool  // they hold at the threshold too
	offPeak   *offPeak
	standard  tier
	flex      *tier
	priority  *tier
}

// model is one row of the catalogue. Its sheets ascend by date, the first holds since ever.
type model struct {
	id        string
	dated     string // the snapshot a response names when the id was asked for
	index     int32
	maxOutput int64 // 0 = unknown
	sheets    []sheet
}

func (m *model) at(now time.Time) sheet {
	current := m.sheets[0]
	for _, s := range m.sheets[1:] {
		if !s.from.After(now) {
			current = s
		}
	}
	return current
}

// catalogue finds a model by its id or any alias. It is read-only once built.
type catalogue struct {
	byName map[string]*model
	models []*model
	names  []string // sorted
}

type catalogueJSON struct {
	SeedRows []struct {
		ID     string       `json:"id"`
		Input  *json.Number `json:"input"`
		Output *json.Number `json:"output"`
	} `json:"seed_rows"`
	Models []map[string]json.RawMessage `json:"models"`
}

type ratesJSON struct {
	Input  *json.Number `json:"input"`
	Output *json.Number `json:"output"`
}

type tierJSON struct {
	ratesJSON
	LongContext *struct {
		ratesJSON
		Threshold int64  `json:"threshold_input_tokens"`
		Rule      string `json:"rule"`
	} `json:"long_context"`
}

type rowJSON struct {
	tierJSON
	ID        string                       `json:"id"`
	Aliases   []string                     `json:"aliases"`
	MaxOutput *int64                       `json:"max_output_tokens"`
	Flex      *tierJSON                    `json:"flex"`
	Priority  *tierJSON                    `json:"priority"`
	Changes   []map[string]json.RawMessage `json:"price_changes"`
	OffPeak   *struct {
		ratesJSON
		PeakHours []string `json:"peak_hours_utc"`
	} `json:"off_peak"`
}

// readPrices builds the catalogue. A seed row replaces every price of the model it names, and so of that model's
// aliases: one flat rate, no tiers.
func readPrices(data []byte) (*catalogue, error) {
	var doc catalogueJSON
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%w: read: %w", ErrPrices, err)
	}
	c := &catalogue{byName: make(map[string]*model)}
	for i, row := range doc.Models {
		if err := c.add(row); err != nil {
			return nil, fmt.Errorf("%w: model %d: %w", ErrPrices, i, err)
		}
	}
	for _, seed := range doc.SeedRows {
		flat, err := ratesJSON{seed.Input, seed.Output}.read()
		if err != nil {
			return nil, fmt.Errorf("%w: seed row %s: %w", ErrPrices, seed.ID, err)
		}
		m, known := c.byName[seed.ID]
		if !known {
			if m, err = c.enter(rowJSON{ID: seed.ID}); err != nil {
				return nil, fmt.Errorf("%w: seed row %s: %w", ErrPrices, seed.ID, err)
			}
		}
		m.sheets = []sheet{{standard: tier{short: flat}}}
	}
	if len(c.byName) == 0 {
		return nil, fmt.Errorf("%w: it has no models", ErrPrices)
	}
	c.names = slices.Sorted(maps.Keys(c.byName))
	return c, nil
}

func (c *catalogue) add(raw map[string]json.RawMessage) error {
	row, err := decodeRow(raw)
	if err != nil {
		return err
	}
	m, err := c.enter(row)
	if err != nil {
		return err
	}
	first, err := row.sheet()
	if err != nil {
		return fmt.Errorf("%s: %w", row.ID, err)
	}
	m.sheets = []sheet{first}
	present := raw
	for _, change := range row.Changes {
		// A change names only what changes: it is laid over the row as it stood before.
		present = maps.Clone(present)
		maps.Copy(present, change)
		s, err := changedSheet(present)
		if err != nil {
			return fmt.Errorf("%s: price change: %w", row.ID, err)
		}
		if !s.from.After(m.sheets[len(m.sheets)-1].from) {
			return fmt.Errorf("%s: price changes are not in the order of their dates", row.ID)
		}
		m.sheets = append(m.sheets, s)
	}
	return nil
}

func decodeRow(raw map[string]json.RawMessage) (rowJSON, error) {
	var row rowJSON
	whole, err := json.Marshal(raw)
	if err != nil {
		return row, fmt.Errorf("join row: %w", err)
	}
	if err := json.NewDecoder(bytes.NewReader(whole)).Decode(&row); err != nil {
		return row, fmt.Errorf("decode row: %w", err)
	}
	return row, nil
}

func changedSheet(raw map[string]json.RawMessage) (sheet, error) {
	var day string
	if err := json.Unmarshal(raw["effective"], &day); err != nil {
		return sheet{}, fmt.Errorf("read effective: %w", err)
	}
	from, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return sheet{}, fmt.Errorf("read effective: %w", err)
	}
	row, err := decodeRow(raw)
	if err != nil {
		return sheet{}, err
	}
	s, err := row.sheet()
	s.from = from
	return s, err
}

// enter makes the model known under all its names.
func (c *catalogue) enter(row rowJSON) (*model, error) {
	m := &model{id: row.ID, dated: snapshot(row.ID, row.Aliases)}
	if n := len(c.models); n > 0 {
		m.index = c.models[n-1].index + 1
	}
	if row.MaxOutput != nil && *row.MaxOutput > 0 {
		m.maxOutput = *row.MaxOutput
	}
	for _, name := range append([]string{row.ID}, row.Aliases...) {
		if !plain(name) {
			return nil, fmt.Errorf("name %q is not plain ASCII", name)
		}
		if _, taken := c.byName[name]; taken {
			return nil, fmt.Errorf("name %s appears twice", name)
		}
		c.byName[name] = m
	}
	c.models = append(c.models, m)
	return m, nil
}

// plain reports whether a name can stand between the quotes of a JSON string as it is.
func plain(name string) bool {
	odd := func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }
	return name != "" && !strings.ContainsFunc(name, odd)
}

// snapshot is the newest dated alias of an id ("gpt-4" has gpt-4-0613), or the id itself.
func snapshot(id string, aliases []string) string {
	date := regexp.MustCompile(`^` + regexp.QuoteMeta(id) + `-(\d{4}|\d{4}-\d{2}-\d{2})$`)
	newest := id
	for _, alias := range aliases {
		if date.MatchString(alias) {
			newest = max(newest, alias)
		}
	}
	return newest
}

func (row rowJSON) sheet() (sheet, error) {
	var s sheet
	var err error
	if s.standard, err = row.read(); err != nil {
		return s, err
	}
	if row.LongContext != nil {
		if s.threshold = row.LongContext.Threshold; s.threshold <= 0 {
			return s, fmt.Errorf("long_context has no threshold_input_tokens")
		}
		s.inclusive = !strings.Contains(row.LongContext.Rule, "> threshold")
	}
	if row.OffPeak != nil {
		cheap, err := row.OffPeak.read()
		if err != nil {
			return s, fmt.Errorf("off_peak: %w", err)
		}
		s.offPeak = &offPeak{cheap, row.OffPeak.PeakHours}
	}
	if s.flex, err = row.Flex.option(); err != nil {
		return s, fmt.Errorf("flex: %w", err)
	}
	if s.priority, err = row.Priority.option(); err != nil {
		return s, fmt.Errorf("priority: %w", err)
	}
	return s, nil
}

func (t *tierJSON) option() (*tier, error) {
	if t == nil {
		return nil, nil // not offered
	}
	read, err := t.read()
	return &read, err
}

func (t tierJSON) read() (tier, error) {
	short, err := t.ratesJSON.read()
	if err != nil || t.LongContext == nil {
		return tier{short: short}, err
	}
	long, err := t.LongContext.read()
	if err != nil {
		return tier{}, fmt.Errorf("long_context: %w", err)
	}
	return tier{short: short, long: &long}, nil
}

func (r ratesJSON) read() (rates, error) {
	input, err := pico(r.Input)
	if err != nil {
		return rates{}, fmt.Errorf("input: %w", err)
	}
	output, err := pico(r.Output)
	if err != nil {
		return rates{}, fmt.Errorf("output: %w", err)
	}
	return rates{input, output}, nil
}

// pico reads USD per million tokens, which is micro-dollars per token, as pico-dollars per token. It works on the
// digits as they are written; no float is involved.
func pico(n *json.Number) (int64, error) {
	if n == nil {
		return 0, fmt.Errorf("price is missing")
	}
	whole, fraction, _ := strings.Cut(n.String(), ".")
	if whole == "" || len(whole) > priceDigits || len(fraction) > pricePlaces {
		return 0, fmt.Errorf("price %s is not exact in pico-dollars per token", n)
	}
	var value int64
	for _, digit := range whole + fraction + strings.Repeat("0", pricePlaces-len(fraction)) {
		if digit < '0' || digit > '9' {
			return 0, fmt.Errorf("price %s is not a plain number", n)
		}
		value = value*10 + int64(digit-'0')
	}
	return value, nil
}
