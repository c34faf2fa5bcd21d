package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	// Children are started from the main thread, which lives as long as the process: the kernel ends them with it.
	runtime.LockOSThread()
	// The thread that keeps the time sleeps in the kernel; the others still use every processor.
	runtime.GOMAXPROCS(runtime.NumCPU() + 1)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		_, _ = fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// Bounds of what can be asked for: a slip of the keyboard shall not melt the machine.
const (
	maxRate    = 50_000
	maxRates   = 8
	maxClients = 1024
	maxSeconds = 300
	maxRounds  = 9
	maxTenants = 1000
	maxStreams = 500
)

// options say what is measured and for how long.
type options struct {
	quick   bool
	seconds int // of one target in one round
	rounds  int
	rates   []int
	clients int
	tenants int
	streams int // 0: no streams
	micro   bool
	profile string
	binary  string
	dir     string

	as, target string // as a child: what to be, and where to forward
}

func readOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	var rates string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.BoolVar(&o.quick, "quick", false, "a short run that shows that everything works; its figures mean little")
	f.IntVar(&o.seconds, "seconds", 4, "length of each measurement: one target, one round")
	f.IntVar(&o.rounds, "rounds", 3, "rounds in which the targets take turns")
	f.StringVar(&rates, "rates", "200,500", "requests per second of the latency measurements")
	f.IntVar(&o.clients, "c", 64, "clients of the throughput measurement")
	f.IntVar(&o.tenants, "tenants", 50, "tenants that share the load")
	f.IntVar(&o.streams, "streams", 100, "concurrent streams; 0 leaves them out")
	f.BoolVar(&o.micro, "micro", true, "run the micro-benchmarks too")
	f.StringVar(&o.profile, "profile", "", "directory for CPU and allocation profiles of gateway and worker, taken at saturation")
	f.StringVar(&o.binary, "binary", "", "budgetguard binary to measure (default: build the checkout)")
	f.StringVar(&o.dir, "dir", "", "parent of the data's directory; its disk is what commits wait for (default: the temporary directory)")
	f.StringVar(&o.as, "as", "", "internal: run as a child process")
	f.StringVar(&o.target, "target", "", "internal: where the child forwards to")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.quick {
		o.hurry(f)
	}
	return o, o.check(f, rates)
}

// hurry shortens what the command line does not set.
func (o *options) hurry(f *flag.FlagSet) {
	set := map[string]bool{}
	f.Visit(func(f *flag.Flag) { set[f.Name] = true })
	for name, value := range map[string]*int{"seconds": &o.seconds, "rounds": &o.rounds} {
		if !set[name] {
			*value = 1
		}
	}
	if !set["streams"] {
		o.streams = 20
	}
}

func (o *options) check(f *flag.FlagSet, rates string) error {
	if f.NArg() > 0 {
		return fmt.Errorf("unknown argument %q; see -help", f.Arg(0))
	}
	for part := range strings.SplitSeq(rates, ",") {
		rate, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || rate < 1 || rate > maxRate || len(o.rates) == maxRates {
			return fmt.Errorf("-rates: want up to %d rates from 1 to %d, such as 200,500", maxRates, maxRate)
		}
		o.rates = append(o.rates, rate)
	}
	for _, b := range []struct {
		name          string
		n, least, top int
	}{
		{"seconds", o.seconds, 1, maxSeconds},
		{"rounds", o.rounds, 1, maxRounds},
		{"c", o.clients, 1, maxClients},
		{"tenants", o.tenants, 1, maxTenants},
		{"streams", o.streams, 0, maxStreams},
	} {
		if b.n < b.least || b.n > b.top {
			return fmt.Errorf("-%s: want %d to %d", b.name, b.least, b.top)
		}
	}
	if o.profile != "" && o.binary != "" {
		return errors.New("-profile builds a binary of its own; leave -binary out")
	}
	return nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := readOptions(args, stderr)
	if err != nil {
		return err
	}
	if o.as == "plain" {
		return servePlain(ctx, o.target, stdout)
	}
	b := &bench{options: o, out: stdout, progress: stderr, now: time.Now} //nolint:forbidigo // the edge: a stopwatch needs a clock
	defer func() { err = errors.Join(err, b.close(ctx)) }()
	return b.run(ctx)
}
