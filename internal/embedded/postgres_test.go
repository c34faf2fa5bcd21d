package embedded

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestPostgresKeepsDataPasswordAndPortAcrossRestarts(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	cfg := Config{Dir: dir, Durable: true} // a real initdb
	first := startPostgres(t, cfg)
	query(t, first, "create table kept as select 'yes' as answer")
	check(t, first.Stop(t.Context()))

	second := startPostgres(t, cfg)
	wantEqual(t, "the row", query(t, second, "select answer from kept"), "yes")
	wantEqual(t, "URL", second.URL(), first.URL())
}

func TestPostgresHasTheSettingsOfItsConfig(t *testing.T) {
	t.Parallel()
	quick := startPostgres(t, config(newDir(t)))
	durable := startPostgres(t, Config{Dir: newDir(t), Durable: true, InitCache: filepath.Join(area, "cache")})
	for _, c := range []struct {
		s             *Server
		setting, want string
	}{
		{quick, "fsync", "off"},
		{quick, "full_page_writes", "off"},
		{quick, "synchronous_commit", "on"},
		{durable, "fsync", "on"},
		{durable, "full_page_writes", "on"},
		{durable, "synchronous_commit", "on"},
		{durable, "max_connections", "200"},
		{durable, "TimeZone", "UTC"},
		{durable, "server_encoding", "UTF8"},
		{durable, "listen_addresses", "127.0.0.1"},
		{durable, "unix_socket_directories", ""},
	} {
		wantEqual(t, c.setting, query(t, c.s, "select current_setting('"+c.setting+"')"), c.want)
	}
	wantEqual(t, "database", query(t, durable, "select current_database() || ' ' || current_user"), "budgetguard budgetguard")
}

func TestCommittedRowsSurviveACrashOfPostgres(t *testing.T) {
	t.Parallel()
	s := startPostgres(t, config(newDir(t)))
	url := s.URL()
	query(t, s, "create table kept as select 'yes' as answer")

	check(t, s.StopImmediate(t.Context()))
	check(t, s.Start(t.Context()))
	wantEqual(t, "after an immediate stop", query(t, s, "select answer from kept"), "yes")

	done := s.Done()
	check(t, syscall.Kill(s.PID(), syscall.SIGKILL))
	<-done
	check(t, s.Start(t.Context()))
	wantEqual(t, "after kill -9", query(t, s, "select answer from kept"), "yes")
	wantEqual(t, "URL", s.URL(), url)
}

func TestStartOnARunningServerIsRefused(t *testing.T) {
	t.Parallel()
	s := startPostgres(t, config(newDir(t)))
	if err := s.Start(t.Context()); !errors.Is(err, ErrRunning) {
		t.Errorf("got %v, want ErrRunning", err)
	}
}

func TestStopCutsConnectionsAndMayBeRepeated(t *testing.T) {
	t.Parallel()
	s := startPostgres(t, config(newDir(t)))
	conn, err := pgx.Connect(t.Context(), s.URL())
	check(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	pid := s.PID()
	check(t, s.Stop(t.Context()))
	wantEqual(t, "what runs under the old pid", commandLine(pid), "")
	check(t, s.Stop(t.Context()))
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("the connection outlived the server")
	}
}

func TestStopWithoutTimeStillEndsTheServer(t *testing.T) {
	t.Parallel()
	s := startPostgres(t, config(newDir(t)))
	pid := s.PID()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = s.Stop(ctx) // an error only if the server had to be forced
	wantEqual(t, "what runs under the old pid", commandLine(pid), "")
}

func TestTakenPortIsReplacedAndTheNewOneKept(t *testing.T) {
	t.Parallel()
	s := startPostgres(t, config(newDir(t)))
	old := s.Port()
	check(t, s.Stop(t.Context()))
	other, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(old)))
	check(t, err)
	defer func() { _ = other.Close() }()

	check(t, s.Start(t.Context()))
	if s.Port() == old {
		t.Fatal("started on a port that another process listens on")
	}
	wantEqual(t, "answer", query(t, s, "select 'yes'"), "yes")
	wantEqual(t, "kept port", keptPort(s.file(".port")), s.Port())
}

