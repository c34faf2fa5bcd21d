package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/budgetguard/budgetguard/internal/embedded"
)

const (
	// startWithin bounds a first start with its migrations, on a machine busy compiling.
	startWithin = 3 * time.Minute
	// closeWithin bounds the end of a test process.
	closeWithin = 30 * time.Second
)

// current is the environment of this test process. Functions that take only a
// testing.TB need one place to find it.
var current atomic.Pointer[environment] //nolint:gochecknoglobals // made by Main before the first test, taken down after the last

// Option changes what [Main] prepares.
type Option func(*environment)

// WithTemplate fills the template database that [Database] and [Server] copy, such as by
// the migrations. It runs at most once in a process, when a test first asks, and
// must leave no connection open.
func WithTemplate(fill func(ctx context.Context, url string) error) Option {
	return func(e *environment) { e.fill = fill }
}

// WithLeakCheck fails the test process when goroutines are left after all tests, once the servers are down.
func WithLeakCheck(opts ...goleak.Option) Option {
	return func(e *environment) { e.leaks = func() error { return goleak.Find(opts...) } }
}

// Main runs the tests of a package and answers their exit code; see the package's example.
// Servers start only when a test asks for one. It is not safe for concurrent use.
func Main(m interface{ Run() int }, opts ...Option) int {
	e := newEnvironment(opts...)
	current.Store(e)
	code := m.Run()
	current.Store(nil)
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	if err := errors.Join(e.close(ctx), e.leaks()); err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "testenv: %v\n", err)
		return max(code, 1)
	}
	return code
}

// environment is what the tests of one process share.
type environment struct {
	fill  func(ctx context.Context, url string) error
	leaks func() error

	// Each is made when first asked for; an error stays an error for all who ask.
	home     func() (string, error)
	postgres func() (*cluster, error)
	redis    func() (*databases, error)

	mu      sync.Mutex
	cleanup []func(context.Context) error // in order of making
	serial  atomic.Int64
}

func newEnvironment(opts ...Option) *environment {
	e := &environment{leaks: func() error { return nil }}
	for _, opt := range opts {
		opt(e)
	}
	e.home = sync.OnceValues(e.makeHome)
	e.postgres = sync.OnceValues(e.startCluster)
	e.redis = sync.OnceValues(e.startDatabases)
	return e
}

// of finds the environment or fails the test.
func of(tb testing.TB) *environment {
	tb.Helper()
	e := current.Load()
	if e == nil {
		tb.Fatal("testenv: this package's TestMain does not call testenv.Main")
	}
	return e
}

// atEnd registers what must happen when the process ends, last one first.
func (e *environment) atEnd(f func(context.Context) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cleanup = append(e.cleanup, f)
}

func (e *environment) close(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for i := len(e.cleanup) - 1; i >= 0; i-- {
		errs = append(errs, e.cleanup[i](ctx))
	}
	e.cleanup = nil
	return errors.Join(errs...)
}

// makeHome makes the directory of all servers and sets the reaper on it.
func (e *environment) makeHome() (string, error) {
	home, err := embedded.Scratch("budgetguard-test-")
	if err != nil {
		return "", err
	}
	r, err := watch(home)
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(home))
	}
	e.atEnd(func(context.Context) error { return errors.Join(os.RemoveAll(home), r.dismiss()) })
	return home, nil
}

// start runs a server in a directory of its own below home, and gives it with what ends it.
func (e *environment) start(ctx context.Context, start func(context.Context, embedded.Config) (*embedded.Server, error)) (*embedded.Server, func(context.Context) error, error) {
	home, err := e.home()
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(home, fmt.Sprintf("server-%d", e.serial.Add(1)))
	s, err := start(ctx, embedded.Config{Dir: dir, InitCache: initCache()})
	if err != nil {
		return nil, nil, err
	}
	return s, func(ctx context.Context) error {
		return errors.Join(s.StopImmediate(ctx), embedded.Remove(dir))
	}, nil
}

// initCache keeps clusters between runs; empty, which means none, without a home directory.
func initCache() string {
	dir, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, ".cache", "budgetguard", "initdb")
}

// connect opens one connection to the database of a server.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect to the test database: %w", err)
	}
	return conn, nil
}
