package domain_test

import (
	"testing"

	"pgregory.net/rapid"
)

// TestLawsHoldInEveryHistory runs random histories; RAPID_CHECKS=100000 runs more, RAPID_STEPS=200 longer ones.
func TestLawsHoldInEveryHistory(t *testing.T) {
	t.Parallel()
	uniform := func(n int) *rapid.Generator[byte] { // rapid.ByteMax would prefer the small ones
		values := make([]byte, n)
		for i := range values {
			values[i] = byte(i)
		}
		return rapid.SampledFrom(values)
	}
	kind, detail, clock := uniform(opsEnd), uniform(64), uniform(clockChoices)
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(uniform(7).Draw(t, "start"))
		h.mustStep(t, op{do: opCreate})
		h.mustStep(t, op{do: opDefine, a: detail.Draw(t, "period"), b: 3}) // most histories have a budget to keep
		t.Repeat(map[string]func(*rapid.T){"step": func(t *rapid.T) {
			h.mustStep(t, op{do: kind.Draw(t, "do"), a: detail.Draw(t, "a"), b: detail.Draw(t, "b"), clock: clock.Draw(t, "clock")})
		}})
		if err := h.told(h.refold()); err != nil {
			t.Fatal(err)
		}
	})
}

func (h *history) mustStep(t *rapid.T, o op) {
	if err := h.step(o); err != nil {
		t.Fatal(h.told(err))
	}
}

// maxFuzzSteps bounds a fuzzed history: sums are added up anew after each step.
const maxFuzzSteps = 120

func FuzzDecide(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{0, opDefine, 3, 3, 0, opReserve, 2, 2, 2, opSettle, 1, 3, 3, opReserve, 2, 3, 0})
	f.Add([]byte{1, opDefine, 1, 3, 0, opDefine, 0, 2, 0, opReserve, 2, 8, 2, opZone, 3, 0, 6, opReserve, 2, 5, 12, opExpire, 1, 1, 7, opSettle, 1, 2, 3})
	f.Add([]byte{2, opDefine, 3, 3, 0, opReserve, 2, 8, 0, opExpire, 1, 0, 6, opPresume, 1, 0, 7, opReserve, 2, 8, 7, opSettle, 1, 3, 0})
	f.Add([]byte{3, opDefine, 6, 6, 2, opReserve, 2, 9, 0, opSettle, 1, 8, 0, opReserve, 2, 9, 0, opSettle, 1, 8, 0, opRetire, 0, 0, 0})
	f.Add([]byte{4, opDefine, 1, 3, 2, opReserve, 2, 8, 2, opDefine, 1, 2, 2, opReserve, 2, 0, 3, opSettle, 1, 5, 0, opIssue, 0, 2, 0, opReserve, 1, 0, 4, opRevoke, 0, 0, 0})
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) == 0 {
			return
		}
		var steps []op
		for rest := program[1:]; len(rest) >= 4 && len(steps) < maxFuzzSteps; rest = rest[4:] {
			steps = append(steps, op{do: rest[0], a: rest[1], b: rest[2], clock: rest[3]})
		}
		if err := newHistory(program[0]).run(steps); err != nil {
			t.Fatal(err)
		}
	})
}
