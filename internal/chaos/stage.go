package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/budgetguard/budgetguard/internal/embedded"
	"github.com/budgetguard/budgetguard/migrations"
)

const (
	// diskSize is what Postgres has in memory, when that can be mounted: room for a run of an hour.
	diskSize = 6 << 30
	// removeWithin bounds the end of everything.
	removeWithin = 2 * time.Minute
)

// stage is the system under test.
type stage struct {
	options
	dir      string
	adminKey string
	binary   string
	skewed   string // empty: no gateway's clock is off in this run
	// mounted says that the disk of Postgres is one of ours, that can be filled.
	mounted bool

	postgres, redis *embedded.Server
	wires           *wires
	mock            *program
	gateways        []*program
	workers         []*program
	urls            []string // of the gateways
	mockURL         string
	pool            *pgxpool.Pool // past all proxies
	client          *redis.Client
}

// openStage builds the binary and starts everything. On an error the caller closes what there is.
func openStage(ctx context.Context, o options) (*stage, error) {
	s := &stage{options: o, wires: newWires()}
	secret := make([]byte, 24)
	_, _ = rand.Read(secret) // never fails, by its contract
	s.adminKey = hex.EncodeToString(secret)
	root, err := moduleRoot(ctx)
	if err != nil {
		return s, err
	}
	if s.dir, err = embedded.Scratch("budgetguard-chaos-"); err != nil {
		return s, err
	}
	s.binary = filepath.Join(s.dir, "budgetguard")
	if err := build(ctx, root, s.binary); err != nil {
		return s, err
	}
	if o.skew {
		s.skewed = filepath.Join(s.dir, "budgetguard-skewed")
		if err := buildSkewed(ctx, root, s.dir, s.skewed); err != nil {
			return s, err
		}
	}
	if err := s.startServers(ctx); err != nil {
		return s, err
	}
	return s, s.startPrograms(ctx)
}

func (s *stage) startServers(ctx context.Context) (err error) {
	disk := filepath.Join(s.dir, "disk")
	s.mounted = s.disk && mountDisk(disk, diskSize) == nil
	if s.postgres, err = embedded.StartPostgres(ctx, embedded.Config{Dir: filepath.Join(disk, "postgres")}); err != nil {
		return err
	}
	if s.redis, err = embedded.StartRedis(ctx, embedded.Config{Dir: filepath.Join(s.dir, "redis")}); err != nil {
		return err
	}
	if _, err = migrations.Up(ctx, s.postgres.URL()); err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(s.postgres.URL())
	if err != nil {
		return err
	}
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "off" // also while a fault says otherwise
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	options, err := redis.ParseURL(s.redis.URL())
	if err != nil {
		return err
	}
	s.client = redis.NewClient(options)
	return nil
}

