package testenv

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/budgetguard/budgetguard/internal/embedded"
)

// databaseWithin bounds the wait for one of the 64 Redis databases: all of them are
// taken only while 64 parallel tests run.
const databaseWithin = 2 * time.Minute

// Redis answers the URL of an empty Redis database of the test's own, one of
// [embedded.RedisDatabases] on a shared server; it is flushed after the test. Keys and streams of
// parallel tests do not meet. What a whole server has in common does: FLUSHALL,
// CONFIG SET, publish and subscribe. A test that needs one of those takes [RedisServer].
func Redis(tb testing.TB) string {
	tb.Helper()
	d, err := of(tb).redis()
	if err != nil {
		tb.Fatalf("testenv: %v", err)
	}
	timeout := time.NewTimer(databaseWithin)
	defer timeout.Stop()
	select {
	case n := <-d.free:
		tb.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), closeWithin)
			defer cancel()
			if err := d.flush(ctx, n); err != nil {
				tb.Errorf("testenv: %v", err)
			}
			d.free <- n
		})
		return d.url(n)
	case <-timeout.C:
		tb.Fatalf("testenv: all %d Redis databases are in use", embedded.RedisDatabases)
		return ""
	}
}

// RedisServer starts a Redis for this test alone, which it may stop, kill, flush and
// start again. It costs about a tenth of a second.
func RedisServer(tb testing.TB) *embedded.Server {
	tb.Helper()
	return private(tb, embedded.StartRedis)
}

// databases are the logical databases of the shared Redis.
type databases struct {
	server *embedded.Server
	free   chan int
}

func (e *environment) startDatabases() (*databases, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	s, end, err := e.start(ctx, embedded.StartRedis)
	if err != nil {
		return nil, err
	}
	e.atEnd(end)
	d := &databases{server: s, free: make(chan int, embedded.RedisDatabases)}
	for n := range embedded.RedisDatabases {
		d.free <- n
	}
	return d, nil
}

func (d *databases) url(n int) string {
	u, err := url.Parse(d.server.URL())
	if err != nil {
		panic(fmt.Sprintf("the URL of our own server does not parse: %v", err)) // a bug, not an input
	}
	u.Path = fmt.Sprintf("/%d", n)
	return u.String()
}

// flush empties one database. What a test's own code still writes after the test's end is
// that code's fault; it may then show in a later test.
func (d *databases) flush(ctx context.Context, n int) error {
	opts, err := redis.ParseURL(d.url(n))
	if err != nil {
		return fmt.Errorf("read the URL of the test Redis: %w", err)
	}
	client := redis.NewClient(opts)
	defer func() { _ = client.Close() }()
	if err := client.FlushDB(ctx).Err(); err != nil {
		return fmt.Errorf("flush Redis database %d: %w", n, err)
	}
	return nil
}
