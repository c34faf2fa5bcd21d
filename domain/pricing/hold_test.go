package pricing_test

import (
	"errors"
	"math"
	"regexp"
	"testing"
	"time"

	"pgregory.net/rapid"

	. "github.com/budgetguard/budgetguard/domain"
	. "github.com/budgetguard/budgetguard/domain/pricing"
)

func hold(t *testing.T, m *Model, d Demand) Amount {
	t.Helper()
	d.Tier, d.At = TierDefault, november
	held, err := m.Hold(d)
	if err != nil {
		t.Fatal(err)
	}
	return held
}

func TestAHoldIsNoMoreThanTheContextWindowAllows(t *testing.T) {
	t.Parallel()
	m := model(t, loadCatalogue(t), "claude-sonnet-4-5")
	// A prompt of 250 KB is bounded by its bytes; the window has 200,000 tokens. Dearest is the longest
	// answer at 15, and what it leaves of the window written to the cache at 3.75 USD per million.
	held := hold(t, m, Demand{Prompt: 250_013, Output: m.MaxAnswer(nil, nil)})
	if want := Amount(64_000*15_000 + 136_000*3_750); held != want {
		t.Errorf("held %s, want %s", held, want)
	}
	// The window less the prompt's bound is no bound of the output: the prompt may be far smaller.
	held = hold(t, m, Demand{Prompt: 199_000, Output: 64_000})
	if least := Amount(64_000 * 15_000); held < least {
		t.Errorf("held %s: a short prompt with the longest answer costs %s", held, least)
	}
}

func TestWritesToALongerCacheAreHeldAtTheirPrice(t *testing.T) {
	t.Parallel()
	m := model(t, loadCatalogue(t), "claude-sonnet-4-5")
	if held := hold(t, m, Demand{Prompt: 1000, Output: 1}); held != 1000*3_750+15_000 {
		t.Errorf("five minutes are held at %s", held)
	}
	if held := hold(t, m, Demand{Prompt: 1000, Output: 1, LongCacheWrite: true}); held != 1000*6_000+15_000 {
		t.Errorf("an hour is held at %s", held)
	}
}

func TestAPredictionMayAllBeBilledAsOutput(t *testing.T) {
	t.Parallel()
	m := model(t, loadCatalogue(t), "gpt-4o")
	with := hold(t, m, Demand{Prompt: 100, Output: 10, Answers: 2, Predicted: 30})
	if without := hold(t, m, Demand{Prompt: 100, Output: 10, Answers: 2}); with != without+2*30*10_000 {
		t.Errorf("held %s with a prediction and %s without", with, without)
	}
}

// tiny is a model small enough to try every split of its window.
const tiny = `{"models":[{"id":"m","provider":"p","input":2,"cached_input":1,"cache_write":3,"cache_write_1h":5,"output":7,
	"context_window":12,"max_output_tokens":6,"long_context":{"threshold_input_tokens":5,"rule":"input_tokens > threshold",
	"input":4,"cached_input":1,"cache_write":6,"cache_write_1h":9,"output":8},"priority":{"input":3,"output":6}}]}`

func TestAHoldIsTheDearestOfEverySplitOfTheWindow(t *testing.T) {
	t.Parallel()
	m := model(t, parse(t, tiny), "m")
	rapid.Check(t, func(t *rapid.T) {
		small := rapid.Int64Range(0, 16)
		d := Demand{
			Tier:   rapid.SampledFrom([]Tier{TierDefault, TierPriority, TierAuto}).Draw(t, "tier"),
			Prompt: small.Draw(t, "prompt"), Output: small.Draw(t, "output"), Prompts: 1,
			Answers:        rapid.Int64Range(1, 3).Draw(t, "answers"),
			LongCacheWrite: rapid.Bool().Draw(t, "long"), At: november,
		}
		held, err := m.Hold(d)
		if err != nil {
			t.Fatal(err)
		}

		var dearest Amount
		window := int64(12)
		if d.Output > 0 {
			window-- // an answer has a token at least
		}
		for prompt := int64(0); prompt <= min(d.Prompt, window); prompt++ {
			for output := int64(0); output <= min(d.Output, 12-prompt); output++ {
				for _, u := range everyKind(prompt, output*d.Answers, d.LongCacheWrite) {
					cost, err := m.Cost(d.Tier, u, d.At, d.At)
					if err != nil {
						t.Fatal(err)
					}
					dearest = max(dearest, cost)
				}
			}
		}
		if held < dearest {
			t.Fatalf("%+v is held at %s and can cost %s", d, held, dearest)
		}
		// On the threshold itself either rates may hold; below and above it the hold is exact.
		if held > dearest && d.Tier != TierAuto && (d.Prompt < 5 || d.Prompt > 5 && d.Output == 0) {
			t.Fatalf("%+v is held at %s and costs %s at most", d, held, dearest)
		}
	})
}

