package eventstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	neturl "net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/audit"
	"github.com/budgetguard/budgetguard/internal/testenv"
	"github.com/budgetguard/budgetguard/migrations"
)

func TestMain(m *testing.M) {
	time.Local = time.FixedZone("not UTC", -(3*60+30)*60) // as on a machine where Postgres answers in another zone
	os.Exit(testenv.Main(m, testenv.WithLeakCheck(), testenv.WithTemplate(func(ctx context.Context, url string) error {
		_, err := migrations.Up(ctx, url)
		return err
	})))
}

// wall is the clock of the machine: what cmd gives a ledger.
func wall() time.Time { return time.Now() }

// patience bounds every wait: far more than a loaded machine needs.
const patience = 60 * time.Second

// within is the test's context with a bound.
func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// openLedger opens a ledger that is closed at the end of the test, drained.
func openLedger(tb testing.TB, url string, change ...func(*eventstore.Config)) *eventstore.Ledger {
	tb.Helper()
	cfg := eventstore.Config{URL: url, Now: wall, Logger: slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))}
	for _, c := range change {
		c(&cfg)
	}
	l, err := eventstore.OpenLedger(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := l.Close(ctx); err != nil {
			tb.Error(err)
		}
	})
	return l
}

func openStore(tb testing.TB, url string) *eventstore.Store {
	tb.Helper()
	s, err := eventstore.OpenStore(tb.Context(), url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

func openPool(tb testing.TB, url string) *pgxpool.Pool {
	tb.Helper()
	pool, err := pgxpool.New(tb.Context(), url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(pool.Close)
	return pool
}

// do carries out a command that must succeed.
func do(tb testing.TB, l *eventstore.Ledger, tenant domain.TenantID, c domain.Command) []domain.Recorded {
	tb.Helper()
	records, err := l.Do(within(tb), tenant, c)
	if err != nil {
		tb.Fatalf("%T: %v", c, err)
	}
	return records
}

// fresh makes a tenant with a monthly budget.
func fresh(tb testing.TB, l *eventstore.Ledger, limit domain.Amount) domain.TenantID {
	tb.Helper()
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	do(tb, l, tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	do(tb, l, tenant, domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: limit, Source: domain.SourceAdmin, Actor: "admin"})
	return tenant
}

func newID() domain.ReservationID { return domain.ReservationID(uuid.NewString()) }

func reserve(amount domain.Amount) domain.Reserve {
	return domain.Reserve{
		Request: domain.Request{
			Reservation: newID(), Route: "/v1/chat/completions", Provider: "openai", Model: "gpt-4", Prices: "test", Policy: "test", Gateway: "gw",
			Estimate: domain.Estimate{PromptTokens: 10, CompletionTokens: 100, Basis: "test"},
		},
		Amount: amount, TTL: time.Minute,
	}
}

// settle charges by the provider's usage. What costs nothing had no tokens.
func settle(id domain.ReservationID, charged domain.Amount) domain.Settle {
	c := domain.Settle{Reservation: id, Charged: charged, Basis: domain.BasisProvider, Reason: "answered"}
	if charged > 0 {
		c.Usage = domain.Usage{Prompt: 10, Completion: 20}
	}
	return c
}

// verified fails the test unless the whole ledger verifies.
func verified(tb testing.TB, url string) audit.Report {
	tb.Helper()
	report, err := audit.Verify(within(tb), openPool(tb, url), audit.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	for _, v := range report.Violations {
		tb.Error(v)
	}
	return report
}

// eventually waits until a condition holds.
func eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	ctx := within(tb)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tb.Fatalf("it never came to be that %s", what)
		}
	}
}

// scalar reads one number.
func scalar(tb testing.TB, pool *pgxpool.Pool, sql string, args ...any) int64 {
	tb.Helper()
	var n int64
	if err := pool.QueryRow(within(tb), sql, args...).Scan(&n); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return n
}

// readAll reads a tenant's stream.
func readAll(tb testing.TB, s *eventstore.Store, tenant domain.TenantID) []domain.Recorded {
	tb.Helper()
	var all []domain.Recorded
	for {
		records, err := s.Read(within(tb), tenant, int64(len(all)), 1000)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, records...)
		if len(records) < 1000 {
			return all
		}
	}
}

