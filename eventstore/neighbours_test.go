package eventstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// A partition needs a lock that a long reader (ledger verify, pg_dump) keeps back, and whoever waits for
// it keeps back every append.
func TestMakingAPartitionBehindALongReaderDoesNotStopAppends(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l, s := openLedger(t, url), openStore(t, url)
	tenant := fresh(t, l, 1000)
	reader, err := openPool(t, url).BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Rollback(context.WithoutCancel(t.Context())) }()
	var n int
	if err := reader.QueryRow(t.Context(), `select count(*) from event`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PartitionsAhead(t.Context(), 9); err == nil {
		t.Error("the partitions were made, so nothing was in the way: the test shows nothing")
	}
	do(t, l, tenant, reserve(1))
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if made, err := s.PartitionsAhead(t.Context(), 9); err != nil || made == 0 {
		t.Errorf("made %d, %v", made, err)
	}
}

func TestOverdueHoldsOfOneTenantDoNotHideThoseOfAnother(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l, s := openLedger(t, url), openStore(t, url)
	crowded, lonely := fresh(t, l, 1000), fresh(t, l, 1000)
	for range 20 {
		do(t, l, crowded, reserve(1))
	}
	do(t, l, lonely, reserve(1))
	if _, err := openPool(t, url).Exec(t.Context(), `update hold set expires_at = now() - interval '1 hour' where tenant_id = $1`, string(crowded)); err != nil {
		t.Fatal(err)
	}
	if _, err := openPool(t, url).Exec(t.Context(), `update hold set expires_at = now() - interval '1 second' where tenant_id = $1`, string(lonely)); err != nil {
		t.Fatal(err)
	}
	overdue, err := s.Overdue(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range overdue {
		if h.Tenant == lonely {
			return
		}
	}
	t.Errorf("%d holds, none of the other tenant", len(overdue))
}

// The reaper finds a hold again and again; its tries must not pile up behind a tenant that cannot be
// written.
func TestAnExpiryNobodyWaitsForLeavesTheQueue(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := openLedger(t, url)
	tenant := fresh(t, l, 1000)
	r := reserve(1)
	r.TTL = 20 * time.Millisecond
	do(t, l, tenant, r)
	<-time.After(2 * r.TTL)
	pool := openPool(t, url)
	for _, sql := range []string{
		`create function full_disk() returns trigger language plpgsql as $$ begin raise exception 'disk full' using errcode = '53100'; end $$`,
		`create trigger full_disk before insert on outbox for each row execute function full_disk()`,
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		_, _ = l.Do(ctx, tenant, domain.Expire{Reservation: r.Reservation}) // nobody can carry it out
		cancel()
	}
	eventually(t, "the tries have left the queue", func() bool { return l.Waiting() == 0 })
	if _, err := pool.Exec(t.Context(), `drop trigger full_disk on outbox`); err != nil {
		t.Fatal(err)
	}
	do(t, l, tenant, domain.Expire{Reservation: r.Reservation})
}