// everyKind is a prompt that is plain, cached, or written to a cache as a whole.
func everyKind(prompt, completion int64, long bool) []Usage {
	kinds := []Usage{{}, {Cached: prompt}, {CacheWrite: prompt}}
	if long {
		kinds = append(kinds, Usage{CacheWrite: prompt, CacheWriteLong: prompt})
	}
	for i := range kinds {
		kinds[i].Prompt, kinds[i].Completion = prompt, completion
	}
	return kinds
}

// Text is all that can be estimated: a request with audio is refused before it is priced, so usage with
// audio tokens is outside what Hold promises.
func TestHoldIsNeverBelowTheCostOfWhatItsDemandAllows(t *testing.T) {
	t.Parallel()
	c := loadCatalogue(t)
	names := c.Names()
	rapid.Check(t, func(t *rapid.T) {
		m, _ := c.Model(rapid.SampledFrom(names).Draw(t, "model"))
		count := rapid.OneOf(rapid.Int64Range(0, 100), rapid.Int64Range(271_990, 272_010), rapid.Int64Range(0, 2_000_000))
		d := Demand{
			Tier:   rapid.SampledFrom([]Tier{TierDefault, TierFlex, TierPriority, TierAuto}).Draw(t, "tier"),
			Prompt: count.Draw(t, "promptBound"), Output: count.Draw(t, "outputBound"),
			Prompts: rapid.Int64Range(1, 4).Draw(t, "prompts"), Answers: rapid.Int64Range(1, 4).Draw(t, "answers"),
			LongCacheWrite: true,
			At:             november.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "days")) * 24 * time.Hour),
		}
		held, err := m.Hold(d)
		if errors.Is(err, ErrPrice) {
			return
		}

		// Any usage within the demand and within the window of each prompt.
		u := drawUsage(t, count)
		u.AudioPrompt, u.AudioAnswer = 0, 0
		u.Prompt = min(max(u.Prompt, 0), d.Prompt)
		each := min(max(u.Completion, 0), d.Output)
		if m.ContextWindow > 0 {
			u.Prompt = min(u.Prompt, d.Prompts*(m.ContextWindow-1))
			each = min(each, m.ContextWindow-(u.Prompt+d.Prompts-1)/d.Prompts)
		}
		u.Completion = max(each, 0) * d.Answers * d.Prompts
		u.Cached = min(max(u.Cached, 0), u.Prompt)
		u.CacheWrite = min(max(u.CacheWrite, 0), u.Prompt-u.Cached)
		u.CacheWriteLong = min(max(u.CacheWriteLong, 0), u.CacheWrite)
		cost, costErr := m.Cost(d.Tier, u, d.At, d.At)
		if err != nil || costErr != nil || cost > held {
			t.Fatalf("%s: cost of %+v = %s, %v; held %s, %v", m.ID, u, cost, costErr, held, err)
		}
	})
}

func TestAHoldOutOfRangeIsRefused(t *testing.T) {
	t.Parallel()
	m := model(t, parse(t, `{"models":[{"id":"m","input":1,"output":1}]}`), "m")
	for _, d := range []Demand{
		{Prompt: -1},
		{Output: -1},
		{Answers: -1},
		{Prompts: -1},
		{Predicted: -1},
		{Prompt: 1 << 62},
		{Output: 1 << 62},
		{Output: 1 << 40, Answers: 1 << 40},
		{Output: math.MaxInt64, Predicted: 1},
	} {
		d.Tier = TierDefault
		if got, err := m.Hold(d); !errors.Is(err, ErrAmount) {
			t.Errorf("%+v: got %s, %v; want ErrAmount", d, got, err)
		}
	}
}