func (s *stage) startPrograms(ctx context.Context) error {
	mockAddress, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	s.mockURL = "http://" + mockAddress
	s.mock = s.program("mock", "mock upstream on", nil, "mock-upstream", "--addr", mockAddress, "--journal", s.journal())
	if err := s.mock.start(ctx); err != nil {
		return err
	}
	for i := range s.options.workers {
		name := "worker-" + strconv.Itoa(i)
		env, err := s.storage(name)
		if err != nil {
			return err
		}
		s.workers = append(s.workers, s.program(name, " works", env, "worker"))
	}
	for i := range s.options.gateways {
		if err := s.addGateway(ctx, "gateway-"+strconv.Itoa(i), mockAddress); err != nil {
			return err
		}
	}
	for _, p := range append(append([]*program{}, s.gateways...), s.workers...) {
		if err := p.once(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) addGateway(ctx context.Context, name, mockAddress string) error {
	env, err := s.storage(name)
	if err != nil {
		return err
	}
	upstream, err := s.wires.add(name+suffixUpstream, mockAddress)
	if err != nil {
		return err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	env = append(env,
		"HOST="+host, "PORT="+port, "OPENAI_BASE_URL=http://"+upstream+"/v1", "ADMIN_API_KEY="+s.adminKey, "MAX_REQS_PER_MIN=0",
		"RESERVATION_TTL="+s.ttl.String(), "UPSTREAM_TIMEOUT="+s.upstreamTimeout().String(), "DRAIN_TIMEOUT="+s.drainTimeout().String(),
		"SHUTDOWN_TIMEOUT=10s",
	)
	s.urls = append(s.urls, "http://"+address)
	s.gateways = append(s.gateways, s.program(name, "serves http://", env, "serve"))
	return nil
}

// The names of wires end in what they lead to.
const (
	suffixPostgres = "-postgres"
	suffixRedis    = "-redis"
	suffixUpstream = "-upstream"
)

// storage is the environment of a program that reaches Postgres and Redis by wires of its own.
func (s *stage) storage(name string) ([]string, error) {
	env := append([]string{"LOG_FORMAT=json", "LOG_LEVEL=warn"}, s.env...)
	for _, to := range []struct {
		variable, suffix string
		server           *embedded.Server
	}{{"DATABASE_URL", suffixPostgres, s.postgres}, {"REDIS_URL", suffixRedis, s.redis}} {
		u, err := url.Parse(to.server.URL())
		if err != nil {
			return nil, err
		}
		if u.Host, err = s.wires.add(name+to.suffix, u.Host); err != nil {
			return nil, err
		}
		env = append(env, to.variable+"="+u.String())
	}
	return env, nil
}

func (s *stage) program(name, says string, env []string, args ...string) *program {
	return &program{name: name, says: says, env: env, args: args, binary: s.binary, log: s.log(name)}
}

func (s *stage) log(name string) string { return filepath.Join(s.dir, name+".log") }

func (s *stage) journal() string { return filepath.Join(s.dir, "bill.journal") }

// programs are all that are started by us.
func (s *stage) programs() []*program {
	list := append(append([]*program{}, s.gateways...), s.workers...)
	if s.mock != nil {
		list = append(list, s.mock)
	}
	return list
}

// startPostgres starts Postgres again and leads the wires to it, should its port have changed.
func (s *stage) startPostgres(ctx context.Context) error {
	if err := s.postgres.Start(ctx); err != nil && !errors.Is(err, embedded.ErrRunning) {
		return err
	}
	return s.wires.lead(suffixPostgres, net.JoinHostPort("127.0.0.1", strconv.Itoa(s.postgres.Port())))
}

func (s *stage) startRedis(ctx context.Context) error {
	if err := s.redis.Start(ctx); err != nil && !errors.Is(err, embedded.ErrRunning) {
		return err
	}
	return s.wires.lead(suffixRedis, net.JoinHostPort("127.0.0.1", strconv.Itoa(s.redis.Port())))
}

// close ends everything and removes its data, whatever has become of ctx.
func (s *stage) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeWithin)
	defer cancel()
	for _, p := range s.programs() {
		p.kill()
	}
	s.wires.close()
	if s.pool != nil {
		s.pool.Close()
	}
	var errs []error
	if s.client != nil {
		errs = append(errs, s.client.Close())
	}
	for _, server := range []*embedded.Server{s.redis, s.postgres} {
		if server != nil {
			errs = append(errs, server.StopImmediate(ctx))
		}
	}
	if s.dir == "" || s.keep {
		return errors.Join(errs...)
	}
	disk := filepath.Join(s.dir, "disk")
	if s.mounted {
		errs = append(errs, unmountDisk(disk))
	} else {
		errs = append(errs, embedded.Remove(filepath.Join(disk, "postgres")))
	}
	errs = append(errs, embedded.Remove(filepath.Join(s.dir, "redis")), os.RemoveAll(s.dir))
	return errors.Join(errs...)
}

// control changes the provider's settings.
func (s *stage) control(ctx context.Context, settings string) error {
	bounded, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(bounded, http.MethodPost, s.mockURL+"/control", strings.NewReader(settings))
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // nothing in it is needed
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("control %s: %s", settings, answer.Status)
	}
	return nil
}

func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
