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
	// tokensMax bounds each figure of a usage, so that sums of them stay in int64.
	tokensMax = 1 << 60
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
	Input, CachedInput, CacheWrite, CacheWriteLong, Output, AudioInput, AudioOutput Price
}

// with applies a function to every price of two rates.
func (r Rates) with(other Rates, f func(a, b Price) Price) Rates {
	return Rates{
		Input:          f(r.Input, other.Input),
		CachedInput:    f(r.CachedInput, other.CachedInput),
		CacheWrite:     f(r.CacheWrite, other.CacheWrite),
		CacheWriteLong: f(r.CacheWriteLong, other.CacheWriteLong),
		Output:         f(r.Output, other.Output),
		AudioInput:     f(r.AudioInput, other.AudioInput),
		AudioOutput:    f(r.AudioOutput, other.AudioOutput),
	}
}

func (r Rates) raised(percent int64) Rates {
	return r.with(r, func(p, _ Price) Price { return p.times(100+Price(percent), 100) })
}

// dearer is the larger price of each kind: what "auto" could be billed at.
func (r Rates) dearer(other Rates) Rates {
	return r.with(other, func(a, b Price) Price { return max(a, b) })
}

// scaled is r×by÷of, price by price and rounded up.
func (r Rates) scaled(by, of Rates) Rates {
	return Rates{
		Input:          r.Input.times(by.Input, of.Input),
		CachedInput:    r.CachedInput.times(by.CachedInput, of.CachedInput),
		CacheWrite:     r.CacheWrite.times(by.CacheWrite, of.CacheWrite),
		CacheWriteLong: r.CacheWriteLong.times(by.CacheWriteLong, of.CacheWriteLong),
		Output:         r.Output.times(by.Output, of.Output),
		AudioInput:     r.AudioInput.times(by.AudioInput, of.AudioInput),
		AudioOutput:    r.AudioOutput.times(by.AudioOutput, of.AudioOutput),
	}
}

// surcharged is r with the base's surcharge on cache writes, by ratio, where the row is silent
// about them: a surcharge that is not named does not end.
func (r Rates) surcharged(row rateRow, base Rates) Rates {
	if row.CacheWrite == nil {
		r.CacheWrite = max(r.CacheWrite, r.Input.times(base.CacheWrite, base.Input))
	}
	if row.CacheWriteLong == nil {
		r.CacheWriteLong = max(r.CacheWriteLong, r.Input.times(base.CacheWriteLong, base.Input))
	}
	return r
}

// times is p×by÷of, rounded up. A catalogue's prices are so far below the bounds of int64 (parsePrice
// refuses what is not) that only a nonsensical factor could overflow, and that saturates.
func (p Price) times(by, of Price) Price {
	if by <= 0 || of <= 0 {
		return max(p, by) // no ratio: of what was free and has a price now, that price
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

// Cost is what usage costs at these rates, rounded up once to the nano-dollar. The products are summed
// in 128 bits; a sum above domain.MaxAmount is domain.ErrAmount.
//
// Every part is billed at its price, and what is left of its whole at the plain one. Negative figures,
// which providers have sent, are nothing; parts that together are larger than their whole leave nothing
// of it, and are billed all the same.
func (r Rates) Cost(u domain.Usage) (domain.Amount, error) {
	prompt, completion := max(u.Prompt, 0), max(u.Completion, 0)
	cached, audio := max(u.Cached, 0), max(u.AudioPrompt, 0)
	long := max(u.CacheWriteLong, 0)
	write := max(u.CacheWrite, long)
	spoken := max(u.AudioAnswer, 0)
	for _, tokens := range [...]int64{prompt, cached, audio, write, completion, spoken} {
		if tokens > tokensMax {
			return 0, fmt.Errorf("%w: %d tokens are more than any call has", domain.ErrAmount, tokens)
		}
	}

	var sum picos
	sum.add(max(prompt-cached-write-audio, 0), r.Input)
	sum.add(cached, r.CachedInput)
	sum.add(write-long, r.CacheWrite)
	sum.add(long, r.CacheWriteLong)
	sum.add(audio, r.AudioInput)
	sum.add(max(completion-spoken, 0), r.Output)
	sum.add(spoken, r.AudioOutput)
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
