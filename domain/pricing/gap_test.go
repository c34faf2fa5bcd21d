package pricing_test

import (
	"testing"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
	. "github.com/budgetguard/budgetguard/domain/pricing"
)

const gapCatalogue = `{"models":[{"id":"m","provider":"p","input":2,"output":8,"max_output_tokens":10,
	"long_context":{"threshold_input_tokens":100,"input":4,"output":12},
	"priority":{"input":5,"output":20},
	"flex":{"input":1,"output":4,"long_context":{"input":3,"output":5}},
	"price_changes":[{"effective":"2027-01-01","input":0.000001,"output":7}]}]}`

func TestATierWithoutAFigureForLongPromptsGetsTheDefaultTiersRatio(t *testing.T) {
	t.Parallel()
	c, err := Parse([]byte(gapCatalogue), "v")
	if err != nil {
		t.Fatal(err)
	}
	m, _ := c.Model("m")
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	for tier, want := range map[Tier][2]Price{TierDefault: {4_000_000, 12_000_000}, TierPriority: {10_000_000, 30_000_000}, TierFlex: {3_000_000, 5_000_000}} {
		r, err := m.Rates(tier, 100, at)
		if err != nil || r.Input != want[0] || r.Output != want[1] {
			t.Errorf("%s: %+v, %v; want %v", tier, r, err, want)
		}
	}
}

func TestARaisedCatalogueRoundsEveryPriceUpAndSaysSo(t *testing.T) {
	t.Parallel()
	c, err := Parse([]byte(gapCatalogue), "v")
	if err != nil {
		t.Fatal(err)
	}
	raised := c.Raised(10)
	if raised.Version() != "v+10%" {
		t.Errorf("version %q", raised.Version())
	}
	m, _ := raised.Model("m")
	before, after := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, want := range []struct {
		tier   Tier
		prompt int64
		at     time.Time
		input  Price
	}{
		{TierDefault, 1, before, 2_200_000},
		{TierDefault, 100, before, 4_400_000},
		{TierPriority, 1, before, 5_500_000},
		{TierDefault, 1, after, 2}, // 1.1 pico-dollars
	} {
		if r, err := m.Rates(want.tier, want.prompt, want.at); err != nil || r.Input != want.input {
			t.Errorf("%s at %d tokens: %d, %v; want %d", want.tier, want.prompt, r.Input, err, want.input)
		}
	}
	m, _ = c.Model("m")
	if r, err := m.Rates(TierDefault, 1, before); err != nil || r.Input != 2_000_000 {
		t.Error("the catalogue it came from changed")
	}
}
