package audit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

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

// noon is when the histories of these tests begin.
func noon() time.Time { return time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC) }

// id is the nth reservation.
func id(n int) domain.ReservationID {
	return domain.ReservationID(fmt.Sprintf("00000000-0000-4000-8000-%012d", n))
}

func reserve(n int, amount domain.Amount) domain.Reserve {
	return domain.Reserve{
		Request: domain.Request{
			Reservation: id(n), Route: "/v1/chat/completions", Provider: "openai", Model: "gpt-4", KeyID: "", Gateway: "gw",
			Tags: map[string]string{"team": "search"}, Idempotency: fmt.Sprint("order-", n),
		},
		Amount: amount, TTL: time.Minute,
	}
}

func settle(n int, charged domain.Amount) domain.Settle {
	return domain.Settle{Reservation: id(n), Charged: charged, Basis: domain.BasisProvider, Usage: domain.Usage{Prompt: 10, Completion: 20}}
}

// history is an honest stream: what Decide records for commands a second apart.
type history struct {
	tb     testing.TB
	state  domain.State
	at     time.Time
	events []domain.Recorded
}

func newHistory(tb testing.TB, commands ...domain.Command) *history {
	tb.Helper()
	h := &history{tb: tb, state: domain.NewState("acme"), at: noon()}
	h.then(append([]domain.Command{
		domain.CreateTenant{Name: "ACME", Actor: "admin"},
		domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: 100, Source: domain.SourceAdmin},
	}, commands...)...)
	return h
}

func (h *history) then(commands ...domain.Command) {
	h.tb.Helper()
	for _, c := range commands {
		h.at = h.at.Add(time.Second)
		if _, ok := c.(domain.Expire); ok {
			h.at = h.at.Add(time.Hour)
		}
		state, recorded, err := domain.Execute(h.state, c, h.at)
		if needed := (*domain.PastNeededError)(nil); errors.As(err, &needed) {
			for _, r := range h.events {
				needed.Past.Add(r)
			}
			state, recorded, err = domain.Execute(h.state, domain.Informed{Command: c, Past: []domain.Past{needed.Past}}, h.at)
		}
		if err != nil {
			h.tb.Fatalf("%T: %v", c, err)
		}
		h.state = state
		h.events = append(h.events, recorded...)
	}
}

// plant writes a stream as an attacker would who can compute hashes: every link holds.
func (h *history) plant(pool *pgxpool.Pool) {
	h.tb.Helper()
	prev := eventstore.Genesis("acme")
	for i := range h.events {
		r := &h.events[i]
		r.Tenant = "acme"
		var err error
		if r.Body, err = domain.EncodeEvent(r.Event); err != nil {
			h.tb.Fatal(err)
		}
		prev = eventstore.Link(prev, *r, domain.SchemaVersion)
		exec(h.tb, pool, `insert into event (tenant_id, version, ts, type, body, hash) values ('acme', $1, $2, $3, $4, $5)`,
			r.Version, r.Time, string(domain.TypeOf(r.Event)), string(r.Body), prev[:])
		if r.Version == int64(i+1) {
			exec(h.tb, pool, `insert into tenant_head (tenant_id, version, last_ts, last_hash) values ('acme', $1, $2, $3)
				on conflict (tenant_id) do update set version = excluded.version, last_ts = excluded.last_ts, last_hash = excluded.last_hash`,
				r.Version, r.Time, prev[:])
		}
	}
}

func exec(tb testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	tb.Helper()
	if _, err := pool.Exec(tb.Context(), sql, args...); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
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

func verify(tb testing.TB, pool *pgxpool.Pool, opts audit.Options) audit.Report {
	tb.Helper()
	report, err := audit.Verify(tb.Context(), pool, opts)
	if err != nil {
		tb.Fatal(err)
	}
	return report
}

// found lists the violations as "law version", those of some laws left out.
func found(report audit.Report, but ...audit.Law) string {
	var list []string
	for _, v := range report.Violations {
		if !slices.Contains(but, v.Law) {
			list = append(list, fmt.Sprintf("%s %d", v.Law, v.Version))
		}
	}
	return strings.Join(slices.Compact(list), ", ")
}

// edit changes the event of a version.
func edit[E domain.Event](h *history, version int64, change func(*E)) {
	h.tb.Helper()
	e, ok := h.events[version-1].Event.(E)
	if !ok {
		h.tb.Fatalf("version %d is a %T", version, h.events[version-1].Event)
	}
	change(&e)
	h.events[version-1].Event = e
}
