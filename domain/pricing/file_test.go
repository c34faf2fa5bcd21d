package pricing_test

import (
	"errors"
	"os"
	"testing"

	. "github.com/budgetguard/budgetguard/domain"
	. "github.com/budgetguard/budgetguard/domain/pricing"
)

func TestMalformedCataloguesAreRefused(t *testing.T) {
	t.Parallel()
	for rule, text := range map[string]string{
		"not JSON":                    `models`,
		"nothing":                     ``,
		"data after the document":     `{"models":[{"id":"m","input":1,"output":1}]} {}`,
		"no models":                   `{"models":[]}`,
		"null":                        `null`,
		"no id":                       `{"models":[{"input":1,"output":1}]}`,
		"no input price":              `{"models":[{"id":"m","output":1}]}`,
		"no output price":             `{"models":[{"id":"m","input":1}]}`,
		"a negative price":            `{"models":[{"id":"m","input":-1,"output":1}]}`,
		"a negative cached price":     `{"models":[{"id":"m","input":1,"output":1,"cached_input":-0.1}]}`,
		"a price of seven places":     `{"models":[{"id":"m","input":0.0000001,"output":1}]}`,
		"a price with an exponent":    `{"models":[{"id":"m","input":1e-3,"output":1}]}`,
		"a price out of range":        `{"models":[{"id":"m","input":99999999999999999999,"output":1}]}`,
		"a price that is no number":   `{"models":[{"id":"m","input":"free","output":1}]}`,
		"an id twice":                 `{"models":[{"id":"m","input":1,"output":1},{"id":"m","input":1,"output":1}]}`,
		"an alias that is an id":      `{"models":[{"id":"m","input":1,"output":1},{"id":"n","aliases":["m"],"input":1,"output":1}]}`,
		"an alias twice":              `{"models":[{"id":"m","aliases":["a","a"],"input":1,"output":1}]}`,
		"an empty alias":              `{"models":[{"id":"m","aliases":[""],"input":1,"output":1}]}`,
		"negative output tokens":      `{"models":[{"id":"m","input":1,"output":1,"max_output_tokens":-1}]}`,
		"a negative context":          `{"models":[{"id":"m","input":1,"output":1,"context_window":-1}]}`,
		"a threshold of zero":         `{"models":[{"id":"m","input":1,"output":1,"long_context":{"input":1,"output":1}}]}`,
		"a long price without output": `{"models":[{"id":"m","input":1,"output":1,"long_context":{"threshold_input_tokens":9,"input":1}}]}`,
		"a tier without prices":       `{"models":[{"id":"m","input":1,"output":1,"flex":{}}]}`,
		"a tier's bad long price":     `{"models":[{"id":"m","input":1,"output":1,"priority":{"input":1,"output":1,"long_context":{"input":-1,"output":1}}}]}`,
		"a price change on no day":    `{"models":[{"id":"m","input":1,"output":1,"price_changes":[{"effective":"soon","input":1,"output":1}]}]}`,
		"a price change to nothing":   `{"models":[{"id":"m","input":1,"output":1,"price_changes":[{"effective":"2027-01-01"}]}]}`,
		"a by-call product as tokens": `{"models":[{"id":"m","aliases":["m-search-preview"],"input":1,"output":1}]}`,
		"an unknown field for a cap":  `{"models":[{"id":"m","input":1,"output":1,"output_caps":["maxTokens"]}]}`,
		"a negative preamble":         `{"models":[{"id":"m","input":1,"output":1,"preamble_tokens":-1}]}`,
		"an unknown image rule":       `{"models":[{"id":"m","input":1,"output":1,"image":{"kind":"pixels"}}]}`,
		"an image rule without size":  `{"models":[{"id":"m","input":1,"output":1,"image":{"kind":"patches","permille":1000,"most":9}}]}`,
		"off peak at no hour":         `{"models":[{"id":"m","input":1,"output":1,"off_peak":{"input":1,"output":1}}]}`,
		"off peak across midnight":    `{"models":[{"id":"m","input":1,"output":1,"off_peak":{"input":1,"output":1,"peak_hours_utc":["23:00-01:00"]}}]}`,
		"off peak at odd hours":       `{"models":[{"id":"m","input":1,"output":1,"off_peak":{"input":1,"output":1,"peak_hours_utc":["1am-2am"]}}]}`,
		"a seed row of no model":      `{"models":[{"id":"m","input":1,"output":1}],"seed_rows":[{"id":"n","input":1,"output":1}]}`,
		"a seed row without output":   `{"models":[{"id":"m","input":1,"output":1}],"seed_rows":[{"id":"m","input":1}]}`,
	} {
		if c, err := Parse([]byte(text), "v"); !errors.Is(err, ErrPrice) || c != nil {
			t.Errorf("%s: got %v, %v; want ErrPrice", rule, c, err)
		}
	}
}

func TestCatalogueGapsCostWhatTheirKindCosts(t *testing.T) {
	t.Parallel()
	c := parse(t, `{"models":[{"id":"m","encoding":"o200k_base","provider":"p","input":1.5,"output":3.000000,"cached_input":null,
		"max_output_tokens":100,"context_window":200}]}`)
	m := model(t, c, "m")
	want := Rates{Input: 1_500_000, CachedInput: 1_500_000, CacheWrite: 1_500_000, CacheWriteLong: 1_500_000, Output: 3_000_000, AudioInput: 1_500_000, AudioOutput: 3_000_000}
	if got := rates(t, m, TierDefault, 0, november); got != want {
		t.Errorf("got %+v; want %+v", got, want)
	}
	if m.Encoding != "o200k_base" || m.Provider != "p" || m.MaxOutput != 100 || m.ContextWindow != 200 {
		t.Errorf("got %+v", m)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"models":[{"id":"m","aliases":["n"],"input":1,"output":0.5,"flex":{"input":1,"output":1}}],"seed_rows":[{"id":"n","input":2,"output":2}]}`))
	f.Add([]byte(`{"models":[{"id":"m","input":"1","output":1.,"long_context":{"threshold_input_tokens":5,"input":1,"output":1}}]}`))
	if data, err := os.ReadFile(pricesFile); err == nil {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data, "fuzz")
		if err != nil {
			return
		}
		for _, name := range c.Names() {
			m, ok := c.Model(name)
			if !ok || name == "" {
				t.Fatalf("name %q finds %v", name, m)
			}
			held, err := m.Hold(Demand{Tier: TierDefault, Prompt: 1000, Output: 1000, At: november})
			if err != nil || m.ContextWindow > 0 && m.ContextWindow < 2000 {
				continue
			}
			usage := Usage{Prompt: 1000, Cached: 400, CacheWrite: 600, Completion: 1000}
			if cost, err := m.Cost(TierDefault, usage, november, november); err != nil || cost > held {
				t.Fatalf("%s costs %s, %v; held %s", name, cost, err, held)
			}
		}
	})
}
