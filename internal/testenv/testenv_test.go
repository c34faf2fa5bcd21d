package testenv_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/budgetguard/budgetguard/internal/testenv"
)

// fills counts how often the template was filled.
var fills atomic.Int64

func TestMain(m *testing.M) {
	os.Exit(testenv.Main(m, testenv.WithLeakCheck(), testenv.WithTemplate(func(ctx context.Context, url string) error {
		fills.Add(1)
		return exec1(ctx, url, "create table thing (id int primary key); insert into thing values (1)")
	})))
}

func exec1(ctx context.Context, url, sql string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

func count(t *testing.T, url string) int {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	check(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	var n int
	check(t, conn.QueryRow(t.Context(), "select count(*) from thing").Scan(&n))
	return n
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDatabasesAreCopiesOfTheTemplateAndDoNotMeet(t *testing.T) {
	t.Parallel()
	for i := range 6 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			url := testenv.Database(t)
			check(t, exec1(t.Context(), url, fmt.Sprintf("insert into thing select generate_series(2, %d)", i+2)))
			if got, want := count(t, url), i+2; got != want {
				t.Errorf("got %d rows, want %d", got, want)
			}
		})
	}
	t.Cleanup(func() {
		if got := fills.Load(); got < 1 || got > 2 { // Server fills its own
			t.Errorf("the template was filled %d times", got)
		}
	})
}

func TestDatabaseIsDroppedWithItsConnections(t *testing.T) {
	t.Parallel()
	var url string
	t.Run("user", func(t *testing.T) {
		url = testenv.Database(t)
		conn, err := pgx.Connect(t.Context(), url)
		check(t, err)
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
		testenv.Database(t) // whose connections outlive it, for cleanups run in reverse
	})
	if err := exec1(t.Context(), url, "select 1"); err == nil || !strings.Contains(err.Error(), "3D000") {
		t.Errorf("got %v, want a database that does not exist", err)
	}
}

func TestEmptyDatabaseHasNothing(t *testing.T) {
	t.Parallel()
	err := exec1(t.Context(), testenv.EmptyDatabase(t), "select * from thing")
	if err == nil || !strings.Contains(err.Error(), "42P01") {
		t.Errorf("got %v, want an undefined table", err)
	}
}

func client(t *testing.T, url string) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(url)
	check(t, err)
	c := redis.NewClient(opts)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRedisDatabasesAreEmptyAndDoNotMeet(t *testing.T) {
	t.Parallel()
	for i := range 100 { // more than there are databases: they are flushed and given again
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			c := client(t, testenv.Redis(t))
			if n := c.DBSize(t.Context()).Val(); n != 0 {
				t.Errorf("%d keys in a fresh database", n)
			}
			check(t, c.Set(t.Context(), "key", i, 0).Err())
			if got, err := c.Get(t.Context(), "key").Int(); err != nil || got != i {
				t.Errorf("got %d, %v, want %d", got, err, i)
			}
		})
	}
}

func TestPrivateServersMayBeKilled(t *testing.T) {
	t.Parallel()
	pg, rd := testenv.Server(t), testenv.RedisServer(t)
	check(t, exec1(t.Context(), pg.URL(), "insert into thing values (2)"))
	check(t, client(t, rd.URL()).Set(t.Context(), "key", "kept", 0).Err())
	check(t, pg.StopImmediate(t.Context()))
	check(t, rd.StopImmediate(t.Context()))
	check(t, pg.Start(t.Context()))
	check(t, rd.Start(t.Context()))
	if got := count(t, pg.URL()); got != 2 {
		t.Errorf("got %d rows after the crash, want 2", got)
	}
	if got := client(t, rd.URL()).Get(t.Context(), "key").Val(); got != "kept" {
		t.Errorf("got %q after the crash", got)
	}
	if got := count(t, testenv.Database(t)); got != 1 {
		t.Errorf("got %d rows in the shared server, want 1", got)
	}
}

// TestHang is run by TestNothingIsLeft in a process of its own, where it waits to be killed.
func TestHang(t *testing.T) {
	mode := os.Getenv("TESTENV_HANG")
	if mode == "" {
		return
	}
	url, err := pgx.ParseConfig(testenv.Database(t))
	check(t, err)
	conn, err := pgx.ConnectConfig(t.Context(), url)
	check(t, err)
	var data string
	check(t, conn.QueryRow(t.Context(), "show data_directory").Scan(&data))
	testenv.Redis(t)
	_, _ = fmt.Printf("\nhome=%s\n", filepath.Dir(filepath.Dir(data))) //nolint:forbidigo // to the parent process
	switch mode {
	case "panic": // what a test's timeout does, too
		panic("as asked")
	case "exit":
		os.Exit(1)
	}
	<-t.Context().Done()
}

func TestNothingIsLeftHoweverTheTestProcessEnds(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"kill", "exit", "panic"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHang$", "-test.timeout=1m")
			cmd.Env = append(os.Environ(), "TESTENV_HANG="+mode)
			out, err := cmd.StdoutPipe()
			check(t, err)
			check(t, cmd.Start())
			home := ""
			lines := bufio.NewScanner(out)
			for home == "" && lines.Scan() {
				if _, after, is := strings.Cut(lines.Text(), "home="); is {
					home = after
				}
			}
			if mode == "kill" {
				check(t, cmd.Process.Signal(syscall.SIGKILL))
			}
			for lines.Scan() { // to the end: nobody else may hold the pipe open
			}
			_ = cmd.Wait()
			if home == "" {
				t.Fatal("the process ended before it had a database")
			}
			vanishes(t, home)
		})
	}
}

// vanishes waits until a directory is gone.
func vanishes(t *testing.T, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			entries, _ := os.ReadDir(dir)
			t.Fatalf("%s is still there, with %v", dir, entries)
		}
	}
}

// run is a testing.M of our own.
type run func() int

func (r run) Run() int { return r() }

func TestMainFailsWhenGoroutinesAreLeft(t *testing.T) {
	if os.Getenv("TESTENV_LEAK") == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMainFailsWhenGoroutinesAreLeft$")
		cmd.Env = append(os.Environ(), "TESTENV_LEAK=1")
		out, err := cmd.CombinedOutput()
		check(t, err)
		if !strings.Contains(string(out), "found unexpected goroutines") {
			t.Errorf("the leak is not named: %s", out)
		}
		return
	}
	stop := make(chan struct{})
	ignore := goleak.IgnoreCurrent()
	code := testenv.Main(run(func() int { go func() { <-stop }(); return 0 }), testenv.WithLeakCheck(ignore))
	close(stop)
	if code == 0 {
		t.Error("a leaked goroutine passed")
	}
}
