package pricing

import (
	"math"
	"math/bits"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	permille = 1000
	// allowedMax bounds what one overrun can teach, in tokens: no model takes or gives more. It keeps
	// an absurd report from making a model unusable for good.
	allowedMax = 10_000_000
	// dearestPermille bounds what one overrun can teach about money: a hundred times the hold.
	dearestPermille = 100 * permille
	// proportional is the share of a bound, in thousandths, up to which what it lacked is taken to grow
	// with the prompt. A larger one is a preamble: it comes once, however long the prompt.
	proportional = 500
)

// Allowance is added to the bounds of one model's requests, because a call cost more than it was held
// at. It only grows: a bound that proved wrong once is not trusted again. The zero Allowance adds
// nothing. It is a value, safe to copy.
type Allowance struct {
	// Prompt are tokens added to the bound of a prompt, unless PromptPermille of that bound, in
	// thousandths, are more.
	Prompt, PromptPermille int64
	// Answer are tokens added to the most one answer can have; Uncapped reports that a cap was ignored,
	// so that only the model's own maximum holds.
	Answer   int64
	Uncapped bool
	// CostPermille are thousandths of the whole hold that are added to it: for what neither a longer
	// prompt nor a longer answer explains.
	CostPermille int64
}

// Overrun is a call that cost more than its hold, in tokens and money.
type Overrun struct {
	// PromptBound is the bound before any allowance, PromptBilled what was billed.
	PromptBound, PromptBilled int64
	// Cap is the most one answer was held at, before any allowance; Answers are those that were
	// generated, and AnswersBilled the output tokens of all of them.
	Cap, Answers, AnswersBilled int64
}

// After is the allowance with what an overrun teaches: the same call again has bounds at or above what
// was billed.
func (a Allowance) After(o Overrun) Allowance {
	next := a
	if over := o.PromptBilled - o.PromptBound; over > 0 && o.PromptBound > 0 {
		next.Prompt = max(next.Prompt, min(over, allowedMax))
		if share := ceilDiv(over, permille, o.PromptBound); share <= proportional {
			next.PromptPermille = max(next.PromptPermille, share)
		}
	}

	each := ceilDiv(o.AnswersBilled, 1, max(o.Answers, 1))
	if over := each - o.Cap; over > 0 {
		next.Answer = max(next.Answer, min(over, allowedMax))
		// A few tokens above a cap are another way of counting; twice the cap is no cap at all.
		next.Uncapped = next.Uncapped || each > 2*max(o.Cap, 1)
	}
	return next
}

// AfterCost is the allowance that raises a hold to what was charged, up to a hundred times the hold.
func (a Allowance) AfterCost(held, charged domain.Amount) Allowance {
	if held <= 0 || charged <= held {
		return a
	}
	share := ceilDiv(int64(charged-held), permille, int64(held))
	a.CostPermille = max(a.CostPermille, min(share, dearestPermille))
	return a
}

// Or is the larger of each part of both: what two gateways learnt.
func (a Allowance) Or(b Allowance) Allowance {
	return Allowance{
		Prompt:         max(a.Prompt, b.Prompt),
		PromptPermille: max(a.PromptPermille, b.PromptPermille),
		Answer:         max(a.Answer, b.Answer),
		Uncapped:       a.Uncapped || b.Uncapped,
		CostPermille:   max(a.CostPermille, b.CostPermille),
	}
}

// OnPrompt is the bound of a prompt with the allowance.
func (a Allowance) OnPrompt(bound int64) int64 {
	return bound + max(a.Prompt, ceilDiv(bound, a.PromptPermille, permille))
}

// OnCost is a hold with the allowance, at most domain.MaxAmount.
func (a Allowance) OnCost(held domain.Amount) domain.Amount {
	if a.CostPermille == 0 {
		return held
	}
	more := ceilDiv(int64(held), a.CostPermille, permille)
	if more > int64(domain.MaxAmount)-int64(held) {
		return domain.MaxAmount
	}
	return held + domain.Amount(more)
}

// ceilDiv is n×by÷of, rounded up; it saturates. None is negative, and of is not 0.
func ceilDiv(n, by, of int64) int64 {
	hi, lo := bits.Mul64(uint64(n), uint64(by)) //nolint:gosec // callers pass no negative number
	if hi >= uint64(of) {                       //nolint:gosec // see above
		return math.MaxInt64
	}
	quotient, remainder := bits.Div64(hi, lo, uint64(of)) //nolint:gosec // see above
	if remainder > 0 {
		quotient++
	}
	return int64(min(quotient, math.MaxInt64))
}
