package audit_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/audit"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// lively is a ledger with rows of every kind: budgets of all periods, a rolling one, scopes, a raise, a threshold that
// was crossed, presumed, released, late and adjusted charges, keys that were revoked, rotated and suspended, and usage
// rows up to the end of the stream.
func lively(tb testing.TB, url string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	l, err := eventstore.OpenLedger(ctx, eventstore.Config{URL: url, Now: wall})
	if err != nil {
		tb.Fatal(err)
	}
	day := wall().UTC().Truncate(24 * time.Hour)
	define := func(id domain.BudgetID, period domain.Period, span domain.Span, scope domain.Scope) domain.DefineBudget {
		return domain.DefineBudget{
			ID: id, Period: period, Span: span, Scope: scope, Limit: 200,
			AlertsAt: []domain.Threshold{100_000}, Source: domain.SourceAdmin,
		}
	}
	custom := define("fair", domain.Custom, domain.Span{
		StartDate: day.AddDate(0, 0, -1).Format(time.DateOnly), EndDate: day.AddDate(0, 0, 5).Format(time.DateOnly),
	}, domain.Scope{})

	for _, c := range []domain.Command{
		domain.CreateTenant{Name: "ACME", Actor: "admin"},
		define("hour", domain.Hourly, domain.Span{}, domain.Scope{}),
		define("day", domain.Daily, domain.Span{}, domain.Scope{}),
		define("month", domain.Monthly, domain.Span{}, domain.Scope{}),
		define("roll", domain.Rolling, domain.Span{Duration: domain.Length(5 * time.Hour)}, domain.Scope{}),
		define("team", domain.Daily, domain.Span{}, domain.Scope{Tag: "team=search"}),
		custom,
		domain.IssueKey{ID: "k", Name: "ci", Prefix: "bgk_1", Hash: "h1", Models: []string{"gpt-4"}, Tags: map[string]string{"a": "b"}},
		domain.IssueKey{ID: "gone", Name: "old", Prefix: "bgk_2", Hash: "h2"},
		domain.RevokeKey{ID: "gone"},
		reserve(1, 10), reserve(2, 20), reserve(3, 30), reserve(4, 5), reserve(5, 6), reserve(6, 7),
		settle(2, 15),
		domain.Expire{Reservation: id(1), Orphaned: true},
		domain.Release{Reservation: id(4), Reason: domain.ReleasedNotSent},
		domain.SettlePresumed{Reservation: id(5)},
		settle(1, 4),
		domain.Adjust{Delta: 3, Reason: "invoice", Idempotency: "adj-1", Actor: "admin"},
		define("gone", domain.Daily, domain.Span{}, domain.Scope{Model: "gpt-4"}),
		reserve(7, 2),
		domain.RetireBudget{ID: "gone"},
	} {
		if _, err := l.Do(ctx, "acme", c); err != nil {
			tb.Fatalf("%T: %v", c, err)
		}
	}
	if _, err := l.Do(ctx, "other", domain.CreateTenant{Name: "Other", Actor: "admin"}); err != nil {
		tb.Fatal(err)
	}
	if err := l.Close(ctx); err != nil {
		tb.Fatal(err)
	}
}

func repair(tb testing.TB, url string, opts audit.RepairOptions) audit.Repaired {
	tb.Helper()
	report, err := audit.Repair(tb.Context(), openPool(tb, url), opts)
	if err != nil {
		tb.Fatal(err)
	}
	return report
}

