package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/audit"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

func TestUnknownOutcomeIsFoundOut(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	harms := map[harm]string{cutBefore: "cut before", cutAfter: "cut after", delay: "delayed"}
	for _, match := range []string{"append", "commit"} {
		for h, name := range harms {
			for _, settles := range []bool{false, true} {
				for _, leaves := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s %s settles=%v leaves=%v", match, name, settles, leaves), func(t *testing.T) {
						t.Parallel()
						doubt(t, url, match, h, settles, leaves)
					})
				}
			}
		}
	}
}

// doubt breaks the connection at one command, on the fast path ("append") or the locked one ("commit").
func doubt(t *testing.T, url, match string, h harm, settles, leaves bool) {
	t.Helper()
	w, through := newWire(t, url)
	l, s := openLedger(t, through), openStore(t, url)
	tenant := fresh(t, l, 1000)
	r := reserve(10)
	var command domain.Command = r
	do(t, l, tenant, reserve(1))
	if settles {
		do(t, l, tenant, r)
		command = settle(r.Reservation, 7)
	}
	if match == "commit" {
		l = openLedger(t, through) // its first command of a tenant is written under the lock
	}
	trap := w.arm(match, h)
	ctx, leave := context.WithCancel(within(t))
	defer leave()
	type answer struct {
		records []domain.Recorded
		err     error
	}
	answers := make(chan answer, 1)
	go func() {
		records, err := l.Do(ctx, tenant, command)
		answers <- answer{records, err}
	}()
	<-trap.sprung
	if leaves {
		leave()
	}
	if h == delay {
		eventually(t, "the fence was raised, or waits for the original", func() bool {
			return scalar(t, s.Pool(), `select (select fence from tenant_head where tenant_id = $1) + (select count(*) from pg_stat_activity
				where datname = current_database() and wait_event_type = 'Lock' and query like 'insert into tenant_head%')`, string(tenant)) > 0
		})
	}
	close(trap.letGo)
	<-trap.landed
	got := <-answers
	switch {
	case got.err == nil && len(got.records) != 1:
		t.Errorf("%d events", len(got.records))
	case got.err != nil && !leaves, got.err != nil && !errors.Is(got.err, domain.ErrUnavailable):
		t.Errorf("the caller got %v", got.err)
	}
	eventually(t, "everything is done", func() bool { return l.Waiting() == 0 })
	reserved, released, charged := history(readAll(t, s, tenant), r.Reservation)
	switch {
	case settles && (reserved != 1 || charged != 1 || released != 0),
		!settles && got.err == nil && (reserved != 1 || released != 0),
		!settles && got.err != nil && reserved != released: // nobody forwards it, so it must not stay
		t.Errorf("reserved %d times, released %d, settled %d; the caller got %v", reserved, released, charged, got.err)
	}
	do(t, l, tenant, reserve(1))
	agree(t, l, s, tenant)
	report, err := audit.Verify(within(t), s.Pool(), audit.Options{Tenant: tenant})
	if err != nil || report.Err() != nil {
		t.Error(err, report.Err())
	}
}

// history counts what happened to a reservation.
func history(records []domain.Recorded, id domain.ReservationID) (reserved, released, settled int) {
	for _, r := range records {
		switch e := r.Event.(type) { //nolint:gochecksumtype // the others are about no reservation
		case domain.UsageReserved:
			if e.Reservation == id {
				reserved++
			}
		case domain.ReservationReleased:
			if e.Reservation == id {
				released++
			}
		case domain.UsageSettled:
			if e.Reservation == id {
				settled++
			}
		}
	}
	return reserved, released, settled
}

