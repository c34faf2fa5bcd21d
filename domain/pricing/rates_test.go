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
	rates := Rates{Input: 1, CachedInput: 1, CacheWrite: 1, Output: 1, AudioInput: 1, AudioOutput: 1, CacheWriteLong: 1}
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

func TestWritesToALongerCacheHaveAPriceOfTheirOwn(t *testing.T) {
	t.Parallel()
	rates := Rates{Input: 3_000_000, CacheWrite: 3_750_000, CacheWriteLong: 6_000_000, Output: 15_000_000}
	for _, c := range []struct {
		usage Usage
		want  Amount
	}{
		{Usage{Prompt: 100, CacheWrite: 50, CacheWriteLong: 20}, 50*3000 + 30*3750 + 20*6000},
		{Usage{Prompt: 100, CacheWriteLong: 20}, 80*3000 + 20*6000}, // a report that names the part only
	} {
		if got, err := rates.Cost(c.usage); err != nil || got != c.want {
			t.Errorf("%+v: got %d, %v; want %d", c.usage, got, err, c.want)
		}
	}
}

func TestCostNeverTurnsAbsurdUsageIntoACreditAndLosesNoPart(t *testing.T) {
	t.Parallel()
	rates := Rates{Input: 1_000_000, CachedInput: 100_000, CacheWrite: 1_000_000, Output: 2_000_000, AudioInput: 1_000_000, AudioOutput: 2_000_000}
	for _, c := range []struct {
		rule  string
		usage Usage
		want  Amount
	}{
		{"negative counts are none", Usage{Prompt: -5, Completion: -7, Cached: -1, CacheWrite: -1, AudioPrompt: -1, AudioAnswer: -1, CacheWriteLong: -1}, 0},
		{"more cached than prompt is billed as cached", Usage{Prompt: 10, Cached: 1_000_000}, 1_000_000 * 100},
		{"parts that are larger than their whole are all billed", Usage{Prompt: 10, Cached: 6, CacheWrite: 9, AudioPrompt: 9}, 6*100 + 9*1000 + 9*1000},
		{"more audio than answer is billed as audio", Usage{Completion: 3, AudioAnswer: 8}, 16_000},
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
			CacheWriteLong: price().Draw(t, "writeLong"),
			Output:         price().Draw(t, "output"), AudioInput: price().Draw(t, "audioIn"), AudioOutput: price().Draw(t, "audioOut"),
		}
		u := drawUsage(t, tokenCount())
		want := bigCost(r, u)
		got, err := r.Cost(u)
		if tooMany(u) {
			if !errors.Is(err, ErrAmount) {
				t.Fatalf("%+v gave %d, %v", u, got, err)
			}
			return
		}
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
		Reasoning: count.Draw(t, "reasoning"), CacheWriteLong: count.Draw(t, "writeLongTokens"),
	}
}

// tooMany reports whether a figure is above what any call has.
func tooMany(u Usage) bool {
	return max(u.Prompt, u.Cached, u.CacheWrite, u.CacheWriteLong, u.AudioPrompt, u.Completion, u.AudioAnswer) > 1<<60
}

// bigCost is the rule in other words: every part at its price, and the rest of its whole at the plain one.
func bigCost(r Rates, u Usage) *big.Int {
	picos, positive := new(big.Int), func(n int64) int64 { return max(n, 0) }
	bill := func(n int64, p Price) {
		picos.Add(picos, new(big.Int).Mul(big.NewInt(n), big.NewInt(int64(p))))
	}
	rest := func(whole int64, parts ...int64) int64 {
		left := big.NewInt(positive(whole))
		for _, part := range parts {
			left.Sub(left, big.NewInt(positive(part)))
		}
		if left.Sign() < 0 {
			return 0
		}
		return left.Int64()
	}
	long := positive(u.CacheWriteLong)
	write := max(positive(u.CacheWrite), long)
	bill(positive(u.Cached), r.CachedInput)
	bill(long, r.CacheWriteLong)
	bill(write-long, r.CacheWrite)
	bill(positive(u.AudioPrompt), r.AudioInput)
	bill(rest(u.Prompt, u.Cached, write, u.AudioPrompt), r.Input)
	bill(positive(u.AudioAnswer), r.AudioOutput)
	bill(rest(u.Completion, u.AudioAnswer), r.Output)
	nanos, remainder := new(big.Int).QuoRem(picos, big.NewInt(1000), new(big.Int))
	if remainder.Sign() > 0 {
		nanos.Add(nanos, big.NewInt(1))
	}
	return nanos
}
