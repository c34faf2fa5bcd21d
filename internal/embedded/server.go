package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	loopback = "127.0.0.1"
	// pollEvery is how often a starting or ending server is asked: it takes some 100 ms.
	pollEvery = 20 * time.Millisecond
	// readyWithin bounds a start, recovery after a crash included. A start takes a second
	// or two with initdb; a loaded machine has been seen to need twenty times that.
	readyWithin = 60 * time.Second
	// triesMax bounds how often a start is repeated for a port that was taken in the
	// meantime, or while the kernel still clears up after a server that was killed.
	triesMax = 40
)

// kind is what differs between Postgres and Redis.
type kind interface {
	// name begins the names of the files in Dir.
	name() string
	// users are the accounts to run as when we are root, best first.
	users() []string
	// prepare finds the programs and makes the data directory ready.
	prepare(ctx context.Context, s *Server) error
	// command is the server itself, listening on the port of s.
	command(ctx context.Context, s *Server) *exec.Cmd
	// orphan answers the pid that the data directory names (0: none) and how
	// to tell that the process is really this server on this data.
	orphan(s *Server) (pid int, ours func() bool)
	// ready answers nil when the server takes commands from us.
	ready(ctx context.Context, s *Server) error
	// url has the password in it.
	url(s *Server) *url.URL
	// polite ends the server with nothing to recover, rude as a crash would.
	polite() syscall.Signal
	rude() syscall.Signal
}

// Server is a Postgres or Redis of our own. It is safe for concurrent use.
type Server struct {
	cfg  Config
	kind kind
	log  *slog.Logger

	mu       sync.Mutex
	dir      string // the real path of cfg.Dir
	at       site
	password string
	fresh    bool // the password was made just now
	port     int
	held     *os.File // the lock on dir
	out      logFile
	child    *child
}

// start makes a server of the kind and starts it.
func start(ctx context.Context, cfg Config, k kind) (*Server, error) {
	s := &Server{cfg: cfg, kind: k, log: cfg.log().With(slog.String("server", k.name()))}
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Start starts the server again after it was stopped or has died: same data, same
// password, and the same port unless somebody took it. It returns when the server
// takes commands, or after a minute at most; ctx bounds only the start.
// Errors: ErrRunning, ErrInUse, ErrMissing, and others that end with the server's own last lines.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child != nil && s.child.alive() {
		return fmt.Errorf("start %s: %w", s.kind.name(), ErrRunning)
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := s.take(); err != nil {
		return fmt.Errorf("start %s: %w", s.kind.name(), err)
	}
	if err := s.launch(ctx); err != nil {
		s.release()
		return fmt.Errorf("start %s in %s: %w", s.kind.name(), s.dir, err)
	}
	return nil
}

// take opens and locks Dir.
func (s *Server) take() error {
	dir, err := openDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	s.dir = dir
	if s.held == nil { // else our server died by itself, and Dir is still ours
		s.held, err = lock(dir, s.kind.name())
	}
	return err
}

func (s *Server) release() {
	if s.held != nil {
		unlock(s.held)
		s.held = nil
	}
}

// file is the path of one of our small files in Dir.
func (s *Server) file(suffix string) string { return filepath.Join(s.dir, s.kind.name()+suffix) }

func (s *Server) launch(ctx context.Context) error {
	at, err := place(s.dir, s.kind.name(), s.kind.users())
	if err != nil {
		return err
	}
	s.at = at
	if filepath.Dir(at.data) != s.dir {
		s.log.InfoContext(ctx, "data is kept outside the directory, where the server's user can reach it",
			slog.String("directory", s.dir), slog.String("data", at.data))
	}
	s.port = keptPort(s.file(".port"))
	if err := s.clearOrphan(ctx); err != nil {
		return err
	}
	if s.password, s.fresh, err = secret(s.file(".password")); err != nil {
		return err
	}
	s.out = logFile{path: s.file(".log")}
	if err := s.kind.prepare(ctx, s); err != nil {
		return err
	}
	return s.tryPorts(ctx)
}

// clearOrphan stops the server of an earlier process of ours that was killed, and only that: a pid
// that now belongs to something else is left alone.
func (s *Server) clearOrphan(ctx context.Context) error {
	pid, ours := s.kind.orphan(s)
	if pid == 0 || !ours() {
		return nil
	}
	s.log.WarnContext(ctx, "an earlier run left its server behind: stopping it", slog.Int("pid", pid))
	return stopOrphan(ctx, pid, ours, s.steps())
}