func TestUnknownOutcomeOfATenantsFirstEvent(t *testing.T) {
	t.Parallel()
	for h, name := range map[harm]string{cutBefore: "cut before", cutAfter: "cut after", delay: "delayed"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.Database(t)
			w, through := newWire(t, url)
			l, s := openLedger(t, through), openStore(t, url)
			trap := w.arm("commit", h)
			got := make(chan error, 1)
			go func() {
				_, err := l.Do(within(t), "first", domain.CreateTenant{Name: "ACME"})
				got <- err
			}()
			<-trap.sprung
			if h == delay {
				eventually(t, "the fence waits for the original", func() bool {
					return scalar(t, s.Pool(), `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) > 0
				})
			}
			close(trap.letGo)
			if err := <-got; err != nil {
				t.Errorf("the caller got %v", err)
			}
			if n := len(readAll(t, s, "first")); n != 1 {
				t.Errorf("%d events", n)
			}
			verified(t, url)
		})
	}
}

func TestCommitThatNeverComesIsGivenUp(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	w, through := newWire(t, url)
	l := openLedger(t, through)
	tenant := fresh(t, l, 1000)
	second := openLedger(t, through)
	trap := w.arm("commit", delay)
	r := reserve(10)
	got := make(chan error, 1)
	go func() {
		_, err := second.Do(within(t), tenant, r)
		got <- err
	}()
	<-trap.sprung
	// Postgres ends the session that holds the head after two seconds; the command is then written anew.
	if err := <-got; err != nil {
		t.Errorf("the caller got %v", err)
	}
	close(trap.letGo)
	<-trap.landed
	if reserved, _, _ := history(readAll(t, openStore(t, url), tenant), r.Reservation); reserved != 1 {
		t.Errorf("reserved %d times", reserved)
	}
	verified(t, url)
}

// load reserves and settles on many tenants through several ledgers, and keeps what it was answered.
type load struct {
	mu       sync.Mutex
	reserved map[domain.ReservationID]domain.TenantID // acknowledged
	settled  map[domain.ReservationID]domain.TenantID
	refused  map[domain.ReservationID]domain.TenantID // answered with ErrUnavailable
	other    []error
}

func newLoad() *load {
	none := func() map[domain.ReservationID]domain.TenantID { return map[domain.ReservationID]domain.TenantID{} }
	return &load{reserved: none(), settled: none(), refused: none()}
}

func (y *load) note(of map[domain.ReservationID]domain.TenantID, id domain.ReservationID, tenant domain.TenantID) {
	y.mu.Lock()
	defer y.mu.Unlock()
	of[id] = tenant
}

func (y *load) unexpected(err error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.other = append(y.other, err)
}

// pair reserves and closes once. A settlement is repeated until it is known to be carried out.
func (y *load) pair(ctx context.Context, l *eventstore.Ledger, tenant domain.TenantID, i int) {
	r := reserve(domain.Amount(1 + i%7))
	short, cancel := context.WithTimeout(ctx, 5*time.Second)
	_, err := l.Do(short, tenant, r)
	cancel()
	switch {
	case errors.Is(err, domain.ErrBudgetExceeded):
		return
	case errors.Is(err, domain.ErrUnavailable):
		y.note(y.refused, r.Reservation, tenant)
		return
	case err != nil:
		y.unexpected(err)
		return
	}
	y.note(y.reserved, r.Reservation, tenant)
	var end domain.Command
	switch i % 4 {
	case 0:
		end = domain.Release{Reservation: r.Reservation, Reason: domain.ReleasedNotSent}
	case 1:
		return // stays open
	default:
		end = settle(r.Reservation, r.Amount+domain.Amount(i%3)-1)
	}
	if _, err := l.Do(ctx, tenant, end); err != nil {
		y.unexpected(fmt.Errorf("%T: %w", end, err))
		return
	}
	y.note(y.settled, r.Reservation, tenant)
}

// check compares what callers were told with what the ledger holds.
func (y *load) check(t *testing.T, url string) {
	t.Helper()
	for _, err := range y.other {
		t.Error(err)
	}
	pool := openPool(t, url)
	ids := func(of map[domain.ReservationID]domain.TenantID) []string {
		var list []string
		for id := range of {
			list = append(list, string(id))
		}
		return list
	}
	if n := scalar(t, pool, `select count(*) from event where type = 'usage.reserved' and body::json->>'reservationId' = any ($1)`, ids(y.reserved)); n != int64(len(y.reserved)) {
		t.Errorf("%d reservations were acknowledged, %d are recorded", len(y.reserved), n)
	}
	if n := scalar(t, pool, `select count(*) from hold where reservation_id::text = any ($1)`, ids(y.settled)); n != 0 {
		t.Errorf("%d reservations are open that were closed", n)
	}
	if n := scalar(t, pool, `select count(*) from hold where reservation_id::text = any ($1)`, ids(y.refused)); n != 0 {
		t.Errorf("%d reservations are held for callers who heard 503", n)
	}
	verified(t, url)
	t.Logf("%d reserved, %d closed, %d unavailable", len(y.reserved), len(y.settled), len(y.refused))
}

// run works through pairs on all tenants and ledgers with a few callers each.
func (y *load) run(ctx context.Context, ledgers []*eventstore.Ledger, tenants []domain.TenantID, pairs int) {
	var wg sync.WaitGroup
	for caller := range 4 * len(ledgers) {
		wg.Go(func() {
			for i := range pairs {
				y.pair(ctx, ledgers[caller%len(ledgers)], tenants[(caller+i)%len(tenants)], caller+i)
			}
		})
	}
	wg.Wait()
}

func quiet(t *testing.T, ledgers ...*eventstore.Ledger) {
	t.Helper()
	for _, l := range ledgers {
		eventually(t, "everything is done", func() bool { return l.Waiting() == 0 })
	}
}

func TestNothingIsLostOrDoubledOnManyTenantsAndLedgers(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	ledgers := []*eventstore.Ledger{openLedger(t, url), openLedger(t, url), openLedger(t, url)}
	var tenants []domain.TenantID
	for range 6 {
		tenants = append(tenants, fresh(t, ledgers[0], 200))
	}
	y := newLoad()
	y.run(within(t), ledgers, tenants, 40)
	quiet(t, ledgers...)
	if len(y.refused) > 0 {
		t.Errorf("%d commands were unavailable", len(y.refused))
	}
	y.check(t, url)
	s := openStore(t, url)
	for _, tenant := range tenants {
		cold, err := s.State(within(t), tenant)
		if err != nil {
			t.Fatal(err)
		}
		sameState(t, "the tables and the events", cold, refold(t, s, tenant))
	}
}

func TestNothingIsLostOrDoubledOnABadWire(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	w, through := newWire(t, url)
	ledgers := []*eventstore.Ledger{openLedger(t, through), openLedger(t, through)}
	var tenants []domain.TenantID
	for range 4 {
		tenants = append(tenants, fresh(t, ledgers[0], 500))
	}
	n := 0
	w.mu.Lock()
	w.harmful = func() (harm, bool) { // under the wire's mutex
		n++
		return harm(n / 11 % 3), n%11 == 0
	}
	w.mu.Unlock()
	y := newLoad()
	y.run(within(t), ledgers, tenants, 30)
	w.mu.Lock()
	w.harmful = nil
	w.mu.Unlock()
	quiet(t, ledgers...)
	y.check(t, url)
}

func TestNothingIsLostWhenPostgresRestarts(t *testing.T) {
	t.Parallel()
	server := testenv.Server(t)
	url := server.URL()
	ledgers := []*eventstore.Ledger{openLedger(t, url), openLedger(t, url)}
	var tenants []domain.TenantID
	for range 4 {
		tenants = append(tenants, fresh(t, ledgers[0], 5000))
	}
	y := newLoad()
	done := make(chan struct{})
	ctx := within(t)
	go func() {
		defer close(done)
		y.run(ctx, ledgers, tenants, 150)
	}()
	for range 2 {
		before := len(acknowledged(y))
		eventually(t, "some are written", func() bool { return len(acknowledged(y)) > before+20 || isDone(done) })
		if err := server.StopImmediate(ctx); err != nil {
			t.Fatal(err)
		}
		if err := server.Start(ctx); err != nil {
			t.Fatal(err)
		}
	}
	<-done
	quiet(t, ledgers...)
	y.check(t, server.URL())
}

func acknowledged(y *load) []domain.ReservationID {
	y.mu.Lock()
	defer y.mu.Unlock()
	var ids []domain.ReservationID
	for id := range y.reserved {
		ids = append(ids, id)
	}
	return ids
}

func isDone(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
