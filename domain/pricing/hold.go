package pricing

import (
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// Demand is the most that a request asks for, in tokens.
type Demand struct {
	Tier domain.Tier
	// Prompt bounds the tokens of all prompts together, Output those of one answer.
	Prompt, Output int64
	// Prompts is how many prompts there are, Answers how many answers are generated for each.
	Prompts, Answers int64
	// Predicted are tokens of a prediction: those that do not occur are billed as output, for each answer
	// (OpenAI API reference, predicted outputs).
	Predicted int64
	// LongCacheWrite reports that the request may write to a longer-lived cache, at its price.
	LongCacheWrite bool
	At             time.Time
}

// Hold is the most that a demand can cost: the dearest of every split of it that the model's context
// window allows.
//
// A prompt's bound may be far above the prompt, so the window less the bound is no bound of the output:
// every prompt from nothing to its bound is possible, and with it the output that the window leaves.
// Cost is linear in both, so the dearest split is at a corner. Long rates hold from the threshold on,
// whatever the row's rule says of the boundary. Its errors are those of Rates, and domain.ErrAmount
// where the hold is above domain.MaxAmount.
func (m *Model) Hold(d Demand) (domain.Amount, error) {
	if d.Prompt < 0 || d.Output < 0 || d.Prompts < 0 || d.Answers < 0 || d.Predicted < 0 {
		return 0, fmt.Errorf("%w: negative token count", domain.ErrAmount)
	}
	short, err := m.rates(d.Tier, false, d.At)
	if err != nil {
		return 0, err
	}
	splits := m.splits(d)
	if m.long.threshold == 0 || splits.prompt < m.long.threshold {
		return d.dearest(short, splits, 0, splits.prompt)
	}

	// Below the threshold the short rates hold; on it either may, and the dearer counts.
	long, err := m.rates(d.Tier, true, d.At)
	if err != nil {
		return 0, err
	}
	low, err := d.dearest(short, splits, 0, m.long.threshold)
	if err != nil {
		return 0, err
	}
	high, err := d.dearest(long, splits, m.long.threshold, splits.prompt)
	return max(low, high), err
}

// splits are how a window can be shared between prompt and output, summed over the prompts. Output is
// that of one answer for each prompt.
type splits struct {
	prompt, output int64
	window         int64 // of both together; math.MaxInt64 without one
}

func (m *Model) splits(d Demand) splits {
	prompts := max(d.Prompts, 1)
	s := splits{prompt: d.Prompt, output: product(d.Output, prompts), window: math.MaxInt64}
	if m.ContextWindow > 0 {
		s.window = product(m.ContextWindow, prompts)
		// An answer has a token at least, which no prompt can take. An embedding or an echo has none.
		answered := min(s.output, prompts)
		s.prompt = min(s.prompt, max(s.window-answered, 0))
	}
	return s
}

// dearest is the most that a split with a prompt from least to most can cost at these rates.
func (d Demand) dearest(r Rates, s splits, least, most int64) (domain.Amount, error) {
	input := max(r.Input, r.CachedInput, r.CacheWrite)
	if d.LongCacheWrite {
		input = max(input, r.CacheWriteLong)
	}

	// Where the window begins to take from the output.
	kink := min(max(s.window-s.output, least), most)
	var top domain.Amount
	for _, prompt := range [...]int64{least, kink, most} {
		output := min(s.output, s.window-prompt)
		answers := product(output, max(d.Answers, 1))
		predicted := product(product(d.Predicted, max(d.Answers, 1)), max(d.Prompts, 1))
		if answers > math.MaxInt64-predicted {
			return 0, fmt.Errorf("%w: the output is out of range", domain.ErrAmount)
		}
		var sum picos
		sum.add(prompt, input)
		sum.add(answers+predicted, r.Output)
		cost, err := sum.nanosUp()
		if err != nil {
			return 0, err
		}
		top = max(top, cost)
	}
	return top, nil
}

// product is a×b, none of them negative, saturated.
func product(a, b int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b)) //nolint:gosec // none is negative
	if hi > 0 || lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(lo)
}