func TestACapHoldsOnlyWhereTheProviderObeysIt(t *testing.T) {
	t.Parallel()
	c := loadCatalogue(t)
	n := func(n int64) *int64 { return &n }
	for _, row := range []struct {
		rule, model           string
		maxTokens, completion *int64
		want                  int64
	}{
		{"DeepSeek ignores max_completion_tokens", "deepseek-v4-pro", nil, n(5), 384_000},
		{"and obeys max_tokens", "deepseek-v4-pro", n(5), nil, 5},
		{"of two caps the larger counts, whichever is obeyed", "deepseek-v4-pro", n(5), n(9), 9},
		{"OpenAI obeys both", "gpt-4o", nil, n(5), 5},
		{"and refuses a cap above the model's maximum", "gpt-4o", n(100_000), nil, 16_384},
		{"a maximum that is not proven does not cap what was asked", "codestral-latest", n(100_000), nil, 100_000},
		{"nor what was not", "codestral-latest", nil, nil, 256_000},
		{"the window does", "codestral-latest", n(300_000), nil, 256_000},
		{"no cap is the maximum", "gpt-4o", nil, nil, 16_384},
		{"zero is no cap", "gpt-4o", n(0), nil, 16_384},
	} {
		if got := model(t, c, row.model).MaxAnswer(row.maxTokens, row.completion); got != row.want {
			t.Errorf("%s: %s answers with up to %d tokens, want %d", row.rule, row.model, got, row.want)
		}
	}
	unknown := model(t, parse(t, `{"models":[{"id":"m","provider":"x","input":1,"output":1,"max_output_tokens":10,"context_window":50}]}`), "m")
	if got := unknown.MaxAnswer(nil, n(5)); got != 50 {
		t.Errorf("an unknown provider is believed to obey max_completion_tokens: %d", got)
	}
}

func TestLongContextIsSettledByTheRowsOwnRule(t *testing.T) {
	t.Parallel()
	usage := Usage{Prompt: 200_000, Completion: 1000}
	m := model(t, loadCatalogue(t), "gemini-2.5-pro")
	if cost, err := m.Cost(TierDefault, usage, november, november); err != nil || cost != usd("0.26") {
		t.Errorf("on the boundary: %s, %v", cost, err)
	}
	if held := hold(t, m, Demand{Prompt: 200_000, Output: 1000}); held != usd("0.515") {
		t.Errorf("held %s: a hold takes the dearer reading of the boundary", held)
	}
	silent := model(t, parse(t, `{"models":[{"id":"m","input":1,"output":1,"long_context":{"threshold_input_tokens":10,"input":2,"output":2}}]}`), "m")
	if cost, err := silent.Cost(TierDefault, Usage{Prompt: 10}, november, november); err != nil || cost != 20_000 {
		t.Errorf("a rule that is not known is read as the dearer: %s, %v", cost, err)
	}
}

func TestHoursOffThePeakCostLessOnlyWhenTheWholeCallWasOffIt(t *testing.T) {
	t.Parallel()
	m := model(t, loadCatalogue(t), "deepseek-v4-pro")
	usage := Usage{Prompt: 1_000_000, Completion: 1_000_000}
	at := func(clock string) time.Time {
		t.Helper()
		instant, err := time.Parse(time.RFC3339, "2026-12-01T"+clock+"Z")
		if err != nil {
			t.Fatal(err)
		}
		return instant
	}
	const peak, cheap = "5.28", "2.64"
	for _, c := range []struct {
		began, ended time.Time
		want         string
	}{
		{at("00:00:00"), at("00:59:59"), cheap},
		{at("00:00:00"), at("01:00:00"), peak},
		{at("03:59:59"), at("05:00:00"), peak},
		{at("04:00:00"), at("05:59:59"), cheap},
		{at("05:00:00"), at("11:00:00"), peak}, // it runs through one
		{at("10:00:00"), at("23:00:00"), cheap},
		{at("23:00:00"), at("01:30:00").Add(24 * time.Hour), peak},
		{at("23:00:00").In(time.FixedZone("", 5*3600)), at("23:30:00"), cheap},
		{at("12:00:00"), at("12:00:00").Add(30 * time.Hour), peak},
	} {
		if cost, err := m.Cost(TierDefault, usage, c.began, c.ended); err != nil || cost != usd(c.want) {
			t.Errorf("%s to %s: %s, %v; want %s", c.began, c.ended, cost, err, c.want)
		}
	}
	d := Demand{Tier: TierDefault, Prompt: 1_000_000, Output: 1, At: at("12:00:00")}
	if held, err := m.Hold(d); err != nil || held < usd("1.31") {
		t.Errorf("held %s, %v: a hold is made at the peak", held, err)
	}
}

