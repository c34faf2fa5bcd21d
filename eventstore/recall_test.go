package eventstore_test

import (
	"fmt"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

func TestChargeIsFoundWithoutReadingAllOfTheTenant(t *testing.T) {
	t.Parallel()
	const rows, most = 100_000, 5_000 // some pages of the table
	url := testenv.Database(t)
	pool := openPool(t, url)
	if _, err := pool.Exec(t.Context(), `insert into usage_row (tenant_id, version, ts, posted_at, kind, route, model, reservation_id, usd_nano, reserved_nano, prompt_tok, comp_tok, tags)
			select 'acme', n, now(), now(), 'settled', '/v1/chat/completions', 'gpt-4', (lpad(to_hex(n), 12, '0') || '70008000000000000000')::uuid, 1, 1, 1, 1, '{}'
			from generate_series(1, $1) n`, rows); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `vacuum analyze usage_row`); err != nil {
		t.Fatal(err)
	}
	journal, err := eventstore.OpenJournal(t.Context(), url, wall)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(journal.Close)
	tx, err := journal.Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	version, err := eventstore.ChargeOf(t.Context(), tx, "acme", "00000000-c350-7000-8000-000000000000")
	if err != nil || version != 50_000 {
		t.Fatal(version, err)
	}
	var read int64
	if err := tx.QueryRow(t.Context(), `select coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables where relname = 'usage_row'`).Scan(&read); err != nil {
		t.Fatal(err)
	}
	if read == 0 || read > most {
		t.Errorf("%d of %d rows were read", read, rows)
	}
	var bitmaps string
	if err := tx.QueryRow(t.Context(), `show enable_bitmapscan`).Scan(&bitmaps); err != nil || bitmaps != "off" {
		t.Errorf("bitmaps are %s for what comes after: %v", bitmaps, err)
	}
}

func TestWhatWasGivenBackCanBeAdjustedMoreThanOnce(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := openLedger(t, url)
	tenant := fresh(t, l, 1000)
	r := reserve(10)
	do(t, l, tenant, r)
	do(t, l, tenant, domain.Release{Reservation: r.Reservation, Reason: domain.ReleasedNotSent})
	for i, delta := range []domain.Amount{7, -3, 2} {
		do(t, l, tenant, domain.Adjust{Reservation: r.Reservation, Delta: delta, Reason: "invoice", Idempotency: fmt.Sprint(i), Actor: "admin"})
		if i == 0 { // it counts here too from then on
			do(t, l, tenant, domain.DefineBudget{ID: "day", Period: domain.Daily, Limit: 1000, Source: domain.SourceAdmin, Actor: "admin"})
		}
	}
	state, err := openStore(t, url).State(within(t), tenant)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range state.Balances(state.LastTime) {
		if b.Settled != 6 {
			t.Errorf("budget %s knows of %d", b.Budget.ID, b.Settled)
		}
	}
	verified(t, url)
}
