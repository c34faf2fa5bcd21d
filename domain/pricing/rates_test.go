package pricing_test

import (
	"errors"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	. "github.com/budgetguard/budgetguard/domain"
	. "github.com/budgetguard/budgetguard/domain/pricing"
)

func TestCostIsRoundedUpOnceToTheNanoDollar(t *testing.T) {
	t.Parallel()
	rates := Rates{Input: 1, CachedInput: 1, CacheWrite: 1, Output: 1, AudioInput: 1, AudioOutput: 1}
	for _, c := range []struct {
		rule  string
		usage Usage
		nanos Amount
	}{
		{"nothing costs nothing", Usage{}, 0},
		{"one pico-dollar costs a nano-dollar", Usage{Prompt: 1}, 1},
		{"a thousand pico-dollars are exactly one", Usage{Prompt: 400, Completion: 600}, 1},
		{"the rest of all kinds together is rounded once", Usage{Prompt: 500, Cached: 100, CacheWrite: 100, AudioPrompt: 100, Completion: 501, AudioAnswer: 100}, 2},
	} {
		if got, err := rates.Cost(c.usage); err != nil || got != c.nanos {
			t.Errorf("%s: got %d, %v; want %d", c.rule, got, err, c.nanos)
		}
	}
}

func TestCostTakesEachTokenOnceAtItsKindsPrice(t *testing.T) {
	t.Parallel()
	rates := Rates{Input: 1_000_000, CachedInput: 100_000, CacheWrite: 1_250_000, Output: 8_000_000, AudioInput: 32_000_000, AudioOutput: 64_000_000}
	usage := Usage{Prompt: 1000, Cached: 200, CacheWrite: 100, AudioPrompt: 50, Completion: 300, Reasoning: 250, AudioAnswer: 20}
	want := Amount(650*1000 + 200*100 + 100*1250 + 50*32_000 + 280*8000 + 20*64_000)
	if got, err := rates.Cost(usage); err != nil || got != want {
		t.Errorf("got %d, %v; want %d", got, err, want)
	}
}

func TestCostNeverTurnsAbsurdUsageIntoACredit(t *testing.T) {
	t.Parallel()
	rates := Rates{Input: 1_000_000, CachedInput: 100_000, CacheWrite: 1_000_000, Output: 2_000_000, AudioInput: 1_000_000, AudioOutput: 2_000_000}
	for _, c := range []struct {
		rule  string
		usage Usage
		want  Amount
	}{
		{"negative counts are none", Usage{Prompt: -5, Completion: -7, Cached: -1, CacheWrite: -1, AudioPrompt: -1, AudioAnswer: -1}, 0},
		{"more cached than prompt is all cached", Usage{Prompt: 10, Cached: 1_000_000}, 1000},
		{"cached and written together stay within the prompt", Usage{Prompt: 10, Cached: 6, CacheWrite: 9, AudioPrompt: 9}, 6*100 + 4*1000},
		{"more audio than answer is all audio", Usage{Completion: 3, AudioAnswer: 8}, 6000},
	} {
		if got, err := rates.Cost(c.usage); err != nil || got != c.want {
			t.Errorf("%s: got %d, %v; want %d", c.rule, got, err, c.want)
		}
	}
}

func TestCostOutOfRangeIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule  string
		rates Rates
		usage Usage
	}{
		{"just above the largest amount", Rates{Input: 1_000_000}, Usage{Prompt: 1_000_000_000_000_001}},
		{"a quotient above 64 bits", Rates{Input: math.MaxInt64}, Usage{Prompt: math.MaxInt64}},
		{"a sum above 128 bits", Rates{Input: math.MaxInt64, Output: math.MaxInt64, CachedInput: math.MaxInt64, AudioOutput: math.MaxInt64}, Usage{Prompt: math.MaxInt64, Completion: math.MaxInt64}},
	} {
		if got, err := c.rates.Cost(c.usage); !errors.Is(err, ErrAmount) {
			t.Errorf("%s: got %s, %v; want ErrAmount", c.rule, got, err)
		}
	}
	if got, err := (Rates{Input: 1_000_000}).Cost(Usage{Prompt: 1_000_000_000_000_000}); err != nil || got != MaxAmount {
		t.Errorf("the largest amount itself: got %s, %v", got, err)
	}
	for _, tokens := range [][2]int64{{-1, 0}, {0, -1}} {
		if _, err := (Rates{}).Bound(tokens[0], tokens[1]); !errors.Is(err, ErrAmount) {
			t.Errorf("Bound%v: got %v; want ErrAmount", tokens, err)
		}
	}
}

// tokenCount draws counts with weight on small and on huge ones.
func tokenCount() *rapid.Generator[int64] {
	return rapid.OneOf(rapid.Int64Range(-3, 50), rapid.Int64Range(0, 2_000_000), rapid.Int64())
}

func price() *rapid.Generator[Price] {
	return rapid.Map(rapid.OneOf(rapid.Int64Range(0, 3), rapid.Int64Range(0, 600_000_000), rapid.Int64Range(0, math.MaxInt64)),
		func(p int64) Price { return Price(p) })
}

func TestCostAgreesWithBigIntegers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := Rates{
			Input: price().Draw(t, "input"), CachedInput: price().Draw(t, "cached"), CacheWrite: price().Draw(t, "write"),
			Output: price().Draw(t, "output"), AudioInput: price().Draw(t, "audioIn"), AudioOutput: price().Draw(t, "audioOut"),
		}
		u := drawUsage(t, tokenCount())
		want := bigCost(r, u)
		got, err := r.Cost(u)
		if want.Cmp(big.NewInt(int64(MaxAmount))) > 0 {
			if !errors.Is(err, ErrAmount) {
				t.Fatalf("cost %s is out of range but gave %d, %v", want, got, err)
			}
			return
		}
		if err != nil || want.Cmp(big.NewInt(int64(got))) != 0 {
			t.Fatalf("cost = %d, %v; want %s", got, err, want)
		}
	})
}

func drawUsage(t *rapid.T, count *rapid.Generator[int64]) Usage {
	return Usage{
		Prompt: count.Draw(t, "prompt"), Cached: count.Draw(t, "cachedTokens"), CacheWrite: count.Draw(t, "writeTokens"),
		AudioPrompt: count.Draw(t, "audioPrompt"), Completion: count.Draw(t, "completion"), AudioAnswer: count.Draw(t, "audioAnswer"),
		Reasoning: count.Draw(t, "reasoning"),
	}
}

// bigCost is the rule in other words: spend each prompt token as cached, then written, then audio, then plain.
func bigCost(r Rates, u Usage) *big.Int {
	picos := new(big.Int)
	spend := func(left *int64, want int64, p Price) {
		n := max(0, min(*left, want))
		*left -= n
		picos.Add(picos, new(big.Int).Mul(big.NewInt(n), big.NewInt(int64(p))))
	}
	prompt, completion := max(0, u.Prompt), max(0, u.Completion)
	spend(&prompt, u.Cached, r.CachedInput)
	spend(&prompt, u.CacheWrite, r.CacheWrite)
	spend(&prompt, u.AudioPrompt, r.AudioInput)
	spend(&prompt, prompt, r.Input)
	spend(&completion, u.AudioAnswer, r.AudioOutput)
	spend(&completion, completion, r.Output)
	nanos, rest := new(big.Int).QuoRem(picos, big.NewInt(1000), new(big.Int))
	if rest.Sign() > 0 {
		nanos.Add(nanos, big.NewInt(1))
	}
	return nanos
}
