package projections_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/testenv"
	"github.com/budgetguard/budgetguard/migrations"
	"github.com/budgetguard/budgetguard/projections"
)

// quiet is for the outages that the tests make: go-redis prints each dial that fails.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	os.Exit(testenv.Main(m, testenv.WithLeakCheck(), testenv.WithTemplate(func(ctx context.Context, url string) error {
		_, err := migrations.Up(ctx, url)
		return err
	})))
}

// within is how long anything may take to converge on a machine that is busy with other tests.
const within = 30 * time.Second

// world is a ledger with its database and a Redis.
type world struct {
	tb     testing.TB
	pool   *pgxpool.Pool
	store  *eventstore.Store
	ledger *eventstore.Ledger
	redis  *redis.Client
	cfg    projections.Config
	shown  *prometheus.Registry
}

func newWorld(tb testing.TB, redisURL string) *world {
	tb.Helper()
	return newWorldOn(tb, testenv.Database(tb), redisURL)
}

func newWorldOn(tb testing.TB, url, redisURL string) *world {
	tb.Helper()
	store, err := eventstore.OpenStore(tb.Context(), url)
	if err != nil {
		tb.Fatal(err)
	}
	wake := make(chan struct{}, 1)
	ledger, err := eventstore.OpenLedger(tb.Context(), eventstore.Config{URL: url, Now: time.Now, Committed: func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}})
	if err != nil {
		tb.Fatal(err)
	}
	options, err := redis.ParseURL(redisURL)
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{tb: tb, store: store, pool: store.Pool(), ledger: ledger, redis: redis.NewClient(options), shown: prometheus.NewRegistry()}
	metrics, err := projections.NewMetrics(w.shown)
	if err != nil {
		tb.Fatal(err)
	}
	w.cfg = projections.Config{
		RedisURL: redisURL, Poll: 200 * time.Millisecond, Reap: 100 * time.Millisecond, Wake: wake, Metrics: metrics,
	}
	tb.Cleanup(func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), within)
		defer cancel()
		if err := errors.Join(ledger.Close(closing), w.redis.Close()); err != nil {
			tb.Error(err)
		}
		store.Close()
	})
	return w
}

// run runs a part until the test ends or stop is called.
func (w *world) run(part interface{ Run(context.Context) error }, err error) (stop func()) {
	w.tb.Helper()
	if err != nil {
		w.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.tb.Context())
	done := make(chan error, 1)
	go func() { done <- part.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				w.tb.Errorf("run: %v", err)
			}
		case <-time.After(within):
			w.tb.Error("it did not stop")
		}
	})
	w.tb.Cleanup(stop)
	return stop
}

func (w *world) worker() (stop func()) {
	w.tb.Helper()
	worker, err := projections.NewWorker(w.cfg, w.store, w.ledger)
	return w.run(worker, err)
}

func (w *world) do(tenant domain.TenantID, c domain.Command) []domain.Recorded {
	w.tb.Helper()
	recorded, err := w.ledger.Do(w.tb.Context(), tenant, c)
	if err != nil {
		w.tb.Errorf("%T for %s: %v", c, tenant, err) // not Fatal: tests spend in goroutines
	}
	return recorded
}

// tenant makes a tenant with two budgets.
func (w *world) tenant(name string) domain.TenantID {
	w.tb.Helper()
	tenant := domain.TenantID(name)
	w.do(tenant, domain.CreateTenant{Name: name, Actor: "admin"})
	w.do(tenant, domain.DefineBudget{ID: "bud_m", Period: domain.Monthly, Limit: 1_000_000, Source: domain.SourceAdmin, AlertsAt: []domain.Threshold{500_000, 1_000_000}})
	w.do(tenant, domain.DefineBudget{ID: "bud_h", Period: domain.Hourly, Limit: 900_000, Source: domain.SourceDemo})
	return tenant
}

func request() domain.Request {
	return domain.Request{
		Reservation: domain.ReservationID(uuid.NewString()), Route: "/v1/chat/completions", Provider: "openai", Model: "gpt-4o-mini",
		Tags: map[string]string{"team": "search", "env": "<prod>"}, Estimate: domain.Estimate{Basis: "tiktoken"}, Gateway: "gw",
	}
}

func (w *world) reserve(tenant domain.TenantID, amount domain.Amount) domain.ReservationID {
	w.tb.Helper()
	r := request()
	w.do(tenant, domain.Reserve{Request: r, Amount: amount, TTL: time.Hour})
	return r.Reservation
}

// spend makes n reservations and closes nine of ten of them in the ways there are.
func (w *world) spend(tenant domain.TenantID, n int) {
	w.tb.Helper()
	for i := range n {
		id := w.reserve(tenant, 10)
		settle := domain.Settle{Reservation: id, Charged: domain.Amount(5 + i%9), Basis: domain.BasisProvider, Usage: domain.Usage{Prompt: 7, Completion: 3}}
		switch i % 10 {
		case 7:
			w.do(tenant, domain.Release{Reservation: id, Reason: domain.ReleasedNotSent})
		case 8:
			w.do(tenant, domain.SettlePresumed{Reservation: id, Reason: "cut"})
			w.do(tenant, settle)
		case 9:
		default:
			w.do(tenant, settle)
		}
	}
}

