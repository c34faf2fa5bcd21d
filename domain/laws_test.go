package domain_test

import (
	"testing"

	"pgregory.net/rapid"
)

// TestLawsHoldInEveryHistory runs random histories, half of them with a store beside that forgets what is closed.
// RAPID_CHECKS=50000 runs a hundred thousand (make laws), RAPID_STEPS=200 longer ones.
func TestLawsHoldInEveryHistory(t *testing.T) {
	t.Parallel()
	for i, name := range []string{"of a whole state", "of a state that forgets"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkHistories(t, byte(i*startChoices))
		})
	}
}

func checkHistories(t *testing.T, first byte) {
	t.Helper()
	uniform := func(n int) *rapid.Generator[byte] { // rapid.ByteMax would prefer the small ones
		values := make([]byte, n)
		for i := range values {
			values[i] = byte(i)
		}
		return rapid.SampledFrom(values)
	}
	start, kind, detail, clock := uniform(startChoices), uniform(opsEnd), uniform(64), uniform(clockChoices)
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(first + start.Draw(t, "start"))
		h.mustStep(t, op{do: opCreate})
		h.mustStep(t, op{do: opDefine, a: detail.Draw(t, "period"), b: 11}) // most histories have a budget to keep
		t.Repeat(map[string]func(*rapid.T){"step": func(t *rapid.T) {
			h.mustStep(t, op{
				do: kind.Draw(t, "do"), a: detail.Draw(t, "a"), b: detail.Draw(t, "b"), c: detail.Draw(t, "c"), clock: clock.Draw(t, "clock"),
			})
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
	f.Add([]byte{0, opDefine, 3, 3, 0, 0, opReserve, 2, 2, 0, 2, opSettle, 1, 3, 0, 3, opReserve, 2, 3, 0, 0})
	f.Add([]byte{1, opDefine, 1, 3, 0, 0, opDefine, 0, 2, 0, 0, opReserve, 2, 8, 0, 2, opZone, 3, 0, 0, 6, opReserve, 2, 5, 0, 12, opExpire, 1, 1, 0, 7, opSettle, 1, 2, 0, 3})
	f.Add([]byte{7, opDefine, 8, 11, 0, 0, opReserve, 2, 8, 0, 0, opSettle, 1, 3, 0, 6, opPresume, 1, 0, 0, 7, opReserve, 2, 8, 0, 15, opSettle, 1, 3, 0, 0, opAge, 0, 0, 0, 7})
	f.Add([]byte{3, opDefine, 6, 6, 2, 2, opReserve, 2, 9, 0, 0, opSettle, 1, 8, 0, 0, opReserve, 2, 9, 0, 0, opSettle, 1, 8, 0, 0, opRetire, 0, 0, 0, 0})
	f.Add([]byte{11, opReserve, 2, 8, 4, 2, opDefine, 1, 11, 2, 2, opRelease, 1, 0, 0, 3, opReserve, 2, 7, 4, 0, opSettle, 0, 5, 0, 0, opRaise, 1, 0, 0, 0, opIssue, 0, 2, 0, 0, opReserve, 1, 0, 4, 4, opKey, 0, 0, 0, 0})
	f.Add([]byte{12, opDefine, 12, 3, 8, 0, opReserve, 2, 7, 1, 0, opExtend, 1, 5, 2, 1, opExpire, 1, 1, 0, 8, opAdjust, 1, 5, 9, 0, opAdjust, 0, 7, 1, 0, opAll, 9, 3, 2, 14})
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) == 0 {
			return
		}
		var steps []op
		for rest := program[1:]; len(rest) >= 5 && len(steps) < maxFuzzSteps; rest = rest[5:] {
			steps = append(steps, op{do: rest[0], a: rest[1], b: rest[2], c: rest[3], clock: rest[4]})
		}
		if err := newHistory(program[0]).run(steps); err != nil {
			t.Fatal(err)
		}
	})
}