func TestARepairMakesTheTablesWhatTheEventsSay(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"nothing":            `select`,
		"accounts lost":      `delete from account`,
		"accounts truncated": `truncate account`,
		"one account lost":   `delete from account where budget_id = 'roll'`,
		"balances changed":   `update account set settled = settled + 1, buckets = null, duration_min = 0, cap = 100000`,
		"accounts doubled":   `insert into account_archive select * from account`,
		"holds lost":         `delete from hold`,
		"a hold made up":     `insert into hold select tenant_id, gen_random_uuid(), opened, opened_ts, 1, '{}', now() from hold limit 1`,
		"presumptions lost":  `delete from presumption`,
		"keys lost":          `delete from attempt; delete from api_key`,
		"a key forged":       `update api_key set key_hash = 'mine' || key_id, revoked_at = null`,
		"hashes exchanged":   `update api_key set key_hash = 'x' where key_id = 'k'; update api_key set key_hash = 'h1' where key_id = 'gone'`,
		"budgets lost":       `delete from budget`,
		"a budget raised":    `update budget set limit_nano = 100000, raises = '[]', alerts_ppm = '{}'`,
		"a budget revived":   `insert into budget select tenant_id, 'x', period, scope, 5, '{}', source from budget where budget_id = 'day'`,
		"numbers changed":    `update budget set opened = 7; update tenant_head set budgets = 3`,
		"tenants lost":       `delete from tenant`,
		"heads lost":         `delete from tenant_head`,
		"all lost":           `truncate account, account_archive, hold, presumption, attempt, tenant, api_key, budget, tenant_head`,
		"a ghost":            `insert into budget values ('ghost', 'b', 'daily', '{}', 1, '{}', 'admin')`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.Database(t)
			lively(t, url)
			pool := openPool(t, url)
			if _, err := pool.Exec(t.Context(), `set session_replication_role = replica; `+sql); err != nil {
				t.Fatal(err)
			}
			pool.Reset()

			dry := repair(t, url, audit.RepairOptions{})
			if (dry.Total > 0) != (name != "nothing") || len(dry.Refused) > 0 {
				t.Errorf("dry: %+v", dry)
			}
			if again := repair(t, url, audit.RepairOptions{}); again.Total != dry.Total {
				t.Errorf("the dry run changed something: %d differences, then %d", dry.Total, again.Total)
			}
			done := repair(t, url, audit.RepairOptions{Apply: true})
			if done.Total != dry.Total || !done.Applied {
				t.Errorf("repaired %d of %d", done.Total, dry.Total)
			}
			if left := repair(t, url, audit.RepairOptions{}); left.Total != 0 {
				t.Errorf("left: %v", left.Differences)
			}
			if report := verify(t, pool, audit.Options{}); report.Total != 0 {
				t.Errorf("after the repair: %v", report.Violations)
			}
		})
	}
}

func TestARunningGatewayLoadsTheTenantAgainAfterARepair(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	lively(t, url)
	pool := openPool(t, url)
	exec(t, pool, `update account set settled = 0, presumed = 0, buckets = case when buckets is null then null else '{}'::bigint[] end`)
	open := func() *eventstore.Ledger {
		l, err := eventstore.OpenLedger(t.Context(), eventstore.Config{URL: url, Now: wall})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close(context.WithoutCancel(t.Context())) })
		return l
	}

	// This one has loaded balances that are too low; what it records would be posted to them.
	l := open()
	if _, err := l.Do(t.Context(), "acme", reserve(8, 100_000)); err == nil {
		t.Fatal("more was reserved than any budget has")
	}
	repair(t, url, audit.RepairOptions{Apply: true})
	if _, err := l.Do(t.Context(), "acme", reserve(8, 1)); err != nil {
		t.Fatal(err)
	}
	if report := verify(t, pool, audit.Options{}); report.Total != 0 {
		t.Error(report.Violations)
	}

	exec(t, pool, `delete from account where budget_id = 'hour'`)
	if _, err := open().Do(t.Context(), "acme", reserve(9, 1)); err == nil {
		t.Error("a gateway reserved without the row of the open window")
	}
	repair(t, url, audit.RepairOptions{Apply: true, Tenant: "acme"})
	if _, err := l.Do(t.Context(), "acme", reserve(10, 1)); err != nil {
		t.Errorf("the gateway that runs: %v", err)
	}
	if report := verify(t, pool, audit.Options{}); report.Total != 0 {
		t.Error(report.Violations)
	}
}

func TestARepairRefusesATenantWhoseEventsDoNotVerify(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"a body":        `update event set body = replace(body, 'reservedUsd', 'reservedUSD') where tenant_id = 'acme' and version = 18`,
		"an event less": `delete from event where tenant_id = 'acme' and version = 18`,
		"a tail less":   `delete from event where tenant_id = 'acme' and version > 12`,
		"the head":      `update tenant_head set last_hash = sha256('x') where tenant_id = 'acme'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.Database(t)
			lively(t, url)
			exec(t, openPool(t, url), `delete from account; delete from tenant where tenant_id = 'other'`)
			if _, err := openPool(t, url).Exec(t.Context(), `set session_replication_role = replica; `+sql); err != nil {
				t.Fatal(err)
			}
			report := repair(t, url, audit.RepairOptions{Apply: true})
			if len(report.Refused) != 1 || report.Refused[0].Tenant != "acme" || !strings.Contains(report.Refused[0].Reason, "version") {
				t.Errorf("refused: %+v", report.Refused)
			}
			if report.Total != 1 || report.Differences[0].Tenant != "other" {
				t.Errorf("the others: %+v", report.Differences)
			}
		})
	}
}
