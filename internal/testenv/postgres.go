package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/internal/embedded"
)

// Database makes a fresh database, a copy of the template, and answers its URL. It is dropped after the
// test, connections and all. Safe for parallel tests.
func Database(tb testing.TB) string {
	tb.Helper()
	return database(tb, templateName)
}

// Copy makes a fresh database like the one at an address that Database answered. No one may be connected to that one.
func Copy(tb testing.TB, address string) string {
	tb.Helper()
	u, err := url.Parse(address)
	if err != nil {
		tb.Fatalf("testenv: %v", err)
	}
	return database(tb, strings.TrimPrefix(u.Path, "/"))
}

// EmptyDatabase is Database without the template: nothing is in it.
func EmptyDatabase(tb testing.TB) string {
	tb.Helper()
	return database(tb, "template0")
}

// Server starts a Postgres for this test alone, which it may stop, kill and start again. Its
// database has what the template has. It costs about half a second.
func Server(tb testing.TB) *embedded.Server {
	tb.Helper()
	e := of(tb)
	s := private(tb, embedded.StartPostgres)
	if e.fill != nil {
		if err := e.fill(tb.Context(), s.URL()); err != nil {
			tb.Fatalf("testenv: fill the database: %v", err)
		}
	}
	return s
}

func private(tb testing.TB, start func(context.Context, embedded.Config) (*embedded.Server, error)) *embedded.Server {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), startWithin)
	defer cancel()
	s, end, err := of(tb).start(ctx, start)
	if err != nil {
		tb.Fatalf("testenv: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), closeWithin)
		defer cancel()
		if err := end(ctx); err != nil {
			tb.Errorf("testenv: %v", err)
		}
	})
	return s
}

func database(tb testing.TB, template string) string {
	tb.Helper()
	e := of(tb)
	c, err := e.postgres()
	if err != nil {
		tb.Fatalf("testenv: %v", err)
	}
	name := fmt.Sprintf("test_%d", e.serial.Add(1))
	if err := c.exec(tb.Context(), "create database "+name+" template "+template+c.strategy); err != nil {
		tb.Fatalf("testenv: make a database: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), closeWithin)
		defer cancel()
		if err := c.exec(ctx, "drop database "+name+" with (force)"); err != nil {
			tb.Errorf("testenv: drop the database: %v", err)
		}
	})
	return c.url(name)
}

// templateName is the database that the template function fills.
const templateName = "filled"

// cluster is the Postgres that the tests of this process share.
type cluster struct {
	server   *embedded.Server
	strategy string // of create database

	mu    sync.Mutex // for admin; making databases is quick, so they queue
	admin *pgx.Conn
}

func (e *environment) startCluster() (*cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	s, end, err := e.start(ctx, embedded.StartPostgres)
	if err != nil {
		return nil, err
	}
	e.atEnd(end)
	c := &cluster{server: s}
	if c.admin, err = connect(ctx, s.URL()); err != nil {
		return nil, err
	}
	e.atEnd(func(ctx context.Context) error { _ = c.admin.Close(ctx); return nil })
	if err := c.prepare(ctx, e.fill); err != nil {
		return nil, fmt.Errorf("prepare the template database: %w", err)
	}
	return c, nil
}

// prepare fills the template and closes it for everybody, since a database that is in use cannot be copied.
func (c *cluster) prepare(ctx context.Context, fill func(context.Context, string) error) error {
	var version int
	if err := c.admin.QueryRow(ctx, "select current_setting('server_version_num')::int").Scan(&version); err != nil {
		return fmt.Errorf("ask for the version: %w", err)
	}
	if version >= 150000 {
		c.strategy = " strategy file_copy" // half the time of wal_log, which is the default from 15 on
	}
	if err := c.exec(ctx, "create database "+templateName+" template template0"); err != nil {
		return err
	}
	if fill != nil {
		if err := fill(ctx, c.url(templateName)); err != nil {
			return err
		}
	}
	return errors.Join(
		c.exec(ctx, "alter database "+templateName+" allow_connections false"),
		c.exec(ctx, "select pg_terminate_backend(pid) from pg_stat_activity where datname = '"+templateName+"'"),
	)
}

func (c *cluster) exec(ctx context.Context, sql string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.admin.IsClosed() { // a test that ended in the middle of a statement takes the connection with it
		admin, err := connect(ctx, c.server.URL())
		if err != nil {
			return err
		}
		c.admin = admin
	}
	_, err := c.admin.Exec(ctx, sql)
	return err
}

// url is the address of another database of the cluster.
func (c *cluster) url(name string) string {
	u, err := url.Parse(c.server.URL())
	if err != nil {
		panic(fmt.Sprintf("the URL of our own server does not parse: %v", err)) // a bug, not an input
	}
	u.Path = "/" + name
	return u.String()
}
