package embedded

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// area is a directory that every user can pass through: t.TempDir of root is not.
var area string

func TestMain(m *testing.M) {
	if dir := os.Getenv("EMBEDDED_TEST_HOLD"); dir != "" {
		os.Exit(hold(dir))
	}
	var err error
	if area, err = Scratch("embedded-test-"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(area)
	os.Exit(code)
}

// report is what a holding process tells about its servers.
type report struct{ PostgresPID, RedisPID int }

// hold runs both servers in a process of its own until its standard input ends.
func hold(dir string) int {
	ctx := context.Background()
	cfg := Config{Dir: dir, Durable: true, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	pg, errPG := StartPostgres(ctx, cfg)
	rd, errRD := StartRedis(ctx, cfg)
	if err := errors.Join(errPG, errRD); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_ = json.NewEncoder(os.Stdout).Encode(report{pg.PID(), rd.PID()})
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := errors.Join(pg.Stop(ctx), rd.Stop(ctx)); err != nil {
		return 1
	}
	return 0
}

// holder is a running `hold`.
type holderProcess struct {
	*exec.Cmd
	report
	stdin io.Closer
}

// startHolder runs `hold` from a copy of this test that every user may execute.
func startHolder(t *testing.T, dir string, as *syscall.Credential) holderProcess {
	t.Helper()
	program := filepath.Join(area, "hold-"+strings.ReplaceAll(t.Name(), "/", "-"))
	raw, err := os.ReadFile(os.Args[0])
	check(t, err)
	// No fork of a parallel test may inherit the file while it is open for writing: the kernel would refuse to
	// run it (text file busy).
	syscall.ForkLock.RLock()
	err = os.WriteFile(program, raw, 0o755)
	syscall.ForkLock.RUnlock()
	check(t, err)
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), "EMBEDDED_TEST_HOLD="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	check(t, err)
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	h := holderProcess{Cmd: cmd, stdin: stdin}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	check(t, err)
	check(t, json.Unmarshal(line, &h.report))
	return h
}

func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(area, "dir-") //nolint:usetesting // t.TempDir of root is closed to the servers' user
	check(t, err)
	check(t, os.Chmod(dir, 0o711))
	return dir
}

// config is a quick one: not durable, and the cluster is copied.
func config(dir string) Config {
	return Config{Dir: dir, InitCache: filepath.Join(area, "cache")}
}

func startPostgres(t *testing.T, cfg Config) *Server {
	t.Helper()
	return started(t, StartPostgres, cfg)
}

func startRedis(t *testing.T, cfg Config) *Server {
	t.Helper()
	return started(t, StartRedis, cfg)
}

func started(t *testing.T, start func(context.Context, Config) (*Server, error), cfg Config) *Server {
	t.Helper()
	s, err := start(t.Context(), cfg)
	check(t, err)
	t.Cleanup(func() {
		if err := s.StopImmediate(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return s
}

// abandon forgets a running server, as a process that is killed does: the lock
// is gone, the server lives on.
func (s *Server) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
	s.child = nil
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// query runs a statement and answers the first column of its first row, if it has one.
func query(t *testing.T, s *Server, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL())
	check(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	rows, err := conn.Query(t.Context(), sql)
	check(t, err)
	defer rows.Close()
	var got string
	if rows.Next() {
		check(t, rows.Scan(&got))
	}
	rows.Close()
	check(t, rows.Err())
	return got
}

// gone waits until no such process of ours is left.
func gone(t *testing.T, pid int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for commandLine(pid) != "" {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("pid %d still runs: %s", pid, commandLine(pid))
		}
	}
}

func wantEqual[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
