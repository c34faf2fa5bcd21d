package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// tee keeps what is printed and shows it.
type tee struct {
	mu   sync.Mutex
	kept bytes.Buffer
	to   io.Writer
}

func (w *tee) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept.Write(p)
	return w.to.Write(p)
}

// A short run of the program itself. Nothing here depends on how fast the machine is: the faults last as long as they
// last, and what must hold at the end must hold however the calls fell.
func TestAShortRunKeepsEveryPromise(t *testing.T) {
	t.Parallel()
	out := &tee{to: t.Output()}
	o := options{
		length: 20 * time.Second, seed: 4, gateways: 2, workers: 1, tenants: 4, clients: 8,
		ttl: 3 * time.Second, stall: 4 * time.Second, least: atOnce, now: time.Now, out: out, command: "make chaos T=20s SEED=4",
	}
	if err := run(t.Context(), o); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"seed", "faults, in rounds", "calls billed", "billed USD", "charged USD", "violations"} {
		if !strings.Contains(out.kept.String(), want) {
			t.Errorf("the report does not say %q", want)
		}
	}
}

func TestTheSeedDecidesTheFaults(t *testing.T) {
	t.Parallel()
	play := func(seed uint64) []string {
		programs := func(names ...string) (list []*program) {
			for _, n := range names {
				list = append(list, &program{name: n})
			}
			return list
		}
		s := &stage{options: options{least: 1}, gateways: programs("gateway-0", "gateway-1", "gateway-2"), workers: programs("worker-0", "worker-1"), mock: &program{name: "mock"}, skewed: "x", mounted: true}
		c := &chaos{stage: s, dice: &dice{state: seed}}
		var said []string
		for range 60 {
			r := c.draw()
			if len(r.faults) == 0 || len(r.faults) > 3 {
				t.Fatalf("%d faults in a round", len(r.faults))
			}
			for i, f := range r.faults {
				said = append(said, f.kind+" "+f.detail+" "+f.span.String()+" "+r.delays[i].String())
			}
		}
		return said
	}
	if one, two := play(7), play(7); !reflect.DeepEqual(one, two) {
		t.Error("the same seed plays another game")
	}
	if one, two := play(7), play(8); reflect.DeepEqual(one, two) {
		t.Error("another seed plays the same game")
	}
	kinds := map[string]bool{}
	for _, said := range play(1) {
		kinds[strings.Join(strings.Fields(said)[:2], " ")] = true
	}
	for _, want := range []string{"gateway kill", "worker kill", "gateway SIGSTOP", "postgres kill", "postgres disk", "redis FLUSHALL", "redis comes", "gateway clock", "provider kill", "wire down", "wire reset_peer"} {
		if !kinds[want] {
			t.Errorf("%q never comes up", want)
		}
	}
}

func TestACommandLineThatMakesNoSenseIsRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-t", "0s"}, {"-gateways", "0"}, {"more"}, {"-nonsense"}} {
		if err := start(context.Background(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}

// The skewed build must differ in its clock and in nothing else.
func TestTheSkewedSourcesDifferInTheClockOnly(t *testing.T) {
	t.Parallel()
	root, err := moduleRoot(t.Context())
	must(t, err)
	replaced, err := skewSources(root, t.TempDir())
	must(t, err)
	if len(replaced) < 3 {
		t.Errorf("only %d files read a clock: %v", len(replaced), replaced)
	}
	for original, changed := range replaced {
		if strings.HasSuffix(original, "chaos_clock.go") {
			continue
		}
		before, err := os.ReadFile(original)
		must(t, err)
		after, err := os.ReadFile(changed)
		must(t, err)
		back := strings.ReplaceAll(string(after), "skewedNow", "time.Now")
		if back != string(before) && strings.Replace(string(before), "\t\"time\"\n", "", 1) != back {
			t.Errorf("%s is changed beyond its clock", original)
		}
	}
}
