package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// Role and Database are the names of the superuser and of the database that URL
// leads to.
const (
	Role     = "budgetguard"
	Database = "budgetguard"
)

// StartPostgres starts a Postgres on 127.0.0.1 with its data in cfg.Dir, initialising
// it the first time, with an empty database [Database] owned by the superuser [Role].
// Text is UTF-8, order is byte order (locale C), the time zone UTC.
//
// It answers ErrMissing where no Postgres is installed, ErrInUse where another
// process has the directory; see [Server.Start].
func StartPostgres(ctx context.Context, cfg Config) (*Server, error) {
	return start(ctx, cfg, &postgres{look: systemLookup()})
}

// postgres is the kind.
type postgres struct {
	look    lookup
	found   programs
	version string
}

func (*postgres) name() string           { return "postgres" }
func (*postgres) users() []string        { return []string{"postgres", "nobody"} }
func (*postgres) polite() syscall.Signal { return syscall.SIGINT }  // "fast": cut connections, checkpoint
func (*postgres) rude() syscall.Signal   { return syscall.SIGQUIT } // "immediate": recovery at the next start

func (p *postgres) prepare(ctx context.Context, s *Server) error {
	major := majorOnDisk(s.at.data)
	var err error
	if p.found, p.version, err = p.look.postgres(ctx, major); err != nil {
		return err
	}
	if major == "" {
		return p.create(ctx, s)
	}
	if err := p.clearPid(s); err != nil {
		return err
	}
	if s.fresh {
		s.log.WarnContext(ctx, "the password of the database was lost: setting a new one", slog.String("directory", s.dir))
		return p.resetPassword(ctx, s)
	}
	return nil
}

// majorOnDisk is the major version that made the data; empty if there is none yet.
func majorOnDisk(data string) string {
	raw, err := os.ReadFile(filepath.Join(data, "PG_VERSION")) //nolint:gosec // a file of our own data directory
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

// create makes the data directory under another name and renames it when it is
// complete: an initdb that was killed leaves nothing that looks like data.
func (p *postgres) create(ctx context.Context, s *Server) error {
	half := s.at.data + ".init"
	if err := os.RemoveAll(half); err != nil {
		return fmt.Errorf("clear away a half-made cluster: %w", err)
	}
	cache := cacheOf(s.cfg.InitCache, p.version)
	copied, err := cache.copyTo(half, s)
	if err != nil {
		return err
	}
	if !copied {
		if err := p.initdb(ctx, s, half); err != nil {
			return err
		}
		if err := cache.fill(half, s.password); err != nil {
			s.log.WarnContext(ctx, "the next first start will take as long as this one", slog.Any("error", err))
		}
	}
	if err := os.Rename(half, s.at.data); err != nil {
		return fmt.Errorf("put the new cluster in its place: %w", err)
	}
	return nil
}

func (p *postgres) initdb(ctx context.Context, s *Server, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make the cluster's directory: %w", err)
	}
	// Not /dev/stdin: another user may not open a pipe of root's by name.
	pwfile := filepath.Join(filepath.Dir(dir), "pwfile")
	if err := os.WriteFile(pwfile, []byte(s.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("pass the password to initdb: %w", err)
	}
	defer func() { _ = os.Remove(pwfile) }()
	if err := errors.Join(s.at.who.chown(dir), s.at.who.chown(pwfile)); err != nil {
		return err
	}
	args := []string{
		"--pgdata=" + dir, "--username=" + Role, "--pwfile=" + pwfile, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C", "--no-instructions",
	}
	if !s.cfg.Durable {
		args = append(args, "--no-sync", "--wal-segsize=1") // small, for it is copied often
	}
	cmd := exec.CommandContext(ctx, p.found.file("initdb"), args...) //nolint:gosec // a program found in a system folder
	cmd.Env = p.found.env()
	return s.finish(ctx, cmd)
}

// clearPid removes a postmaster.pid whose process is not this server. Postgres does so
// itself when there is no such process, but gives up when the number was given to another.
// We hold the lock on Dir, and clearOrphan has stopped the server if it was one.
func (p *postgres) clearPid(s *Server) error {
	if pid, ours := p.orphan(s); pid == 0 || ours() {
		return nil
	}
	if err := os.Remove(filepath.Join(s.at.data, "postmaster.pid")); err != nil {
		return fmt.Errorf("remove a stale pid file: %w", err)
	}
	return nil
}

// resetPassword uses the single-user mode, which asks for none; the command goes through standard input.
func (p *postgres) resetPassword(ctx context.Context, s *Server) error {
	cmd := exec.CommandContext(ctx, p.found.file("postgres"), "--single", "-D", s.at.data, "postgres") //nolint:gosec // a program found in a system folder
	cmd.Env = p.found.env()
	cmd.Stdin = strings.NewReader("alter role " + Role + " password '" + s.password + "';\n")
	return s.finish(ctx, cmd)
}

func (p *postgres) command(ctx context.Context, s *Server) *exec.Cmd {
	careful, memory := "off", "mmap" // mmap: in the data directory, so that a killed server leaves nothing elsewhere
	if s.cfg.Durable {
		careful, memory = "on", "posix"
	}
	args := []string{"-D", s.at.data, "-p", strconv.Itoa(s.port)}
	for _, setting := range []string{
		"listen_addresses=" + loopback,
		"unix_socket_directories=", // paths of sockets may have 107 bytes only, and TCP does
		"fsync=" + careful,
		"full_page_writes=" + careful,
		"synchronous_commit=on", // the meaning of a commit never depends on Durable
		"dynamic_shared_memory_type=" + memory,
		"max_connections=200",
		"shared_buffers=64MB",
		"max_wal_size=512MB",
		"checkpoint_timeout=15min",
		"jit=off", // short statements only; and it would need LLVM
		"timezone=UTC",
		"log_timezone=UTC",
		"password_encryption=scram-sha-256",
		"logging_collector=off",
	} {
		args = append(args, "-c", setting)
	}
	cmd := exec.CommandContext(ctx, p.found.file("postgres"), args...) //nolint:gosec // a program found in a system folder
	cmd.Env = p.found.env()
	return cmd
}

func (*postgres) orphan(s *Server) (int, func() bool) {
	pid := pidIn(filepath.Join(s.at.data, "postmaster.pid"))
	return pid, func() bool {
		line := commandLine(pid)
		return strings.Contains(line, "postgres ") && strings.Contains(line, " -D "+s.at.data+" ")
	}
}

func (p *postgres) url(s *Server) *url.URL { return p.urlOf(s, Database) }

func (*postgres) urlOf(s *Server, database string) *url.URL {
	return &url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(Role, s.password),
		Host:     net.JoinHostPort(loopback, strconv.Itoa(s.port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
}

// ready connects with our password, which no other server on that port knows, and makes the database.
func (p *postgres) ready(ctx context.Context, s *Server) error {
	conn, err := pgx.Connect(ctx, p.urlOf(s, "postgres").String())
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var there bool
	if err := conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", Database).Scan(&there); err != nil {
		return fmt.Errorf("look for the database: %w", err)
	}
	if there {
		return nil
	}
	if _, err := conn.Exec(ctx, "create database "+Database); err != nil {
		return fmt.Errorf("create the database: %w", err)
	}
	return nil
}
