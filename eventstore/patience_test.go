package eventstore_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

func TestRefusalIsRememberedForLargerEstimatesUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var ahead time.Duration
	l := openLedger(t, testenv.Database(t), func(c *eventstore.Config) {
		c.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Unix(1_000_000, 0).Add(ahead) // stands still, so that the memory lasts as long as the test says
		}
	})
	forward := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		ahead += d
	}
	tenant := fresh(t, l, 100)
	r := reserve(60)
	do(t, l, tenant, r)
	if err := l.Refused(tenant, 1000); err != nil {
		t.Errorf("nothing was refused yet: %v", err)
	}
	if _, err := l.Do(within(t), tenant, reserve(50)); !errors.Is(err, domain.ErrBudgetExceeded) {
		t.Fatal(err)
	}
	remembered := func(amount domain.Amount, want bool) {
		t.Helper()
		err := l.Refused(tenant, amount)
		if got := errors.Is(err, domain.ErrBudgetExceeded); got != want {
			t.Errorf("an estimate of %d is refused early: %v, want %v", amount, err, want)
		}
		var exceeded *domain.BudgetExceededError
		if errors.As(err, &exceeded) && exceeded.Requested != amount {
			t.Errorf("it asks for %d, the refusal says %d", amount, exceeded.Requested)
		}
	}
	remembered(50, true)
	remembered(51, true)
	remembered(49, false)
	if _, err := l.Do(within(t), tenant, reserve(45)); !errors.Is(err, domain.ErrBudgetExceeded) {
		t.Fatal(err)
	}
	remembered(45, true)
	forward(lanes.RefusalLife)
	remembered(45, true)
	forward(time.Microsecond)
	remembered(1000, false)

	for name, giving := range map[string]domain.Command{
		"a settlement":   settle(r.Reservation, 30),
		"a higher limit": domain.DefineBudget{ID: "x", Period: domain.Monthly, Limit: 120, Source: domain.SourceAdmin},
	} {
		if _, err := l.Do(within(t), tenant, reserve(1000)); !errors.Is(err, domain.ErrBudgetExceeded) {
			t.Fatal(err)
		}
		remembered(1000, true)
		do(t, l, tenant, giving)
		if err := l.Refused(tenant, 1000); err != nil {
			t.Errorf("%s gave room: %v", name, err)
		}
	}
}

func TestReservationOfACallerWhoLeftIsReleased(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l, s := openLedger(t, url), openStore(t, url)
	tenant := fresh(t, l, 1000)
	unlock := lockHead(t, url, tenant)
	ctx, leave := context.WithCancel(within(t))
	r := reserve(10)
	got := make(chan error, 1)
	go func() {
		_, err := l.Do(ctx, tenant, r)
		got <- err
	}()
	// The append waits for the head: too late to take the command back, so it will be undone.
	eventually(t, "the append waits for the lock", func() bool {
		return scalar(t, s.Pool(), `select count(*) from pg_locks where not granted`) > 0
	})
	leave()
	if err := <-got; !errors.Is(err, domain.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("the caller got %v", err)
	}
	unlock()
	eventually(t, "everything is done", func() bool { return l.Waiting() == 0 })
	records := readAll(t, s, tenant)
	last, ok := records[len(records)-1].Event.(domain.ReservationReleased)
	if !ok || last.Reservation != r.Reservation || last.Reason != "never_dispatched" {
		t.Errorf("the last event is %+v", records[len(records)-1].Event)
	}
	agree(t, l, s, tenant)
	verified(t, url)
}

func TestSettlementOfACallerWhoLeftIsCarriedOut(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l, s := openLedger(t, url), openStore(t, url)
	tenant := fresh(t, l, 1000)
	r, queued := reserve(10), reserve(20)
	do(t, l, tenant, r)
	unlock := lockHead(t, url, tenant)
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := l.Do(gone, tenant, settle(r.Reservation, 7)); !errors.Is(err, domain.ErrUnavailable) {
		t.Errorf("the caller got %v", err)
	}
	eventually(t, "the append waits for the lock", func() bool {
		return scalar(t, s.Pool(), `select count(*) from pg_locks where not granted`) > 0
	})
	// This one is still in the queue when its caller leaves: it is never carried out.
	if _, err := l.Do(gone, tenant, queued); !errors.Is(err, domain.ErrUnavailable) {
		t.Errorf("the caller got %v", err)
	}
	unlock()
	eventually(t, "everything is done", func() bool { return l.Waiting() == 0 })
	records := readAll(t, s, tenant)
	if e, ok := records[len(records)-1].Event.(domain.UsageSettled); !ok || e.Charged != 7 || len(records) != 5 {
		t.Errorf("%d events, the last is %+v", len(records), records[len(records)-1].Event)
	}
	verified(t, url)
}

