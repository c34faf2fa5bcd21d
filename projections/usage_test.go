package projections_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/audit"
	"github.com/budgetguard/budgetguard/internal/testenv"
	"github.com/budgetguard/budgetguard/projections"
)

func TestUsageLedgerHasARowForEveryEventThatMovesMoney(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	usage, err := projections.NewUsage(w.cfg, w.store)
	w.run(usage, err)
	tenant := w.tenant("a")
	settled := w.reserve(tenant, 1_500_000/3)
	w.do(tenant, domain.Settle{Reservation: settled, Charged: 1_234, Basis: domain.BasisProvider, Usage: domain.Usage{Prompt: 11, Completion: 22}})
	w.do(tenant, domain.Release{Reservation: w.reserve(tenant, 1), Reason: domain.ReleasedNotSent})
	presumed := w.reserve(tenant, 100)
	w.do(tenant, domain.SettlePresumed{Reservation: presumed, Reason: "cut"})
	w.do(tenant, domain.Settle{Reservation: presumed, Charged: 40, Basis: domain.BasisProvider, Usage: domain.Usage{Prompt: 1, Completion: 2}})
	r := request()
	r.KeyID = "key_1"
	w.do(tenant, domain.IssueKey{ID: "key_1", Hash: "hash", Actor: "admin"})
	w.do(tenant, domain.Reserve{Request: r, Amount: 7, TTL: time.Millisecond})
	reaper := projections.NewReaper(w.cfg, w.store, w.ledger)
	w.run(reaper, nil)
	w.eventually("usage", func() error { return w.usageRight(tenant) })
	w.eventually("rows", func() error { return w.rows(tenant, 4) })

	want := []string{
		`settled 0.000001234 11 22 0.0005 gpt-4o-mini {"env": "<prod>", "team": "search"} key:false`,
		`settled 0.0000001 0 0 0.0000001 gpt-4o-mini {"env": "<prod>", "team": "search"} key:false`,
		`late -0.00000006 1 2 0 gpt-4o-mini {"env": "<prod>", "team": "search"} key:false`,
		`expired 0.000000007 0 0 0.000000007 gpt-4o-mini {"env": "<prod>", "team": "search"} key:true`,
	}
	var got []string
	rows, err := w.pool.Query(t.Context(), `select concat_ws(' ', kind, usd, "promptTok", "compTok", "reservedUsd", model, tags),
		"apiKeyId" is not null, ts < "postedAt", ts = (select e.ts from event e where e.tenant_id = tenant and e.type = 'usage.reserved'
			and e.body::jsonb->>'reservationId' = "reservationId"::text),
		id = tenant || ':' || (select e.version from event e where e.tenant_id = tenant and e.ts = "postedAt") from "UsageLedger" order by "postedAt"`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		var keyed, later, reservedAt, named bool
		if err := rows.Scan(&text, &keyed, &later, &reservedAt, &named); err != nil {
			t.Fatal(err)
		}
		if !later || !reservedAt || !named {
			t.Errorf("%s: ts before postedAt %v, the reserve time %v, id %v", text, later, reservedAt, named)
		}
		got = append(got, fmt.Sprintf("%s key:%v", text, keyed))
	}
	if rows.Err() != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q, %v", got, want, rows.Err())
	}
}

func TestAdjustmentsStandWhereWhatTheyCorrectStands(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.worker()
	tenant := w.tenant("a")
	w.do(tenant, domain.IssueKey{ID: "key_1", Hash: "hash", Actor: "admin"})
	r := request()
	r.KeyID = "key_1"
	w.do(tenant, domain.Reserve{Request: r, Amount: 100, TTL: time.Hour})
	w.do(tenant, domain.Settle{Reservation: r.Reservation, Charged: 50, Basis: domain.BasisProvider})
	w.do(tenant, domain.Adjust{Reservation: r.Reservation, Delta: -20, Reason: "invoice", Idempotency: "a", Actor: "admin"})
	w.do(tenant, domain.Adjust{Delta: 7, Reason: "fee", Idempotency: "b", Actor: "admin"})
	w.converge(tenant)
	var got []string
	rows, err := w.pool.Query(t.Context(), `select concat_ws(' ', a.usd, a.route, a.model, a."apiKeyId", a.tags, a."reservationId" = s."reservationId", a.ts = s.ts, a.ts = a."postedAt")
		from "UsageLedger" a, "UsageLedger" s where a.kind = 'adjusted' and s.kind = 'settled' order by a."postedAt"`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		got = append(got, text)
	}
	want := []string{
		`-0.00000002 /v1/chat/completions gpt-4o-mini key_1 {"env": "<prod>", "team": "search"} t t f`,
		`0.000000007   {} f t`,
	}
	if rows.Err() != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q, %v", got, want, rows.Err())
	}
	report, err := audit.Verify(t.Context(), w.pool, audit.Options{UsageCursor: "usage"})
	if err := errors.Join(err, report.Err()); err != nil {
		t.Error(err)
	}
}

func (w *world) rows(tenant domain.TenantID, want int) error {
	var n int
	err := w.pool.QueryRow(w.tb.Context(), `select count(*) from usage_row where tenant_id = $1`, tenant).Scan(&n)
	if err == nil && n != want {
		err = fmt.Errorf("%d rows, want %d", n, want)
	}
	return err
}

// Rows are written by the projector; what is summed needs only the table.
func (w *world) row(tenant string, version int, at, kind, model, tags string, usd, tokens int) {
	w.tb.Helper()
	w.exec(`insert into usage_row values ($1, $2, $3::text::timestamptz, now(), $4, '/v1/chat/completions', $5, nullif($5, 'm1'), null, $6, 0, $7, $7, $8::text::jsonb)`,
		tenant, version, at, kind, model, usd, tokens, tags)
}

