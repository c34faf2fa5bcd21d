package eventstore_test

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// silence is what these tests allow a gateway: longer than a busy machine takes from a beat to the next
// look. The server they run on must have been up for as long, which they wait for.
const silence = 3 * time.Second

// heldBy reserves as a gateway.
func heldBy(t *testing.T, l *eventstore.Ledger, tenant domain.TenantID, gateway string) domain.ReservationID {
	t.Helper()
	c := reserve(10)
	c.Gateway = gateway
	// The name in a tag is no gateway.
	c.Tags = map[string]string{"gateway": "ended"}
	do(t, l, tenant, c)
	return c.Reservation
}

func beat(t *testing.T, s *eventstore.Store, gateways ...string) {
	t.Helper()
	for _, g := range gateways {
		if err := s.Beat(within(t), g, "test"); err != nil {
			t.Fatal(err)
		}
	}
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := pool.Exec(within(t), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func orphans(t *testing.T, s *eventstore.Store, after time.Duration, limit int) []domain.ReservationID {
	t.Helper()
	holds, err := s.Orphans(within(t), after, limit)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]domain.ReservationID, len(holds))
	for i, h := range holds {
		ids[i] = h.Reservation
	}
	return ids
}

func TestOrphansAreHoldsOfGatewaysThatEndedOrFellSilent(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l, s, pool := openLedger(t, url), openStore(t, url), openPool(t, url)
	tenant := fresh(t, l, 1000)
	beat(t, s, "ended", "silent", "alive")
	ended, silent := heldBy(t, l, tenant, "ended"), heldBy(t, l, tenant, "silent")
	heldBy(t, l, tenant, "alive")
	heldBy(t, l, tenant, "of an older build")
	if err := s.EndSession(within(t), "ended"); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `update gateway_session set heartbeat_at = heartbeat_at - interval '1 hour' where gateway = 'silent'`)
	if got := orphans(t, s, time.Hour, 10); !slices.Equal(got, []domain.ReservationID{ended}) {
		// The server has not been up for an hour, and before its start nobody could beat.
		t.Errorf("silent for an hour: %v, want %v", got, ended)
	}
	eventually(t, "the silent one is an orphan", func() bool { beat(t, s, "alive"); return len(orphans(t, s, silence, 10)) == 2 })
	if got := orphans(t, s, silence, 10); !slices.Equal(got, []domain.ReservationID{ended, silent}) {
		t.Errorf("%v, want %v and %v", got, ended, silent)
	}
	if got := orphans(t, s, silence, 1); len(got) != 1 {
		t.Errorf("%d at most one", len(got))
	}
	beat(t, s, "ended", "silent")
	if got := orphans(t, s, time.Minute, 10); len(got) != 0 {
		t.Errorf("%v although they beat again", got)
	}
	for gateway, want := range map[string]bool{"ended": true, "of an older build": false} {
		if has, err := s.HasSession(within(t), gateway); err != nil || has != want {
			t.Errorf("%s has a session: %v, %v", gateway, has, err)
		}
	}
}

func TestOrphansAreChargedCorrectedAndForgotten(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l, s, pool := openLedger(t, url), openStore(t, url), openPool(t, url)
	tenant := fresh(t, l, 1000)
	beat(t, s, "gone")
	id := heldBy(t, l, tenant, "gone")
	if err := s.EndSession(within(t), "gone"); err != nil {
		t.Fatal(err)
	}
	for _, hold := range orphans(t, s, time.Minute, 10) {
		do(t, l, tenant, domain.Expire{Reservation: hold, Orphaned: true})
	}
	do(t, l, tenant, settle(id, 4))
	if n := scalar(t, pool, `select settled from account where tenant_id = $1`, string(tenant)); n != 4 {
		t.Errorf("settled %d", n)
	}
	cleared := func() int64 {
		return scalar(t, pool, `select count(*) from gateway_session where cleared_at is not null`)
	}
	if orphans(t, s, time.Minute, 10); cleared() != 0 {
		t.Error("cleared while one of its appends may be under way")
	}
	exec(t, pool, `update gateway_session set heartbeat_at = heartbeat_at - interval '2 minutes'`)
	if orphans(t, s, time.Minute, 10); cleared() != 1 {
		t.Error("not cleared")
	}
	exec(t, pool, `update gateway_session set cleared_at = cleared_at - interval '8 days'`)
	beat(t, s, "another")
	if err := s.EndSession(within(t), "another"); err != nil {
		t.Fatal(err)
	}
	orphans(t, s, time.Minute, 10)
	if n := scalar(t, pool, `select count(*) from gateway_session`); n != 1 {
		t.Errorf("%d sessions are left, want the one that ended just now", n)
	}
	verified(t, url)
}
