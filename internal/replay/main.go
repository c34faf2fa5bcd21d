package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/domain/pricing"
	"github.com/budgetguard/budgetguard/internal/embedded"
	"github.com/budgetguard/budgetguard/migrations"
)

// errViolated says that an exchange is not as it must be.
var errViolated = errors.New("an exchange violates what must hold")

func main() {
	// Children are started from the main thread: the kernel ends them with it.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "replay: %v\n", err)
		os.Exit(1)
	}
}

// run plays the files that the arguments name.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("replay", flag.ContinueOnError)
	f.SetOutput(stderr)
	workers := f.Int("workers", 4, "exchanges that are played at once")
	most := f.Int("violations", 20, "violations that are printed one by one, for each file")
	format := f.String("o", "table", "table or json")
	rows := f.Bool("all", false, "print every exchange")
	path := f.String("prices", "", "a catalogue; default the embedded one")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() == 0 || *workers < 1 || (*format != "table" && *format != "json") {
		return errors.New("want files of recorded exchanges, as in go run ./internal/replay FILE")
	}
	catalogue := pricing.Embedded()
	if *path != "" {
		var err error
		if catalogue, err = os.ReadFile(*path); err != nil {
			return err
		}
	}

	dir, err := embedded.Scratch("budgetguard-replay-")
	if err != nil {
		return err
	}
	defer func() { _ = embedded.Remove(dir) }() // scratch data
	postgres, err := embedded.StartPostgres(ctx, embedded.Config{Dir: dir})
	if err != nil {
		return err
	}
	ended := context.WithoutCancel(ctx)
	defer func() { _ = postgres.Stop(ended) }() // its data goes anyway
	if _, err := migrations.Up(ctx, postgres.URL()); err != nil {
		return err
	}

	violated := false
	for i, file := range f.Args() {
		r, err := playFile(ctx, file, playing{
			database: postgres.URL(), catalogue: catalogue, workers: *workers,
			tenant: domain.TenantID(fmt.Sprint("replay-", i+1)), progress: stderr,
		})
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		violated = violated || len(r.Violations) > 0
		if err := write(r, stdout, *format, *rows, *most); err != nil {
			return err
		}
	}
	if violated {
		return errViolated
	}
	return nil
}

// write prints the report of a file.
func write(r report, to io.Writer, format string, rows bool, most int) error {
	switch {
	case format == "json" && !rows:
		r.Rows = nil
		fallthrough
	case format == "json":
		return json.NewEncoder(to).Encode(r)
	case rows:
		return errors.Join(r.print(to, most), r.printRows(to))
	}
	return r.print(to, most)
}

// playing is how a file is played.
type playing struct {
	database  string
	catalogue []byte
	tenant    domain.TenantID // of its own
	workers   int
	progress  io.Writer
}

func playFile(ctx context.Context, file string, how playing) (report, error) {
	records, err := readFile(file)
	if err != nil {
		return report{}, err
	}
	return playRecords(ctx, file, records, how)
}

func playRecords(ctx context.Context, name string, records []record, how playing) (report, error) {
	o, err := newOracle(how.catalogue)
	if err != nil {
		return report{}, err
	}
	s, err := openStage(ctx, how.database, how.catalogue, how.tenant)
	if err != nil {
		return report{}, errors.Join(err, s.close(ctx))
	}
	now := time.Now //nolint:forbidigo // only to say how long it took
	began := now()
	all, err := s.playAll(ctx, records, o, how.workers, func(done int) {
		if done%500 == 0 {
			_, _ = fmt.Fprintf(how.progress, "%s: %d exchanges\n", name, done) // progress only
		}
	})
	if err = errors.Join(err, s.close(ctx)); err != nil {
		return report{}, err
	}
	return summarize(name, records, all, now().Sub(began)), nil
}