func TestPortThatIsTakenDuringTheStartIsReplaced(t *testing.T) {
	t.Parallel()
	for name, k := range map[string]kind{"postgres": &postgres{look: systemLookup()}, "redis": &redis{look: systemLookup()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := start(t.Context(), config(newDir(t)), k)
			check(t, err)
			check(t, s.Stop(t.Context()))
			other, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(s.Port())))
			check(t, err)
			defer func() { _ = other.Close() }()
			// The server itself must report the port in the words that tryPorts knows.
			err = s.once(t.Context())
			var died *diedError
			if !errors.As(err, &died) || !strings.Contains(died.tail, "ddress already in use") {
				t.Errorf("got %v, want one that names the taken port", err)
			}
		})
	}
}

func TestStalePidFileDoesNotStopAStart(t *testing.T) {
	t.Parallel()
	s := startPostgres(t, config(newDir(t)))
	file := filepath.Join(s.Data(), "postmaster.pid")
	dead := s.PID()
	check(t, s.Stop(t.Context()))
	for name, pid := range map[string]int{"dead": dead, "of another program": os.Getpid(), "of a parent": os.Getppid()} {
		check(t, os.WriteFile(file, []byte(strconv.Itoa(pid)+"\n"+s.Data()+"\n1\n"+strconv.Itoa(s.Port())+"\n\n"), 0o600))
		check(t, s.at.who.chown(file))
		if err := s.Start(t.Context()); err != nil {
			t.Fatalf("a pid file %s: %v", name, err)
		}
		check(t, s.Stop(t.Context()))
	}
}

func TestHalfMadeClusterIsMadeAnew(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	check(t, os.MkdirAll(filepath.Join(dir, "postgres.init", "base"), 0o700))
	s := startPostgres(t, config(dir))
	wantEqual(t, "answer", query(t, s, "select 'yes'"), "yes")
}

func TestLostPasswordIsReplaced(t *testing.T) {
	t.Parallel()
	s := startPostgres(t, config(newDir(t)))
	query(t, s, "create table kept as select 'yes' as answer")
	old := s.URL()
	check(t, s.Stop(t.Context()))
	check(t, os.Remove(s.file(".password")))
	check(t, s.Start(t.Context()))
	wantEqual(t, "the row", query(t, s, "select answer from kept"), "yes")
	if s.URL() == old {
		t.Error("the lost password came back")
	}
}

func TestConnectionsNeedThePassword(t *testing.T) {
	t.Parallel()
	s := startPostgres(t, config(newDir(t)))
	conn, err := pgx.Connect(t.Context(), strings.Replace(s.URL(), s.password, "wrong", 1))
	if err == nil {
		_ = conn.Close(t.Context())
		t.Fatal("a wrong password was accepted")
	}
	if !strings.Contains(err.Error(), "28P01") {
		t.Errorf("got %v, want a refused password", err)
	}
}

func TestFailedStartShowsTheServersLastLinesAndFreesTheDirectory(t *testing.T) {
	t.Parallel()
	s := startPostgres(t, config(newDir(t)))
	check(t, s.Stop(t.Context()))
	check(t, os.Remove(filepath.Join(s.Data(), "global", "pg_control")))
	err := s.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "pg_control") {
		t.Errorf("got %v, want the server's complaint about pg_control", err)
	}
	free, err := lock(s.dir, "postgres")
	check(t, err)
	unlock(free)
}

func TestCancelledStartLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := StartPostgres(ctx, config(dir)); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context.Canceled", err)
	}
	s := startPostgres(t, config(dir))
	wantEqual(t, "answer", query(t, s, "select 'yes'"), "yes")
}
