package audit_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/audit"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

func wall() time.Time { return time.Now() }

// written makes a ledger the way it is made: two tenants, with rows in every table.
func written(tb testing.TB, url string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	l, err := eventstore.OpenLedger(ctx, eventstore.Config{URL: url, Now: wall})
	if err != nil {
		tb.Fatal(err)
	}
	for n, tenant := range []domain.TenantID{"acme", "other"} {
		short := reserve(1, 10)
		short.TTL = time.Microsecond
		for _, c := range []domain.Command{
			domain.CreateTenant{Name: "ACME", Actor: "admin"},
			domain.DefineBudget{ID: "day", Period: domain.Daily, Limit: 100, AlertsAt: []domain.Threshold{800_000}, Source: domain.SourceAdmin},
			domain.IssueKey{ID: "k", Name: "ci", Prefix: "bgk_1", Hash: fmt.Sprint("h", n), Models: []string{"gpt-4"}, Tags: map[string]string{"a": "b"}},
			short, reserve(2, 20), reserve(3, 30),
			settle(2, 15),
			domain.Expire{Reservation: id(1)},
		} {
			if _, err := l.Do(ctx, tenant, c); err != nil {
				tb.Fatalf("%T: %v", c, err)
			}
		}
	}
	if err := l.Close(ctx); err != nil {
		tb.Fatal(err)
	}
}

func TestEveryRowMustBeWhatTheEventsSay(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		`update account set held = held - 1 where tenant_id = 'acme'`:                                                                       "rows 9",
		`update account set settled = settled + 1, cap = 1000 where tenant_id = 'acme'`:                                                     "rows 9",
		`update account set cap = cap + 1 where tenant_id = 'acme'`:                                                                         "rows 9",
		`update account set version = version - 1 where tenant_id = 'acme'`:                                                                 "rows 9",
		`update account set win_end = win_end + interval '1 hour' where tenant_id = 'acme'`:                                                 "rows 9",
		`delete from account where tenant_id = 'acme'`:                                                                                      "rows 9",
		`insert into account select tenant_id, 99, 'x', period, win_start, win_end, 1, 0, 0, 0, 1, 1 from account where tenant_id = 'acme'`: "rows 9",
		`delete from hold where tenant_id = 'acme'`:                                                                                         "rows 9",
		`update hold set amount = 31 where tenant_id = 'acme'`:                                                                              "rows 9",
		`update hold set accounts = '{}' where tenant_id = 'acme'`:                                                                          "rows 9",
		`update hold set expires_at = expires_at + interval '1 day' where tenant_id = 'acme'`:                                               "rows 9",
		`update presumption set charged = 9 where tenant_id = 'acme'`:                                                                       "rows 9",
		`delete from presumption where tenant_id = 'acme'`:                                                                                  "rows 9",
		`update tenant set suspended = true where tenant_id = 'acme'`:                                                                       "rows 9",
		`update tenant set ever_keyed = false where tenant_id = 'acme'`:                                                                     "rows 9",
		`delete from tenant where tenant_id = 'acme'`:                                                                                       "rows 9",
		`update api_key set revoked_at = now() where tenant_id = 'acme'`:                                                                    "rows 9",
		`update api_key set key_hash = 'mine' where tenant_id = 'acme'`:                                                                     "rows 9",
		`update api_key set tags = '{}' where tenant_id = 'acme'`:                                                                           "rows 9",
		`insert into api_key values ('acme', 'x', '', '', 'y', now(), null, null, '{}', '{}')`:                                              "rows 9",
		`update budget set limit_nano = 1000 where tenant_id = 'acme'`:                                                                      "rows 9",
		`update budget set alerts_ppm = '{}' where tenant_id = 'acme'`:                                                                      "rows 9",
		`delete from budget where tenant_id = 'acme'`:                                                                                       "rows 9",
		`insert into budget values ('ghost', 'b', 'daily', '{}', 1, '{}', 'admin')`:                                                         "rows 0",
		`insert into hold select 'ghost', reservation_id, 1, now(), 1, '{}', now() from hold where tenant_id = 'acme'`:                      "rows 0",
		`delete from tenant_head where tenant_id = 'acme'`:                                                                                  "dense 0, rows 0, outbox 1, outbox 2, outbox 3, outbox 5, outbox 6, outbox 7, outbox 8, outbox 9",
		`update tenant_head set last_ts = last_ts - interval '1 second' where tenant_id = 'acme'`:                                           "dense 9",
		`update tenant_head set last_hash = sha256('x') where tenant_id = 'acme'`:                                                           "chain 9",
		`insert into outbox (tenants, after, upto) values ('{acme}', '{3}', '{4}')`:                                                         "outbox 5",
		`insert into outbox (tenants, after, upto) values ('{acme}', '{9}', '{10}')`:                                                        "outbox 10",
		`insert into outbox (tenants, after, upto) values ('{ghost}', '{0}', '{1}')`:                                                        "outbox 1",
	} {
		t.Run(strings.Join(strings.Fields(sql)[:4], " "), func(t *testing.T) {
			t.Parallel()
			url := testenv.Database(t)
			written(t, url)
			pool := openPool(t, url)
			if report := verify(t, pool, audit.Options{}); report.Total != 0 || report.Tenants != 2 || report.Events != 18 {
				t.Fatalf("before: %+v", report)
			}
			exec(t, pool, sql)
			report := verify(t, pool, audit.Options{})
			if got := found(report); got != want {
				t.Errorf("%s: found %q, want %q", sql, got, want)
			}
			for _, v := range report.Violations {
				if v.Tenant != "acme" && v.Tenant != "ghost" {
					t.Error(v)
				}
			}
			if only := verify(t, pool, audit.Options{Tenant: "other", Workers: 1}); only.Total != 0 || only.Tenants != 1 {
				t.Errorf("the other tenant alone: %+v", only)
			}
		})
	}
}

