package eventstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
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
	os.Exit(testenv.Main(m, testenv.WithLeakCheck(), testenv.WithTemplate(func(ctx context.Context, url string) error {
		_, err := migrations.Up(ctx, url)
		return err
	})))
}

// wall is the clock of the machine: what cmd gives a ledger.
func wall() time.Time { return time.Now() } //nolint:forbidigo // the one clock of these tests

// patience bounds every wait: far more than a loaded machine needs.
const patience = 60 * time.Second

// within is the test's context with a bound.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// openLedger opens a ledger that is closed at the end of the test, drained.
func openLedger(t testing.TB, url string, change ...func(*eventstore.Config)) *eventstore.Ledger {
	t.Helper()
	cfg := eventstore.Config{URL: url, Now: wall, Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))}
	for _, c := range change {
		c(&cfg)
	}
	l, err := eventstore.OpenLedger(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return l
}

func openStore(t testing.TB, url string) *eventstore.Store {
	t.Helper()
	s, err := eventstore.OpenStore(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func openPool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// do carries out a command that must succeed.
func do(t testing.TB, l *eventstore.Ledger, tenant domain.TenantID, c domain.Command) []domain.Recorded {
	t.Helper()
	records, err := l.Do(within(t), tenant, c)
	if err != nil {
		t.Fatalf("%T: %v", c, err)
	}
	return records
}

// fresh makes a tenant with a monthly budget.
func fresh(t testing.TB, l *eventstore.Ledger, limit domain.Amount) domain.TenantID {
	t.Helper()
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	do(t, l, tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	do(t, l, tenant, domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: limit, Source: domain.SourceAdmin, Actor: "admin"})
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

func settle(id domain.ReservationID, charged domain.Amount) domain.Settle {
	return domain.Settle{Reservation: id, Charged: charged, Basis: domain.BasisProvider, Usage: domain.Usage{Prompt: 10, Completion: 20}, Reason: "answered"}
}

// verified fails the test unless the whole ledger verifies.
func verified(t testing.TB, url string) audit.Report {
	t.Helper()
	report, err := audit.Verify(within(t), openPool(t, url), audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range report.Violations {
		t.Error(v)
	}
	return report
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx := within(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("it never came to be that %s", what)
		}
	}
}

// scalar reads one number.
func scalar(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) int64 {
	t.Helper()
	var n int64
	if err := pool.QueryRow(within(t), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// readAll reads a tenant's stream.
func readAll(t testing.TB, s *eventstore.Store, tenant domain.TenantID) []domain.Recorded {
	t.Helper()
	var all []domain.Recorded
	for {
		records, err := s.Read(within(t), tenant, int64(len(all)), 1000)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, records...)
		if len(records) < 1000 {
			return all
		}
	}
}

// refold is the state that a tenant's events amount to.
func refold(t testing.TB, s *eventstore.Store, tenant domain.TenantID) domain.State {
	t.Helper()
	state := domain.NewState(tenant)
	for _, r := range readAll(t, s, tenant) {
		state = domain.Evolve(state, r)
	}
	for id := range state.Presumed {
		state.ForgetPresumption(id)
	}
	return state
}

// sameState compares states as text, where nothing and an empty list are one.
func sameState(t testing.TB, what string, got, want domain.State) {
	t.Helper()
	if g, w := text(t, got), text(t, want); g != w {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

func text(t testing.TB, s domain.State) string {
	t.Helper()
	s = s.Clone()
	for i := range s.Budgets {
		if len(s.Budgets[i].AlertsAt) == 0 {
			s.Budgets[i].AlertsAt = nil
		}
	}
	for id, k := range s.Keys {
		if len(k.Models) == 0 {
			k.Models = nil
		}
		s.Keys[id] = k
	}
	encoded, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
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
func execAs(t testing.TB, url string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(within(t), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for _, sql := range append([]string{"set session_replication_role = replica"}, statements...) {
		tag, err := conn.Exec(within(t), sql)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if strings.HasPrefix(sql, "update") && tag.RowsAffected() == 0 {
			t.Fatalf("%s: no row", sql)
		}
	}
}