// eventually asks until the answer is nil.
func (w *world) eventually(what string, ask func() error) {
	w.tb.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	limit := time.After(within)
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-limit:
			w.tb.Fatalf("%s: %v", what, err)
		case <-ticker.C:
		}
	}
}

// converge waits until everything derived agrees with the ledger.
func (w *world) converge(tenants ...domain.TenantID) {
	w.tb.Helper()
	w.eventually("outbox", func() error {
		n, err := w.store.OutboxDepth(w.tb.Context())
		if err == nil && n > 0 {
			err = fmt.Errorf("%d rows", n)
		}
		return err
	})
	w.projected(tenants...)
}

// projected waits until both projections agree with the ledger.
func (w *world) projected(tenants ...domain.TenantID) {
	w.tb.Helper()
	for _, tenant := range tenants {
		w.eventually("registers of "+string(tenant), func() error { return w.registersRight(tenant) })
		w.eventually("usage of "+string(tenant), func() error { return w.usageRight(tenant) })
	}
}

func (w *world) head(tenant domain.TenantID) int64 {
	w.tb.Helper()
	var head int64
	if err := w.pool.QueryRow(w.tb.Context(), `select version from tenant_head where tenant_id = $1`, tenant).Scan(&head); err != nil {
		w.tb.Fatal(err)
	}
	return head
}

// registersRight compares the hash with the account rows, and what is read from it with the state.
func (w *world) registersRight(tenant domain.TenantID) error {
	ctx := w.tb.Context()
	hash, err := w.redis.HGetAll(ctx, "bg:{"+string(tenant)+"}:balances").Result()
	if err != nil {
		return err
	}
	if want := fmt.Sprint(w.head(tenant)); hash["version"] != want {
		return fmt.Errorf("registers are at version %q of %s", hash["version"], want)
	}
	rows, err := w.pool.Query(ctx, `select account_id::text, concat_ws('|', version, period,
		(extract(epoch from win_start) * 1000000)::bigint, (extract(epoch from win_end) * 1000000)::bigint,
		limit_nano, settled, held, presumed, duration_min * 60000000, oldest_bucket,
		coalesce((select string_agg(concat_ws(':', buckets[i], buckets[i + 1], buckets[i + 2]), ',' order by i)
			from generate_series(1, cardinality(buckets), 3) i), ''), budget_id) from account where tenant_id = $1`, tenant)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, want string
		if err := rows.Scan(&id, &want); err != nil {
			return err
		}
		if hash[id] != want {
			return fmt.Errorf("register %s is %q and the row %q", id, hash[id], want)
		}
	}
	return errors.Join(rows.Err(), w.balancesRight(tenant))
}

func (w *world) balancesRight(tenant domain.TenantID) error {
	state, err := w.store.State(w.tb.Context(), tenant)
	if err != nil {
		return err
	}
	registers, err := projections.NewRegisters(w.cfg, noStates{})
	if err != nil {
		return err
	}
	now := time.Now()
	for _, at := range []time.Time{now, now.Add(3 * time.Hour), now.Add(40 * 24 * time.Hour)} {
		got, errRead := registers.Balances(w.tb.Context(), tenant, at)
		if want := state.Balances(at); errRead != nil || !reflect.DeepEqual(got, want) {
			err = fmt.Errorf("balances from Redis: %+v, %w; from Postgres: %+v", got, errRead, want)
		}
	}
	return errors.Join(err, registers.Close())
}

// noStates makes sure that an answer came from Redis.
type noStates struct{}

var errNoStates = errors.New("postgres was asked")

func (noStates) State(context.Context, domain.TenantID) (domain.State, error) {
	return domain.State{}, errNoStates
}

// usageRight compares the UsageLedger with the accounts and its cursor with the head.
func (w *world) usageRight(tenant domain.TenantID) error {
	ctx := w.tb.Context()
	var cursor int64
	if err := w.pool.QueryRow(ctx, `select coalesce(max(version), 0) from projection_cursor where name = 'usage' and tenant_id = $1`, tenant).Scan(&cursor); err != nil {
		return err
	}
	if want := w.head(tenant); cursor != want {
		return fmt.Errorf("usage is at version %d of %d", cursor, want)
	}
	var wrong int
	err := w.pool.QueryRow(ctx, `select count(*) from account a where tenant_id = $1 and settled <> (
		select coalesce(sum(usd), 0) * 1000000000 from "UsageLedger" u where u.tenant = a.tenant_id and u.ts >= a.win_start and u.ts < a.win_end
			and (duration_min = 0 or u.ts >= to_timestamp(oldest_bucket * duration_min))) and not exists (
		select from budget b where b.tenant_id = a.tenant_id and b.budget_id = a.budget_id and scope <> '{}')`, tenant).Scan(&wrong)
	if err == nil && wrong > 0 {
		err = fmt.Errorf("%d accounts differ from the sums of the UsageLedger", wrong)
	}
	return err
}

// metric is the value of a counter or gauge, summed over the labels that contain these values.
func (w *world) metric(name string, labels ...string) float64 {
	w.tb.Helper()
	families, err := w.shown.Gather()
	if err != nil {
		w.tb.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if !slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(values, l) }) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}
