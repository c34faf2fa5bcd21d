package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// RedisDatabases is the number of logical databases of the embedded Redis.
const RedisDatabases = 64

// StartRedis starts a Redis on 127.0.0.1 with its data in cfg.Dir: an append-only
// file (flushed every second, or never if not Durable), no eviction, a password.
//
// It answers ErrMissing where no Redis is installed, ErrInUse where another
// process has the directory; see [Server.Start].
func StartRedis(ctx context.Context, cfg Config) (*Server, error) {
	return start(ctx, cfg, &redis{look: systemLookup()})
}

// redis is the kind.
type redis struct {
	look    lookup
	found   programs
	program string
}

func (*redis) name() string           { return "redis" }
func (*redis) users() []string        { return []string{"redis", "nobody"} }
func (*redis) polite() syscall.Signal { return syscall.SIGTERM }
func (*redis) rude() syscall.Signal   { return syscall.SIGKILL }

func (r *redis) prepare(_ context.Context, s *Server) error {
	var err error
	if r.found, r.program, err = r.look.redis(); err != nil {
		return err
	}
	if err := os.Mkdir(s.at.data, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the data directory: %w", err)
	}
	return s.at.who.chown(s.at.data)
}

// command gives the settings through standard input: the password is in no
// argument list and in no second file.
func (r *redis) command(ctx context.Context, s *Server) *exec.Cmd {
	flush := "no"
	if s.cfg.Durable {
		flush = "everysec"
	}
	settings := []string{
		"bind " + loopback,
		"protected-mode yes",
		"port " + strconv.Itoa(s.port),
		"requirepass " + s.password,
		"databases " + strconv.Itoa(RedisDatabases),
		"appendonly yes",
		"appendfsync " + flush,
		`save ""`, // the append-only file has it all
		"maxmemory-policy noeviction",
		"daemonize no",
		"pidfile " + redisPid,
		"tcp-backlog 128", // the kernel's usual bound: more only makes a warning
	}
	cmd := exec.CommandContext(ctx, r.found.file(r.program), "-") //nolint:gosec // a program found in a system folder
	cmd.Env = r.found.env()
	cmd.Dir = s.at.data
	cmd.Stdin = strings.NewReader(strings.Join(settings, "\n") + "\n")
	return cmd
}

// redisPid is in the data directory, which is the server's working directory.
const redisPid = "redis.pid"

// orphan knows the server by its title, "redis-server 127.0.0.1:PORT" or "valkey-server …": nobody else can have the port.
func (*redis) orphan(s *Server) (int, func() bool) {
	pid := pidIn(filepath.Join(s.at.data, redisPid))
	address := net.JoinHostPort(loopback, strconv.Itoa(s.port))
	return pid, func() bool {
		line := commandLine(pid) + " "
		return s.port != 0 && strings.Contains(line, "-server ") && strings.Contains(line, " "+address+" ")
	}
}

func (*redis) url(s *Server) *url.URL {
	return &url.URL{
		Scheme: "redis",
		User:   url.UserPassword("", s.password),
		Host:   net.JoinHostPort(loopback, strconv.Itoa(s.port)),
		Path:   "/0",
	}
}

// ready asks with our password, which no other server on that port knows. While
// Redis reads its file it answers -LOADING.
func (*redis) ready(ctx context.Context, s *Server) error {
	var dial net.Dialer
	conn, err := dial.DialContext(ctx, "tcp", net.JoinHostPort(loopback, strconv.Itoa(s.port)))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := conn.Write([]byte("AUTH " + s.password + "\r\nPING\r\n")); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	answers := bufio.NewReader(conn)
	for _, want := range []string{"+OK", "+PONG"} {
		got, err := answers.ReadString('\n')
		if err != nil {
			return fmt.Errorf("ping: %w", err)
		}
		if got = strings.TrimSpace(got); got != want {
			return fmt.Errorf("ping: answered %.80q", got)
		}
	}
	return nil
}
