package pricing_test

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
	. "github.com/budgetguard/budgetguard/domain/pricing"
)

const pricesFile = "prices.json"

func loadCatalogue(t *testing.T) *Catalogue {
	t.Helper()
	data, err := os.ReadFile(pricesFile)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(data, "2026-11-22")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func model(t *testing.T, c *Catalogue, name string) *Model {
	t.Helper()
	m, ok := c.Model(name)
	if !ok {
		t.Fatalf("no model %s", name)
	}
	return m
}

func TestCatalogueLoadsEveryModelUnderItsIDAndAliases(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(pricesFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Models []struct {
			ID, Provider string
			Aliases      []string
			MaxOutput    int64 `json:"max_output_tokens"`
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	c := loadCatalogue(t)
	names := 0
	for _, row := range file.Models {
		for _, name := range append([]string{row.ID}, row.Aliases...) {
			names++
			if m := model(t, c, name); m.ID != row.ID || m.Provider != row.Provider || m.MaxOutput != row.MaxOutput {
				t.Errorf("%s finds %+v; want %+v", name, m, row)
			}
		}
	}
	if got := c.Names(); len(got) != names || !slices.IsSorted(got) || len(file.Models) < 100 {
		t.Errorf("%d names, sorted %v, of %d models; want %d", len(got), slices.IsSorted(got), len(file.Models), names)
	}
	if c.Version() != "2026-11-22" {
		t.Errorf("version %q", c.Version())
	}
}

var november = time.Date(2026, time.November, 22, 0, 0, 0, 0, time.UTC)

func rates(t *testing.T, m *Model, tier Tier, prompt int64, at time.Time) Rates {
	t.Helper()
	r, err := m.Rates(tier, prompt, at)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSeedRowsOverrideAModelAndItsAliases(t *testing.T) {
	t.Parallel()
	c := loadCatalogue(t)
	for name, want := range map[string][2]Price{
		"gpt-3.5-turbo": {1_000_000, 2_000_000}, "gpt-3.5-turbo-0125": {1_000_000, 2_000_000},
		"gpt-4": {30_000_000, 60_000_000}, "gpt-4-0613": {30_000_000, 60_000_000},
		"gpt-4-turbo": {10_000_000, 30_000_000}, "gpt-4-turbo-preview": {10_000_000, 30_000_000},
	} {
		if got := rates(t, model(t, c, name), TierDefault, 0, november); got.Input != want[0] || got.Output != want[1] || got.CachedInput != want[0] {
			t.Errorf("%s costs %+v; want %v", name, got, want)
		}
	}
	cost, err := model(t, c, "gpt-3.5-turbo").Cost(TierDefault, Usage{Prompt: 1000, Completion: 1000}, november, november)
	if err != nil || cost != usd("0.003") {
		t.Errorf("1K in, 1K out of gpt-3.5-turbo cost %s, %v; want 0.003", cost, err)
	}
}

func TestTiersHaveTheirOwnPricesAndAutoCostsTheDearest(t *testing.T) {
	t.Parallel()
	m := model(t, loadCatalogue(t), "gpt-5.4")
	for tier, want := range map[Tier]Rates{
		TierDefault:  {Input: 2_500_000, CachedInput: 250_000, CacheWrite: 2_500_000, CacheWriteLong: 2_500_000, Output: 15_000_000, AudioInput: 2_500_000, AudioOutput: 15_000_000},
		TierFlex:     {Input: 1_250_000, CachedInput: 130_000, CacheWrite: 1_250_000, CacheWriteLong: 1_250_000, Output: 7_500_000, AudioInput: 1_250_000, AudioOutput: 7_500_000},
		TierPriority: {Input: 5_000_000, CachedInput: 500_000, CacheWrite: 5_000_000, CacheWriteLong: 5_000_000, Output: 30_000_000, AudioInput: 5_000_000, AudioOutput: 30_000_000},
		TierAuto:     {Input: 5_000_000, CachedInput: 500_000, CacheWrite: 5_000_000, CacheWriteLong: 5_000_000, Output: 30_000_000, AudioInput: 5_000_000, AudioOutput: 30_000_000},
	} {
		if got := rates(t, m, tier, 1000, november); got != want {
			t.Errorf("%s: got %+v; want %+v", tier, got, want)
		}
	}
	// gpt-4 is sold at one tier only; at another its price is not known, so it is not guessed.
	gpt4 := model(t, loadCatalogue(t), "gpt-4")
	for _, tier := range []Tier{TierPriority, TierFlex, "", "scale"} {
		if _, err := gpt4.Rates(tier, 0, november); !errors.Is(err, ErrPrice) {
			t.Errorf("tier %q: got %v; want ErrPrice", tier, err)
		}
		if _, err := gpt4.Cost(tier, Usage{}, november, november); !errors.Is(err, ErrPrice) {
			t.Errorf("cost at tier %q: got %v; want ErrPrice", tier, err)
		}
		if _, err := gpt4.Hold(Demand{Tier: tier, Prompt: 1, Output: 1, At: november}); !errors.Is(err, ErrPrice) {
			t.Errorf("hold at tier %q: got %v; want ErrPrice", tier, err)
		}
	}
}

func TestParseTierKnowsEveryNameOfATierAndNoOther(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Tier{
		"auto": TierAuto, "default": TierDefault, "standard": TierDefault, "flex": TierFlex, "priority": TierPriority, "fast": TierPriority,
		"on_demand": TierDefault,
	} {
		if got, err := ParseTier(text); err != nil || got != want {
			t.Errorf("%q = %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "scale", "Default", " flex"} {
		if _, err := ParseTier(text); !errors.Is(err, ErrPrice) {
			t.Errorf("%q: got %v; want ErrPrice", text, err)
		}
	}
}

func TestLongContextPricesTheWholePromptFromTheThresholdOn(t *testing.T) {
	t.Parallel()
	m := model(t, loadCatalogue(t), "gpt-5.4")
	const threshold = 272_000
	for prompt, want := range map[int64]Price{0: 2_500_000, threshold - 1: 2_500_000, threshold: 5_000_000, threshold + 1: 5_000_000} {
		if got := rates(t, m, TierDefault, prompt, november).Input; got != want {
			t.Errorf("a prompt of %d tokens costs %d a token; want %d", prompt, got, want)
		}
	}
	if got := rates(t, m, TierFlex, threshold, november).Output; got != 11_250_000 {
		t.Errorf("flex has its own long price: got %d", got)
	}
	// The row's rule is "> threshold": a prompt of exactly that is billed at the short rates.
	for prompt, want := range map[int64]Amount{
		threshold:     threshold*2_500 + 1000*15_000,
		threshold + 1: (threshold+1)*5_000 + 1000*22_500,
	} {
		cost, err := m.Cost(TierDefault, Usage{Prompt: prompt, Completion: 1000}, november, november)
		if err != nil || cost != want {
			t.Errorf("%d tokens cost %s, %v; want %s", prompt, cost, err, want)
		}
	}
}

func TestPriceChangesTakeEffectAtTheirDay(t *testing.T) {
	t.Parallel()
	m := model(t, loadCatalogue(t), "gemini-3.6-flash")
	newYear := time.Date(2027, time.January, 1, 0, 0, 0, 0, time.UTC)
	before := rates(t, m, TierDefault, 0, newYear.Add(-time.Nanosecond))
	after := rates(t, m, TierDefault, 0, newYear)
	if want := (Rates{Input: 1_500_000, CachedInput: 150_000, CacheWrite: 1_500_000, CacheWriteLong: 1_500_000, Output: 7_500_000, AudioInput: 1_500_000, AudioOutput: 7_500_000}); after != want || before == want {
		t.Errorf("before %+v, after %+v; want a change to %+v", before, after, want)
	}
	unsorted := parse(t, `{"models":[{"id":"m","input":1,"output":1,"price_changes":[
		{"effective":"2028-01-01","input":3,"output":3},{"effective":"2027-01-01","input":2,"output":2}]}]}`)
	if got := rates(t, model(t, unsorted, "m"), TierDefault, 0, newYear.AddDate(3, 0, 0)).Input; got != 3_000_000 {
		t.Errorf("the latest change does not win: input %d", got)
	}
}

func parse(t *testing.T, text string) *Catalogue {
	t.Helper()
	c, err := Parse([]byte(text), "test")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNearestNamesTheModelThatWasMeant(t *testing.T) {
	t.Parallel()
	c := loadCatalogue(t)
	for typed, meant := range map[string]string{"gpt-3.5-trubo": "gpt-3.5-turbo", "GPT-4": "gpt-4", "gpt4-turbo": "gpt-4-turbo", "gpt-4": "gpt-4"} {
		if got := c.Nearest(typed, 3); len(got) != 3 || got[0] != meant {
			t.Errorf("%s: got %v; want %s first", typed, got, meant)
		}
	}
	if got := c.Nearest(strings.Repeat("x", 1<<20), 1); len(got) != 1 {
		t.Errorf("a huge name: got %v", got)
	}
	if got := c.Nearest("x", 1<<20); len(got) != len(c.Names()) {
		t.Errorf("more than there are: got %d", len(got))
	}
}
