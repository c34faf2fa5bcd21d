package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain/pricing"
)

// The amounts are those of issue 8, in nano-dollars, computed by hand from the providers' prices.
func TestAUsageIsPricedByItsDocumentedMeaning(t *testing.T) {
	t.Parallel()
	o, err := newOracle(pricing.Embedded())
	if err != nil {
		t.Fatal(err)
	}
	const cached = `"total_tokens":25,"prompt_tokens_details":{"cached_tokens":13710}}`
	for _, c := range []struct {
		model, usage, request string
		want                  int64
	}{
		{"gemini-2.5-flash", `{"prompt_tokens":5,"completion_tokens":20,` + cached, "", 462_800},
		{"gpt-5", `{"prompt_tokens":12,"completion_tokens":1,` +
			`"completion_tokens_details":{"reasoning_tokens":386}}`, "", 3_885_000},
		{"claude-sonnet-4-5", `{"completion_tokens":467,"prompt_tokens":31,"total_tokens":498,` +
			`"cache_creation_input_tokens":1253,` +
			`"cache_creation":{"ephemeral_1h_input_tokens":1253}}`, "", 14_616_000},
		{"claude-sonnet-4-5", `{"completion_tokens":467,"prompt_tokens":31,` +
			`"cache_creation_input_tokens":1253}`, `{"ttl": "1h"}`, 14_616_000},
		{"gpt-5", `{"prompt_tokens":"19","completion_tokens":"213"}`, "", 2_153_750},
		{
			"gpt-4o", `{"prompt_tokens":20,"completion_tokens":60,"prompt_tokens_details":null}`,
			"", 650_000,
		},
		{"gpt-4o", `{"prompt_tokens":20,"completion_tokens":10,"total_tokens":80}`, "", 650_000},
		{"gemini-2.5-pro", `{"prompt_tokens":200000,"completion_tokens":1000}`, "", 260_000_000},
		{"gemini-2.5-pro", `{"prompt_tokens":200001,"completion_tokens":1000}`, "", 515_002_500},
		{"gpt-3.5-turbo-instruct", `{"prompt_tokens":12,"completion_tokens":0}`, "", 18_000},
	} {
		longWrites := strings.Contains(c.request, "1h")
		r := record{Asked: c.model, Answered: c.model}
		got, ok := o.cost(r, readings(json.RawMessage(c.usage), longWrites), time.Time{})
		if !ok || got != c.want {
			t.Errorf("%s %s: %d, %t, want %d", c.model, c.usage, got, ok, c.want)
		}
	}
}

// rows is a catalogue with one of everything that prices depend on.
const rows = `{"models":[
	{"id":"hours","input":2,"output":2,
		"off_peak":{"peak_hours_utc":["22:00-02:00"],"input":1,"output":1}},
	{"id":"dated","input":1,"output":1,
		"price_changes":[{"effective":"2027-01-01","input":3,"output":3}]},
	{"id":"tiers","input":2,"output":2,"cache_write":4,"flex":{"input":1,"output":1},
		"long_context":{"threshold_input_tokens":100,"input":5,"output":5}},
	{"id":"spoken","input":1,"output":1,"audio_input":10,"audio_output":20},
	{"id":"router","input":9,"output":9,"routes_to":["hours"]}]}`

func TestPricesDependOnTheHourTheDayTheTierAndTheModel(t *testing.T) {
	t.Parallel()
	o, err := newOracle([]byte(rows))
	if err != nil {
		t.Fatal(err)
	}
	const ten = `{"prompt_tokens":10,"completion_tokens":0}`
	day := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		asked, answered, tier, usage string
		at                           time.Time
		want                         int64 // nano-dollars; 0 for no price
	}{
		{"hours", "", "", ten, day.Add(time.Hour), 20_000},
		{"hours", "", "", ten, day.Add(23 * time.Hour), 20_000},
		{"hours", "", "", ten, day.Add(2 * time.Hour), 10_000},
		{"dated", "", "", ten, day, 10_000},
		{"dated", "", "", ten, day.AddDate(0, 1, 0), 30_000},
		{"tiers", "", "flex", ten, day, 10_000},
		{"tiers", "", "default", ten, day, 20_000},
		{"tiers", "", "flex", `{"prompt_tokens":100,"completion_tokens":0}`, day, 0},
		{"tiers", "", "", `{"prompt_tokens":100,"completion_tokens":0}`, day, 500_000},
		// Flex names no price for writes: they are twice its input, as in the row itself.
		{"tiers", "", "flex", `{"prompt_tokens":10,` +
			`"prompt_tokens_details":{"cache_write_tokens":10}}`, day, 20_000},
		{"spoken", "", "", `{"prompt_tokens":10,"prompt_tokens_details":{"audio_tokens":4},` +
			`"completion_tokens":10,"completion_tokens_details":{"audio_tokens":5}}`, day, 151_000},
		{"router", "hours", "", ten, day.Add(3 * time.Hour), 10_000},
		{"router", "dated", "", ten, day, 90_000},
		{"dated", "router", "", ten, day, 90_000},
		{"unknown", "dated", "", ten, day, 0},
	} {
		r := record{Asked: c.asked, Answered: c.answered, Tier: c.tier}
		got, ok := o.cost(r, readings(json.RawMessage(c.usage), false), c.at)
		if got != c.want || ok != (c.want > 0) {
			t.Errorf("%s, %s, %s at %s: %d, %t", c.asked, c.tier, c.usage, c.at, got, ok)
		}
	}
}

func TestFiguresThatNoTableKnowsAreNamed(t *testing.T) {
	t.Parallel()
	got := unknownFigures(json.RawMessage(
		`{"prompt_tokens":1,"draft_tokens":2,"details":{"video_tokens":3,"x":4}}`))
	if !slices.Equal(got, []string{"details.video_tokens", "draft_tokens"}) {
		t.Errorf("%q", got)
	}
}