func TestUsageRowsMustBeWhatTheEventsSay(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	written(t, url)
	pool := openPool(t, url)
	opts := audit.Options{UsageCursor: "usage", Tenant: "acme"}
	check := func(what, want string) {
		t.Helper()
		report := verify(t, pool, opts)
		if got := found(report, audit.LawOutbox); got != want {
			t.Errorf("%s: found %q, want %q: %v", what, got, want, report.Violations)
		}
	}
	check("nothing was projected", "")
	exec(t, pool, `insert into projection_cursor values ('usage', 'acme', 7)`)
	check("rows up to 7", "")
	exec(t, pool, `update projection_cursor set version = 8`)
	check("version 8 is missing", "usage 8")
	exec(t, pool, `insert into usage_row
		select tenant_id, version, (body::jsonb->>'reservedAt')::timestamptz, ts, 'settled', '/v1/chat/completions', 'gpt-4', null,
			(body::jsonb->>'reservationId')::uuid, 15, 20, 10, 20, '{"team": "search"}' from event where tenant_id = 'acme' and version = 8`)
	check("version 8 is there", "")
	opts.Quiet = true
	check("the cursor is behind", "usage 9")
	exec(t, pool, `update projection_cursor set version = 9`)
	check("version 9 is missing", "usage 9")
	exec(t, pool, `insert into usage_row
		select tenant_id, version, (body::jsonb->>'reservedAt')::timestamptz, ts, 'expired', '/v1/chat/completions', 'gpt-4', null,
			(body::jsonb->>'reservationId')::uuid, 10, 10, 0, 0, '{"team": "search"}' from event where tenant_id = 'acme' and version = 9`)
	check("all is there", "")
	for _, sql := range []string{
		`update usage_row set usd_nano = usd_nano - 1 where version = 8`, `update usage_row set ts = posted_at where version = 8`,
		`update usage_row set comp_tok = 21 where version = 8`, `update usage_row set tags = '{}' where version = 8`,
		`update usage_row set version = 5 where version = 8`,
	} {
		exec(t, pool, sql)
		if got := found(verify(t, pool, opts), audit.LawOutbox); !strings.Contains(got, "usage 8") {
			t.Errorf("%s: found %q", sql, got)
		}
		exec(t, pool, `delete from usage_row where version < 9`)
		exec(t, pool, `insert into usage_row
			select tenant_id, version, (body::jsonb->>'reservedAt')::timestamptz, ts, 'settled', '/v1/chat/completions', 'gpt-4', null,
				(body::jsonb->>'reservationId')::uuid, 15, 20, 10, 20, '{"team": "search"}' from event where tenant_id = 'acme' and version = 8`)
	}
	check("all is there again", "")
}

func TestQuietLedgerHasAnEmptyOutbox(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	written(t, url)
	pool := openPool(t, url)
	var seen int64
	report := verify(t, pool, audit.Options{Quiet: true, Progress: func(_, events int64) { seen = max(seen, events) }})
	if report.Total != 16 || seen != 18 || report.Err() == nil {
		t.Errorf("%d violations, %d events seen", report.Total, seen)
	}
	exec(t, pool, `delete from outbox`)
	if report := verify(t, pool, audit.Options{Quiet: true}); report.Total != 0 || report.Err() != nil {
		t.Errorf("%+v", report)
	}
}

func TestViolationsAreCountedBeyondThoseListed(t *testing.T) {
	t.Parallel()
	pool := openPool(t, testenv.Database(t))
	exec(t, pool, `insert into budget select 't' || n, 'b', 'daily', '{}', 1, '{}', 'admin' from generate_series(1, 1500) n`)
	if report := verify(t, pool, audit.Options{}); report.Total != 1500 || len(report.Violations) != 1000 {
		t.Errorf("%d, %d listed", report.Total, len(report.Violations))
	}
}

func TestVerifyThatCannotBeDoneIsAnError(t *testing.T) {
	t.Parallel()
	pool := openPool(t, testenv.Database(t))
	exec(t, pool, `drop table budget`)
	if _, err := audit.Verify(t.Context(), pool, audit.Options{}); err == nil {
		t.Error("no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := audit.Verify(ctx, pool, audit.Options{}); err == nil {
		t.Error("no error")
	}
}