// tryPorts starts the server, again on another port if the first was taken.
func (s *Server) tryPorts(ctx context.Context) error {
	wanted := s.port
	var err error
	for range triesMax {
		if s.port, err = freePort(ctx, s.port); err != nil {
			return err
		}
		err = s.once(ctx)
		var died *diedError
		switch {
		case err == nil:
			if wanted != 0 && wanted != s.port {
				s.log.WarnContext(ctx, "the port of the last run is taken", slog.Int("was", wanted), slog.Int("port", s.port))
			}
			return keepPort(s.file(".port"), s.port)
		case !errors.As(err, &died):
			return err
		case strings.Contains(died.tail, "ddress already in use"):
			s.port = 0
		case strings.Contains(died.tail, "shared memory block"):
			// Children of a Postgres that was killed are still ending.
			if err := pause(ctx); err != nil {
				return died
			}
		default:
			return err
		}
	}
	return err
}

func pause(ctx context.Context) error {
	timer := time.NewTimer(5 * pollEvery)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// diedError says that the server ended while we waited for it.
type diedError struct {
	how  error
	tail string
}

func (e *diedError) Error() string { return fmt.Sprintf("it ended (%v):\n%s", e.how, e.tail) }
func (e *diedError) Unwrap() error { return e.how }

// once starts the server and waits until it takes commands.
func (s *Server) once(ctx context.Context) error {
	dies := s.kind.rude()
	if s.cfg.Durable {
		dies = s.kind.polite()
	}
	c, err := s.run(s.kind.command(context.WithoutCancel(ctx), s), dies)
	if err != nil {
		return err
	}
	s.child = c
	// Somebody else may listen on the port and never say a word: the attempt ends with our server.
	attempt, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-c.done:
			cancel()
		case <-attempt.Done():
		}
	}()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := s.kind.ready(attempt, s)
		if err == nil && c.alive() {
			return nil
		}
		select {
		case <-c.done:
			return &diedError{how: exitOf(c.err), tail: s.out.tail()}
		case <-ctx.Done():
			_ = c.stop(ctx, s.steps()[1:]) // the error below says more
			return fmt.Errorf("it did not answer in time: %w; its last lines:\n%s", errors.Join(ctx.Err(), err), s.out.tail())
		case <-tick.C:
		}
	}
}

func exitOf(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// run starts a program as the server's user, in its data's place, with its output in the log.
func (s *Server) run(cmd *exec.Cmd, dies syscall.Signal) (*child, error) {
	out, err := s.out.open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }() // the child has its own
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.Dir == "" {
		cmd.Dir = filepath.Dir(s.at.data)
	}
	return spawn(cmd, s.at.who, dies)
}

// finish runs a program to its end, or kills it when ctx is done.
func (s *Server) finish(ctx context.Context, cmd *exec.Cmd) error {
	c, err := s.run(cmd, syscall.SIGKILL)
	if err != nil {
		return err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), c.stop(context.WithoutCancel(ctx), s.steps()[2:]))
	}
	if c.err != nil {
		return fmt.Errorf("%s: %w:\n%s", filepath.Base(cmd.Path), c.err, s.out.tail())
	}
	return nil
}

// steps end a server: politely, then as a crash would, then by force. A big
// checkpoint on a slow disk is what the first one has time for.
func (s *Server) steps() []step {
	return []step{{s.kind.polite(), 20 * time.Second}, {s.kind.rude(), 5 * time.Second}, {syscall.SIGKILL, 5 * time.Second}}
}

// Stop ends the server with everything written, and gives Dir free. Connections that are open are cut.
// If ctx ends or 20 seconds pass first, the server is ended by force and that is the error. It never leaves
// a server running; on one that does not run it only gives Dir free.
func (s *Server) Stop(ctx context.Context) error { return s.stop(ctx, 0) }

// StopImmediate ends the server as a crash would (Postgres: SIGQUIT, Redis: SIGKILL): what was
// committed is there after the next Start, by recovery.
func (s *Server) StopImmediate(ctx context.Context) error { return s.stop(ctx, 1) }

func (s *Server) stop(ctx context.Context, first int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.release()
	if s.child == nil || !s.child.alive() {
		return nil
	}
	if err := s.child.stop(ctx, s.steps()[first:]); err != nil {
		return fmt.Errorf("stop %s: %w", s.kind.name(), err)
	}
	return nil
}

// URL is the address with user and password: a DATABASE_URL or REDIS_URL. It changes
// only if a Start finds the old port taken. Keep it out of logs and argument lists.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kind.url(s).String()
}

// Port is the TCP port on 127.0.0.1.
func (s *Server) Port() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.port
}

// PID is the process id of the server's last start. Tests may kill it.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child == nil {
		return 0
	}
	return s.child.process.Pid
}

// Done is closed when the present process of the server has ended, for whatever reason.
func (s *Server) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.child.done
}

// Data is the directory where the data really is.
func (s *Server) Data() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at.data
}

// pidIn reads the process id on the first line of a file; 0 if there is none.
func pidIn(path string) int {
	raw, err := os.ReadFile(path) //nolint:gosec // a name of ours in the data directory
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 {
		return 0
	}
	return pid
}
