package pricing_test

import (
	"errors"
	"testing"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
	. "github.com/budgetguard/budgetguard/domain/pricing"
)

func cost(t *testing.T, m *Model, u Usage, at time.Time) Amount {
	t.Helper()
	got, err := m.Cost(TierDefault, u, at, at)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// A maximum that is not known proves nothing, whatever the provider enforces.
func TestAnUnknownMaximumIsNoBoundOfAnAnswer(t *testing.T) {
	t.Parallel()
	five := int64(5)
	many := int64(100_000)
	const enforced = `{"providers":{"p":{"max_output_enforced":true}},"models":[{"id":"m",`
	for name, c := range map[string]struct {
		row   string
		asked *int64
		want  int64
	}{
		"enforced, no cap": {`"provider":"p","context_window":9000`, nil, 9000},
		"enforced, a cap":  {`"provider":"p","context_window":9000`, &five, 5},
		"enforced, zero is unknown": {
			`"provider":"p","max_output_tokens":0,"context_window":9000`, nil, 9000,
		},
		"enforced, no window, a cap":  {`"provider":"p"`, &five, 5},
		"no proof, no window, a cap":  {`"max_output_tokens":4096`, &many, many},
		"no proof, no window, no cap": {`"max_output_tokens":4096`, nil, 4096},
		"no proof, a window":          {`"max_output_tokens":4096,"context_window":9000`, &many, 9000},
	} {
		catalogue := parse(t, enforced+`"input":1,"output":1,`+c.row+`}]}`)
		if got := model(t, catalogue, "m").MaxAnswer(c.asked, nil); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// With neither a maximum nor a window nor a cap there is no bound, and 0 must not stand for it.
func TestAnAnswerWithoutAnyBoundCannotBeHeld(t *testing.T) {
	t.Parallel()
	for price, want := range map[string]error{"1": ErrAmount, "0": nil} {
		m := model(t, parse(t, `{"models":[{"id":"m","input":1,"output":`+price+`}]}`), "m")
		d := Demand{Tier: TierDefault, Prompt: 10, Output: m.MaxAnswer(nil, nil), At: november}
		if _, err := m.Hold(d); !errors.Is(err, want) {
			t.Errorf("output at %s: got %v, want %v", price, err, want)
		}
	}
}

// An embedding or an echo generates nothing, so the prompt may fill the window.
func TestAPromptWithoutAnAnswerMayFillTheWindow(t *testing.T) {
	t.Parallel()
	m := model(t, parse(t, `{"models":[{"id":"m","input":1,"output":0,"max_output_tokens":0,
		"context_window":8192}]}`), "m")
	held, err := m.Hold(Demand{
		Tier: TierDefault, Prompt: 9000, Output: m.MaxAnswer(nil, nil), At: november,
	})
	if want := cost(t, m, Usage{Prompt: 8192}, november); err != nil || held != want {
		t.Errorf("held %s, %v; want %s", held, err, want)
	}
}

func TestALongPromptIsOneWhosePartsAreLong(t *testing.T) {
	t.Parallel()
	m := model(t, loadCatalogue(t), "gemini-2.5-pro")
	got := cost(t, m, Usage{Prompt: 5, Cached: 300_000}, november)
	if want := usd("0.075"); got != want {
		t.Errorf("300,000 cached tokens beside the prompt: %s, want %s", got, want)
	}
}

func TestASeedRowHasNoCheaperHours(t *testing.T) {
	t.Parallel()
	m := model(t, parse(t, `{"models":[{"id":"m","input":2,"output":2,
		"off_peak":{"peak_hours_utc":["01:00-04:00"],"input":1,"output":1}}],
		"seed_rows":[{"id":"m","input":3,"output":3}]}`), "m")
	noon := november.Add(12 * time.Hour)
	if got := cost(t, m, Usage{Prompt: 1000}, noon); got != usd("0.003") {
		t.Errorf("got %s, want the flat price 0.003", got)
	}
}

func TestHoursOffThePeakAreNeverDearer(t *testing.T) {
	t.Parallel()
	for name, prices := range map[string]string{
		"input": `"input":3,"output":1`, "output": `"input":1,"output":3`,
		"cached input": `"input":1,"cached_input":3,"output":1`,
	} {
		_, err := Parse([]byte(`{"models":[{"id":"m","input":2,"output":2,
			"off_peak":{"peak_hours_utc":["01:00-04:00"],`+prices+`}}]}`), "v")
		if !errors.Is(err, ErrPrice) {
			t.Errorf("%s: got %v, want ErrPrice: holds are made at the peak", name, err)
		}
	}
}

// A surcharge on writes does not end where a row of other prices is silent about it.
func TestAWriteSurchargeHoldsWhereAPartOfTheRowIsSilent(t *testing.T) {
	t.Parallel()
	m := model(t, parse(t, `{"models":[{"id":"m","input":2,"cache_write":2.5,"cache_write_1h":4,
		"output":2,"flex":{"input":1,"output":1},
		"long_context":{"threshold_input_tokens":100,"input":4,"output":4},
		"price_changes":[{"effective":"2027-01-01","input":6,"output":6}]}]}`), "m")
	changed := november.AddDate(1, 0, 0)
	for name, c := range map[string]struct {
		got         Rates
		write, long Price
	}{
		"flex":       {rates(t, m, TierFlex, 1, november), 1_250_000, 2_000_000},
		"long":       {rates(t, m, TierDefault, 100, november), 5_000_000, 8_000_000},
		"change":     {rates(t, m, TierDefault, 1, changed), 7_500_000, 12_000_000},
		"flex, then": {rates(t, m, TierFlex, 1, changed), 3_750_000, 6_000_000},
	} {
		if c.got.CacheWrite != c.write || c.got.CacheWriteLong != c.long {
			t.Errorf("%s: writes at %d and %d, want %d and %d",
				name, c.got.CacheWrite, c.got.CacheWriteLong, c.write, c.long)
		}
	}
}

func TestAFreeModelThatGetsAPriceIsFreeNowhere(t *testing.T) {
	t.Parallel()
	m := model(t, parse(t, `{"models":[{"id":"m","input":0,"output":0,"flex":{"input":0,"output":0},
		"long_context":{"threshold_input_tokens":100,"input":0,"output":0},
		"price_changes":[{"effective":"2027-01-01","input":2,"output":8}]}]}`), "m")
	changed := november.AddDate(1, 0, 0)
	for _, tier := range []Tier{TierDefault, TierFlex} {
		for _, prompt := range []int64{1, 100} {
			if got := rates(t, m, tier, prompt, changed); got.Input < 2_000_000 || got.Output < 8_000_000 {
				t.Errorf("%s at %d tokens: %+v", tier, prompt, got)
			}
		}
	}
}

func TestANameLikeAProductBilledByTheCallMustBeMarked(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"gpt-4o-search-preview", "gpt-7-search", "GPT-4o-Search-Preview", "o5-Deep-Research",
		"groq/compound-mini", "Sonar-Pro", "openai/gpt-4o:online",
	} {
		for _, row := range []string{`"id":"` + name + `"`, `"id":"m","aliases":["` + name + `"]`} {
			_, err := Parse([]byte(`{"models":[{`+row+`,"input":1,"output":1}]}`), "v")
			if !errors.Is(err, ErrPrice) {
				t.Errorf("%s: got %v, want ErrPrice", row, err)
			}
		}
	}
}

// The overheads are what providers add to prompts unseen; a missing one is a hold below the bill.
func TestTheCatalogueKnowsWhatProvidersAddToPrompts(t *testing.T) {
	t.Parallel()
	c := loadCatalogue(t)
	for name, least := range map[string]int64{
		"gpt-5": 47, "claude-haiku-4-5": 590, "llama-3.3-70b-versatile": 482, "openai/gpt-oss-120b": 91,
	} {
		l := model(t, c, name).Limits
		if got := l.Preamble + l.ToolPreamble + l.PerTool; got < least {
			t.Errorf("%s: %d tokens with one tool, recorded %d", name, got, least)
		}
	}
}
