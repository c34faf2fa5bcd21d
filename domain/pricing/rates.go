package pricing

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"

	"github.com/budgetguard/budgetguard/domain"
)

// Price is what one token costs, in pico-dollars (10⁻¹² USD). A catalogue's "USD per million tokens" is
// exactly Price×10⁻⁶, so every published price is an integer here.
type Price int64

const (
	pricePlaces  = 6
	picosPerNano = 1000
)

// parsePrice reads dollars per million tokens, exactly: at most six places, not negative.
func parsePrice(s string) (Price, error) {
	whole, fraction, point := strings.Cut(s, ".")
	fraction = strings.TrimRight(fraction, "0")
	if !allDigits(whole) || (point && fraction != "" && !allDigits(fraction)) || len(fraction) > pricePlaces {
		return 0, fmt.Errorf("price %q is not a plain decimal with at most %d places", s, pricePlaces)
	}
	picos, err := strconv.ParseInt(whole+fraction+strings.Repeat("0", pricePlaces-len(fraction)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("price %q is out of range", s)
	}
	return Price(picos), nil
}

// Rates are the prices of one model at one service tier and prompt length, with every gap of the
// catalogue filled: no cached discount means the input price, no write surcharge too.
type Rates struct {
	Input, CachedInput, CacheWrite, Output, AudioInput, AudioOutput Price
}

// each applies a function to every price.
func (r Rates) each(f func(Price) Price) Rates {
	return Rates{
		Input: f(r.Input), CachedInput: f(r.CachedInput), CacheWrite: f(r.CacheWrite), Output: f(r.Output),
		AudioInput: f(r.AudioInput), AudioOutput: f(r.AudioOutput),
	}
}

func (r Rates) raised(percent int64) Rates {
	return r.each(func(p Price) Price { return p.times(100+Price(percent), 100) })
}

// times is p×by÷of, rounded up. A catalogue's prices are so far below the bounds of int64 (parsePrice
// refuses what is not) that only a nonsensical factor could overflow, and that saturates.
func (p Price) times(by, of Price) Price {
	if by <= 0 || of <= 0 {
		return p
	}
	hi, lo := bits.Mul64(uint64(p), uint64(by)) //nolint:gosec // prices are read without a sign
	if hi >= uint64(of) {
		return math.MaxInt64
	}
	quotient, remainder := bits.Div64(hi, lo, uint64(of))
	if remainder > 0 {
		quotient++
	}
	return Price(min(quotient, math.MaxInt64))
}

// sane is u with every figure clamped into its bounds: providers have sent negative counts and more
// cached tokens than prompt tokens, and neither may turn a charge into a credit.
func sane(u domain.Usage) domain.Usage {
	u.Prompt, u.Completion = max(u.Prompt, 0), max(u.Completion, 0)
	u.Cached = min(max(u.Cached, 0), u.Prompt)
	u.CacheWrite = min(max(u.CacheWrite, 0), u.Prompt-u.Cached)
	u.AudioPrompt = min(max(u.AudioPrompt, 0), u.Prompt-u.Cached-u.CacheWrite)
	u.AudioAnswer = min(max(u.AudioAnswer, 0), u.Completion)
	return u
}

// Cost is what usage costs at these rates, rounded up once to the nano-dollar. The products are summed
// in 128 bits; a sum above MaxAmount is ErrAmount.
func (r Rates) Cost(usage domain.Usage) (domain.Amount, error) {
	u := sane(usage)
	var sum picos
	sum.add(u.Prompt-u.Cached-u.CacheWrite-u.AudioPrompt, r.Input)
	sum.add(u.Cached, r.CachedInput)
	sum.add(u.CacheWrite, r.CacheWrite)
	sum.add(u.AudioPrompt, r.AudioInput)
	sum.add(u.Completion-u.AudioAnswer, r.Output)
	sum.add(u.AudioAnswer, r.AudioOutput)
	return sum.nanosUp()
}

// Bound is the most that so many prompt and completion tokens can cost at these rates: every prompt
// token at the dearest input price, since what the provider caches or writes is not ours to choose.
func (r Rates) Bound(promptTokens, completionTokens int64) (domain.Amount, error) {
	if promptTokens < 0 || completionTokens < 0 {
		return 0, fmt.Errorf("%w: negative token count", domain.ErrAmount)
	}
	var sum picos
	sum.add(promptTokens, max(r.Input, r.CachedInput, r.CacheWrite))
	sum.add(completionTokens, r.Output)
	return sum.nanosUp()
}

// picos is an unsigned 128-bit sum of pico-dollars.
type picos struct {
	hi, lo   uint64
	overflow bool
}

func (p *picos) add(tokens int64, price Price) {
	hi, lo := bits.Mul64(uint64(tokens), uint64(price)) //nolint:gosec // callers clamp tokens, prices are read without a sign
	var carry uint64
	p.lo, carry = bits.Add64(p.lo, lo, 0)
	p.hi, carry = bits.Add64(p.hi, hi, carry)
	p.overflow = p.overflow || carry != 0
}

// nanosUp divides by a thousand and rounds up, in favour of the budget's safety.
func (p *picos) nanosUp() (domain.Amount, error) {
	if p.overflow || p.hi >= picosPerNano {
		return 0, fmt.Errorf("%w: the cost is out of range", domain.ErrAmount)
	}
	quotient, remainder := bits.Div64(p.hi, p.lo, picosPerNano)
	if remainder > 0 {
		quotient++
	}
	if quotient > uint64(domain.MaxAmount) {
		return 0, fmt.Errorf("%w: the cost is above %s USD", domain.ErrAmount, domain.MaxAmount)
	}
	return domain.Amount(quotient), nil
}

func allDigits(s string) bool {
	return s != "" && strings.IndexFunc(s, func(c rune) bool { return c < '0' || c > '9' }) < 0
}
