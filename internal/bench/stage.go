package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/budgetguard/budgetguard/internal/embedded"
	"github.com/budgetguard/budgetguard/migrations"
)

const (
	// guardKey is the upstream key of the gateway alone: the bill tells its share by it.
	guardKey = "bench-budgetguard"
	// otherKey is that of all other targets.
	otherKey = "bench-other"
	// removeWithin bounds the end of everything.
	removeWithin = 2 * time.Minute
)

// stage is the deployment under test. Its processes are stopped, and its data removed, by close.
type stage struct {
	root, dir string
	adminKey  string
	binary    string
	profiling bool

	postgres, redis              *embedded.Server
	mock, plain, gateway, worker *process
	profile                      map[string]string // where a process offers its profile, by its name
	pool                         *pgxpool.Pool
}

// openStage builds the binary and starts everything. On an error the caller closes what there is.
func openStage(ctx context.Context, o options) (*stage, error) {
	s := &stage{binary: o.binary, profiling: o.profile != "", profile: map[string]string{}}
	var err error
	if s.root, err = moduleRoot(ctx); err != nil {
		return s, err
	}
	if s.dir, err = os.MkdirTemp(o.dir, "budgetguard-bench-"); err != nil {
		return s, fmt.Errorf("make a directory for the data: %w", err)
	}
	secret := make([]byte, 24)
	_, _ = rand.Read(secret) // never fails, by its contract
	s.adminKey = hex.EncodeToString(secret)
	if s.binary == "" {
		s.binary = filepath.Join(s.dir, "budgetguard")
		err = s.build(ctx)
	} else {
		s.binary, err = filepath.Abs(s.binary)
	}
	if err != nil {
		return s, err
	}
	return s, errors.Join(s.startServers(ctx), s.startProcesses(ctx))
}

// moduleRoot is the directory of go.mod, so that the command works in all of the checkout.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module (run this in the checkout): %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

func (s *stage) build(ctx context.Context) error {
	args := []string{"build", "-o", s.binary}
	if s.profiling {
		overlay, err := layProfile(s.root, s.dir)
		if err != nil {
			return err
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/budgetguard")...) //nolint:gosec // our own arguments
	cmd.Dir = s.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build budgetguard: %w\n%s", err, out)
	}
	return nil
}

// data is where Postgres and Redis live. It is made by package embedded, which lets their user in.
func (s *stage) data() string { return filepath.Join(s.dir, "data") }

func (s *stage) startServers(ctx context.Context) error {
	if os.Geteuid() == 0 { // the servers run as users of their own, who must be able to pass through
		if err := os.Chmod(s.dir, 0o711); err != nil { //nolint:gosec // search only, and the secrets within are 0600
			return err
		}
	}
	cfg := embedded.Config{Dir: s.data(), Durable: true}
	var err error
	if s.postgres, err = embedded.StartPostgres(ctx, cfg); err != nil {
		return err
	}
	if s.redis, err = embedded.StartRedis(ctx, cfg); err != nil {
		return err
	}
	if _, err = migrations.Up(ctx, s.postgres.URL()); err != nil {
		return err
	}
	if s.pool, err = pgxpool.New(ctx, s.postgres.URL()); err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	return nil
}

func (s *stage) startProcesses(ctx context.Context) error {
	if s.redis == nil {
		return nil // startServers has said why
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if s.mock, err = spawn(ctx, s.dir, "mock", true, nil, []string{s.binary, "mock-upstream", "--addr", "127.0.0.1:0"}); err != nil {
		return err
	}
	if s.plain, err = spawn(ctx, s.dir, "plain", true, nil, []string{self, "-as", "plain", "-target", s.mock.url}); err != nil {
		return err
	}
	storage := []string{"DATABASE_URL=" + s.postgres.URL(), "REDIS_URL=" + s.redis.URL(), "LOG_FORMAT=json"}
	env := append([]string{
		"HOST=127.0.0.1", "PORT=0", "OPENAI_BASE_URL=" + s.mock.url + "/v1", "OPENAI_KEY=" + guardKey, "ADMIN_API_KEY=" + s.adminKey,
		"TENANT_AUTH=required", "MAX_REQS_PER_MIN=1000000", // on, and out of the way
	}, storage...)
	if s.worker, err = spawn(ctx, s.dir, "worker", false, s.profiled(ctx, "worker", storage), []string{s.binary, "worker"}); err != nil {
		return err
	}
	s.gateway, err = spawn(ctx, s.dir, "gateway", true, s.profiled(ctx, "gateway", env), []string{s.binary, "serve"})
	return err
}

// alive is an error if a process has ended.
func (s *stage) alive() error {
	return errors.Join(s.mock.alive(), s.plain.alive(), s.gateway.alive(), s.worker.alive())
}

// close ends everything and removes its data, whatever has become of ctx.
func (s *stage) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeWithin)
	defer cancel()
	var errs []error
	for _, p := range []*process{s.gateway, s.worker, s.plain, s.mock} {
		if p != nil {
			errs = append(errs, p.stop())
		}
	}
	if s.pool != nil {
		s.pool.Close()
	}
	for _, server := range []*embedded.Server{s.redis, s.postgres} {
		if server != nil {
			errs = append(errs, server.Stop(ctx))
		}
	}
	if s.dir == "" {
		return errors.Join(errs...)
	}
	errs = append(errs, embedded.Remove(s.data()), os.RemoveAll(s.dir))
	return errors.Join(errs...)
}

// control changes the mock's settings.
func (s *stage) control(ctx context.Context, settings string) error {
	return s.call(ctx, http.MethodPost, s.mock.url+"/control", "", settings, nil)
}

// client is for the few calls that are not measured.
func client() *http.Client { return &http.Client{Timeout: answerWithin} }

// call sends JSON and reads JSON; an answer that is no 2xx is an error.
func (s *stage) call(ctx context.Context, method, url, adminKey, body string, into any) error {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if adminKey != "" {
		r.Header.Set("X-Admin-Key", adminKey)
	}
	answer, err := client().Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // read to its end
	if answer.StatusCode/100 != 2 {
		var said json.RawMessage
		_ = json.NewDecoder(answer.Body).Decode(&said) // for the message only
		return fmt.Errorf("%s %s: %s: %s", method, r.URL.Path, answer.Status, said)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(answer.Body).Decode(into)
}
