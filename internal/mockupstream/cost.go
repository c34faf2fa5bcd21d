package mockupstream

import (
	"math"
	"math/big"
	"strings"
	"time"
)

// The service tiers a response can name.
const (
	tierDefault  = "default"
	tierFlex     = "flex"
	tierPriority = "priority"
)

// picoPerNano turns pico-dollars into the nano-dollars of the bill.
const picoPerNano = 1000

// cost prices one request at an instant and names the tier that served it. A tier without a price for this
// request (not offered, or not offered for a long prompt) is served as default, as OpenAI does. The result is in
// nano-dollars, rounded up once.
func (m *model) cost(now time.Time, asked string, prompt, completion int64) (nano int64, served string) {
	s := m.at(now)
	long := s.threshold > 0 && (prompt > s.threshold || s.inclusive && prompt == s.threshold)
	t, served := s.standard, tierDefault
	if special := s.special(asked); special != nil && (!long || special.long != nil) {
		t, served = *special, asked
	}
	r := t.short
	switch {
	case long:
		r = *t.long
	case served == tierDefault && s.offPeak != nil && !s.offPeak.peak(now):
		r = s.offPeak.rates
	}
	return ceilNano(r, prompt, completion), served
}

func (s sheet) special(asked string) *tier {
	switch asked {
	case tierFlex:
		return s.flex
	case tierPriority:
		return s.priority
	}
	return nil
}

// ceilNano is exact for any counts; an amount beyond int64 (nine billion dollars) saturates.
func ceilNano(r rates, prompt, completion int64) int64 {
	sum := new(big.Int).Mul(big.NewInt(r.input), big.NewInt(prompt))
	sum.Add(sum, new(big.Int).Mul(big.NewInt(r.output), big.NewInt(completion)))
	sum.Add(sum, big.NewInt(picoPerNano-1))
	sum.Quo(sum, big.NewInt(picoPerNano))
	if !sum.IsInt64() {
		return math.MaxInt64
	}
	return sum.Int64()
}

// offPeak are the rates outside some hours of the day, in UTC.
type offPeak struct {
	rates rates
	peaks []string // "01:00-04:00", the end not included
}

func (o *offPeak) peak(now time.Time) bool {
	clock := now.UTC().Format("15:04")
	for _, span := range o.peaks {
		if from, to, ok := strings.Cut(span, "-"); ok && from <= clock && clock < to {
			return true
		}
	}
	return false
}
