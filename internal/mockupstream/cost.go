package mockupstream

import (
	"math"
	"math/big"
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
	long := s.threshold > 0 && prompt >= s.threshold
	t, served := s.standard, tierDefault
	if special := s.special(asked); special != nil && (!long || special.long != nil) {
		t, served = *special, asked
	}
	r := t.short
	if long {
		r = *t.long
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
