package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/audit"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// Rows of the crash matrix that need several ledgers or another clock, but no processes.

func openLedger(t *testing.T, url string, now func() time.Time) *eventstore.Ledger {
	t.Helper()
	l, err := eventstore.OpenLedger(t.Context(), eventstore.Config{URL: url, Now: now})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		must(t, l.Close(ctx))
	})
	return l
}

func openStore(t *testing.T, url string) *eventstore.Store {
	t.Helper()
	s, err := eventstore.OpenStore(t.Context(), url)
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

func define(t *testing.T, l *eventstore.Ledger, tenant domain.TenantID, periods ...domain.Period) {
	t.Helper()
	_, err := l.Do(t.Context(), tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	must(t, err)
	for _, p := range periods {
		_, err := l.Do(t.Context(), tenant, domain.DefineBudget{ID: domain.BudgetID(p), Period: p, Limit: 1_000_000, Source: domain.SourceAdmin, Actor: "admin"})
		must(t, err)
	}
}

func reserve(amount domain.Amount, ttl time.Duration) domain.Reserve {
	return domain.Reserve{
		Request: domain.Request{
			Reservation: domain.ReservationID(uuid.NewString()), Route: "/v1/chat/completions", Provider: "openai", Model: "gpt-4o", Gateway: "gw",
			Estimate: domain.Estimate{Basis: "test"},
		},
		Amount: amount, TTL: ttl,
	}
}

func settle(id domain.ReservationID, charged domain.Amount) domain.Settle {
	return domain.Settle{Reservation: id, Charged: charged, Basis: domain.BasisProvider, Usage: domain.Usage{Prompt: 1, Completion: 1}}
}

func verified(t *testing.T, s *eventstore.Store) {
	t.Helper()
	report, err := audit.Verify(t.Context(), s.Pool(), audit.Options{})
	if err != nil || report.Err() != nil {
		t.Error(err, report.Err())
	}
}

func readAll(t *testing.T, s *eventstore.Store, tenant domain.TenantID) []domain.Recorded {
	t.Helper()
	records, err := s.Read(t.Context(), tenant, 0, 10_000)
	must(t, err)
	return records
}

func TestReaperAndSettleRace(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	gateway, reaper, s := openLedger(t, url, time.Now), openLedger(t, url, time.Now), openStore(t, url)
	define(t, gateway, "race", domain.Yearly)
	const holds, charged = 60, 7
	var late atomic.Int64
	for range holds {
		r := reserve(10, time.Millisecond)
		_, err := gateway.Do(t.Context(), "race", r)
		must(t, err)
		var both sync.WaitGroup
		both.Go(func() {
			_, err := reaper.Do(t.Context(), "race", domain.Expire{Reservation: r.Reservation})
			if err != nil && !errors.Is(err, domain.ErrReservationUnknown) && !errors.Is(err, domain.ErrInvalid) { // closed already, or not due yet
				t.Errorf("expire: %v", err)
			}
		})
		both.Go(func() {
			records, err := gateway.Do(t.Context(), "race", settle(r.Reservation, charged))
			if err != nil || len(records) != 1 {
				t.Errorf("settle: %d events, %v", len(records), err)
				return
			}
			if _, corrects := records[0].Event.(domain.UsageSettledLate); corrects {
				late.Add(1)
			}
		})
		both.Wait()
	}
	state, err := s.State(t.Context(), "race")
	must(t, err)
	if b := state.Balances(time.Now())[0]; b.Held != 0 || b.Settled != holds*charged {
		t.Errorf("held %d and settled %d, want 0 and %d", b.Held, b.Settled, holds*charged)
	}
	t.Logf("the reaper won %d of %d", late.Load(), holds)
	verified(t, s)
}

func TestTwoGatewaysOpenOneWindow(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := openStore(t, url)
	ledgers := []*eventstore.Ledger{openLedger(t, url, time.Now), openLedger(t, url, time.Now), openLedger(t, url, time.Now)}
	for i := range 10 {
		tenant := domain.TenantID(fmt.Sprintf("window-%d", i))
		define(t, ledgers[0], tenant, domain.Hourly, domain.Monthly)
		var first sync.WaitGroup
		for _, l := range ledgers {
			first.Go(func() {
				_, err := l.Do(t.Context(), tenant, reserve(1, time.Hour))
				if err != nil {
					t.Error(err)
				}
			})
		}
		first.Wait()
		opened := map[string]int{}
		for _, r := range readAll(t, s, tenant) {
			if e, ok := r.Event.(domain.WindowOpened); ok {
				opened[fmt.Sprint(e.Budget, e.Start)]++
			}
		}
		for window, n := range opened {
			if n != 1 {
				t.Errorf("%s: %s was opened %d times", tenant, window, n)
			}
		}
		if len(opened) < 2 {
			t.Errorf("%s: windows %v", tenant, opened)
		}
	}
	verified(t, s)
}

func TestGatewayClockThatIsOffChoosesNoWindow(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := openStore(t, url)
	for i, off := range []time.Duration{26 * time.Hour, -26 * time.Hour, 3 * time.Second, -300 * time.Millisecond, 0} {
		tenant := domain.TenantID(fmt.Sprintf("clock-%d", i))
		var offset atomic.Int64
		offset.Store(int64(off))
		l := openLedger(t, url, func() time.Time { return time.Now().Add(time.Duration(offset.Load())) })
		define(t, l, tenant, domain.Hourly, domain.Monthly)
		for n := range 20 {
			if n == 10 {
				offset.Add(int64(2 * time.Hour)) // and somebody sets it
			}
			before := databaseTime(t, s)
			records, err := l.Do(t.Context(), tenant, reserve(1, time.Hour))
			if err != nil {
				t.Errorf("off by %s: %v", off, err)
				continue
			}
			after := databaseTime(t, s)
			const tolerated = 2 * time.Second // what ledger_append lets through
			if at := records[len(records)-1].Time; at.Before(before.Add(-tolerated)) || at.After(after.Add(tolerated)) {
				t.Errorf("off by %s: reserved at %s, between %s and %s", off, at, before, after)
			}
		}
	}
	verified(t, s)
}

func databaseTime(t *testing.T, s *eventstore.Store) (now time.Time) {
	t.Helper()
	must(t, s.Pool().QueryRow(t.Context(), `select pg_catalog.clock_timestamp()`).Scan(&now))
	return now
}

func TestDatabaseClockJumpsBack(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := openStore(t, url)
	set := func(sql string) {
		t.Helper()
		_, err := s.Pool().Exec(t.Context(), sql)
		must(t, err)
	}
	// The ledger asks for clock_timestamp() by that name alone, so a schema that is searched first can be its clock.
	set(`create schema skewed`)
	set(`create table skewed.clock (off interval not null)`)
	set(`insert into skewed.clock values ('0')`)
	set(`create function skewed.clock_timestamp() returns timestamptz language sql volatile as 'select pg_catalog.clock_timestamp() + off from skewed.clock'`)
	l := openLedger(t, url+"&search_path=skewed,pg_catalog,public", time.Now)
	define(t, l, "jump", domain.Hourly, domain.Monthly)
	held := reserve(10, time.Hour)
	_, err := l.Do(t.Context(), "jump", held)
	must(t, err)

	set(`update skewed.clock set off = '-1 second'`)
	for range 5 { // a little is caught up with, a microsecond at a time
		_, err := l.Do(t.Context(), "jump", reserve(1, time.Hour))
		must(t, err)
	}
	set(`update skewed.clock set off = '-1 hour'`)
	if _, err := l.Do(t.Context(), "jump", reserve(1, time.Hour)); !errors.Is(err, domain.ErrUnavailable) {
		t.Errorf("an hour back, a reservation is answered %v", err)
	}
	settled := make(chan error, 1)
	go func() {
		_, err := l.Do(t.Context(), "jump", settle(held.Reservation, 4))
		settled <- err
	}()
	define(t, l, "fresh", domain.Hourly) // a stream without a past is not held up
	set(`update skewed.clock set off = '0'`)
	must(t, <-settled)
	_, err = l.Do(t.Context(), "jump", reserve(1, time.Hour))
	must(t, err)
	var last time.Time
	reserved := 0
	for _, r := range readAll(t, s, "jump") {
		if !r.Time.After(last) {
			t.Errorf("version %d is not later than the one before", r.Version)
		}
		last = r.Time
		if _, ok := r.Event.(domain.UsageReserved); ok {
			reserved++
		}
	}
	if reserved != 7 {
		t.Errorf("%d reservations, want 7", reserved)
	}
	verified(t, s)
}

// section is a part of docs/reliability.md.
func section(t *testing.T, title string) string {
	t.Helper()
	raw, err := os.ReadFile("../../docs/reliability.md")
	must(t, err)
	_, after, found := strings.Cut(string(raw), "\n## "+title+"\n")
	if !found {
		t.Fatalf("docs/reliability.md has no section %q", title)
	}
	text, _, _ := strings.Cut(after, "\n## ")
	return text
}

func TestEveryTestOfTheCrashMatrixExists(t *testing.T) {
	t.Parallel()
	defined := map[string]bool{}
	must(t, filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(raw), -1) {
			defined[m[1]] = true
		}
		return err
	}))
	rows := 0
	for line := range strings.Lines(section(t, "Crash matrix")) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || strings.Contains(cells[1], "---") || strings.TrimSpace(cells[1]) == "where it dies" {
			continue
		}
		rows++
		tests := cells[len(cells)-2]
		found := 0
		for entry := range strings.SplitSeq(tests, ",") {
			name := regexp.MustCompile(`Test\w+`).FindString(entry)
			pending := strings.Contains(entry, "pending")
			switch {
			case name == "":
				t.Errorf("no test in %q", entry)
			case defined[name] && pending:
				t.Errorf("%s exists and is called pending", name)
			case !defined[name] && !pending:
				t.Errorf("%s does not exist", name)
			case !pending:
				found++
			}
		}
		if found == 0 {
			t.Errorf("no test that exists in the row %s", strings.TrimSpace(cells[1]))
		}
	}
	if rows < 19 { // those of the design
		t.Errorf("%d rows", rows)
	}
}
