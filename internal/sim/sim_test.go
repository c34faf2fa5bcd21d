package sim_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/internal/sim"
)

// steps of one seed, in these tests: a few storms, each with its rest.
const steps = 6_000

func TestEverySeedHoldsWhatMustHold(t *testing.T) {
	t.Parallel()
	results := make([]sim.Result, 8)
	t.Run("seeds", func(t *testing.T) {
		for i := range results {
			seed := uint64(i) + 1
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				results[i] = sim.Run(sim.Config{Seed: seed, Steps: steps})
				if results[i].Failure != nil {
					t.Error(sim.Explain(seed, steps, "", results[i]))
				}
			})
		}
	})
	var all sim.Result
	for _, r := range results {
		all.Add(r)
	}
	for what, n := range map[string]int{
		"granted": all.Stats.Granted, "refused": all.Stats.Refused, "refused early": all.Stats.RefusedEarly,
		"settled": all.Stats.Settled, "settled late": all.Stats.Late, "expired": all.Stats.Expired, "released": all.Stats.Released,
		"overrun": all.Stats.Overruns, "fast turns": all.Stats.Fast, "locked turns": all.Stats.Locked, "conflicts": all.Stats.Conflicts,
		"unknown outcomes": all.Stats.Unknown, "denials": all.Stats.Denied, "crashes": all.Stats.Crashes, "rests": all.Stats.Rests,
		"extended": all.Stats.Extended, "adjusted": all.Stats.Adjusted, "lowered by time": all.Stats.RaisesEnded, "slid": all.Stats.Slid,
		"begun with what it had cost": all.Stats.Seeded, "told": all.Stats.Crossed, "repeated": all.Stats.Repeated, "billed after all": all.Stats.LateReleased,
	} {
		if n == 0 {
			t.Errorf("nothing was ever %s: the simulation shows less than it says", what)
		}
	}
	t.Logf("%d steps, %d events, %+v", all.Steps, all.Events, all.Stats)
}

// A change of the code gives every seed another run, so these show what they did only for as long as nothing changes.
func TestSeedsThatFailedOnceHoldWhatMustHold(t *testing.T) {
	t.Parallel()
	const steps = 20_000
	for what, seed := range map[string]uint64{
		"a provider that lies, and a gateway that dies before it hears of its late release": 1024,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			if result := sim.Run(sim.Config{Seed: seed, Steps: steps}); result.Failure != nil {
				t.Error(sim.Explain(seed, steps, "", result))
			}
		})
	}
}

func TestSameSeedGivesTheSameTrace(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) []byte {
		var trace bytes.Buffer
		sim.Run(sim.Config{Seed: seed, Steps: 6000, Trace: &trace})
		return trace.Bytes()
	}
	first := run(7)
	if len(first) < 6000 {
		t.Errorf("a trace of %d bytes", len(first))
	}
	if second := run(7); !bytes.Equal(first, second) {
		a, b := strings.Split(string(first), "\n"), strings.Split(string(second), "\n")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("line %d is\n%s\nand then\n%s", i, a[i], b[i])
			}
		}
		t.Fatalf("%d lines, and then %d", len(a), len(b))
	}
	if bytes.Equal(first, run(8)) {
		t.Error("another seed gives the same trace")
	}
}

// bugSeeds is how many seeds may pass until a planted bug is found.
const bugSeeds = 40

func TestSeededBugsAreFound(t *testing.T) {
	t.Parallel()
	found := make([]sim.Found, len(sim.Bugs()))
	t.Run("bugs", func(t *testing.T) {
		for i, b := range sim.Bugs() {
			t.Run(string(b), func(t *testing.T) {
				t.Parallel()
				var ok bool
				if found[i], ok = sim.Find(b, bugSeeds, 20_000); !ok {
					t.Errorf("%d seeds did not find it", bugSeeds)
				}
			})
		}
	})
	t.Log("\n" + sim.Table(found))
}

func TestAFailureSaysHowToRepeatIt(t *testing.T) {
	t.Parallel()
	bug := sim.Bugs()[0]
	f, ok := sim.Find(bug, bugSeeds, 20_000)
	if !ok {
		t.Fatal("the bug was not found")
	}
	again := sim.Run(sim.Config{Seed: f.Seed, Steps: 20_000, Bug: bug})
	if again.Failure == nil || again.Failure.Error() != f.Failure.Error() || again.Steps != f.Steps {
		t.Errorf("the same seed came to %v at step %d, first to %v at step %d", again.Failure, again.Steps, f.Failure, f.Steps)
	}
	text := sim.Explain(f.Seed, 20_000, bug, again)
	for _, part := range []string{
		fmt.Sprintf("make sim SEED=%d SEEDS=1 STEPS=20000 BUG=", f.Seed), "VIOLATION", again.Failure.Error(), fmt.Sprintf("at step %d", again.Steps),
	} {
		if !strings.Contains(text, part) {
			t.Errorf("it does not say %q:\n%s", part, text)
		}
	}
}