func TestUsageSumsByEachGrouping(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	// In Berlin the clock reads 02:30 twice on this day: 00:30Z and 01:30Z.
	w.row("a", 1, "2026-10-24T22:30:00Z", "settled", "m1", `{"team":"x"}`, 10, 1)
	w.row("a", 2, "2026-10-25T00:30:00Z", "settled", "m1", `{"team":"x","env":"p"}`, 20, 2)
	w.row("a", 3, "2026-10-25T01:30:00Z", "expired", "m2", `{}`, 40, 0)
	w.row("a", 4, "2026-10-25T01:30:00Z", "late", "m2", `{}`, -5, 4)
	w.row("b", 1, "2026-10-25T01:30:00Z", "settled", "m2", `{}`, 1000, 1)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	type sum = projections.UsageSum
	for _, test := range []struct {
		by   projections.Grouping
		want []sum
	}{
		{projections.ByModel, []sum{{"m2", 1, 4, 4, 35, 0}, {"m1", 2, 3, 3, 30, 0}}},
		{projections.ByRoute, []sum{{"/v1/chat/completions", 3, 7, 7, 65, 0}}},
		{projections.ByAPIKey, []sum{{"m2", 1, 4, 4, 35, 0}, {"", 2, 3, 3, 30, 0}}},
		{projections.ByTag, []sum{{"", 1, 4, 4, 35, 0}, {"team=x", 2, 3, 3, 30, 0}, {"env=p", 1, 2, 2, 20, 0}}},
		{projections.ByDay, []sum{{"2026-10-25", 3, 7, 7, 65, 0}}},
		{projections.ByHour, []sum{
			{"2026-10-25T00:00:00+02:00", 1, 1, 1, 10, 0}, {"2026-10-25T02:00:00+02:00", 1, 2, 2, 20, 0}, {"2026-10-25T02:00:00+01:00", 1, 4, 4, 35, 0},
		}},
	} {
		report, err := projections.UsageSums(t.Context(), w.pool, projections.UsageQuery{Tenant: "a", GroupBy: test.by, Zone: berlin})
		if err != nil || !reflect.DeepEqual(report.Rows, test.want) || report.Total != (sum{"", 3, 7, 7, 65, 0}) {
			t.Errorf("%s: %+v, %v; want %+v", test.by, report, err, test.want)
		}
	}
	day := time.Date(2026, 10, 25, 0, 0, 0, 0, time.UTC)
	report, err := projections.UsageSums(t.Context(), w.pool, projections.UsageQuery{From: day, To: day.Add(time.Hour), GroupBy: projections.ByDay})
	if want := []sum{{"2026-10-25", 1, 2, 2, 20, 0}}; err != nil || !reflect.DeepEqual(report.Rows, want) {
		t.Errorf("an hour of all tenants in UTC: %+v, %v; want %+v", report, err, want)
	}
	report, err = projections.UsageSums(t.Context(), w.pool, projections.UsageQuery{Tenant: "nobody", GroupBy: projections.ByModel})
	if err != nil || len(report.Rows) != 0 || report.Total != (sum{}) {
		t.Errorf("nobody's usage: %+v, %v", report, err)
	}
	if _, err := projections.UsageSums(t.Context(), w.pool, projections.UsageQuery{GroupBy: "mood"}); !errors.Is(err, domain.ErrInvalid) {
		t.Errorf("unknown grouping: %v", err)
	}
}

func TestPresumedChargesDoNotLookLikeBilledOnes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.worker()
	tenant := w.tenant("a")
	reserve := func() domain.ReservationID {
		r := request()
		w.do(tenant, domain.Reserve{Request: r, Amount: 100, TTL: time.Hour})
		return r.Reservation
	}

	// Billed; cut and not known; cut and then billed; cut and then confirmed by an operator.
	w.do(tenant, domain.Settle{Reservation: reserve(), Charged: 50, Basis: domain.BasisProvider})
	w.do(tenant, domain.SettlePresumed{Reservation: reserve(), Reason: "cut"})
	late := reserve()
	w.do(tenant, domain.SettlePresumed{Reservation: late, Reason: "cut"})
	w.do(tenant, domain.Settle{Reservation: late, Charged: 30, Basis: domain.BasisProvider})
	confirmed := reserve()
	w.do(tenant, domain.SettlePresumed{Reservation: confirmed, Reason: "cut"})
	w.do(tenant, domain.Adjust{Reservation: confirmed, Delta: -60, Reason: "invoice", Idempotency: "a", Actor: "admin"})
	w.converge(tenant)

	var got []string
	rows, err := w.pool.Query(t.Context(), `select concat_ws(' ', kind, basis, usd, "presumedUsd") from "UsageLedger" order by "postedAt"`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		got = append(got, text)
	}
	want := []string{
		"settled provider 0.00000005 0",
		"settled presumed 0.0000001 0.0000001",
		"settled presumed 0.0000001 0.0000001",
		"late provider -0.00000007 -0.0000001",
		"settled presumed 0.0000001 0.0000001",
		"adjusted operator -0.00000006 -0.0000001",
	}
	if rows.Err() != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q, %v", got, want, rows.Err())
	}
	report, err := projections.UsageSums(t.Context(), w.pool, projections.UsageQuery{Tenant: tenant, GroupBy: projections.ByRoute})
	if err != nil || report.Total.USD != 220 || report.Total.Presumed != 100 || report.Rows[0].Presumed != 100 {
		t.Errorf("sums %+v, %v", report, err)
	}
}