func TestQueueIsBoundedForWhatMayBeRefused(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := openLedger(t, url)
	tenant := fresh(t, l, 1)
	held := reserve(1)
	do(t, l, tenant, held)
	unlock := lockHead(t, url, tenant)
	// The first turn takes some and waits for the lock; the rest queues up.
	for range lanes.MaxQueue + lanes.MaxCallsPerTurn {
		if _, err := l.Submit(tenant, reserve(1)); err != nil {
			break
		}
	}
	if _, err := l.Submit(tenant, reserve(1)); !errors.Is(err, domain.ErrUnavailable) {
		t.Errorf("one more: %v", err)
	}
	if _, err := l.Submit(tenant, settle(held.Reservation, 1)); err != nil {
		t.Errorf("a settlement is never turned away: %v", err)
	}
	if other := fresh(t, l, 1); other == tenant {
		t.Error("the same tenant")
	}
	unlock()
	eventually(t, "the queue is empty", func() bool { return l.Waiting() == 0 })
	verified(t, url)
}

func TestCloseFinishesWhatWaitsAndRefusesWhatComes(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := openLedger(t, url)
	tenant := fresh(t, l, 1000)
	unlock := lockHead(t, url, tenant)
	const callers = 50
	var y tally
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			_, err := l.Do(within(t), tenant, reserve(1))
			y.count(err)
		})
	}
	eventually(t, "all wait", func() bool { return l.Waiting() == callers })
	closed := make(chan error, 1)
	go func() { closed <- l.Close(within(t)) }()
	eventually(t, "new ones are refused", func() bool {
		_, err := l.Submit(tenant, reserve(1))
		return errors.Is(err, domain.ErrUnavailable)
	})
	unlock()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	wg.Wait()
	if y.ok < callers || len(y.other) > 0 {
		t.Errorf("%d of %d reserved, %v", y.ok, callers, y.other)
	}
	for _, c := range []domain.Command{reserve(1), settle(newID(), 1)} {
		if _, err := l.Do(within(t), tenant, c); !errors.Is(err, domain.ErrUnavailable) {
			t.Errorf("%T after the end: %v", c, err)
		}
	}
	if err := l.Close(within(t)); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	verified(t, url)
}

func TestCloseEndsWithoutADatabase(t *testing.T) {
	t.Parallel()
	server := testenv.Server(t)
	l, err := eventstore.OpenLedger(t.Context(), eventstore.Config{URL: server.URL(), Now: wall})
	if err != nil {
		t.Fatal(err)
	}
	tenant := fresh(t, l, 1000)
	r := reserve(10)
	do(t, l, tenant, r)
	if err := server.StopImmediate(within(t)); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 2)
	go func() {
		_, err := l.Do(context.WithoutCancel(t.Context()), tenant, settle(r.Reservation, 7)) // waits for ever, if it may
		got <- err
	}()
	eventually(t, "the settlement waits", func() bool { return l.Waiting() == 1 })
	if _, err := l.Do(within(t), tenant, reserve(1)); !errors.Is(err, domain.ErrUnavailable) {
		t.Errorf("a reservation without a database: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- l.Close(short) }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("Close says that all was written")
		}
	case <-time.After(patience / 4):
		t.Fatal("Close does not end")
	}
	select {
	case err := <-got:
		if !errors.Is(err, domain.ErrUnavailable) {
			t.Errorf("the caller got %v", err)
		}
	case <-time.After(patience / 4):
		t.Error("the caller waits for ever")
	}
}

func TestSettlementOutlastsADatabaseThatSaysNo(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l, s := openLedger(t, url), openStore(t, url)
	tenant := fresh(t, l, 1000)
	r := reserve(10)
	do(t, l, tenant, r)
	// Postgres answers, and cannot: as when it is read-only after a failover, or its disk is full.
	rename := func(from, to string) {
		t.Helper()
		if _, err := s.Pool().Exec(within(t), `alter function `+from+` rename to `+to); err != nil {
			t.Fatal(err)
		}
	}
	rename("ledger_append", "ledger_append_gone")
	settled := make(chan error, 1)
	go func() {
		_, err := l.Do(within(t), tenant, settle(r.Reservation, 7))
		settled <- err
	}()
	if _, err := l.Do(within(t), tenant, reserve(1)); !errors.Is(err, domain.ErrUnavailable) {
		t.Errorf("a reservation meanwhile: %v", err)
	}
	rename("ledger_append_gone", "ledger_append")
	if err := <-settled; err != nil {
		t.Errorf("the settlement: %v", err)
	}
	agree(t, l, s, tenant)
	verified(t, url)
}