// timeMachine gives the database at url a clock of its own, and says how to move it on. Sessions that use
// the returned url find its clock_timestamp before that of pg_catalog.
func timeMachine(tb testing.TB, url string) (moved string, jump func(time.Duration)) {
	tb.Helper()
	pool := openPool(tb, url)
	for _, sql := range []string{
		`create schema machine`,
		`create table machine.clock (ahead interval not null)`,
		`insert into machine.clock values ('0')`,
		`create function machine.clock_timestamp() returns timestamptz language sql volatile as
			'select pg_catalog.clock_timestamp() + ahead from machine.clock'`,
	} {
		if _, err := pool.Exec(within(tb), sql); err != nil {
			tb.Fatal(err)
		}
	}
	address, err := neturl.Parse(url)
	if err != nil {
		tb.Fatal(err)
	}
	query := address.Query()
	query.Set("search_path", "machine,pg_catalog,public")
	address.RawQuery = query.Encode()
	return address.String(), func(d time.Duration) {
		if _, err := pool.Exec(within(tb), `update machine.clock set ahead = ahead + $1`, d); err != nil {
			tb.Fatal(err)
		}
	}
}

// refold is the state that a tenant's events amount to.
func refold(tb testing.TB, s *eventstore.Store, tenant domain.TenantID) domain.State {
	tb.Helper()
	state := domain.NewState(tenant)
	for _, r := range readAll(tb, s, tenant) {
		state = domain.Evolve(state, r)
	}
	state.ForgetClosed()
	return state
}

// sameState compares states as text, where nothing and an empty list are one.
func sameState(tb testing.TB, what string, got, want domain.State) {
	tb.Helper()
	if g, w := text(tb, got), text(tb, want); g != w {
		from := 0
		for from < min(len(g), len(w)) && g[from] == w[from] {
			from++
		}
		from = max(0, from-200)
		tb.Errorf("%s, from byte %d:\n got %.900s\nwant %.900s", what, from, g[from:], w[from:])
	}
}

func text(tb testing.TB, s domain.State) string {
	tb.Helper()
	s = s.Clone()
	s.Used = true // a store does not remember that a tenant is new
	if len(s.Budgets) == 0 {
		s.Budgets = nil
	}
	for i := range s.Budgets {
		if len(s.Budgets[i].AlertsAt) == 0 {
			s.Budgets[i].AlertsAt = nil
		}
	}
	for id, k := range s.Keys {
		if len(k.RequiredTags) == 0 {
			k.RequiredTags = nil
		}
		if len(k.Models) == 0 {
			k.Models = nil
		}
		s.Keys[id] = k
	}
	encoded, err := json.Marshal(struct {
		domain.State
		Attempts string // JSON has no such keys
	}{State: s, Attempts: fmt.Sprintf("%+v", s.Attempts)})
	if err != nil {
		tb.Fatal(err)
	}
	return string(encoded)
}

// tally counts the outcomes of concurrent commands.
type tally struct {
	mu                     sync.Mutex
	ok, refused, unwilling int
	other                  []error
}

func (y *tally) count(err error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	switch {
	case err == nil:
		y.ok++
	case errors.Is(err, domain.ErrBudgetExceeded):
		y.refused++
	case errors.Is(err, domain.ErrUnavailable):
		y.unwilling++
	default:
		y.other = append(y.other, err)
	}
}

// execAs runs statements as a superuser who switched the triggers off.
func execAs(tb testing.TB, url string, statements ...string) {
	tb.Helper()
	conn, err := pgx.Connect(within(tb), url)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(tb.Context())) }()
	for _, sql := range append([]string{"set session_replication_role = replica"}, statements...) {
		tag, err := conn.Exec(within(tb), sql)
		if err != nil {
			tb.Fatalf("%s: %v", sql, err)
		}
		if strings.HasPrefix(sql, "update") && tag.RowsAffected() == 0 {
			tb.Fatalf("%s: no row", sql)
		}
	}
}
