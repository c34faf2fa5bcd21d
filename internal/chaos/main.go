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
	"strings"
	"syscall"
	"time"
)

func main() {
	// Children are started from the main thread, which lives as long as the process: the kernel ends them with it.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := start(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		_, _ = fmt.Fprintf(os.Stderr, "chaos: %v\n", err)
		os.Exit(1)
	}
}

// start reads the command line and runs.
func start(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := options{now: time.Now, out: stdout, least: 1} //nolint:forbidigo // the edge: the run lives in the machine's time
	f := flag.NewFlagSet("chaos", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.DurationVar(&o.length, "t", time.Minute, "how long faults are injected")
	f.Uint64Var(&o.seed, "seed", 0, "decides the faults and their order; 0 takes one from the clock")
	f.IntVar(&o.gateways, "gateways", 3, "gateways")
	f.IntVar(&o.workers, "workers", 2, "workers")
	f.IntVar(&o.tenants, "tenants", 8, "tenants that the clients call as")
	f.IntVar(&o.clients, "clients", 24, "clients that call at once")
	f.DurationVar(&o.ttl, "ttl", 0, "life of a reservation; 0: 15s, or 5s in a run under five minutes")
	f.DurationVar(&o.stall, "stall", 0, "length of a SIGSTOP; 0: 40s, or 8s in a run under five minutes")
	f.BoolVar(&o.skew, "skew", true, "also build a gateway whose clock can be off")
	f.BoolVar(&o.disk, "disk", true, "mount a disk for Postgres that can be filled (as root on Linux); otherwise a trigger plays it")
	f.BoolVar(&o.keep, "keep", false, "keep the directory with logs and data, and print it")
	f.Var((*list)(&o.env), "env", "a variable for gateways and workers, as NAME=value; may be repeated")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 || o.length <= 0 || o.gateways < 1 || o.workers < 1 || o.tenants < 1 || o.clients < 1 {
		return errors.New("want -t above 0 and at least one of each; see -help")
	}
	long := o.length >= 5*time.Minute
	if o.ttl == 0 {
		o.ttl = choose(long, 15*time.Second, 5*time.Second)
	}
	if o.stall == 0 {
		o.stall = choose(long, 40*time.Second, 8*time.Second)
	}
	if o.seed == 0 {
		o.seed = uint64(o.now().UnixNano()) % 1_000_000
	}
	o.command = fmt.Sprintf("make chaos T=%s SEED=%d", o.length, o.seed)
	f.Visit(func(given *flag.Flag) {
		if given.Name != "t" && given.Name != "seed" {
			o.args = append(o.args, "-"+given.Name+"="+given.Value.String())
		}
	})
	if len(o.args) > 0 {
		o.command += fmt.Sprintf(" ARGS=%q", strings.Join(o.args, " "))
	}
	return run(ctx, o)
}

// list is a flag that may be repeated.
type list []string

// String is the values in one.
func (l *list) String() string { return strings.Join(*l, " -env=") }

// Set adds a value.
func (l *list) Set(v string) error {
	*l = append(*l, v)
	return nil
}

func choose[T any](yes bool, a, b T) T {
	if yes {
		return a
	}
	return b
}