func TestAPriceChangeMovesEveryTierAndLongPrompts(t *testing.T) {
	t.Parallel()
	m := model(t, parse(t, `{"models":[{"id":"m","input":2,"output":8,"flex":{"input":1,"output":4},
		"long_context":{"threshold_input_tokens":100,"rule":"> threshold","input":4,"output":12},
		"price_changes":[{"effective":"2027-01-01","input":4,"output":16}]}]}`), "m")
	after := time.Date(2027, time.January, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		tier   Tier
		prompt int64
		want   Price
	}{{TierDefault, 1, 4_000_000}, {TierDefault, 100, 8_000_000}, {TierFlex, 1, 2_000_000}, {TierFlex, 100, 4_000_000}} {
		if got := rates(t, m, c.tier, c.prompt, after).Input; got != c.want {
			t.Errorf("%s at %d tokens: %d, want %d", c.tier, c.prompt, got, c.want)
		}
	}
}

// The gravest fault there was: a search model under an alias of a row without its fee.
func TestNoNameOfAProductBilledByTheCallIsPricedByTokens(t *testing.T) {
	t.Parallel()
	c := loadCatalogue(t)
	byCall := regexp.MustCompile(`search|deep-research|compound|sonar|computer-use-agent`)
	marked := 0
	for _, name := range c.Names() {
		m := model(t, c, name)
		if byCall.MatchString(name) && !m.BillsByCall {
			t.Errorf("%s is priced by its tokens alone", name)
		}
		if m.BillsByCall {
			marked++
		}
	}
	if marked < 8 {
		t.Errorf("%d names are marked: is the catalogue read?", marked)
	}
}

func TestARouterIsBilledAtWhatItRoutesTo(t *testing.T) {
	t.Parallel()
	c := loadCatalogue(t)
	for _, row := range []struct {
		asked, answered string
		want            bool
	}{
		{"gpt-5", "gpt-5-2025-08-07", true}, // an alias: the same row
		{"mistral-medium-latest", "mistral-medium-2508", true},
		{"gpt-4o", "gpt-4o-mini", false},
		{"gpt-4o-mini", "gpt-4o", false},
	} {
		if got := model(t, c, row.asked).Routes(model(t, c, row.answered)); got != row.want {
			t.Errorf("%s answered by %s: %t", row.asked, row.answered, got)
		}
	}
}

func TestImagesAreCountedByTheirDocumentedRules(t *testing.T) {
	t.Parallel()
	c := loadCatalogue(t)
	for _, row := range []struct {
		model         string
		width, height int64
		detail        string
		want          int64
	}{
		{"gpt-4o", 1024, 1024, "high", 765}, // the examples of OpenAI's page
		{"gpt-4o", 2048, 4096, "high", 1105},
		{"gpt-4o", 4096, 8192, "low", 85},
		{"gpt-4o", 0, 0, "", 1445},
		{"gpt-4o", 1, 1 << 40, "", 1445},
		{"gpt-4o-mini", 1024, 1024, "", 2833 + 4*5667},
		{"gpt-5", 0, 0, "auto", 1190},
		{"o3", 0, 0, "auto", 1275},
		{"gpt-4.1-mini", 1024, 1024, "", 1659},
		{"gpt-4.1-mini", 0, 0, "", 2489},
		{"gpt-6-sol", 0, 0, "", 15_000},
		{"claude-haiku-4-5", 280, 280, "", 100},
		{"claude-haiku-4-5", 0, 0, "", 1568},
		{"claude-opus-4-7", 0, 0, "", 4784},
		{"gemini-2.5-flash", 0, 0, "", 4128},
	} {
		got, ok := model(t, c, row.model).ImageTokens(row.width, row.height, row.detail)
		if !ok || got != row.want {
			t.Errorf("%s, %dx%d %s: %d, %t; want %d", row.model, row.width, row.height, row.detail, got, ok, row.want)
		}
	}
	if _, ok := model(t, c, "gpt-3.5-turbo").ImageTokens(1, 1, ""); ok {
		t.Error("a model without eyes has a rule for images")
	}
}

func TestNoImageIsDearerThanOneOfUnknownSize(t *testing.T) {
	t.Parallel()
	c := loadCatalogue(t)
	names := c.Names()
	rapid.Check(t, func(t *rapid.T) {
		m, _ := c.Model(rapid.SampledFrom(names).Draw(t, "model"))
		side := rapid.Int64Range(1, 20_000)
		detail := rapid.SampledFrom([]string{"", "auto", "low", "high"}).Draw(t, "detail")
		got, ok := m.ImageTokens(side.Draw(t, "width"), side.Draw(t, "height"), detail)
		if most, _ := m.ImageTokens(0, 0, ""); ok && got > most {
			t.Fatalf("%s: %d tokens, and %d for an unknown size", m.ID, got, most)
		}
	})
}
