package pricing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ErrPrice is the kind of every refusal to price a request or to read a catalogue.
var ErrPrice = errors.New("no price")

// Catalogue holds the prices of every model that may be forwarded, by id and alias. It never changes
// after Parse and is safe for concurrent use.
type Catalogue struct {
	version string
	models  map[string]*Model
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
		if err := c.add(row, file.Providers[row.Provider]); err != nil {
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
