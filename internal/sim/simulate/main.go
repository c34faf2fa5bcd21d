// Command simulate runs the deterministic simulation of package sim: `make sim`.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/budgetguard/budgetguard/internal/sim"
)

func main() {
	s := simulation{out: os.Stdout, now: time.Now} //nolint:forbidigo // the edge: a stopwatch needs a clock
	switch err := s.run(os.Args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		_, _ = fmt.Fprintf(os.Stderr, "sim: %v\n", err)
		os.Exit(1)
	}
}

// errViolated says that a run failed; what and how to repeat it was printed.
var errViolated = errors.New("a seed violates what must hold")

// errMissed says that the simulation is too weak.
var errMissed = errors.New("a planted bug was not found")

// simulation is the command.
type simulation struct {
	out io.Writer
	now func() time.Time

	first        uint64
	seeds, steps int
	trace, bugs  bool
	bug          string
}

func (s *simulation) run(args []string) error {
	flags := flag.NewFlagSet("sim", flag.ContinueOnError)
	flags.Uint64Var(&s.first, "seed", 1, "the first seed")
	flags.IntVar(&s.seeds, "seeds", 50, "how many seeds")
	flags.IntVar(&s.steps, "steps", 20_000, "steps of each seed")
	flags.BoolVar(&s.trace, "trace", false, "print every step of the first seed")
	flags.BoolVar(&s.bugs, "bugs", false, "plant every bug in turn and print which seed finds it")
	flags.StringVar(&s.bug, "bug", "", "plant this bug, by its name")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if s.bugs {
		return s.findBugs()
	}
	if s.trace {
		s.seeds = 1
	}
	began := s.now()
	total, failed := s.all()
	took := s.now().Sub(began)
	_, _ = fmt.Fprintf(s.out, "%d seeds, %d steps, %d events in %s: %.0f steps a second\n",
		s.seeds, total.Steps, total.Events, took.Round(time.Millisecond), float64(total.Steps)/took.Seconds())
	_, _ = fmt.Fprintf(s.out, "%+v\n", total.Stats)
	if failed {
		return errViolated
	}
	return nil
}

// findBugs prints the table of docs/reliability.md.
func (s *simulation) findBugs() error {
	var found []sim.Found
	missed := false
	for _, b := range sim.Bugs() {
		f, ok := sim.Find(b, s.seeds, s.steps)
		missed = missed || !ok
		found = append(found, f)
	}
	_, _ = io.WriteString(s.out, sim.Table(found))
	if missed {
		return errMissed
	}
	return nil
}

// all runs the seeds on every processor, and prints the first that fails of those that ran.
func (s *simulation) all() (total sim.Result, failed bool) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var next atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(s.seeds); i = next.Add(1) - 1 {
				seed := s.first + uint64(i) //nolint:gosec // not negative
				r := sim.Run(s.config(seed))
				mu.Lock()
				total.Add(r)
				if r.Failure != nil && !failed {
					failed = true
					next.Store(int64(s.seeds))
					_, _ = io.WriteString(s.out, sim.Explain(seed, s.steps, sim.Bug(s.bug), r))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return total, failed
}

func (s *simulation) config(seed uint64) sim.Config {
	c := sim.Config{Seed: seed, Steps: s.steps, Bug: sim.Bug(s.bug)}
	if s.trace {
		c.Trace = s.out
	}
	return c
}
