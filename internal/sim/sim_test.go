package sim

import "testing"

func TestSmoke(t *testing.T) {
	for seed := range uint64(20) {
		r := Run(Config{Seed: seed, Steps: 20000})
		t.Logf("seed %d: %d steps %d events %+v", seed, r.Steps, r.Events, r.Stats)
		if r.Failure != nil {
			t.Fatalf("%v\n%s", r.Failure, r.Last)
		}
	}
}

func TestBugs(t *testing.T) {
	for _, b := range Bugs() {
		found := false
		for seed := uint64(1); seed <= 60 && !found; seed++ {
			if r := Run(Config{Seed: seed, Steps: 20000, Bug: b}); r.Failure != nil {
				found = true
				t.Logf("| %s | %d | %d | %.140s", b, seed, r.Steps, r.Failure)
			}
		}
		if !found {
			t.Errorf("NOT FOUND %s", b)
		}
	}
}
