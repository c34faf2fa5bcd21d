package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/budgetguard/budgetguard/internal/mockupstream"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// The tests of this file are rows of the crash matrix in docs/reliability.md: where a process dies, and what is left.

// doomed is the request id of the call that the test is about. It is in the events, so a valve finds them by it.
const doomed = "the-doomed-call"

// send0 sends a chat request under the doomed id. The answer's status is 0 if none comes.
func (s *system) send0(ctx context.Context, gateway, key, body string) <-chan answer {
	answers := make(chan answer, 1)
	go func() {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, gateway+"/v1/chat/completions", strings.NewReader(body))
		if err != nil {
			answers <- answer{}
			return
		}
		r.Header.Set("X-API-Key", key)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Request-Id", doomed)
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			answers <- answer{}
			return
		}
		defer func() { _ = a.Body.Close() }()
		read, _ := io.ReadAll(a.Body) // as far as it comes
		answers <- answer{status: a.StatusCode, header: a.Header, body: read}
	}()
	return answers
}

// events counts the events of the doomed call.
func (s *system) events(kind string) int64 {
	return s.count(`select count(*) from event where type = $1 and body::json->>'requestId' = $2`, kind, doomed)
}

// expired waits until the doomed call's hold was charged whole, and checks that this is all that became of it.
func (s *system) expired() {
	s.t.Helper()
	s.quiet()
	if r, e := s.events("usage.reserved"), s.events("reservation.expired"); r != 1 || e != 1 {
		s.t.Errorf("reserved %d times, expired %d, want 1 and 1", r, e)
	}
	held := s.count(`select coalesce(sum((body::json->>'reservedUsd')::numeric * 1000000000), 0)::bigint from event where type = 'reservation.expired' and body::json->>'requestId' = $1`, doomed)
	if settled := s.settled("row"); settled < held || held == 0 || settled < s.billed() {
		s.t.Errorf("charged %d: the hold was %d and the bill is %d", settled, held, s.billed())
	}
	s.verify(exitOK)
}

func TestGatewayKilledBeforeAppendLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	v, through := newValve(t, s.url)
	gateway, address := s.serve(through)
	key := s.tenant(address, "row", "1")
	came := v.at(doomed, swallow)
	call := s.send0(t.Context(), address, key, chat)
	<-came
	gateway.kill()
	if a := <-call; a.status != 0 {
		t.Errorf("the client got %d", a.status)
	}
	if n := s.events("usage.reserved"); n != 0 || s.billed() != 0 || s.count(`select count(*) from hold`) != 0 {
		t.Errorf("%d reservations, %d held, %d billed", n, s.count(`select count(*) from hold`), s.billed())
	}
	_, other := s.serve()
	if a := <-s.send0(t.Context(), other, key, chat); a.status != http.StatusOK {
		t.Errorf("a retry is answered %d %s", a.status, a.body)
	}
	s.quiet()
	s.verify(exitOK)
}

func TestGatewayKilledWithCommitUnknownIsChargedOnExpiry(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "RESERVATION_TTL=3s")
	v, through := newValve(t, s.url)
	gateway, address := s.serve(through)
	key := s.tenant(address, "row", "1")
	if a := ask(t.Context(), t, address, key, chat); a.status != http.StatusOK { // the next is one statement: the fast path
		t.Fatalf("%d %s", a.status, a.body)
	}
	s.quiet()
	before := s.billed()
	came := v.at(doomed, mute)
	call := s.send0(t.Context(), address, key, chat)
	<-came
	eventually(t, "the reservation is committed", func() bool { return s.events("usage.reserved") == 1 })
	gateway.kill()
	<-call
	if s.billed() != before {
		t.Error("the call was forwarded before its reservation was known")
	}
	s.worker()
	s.expired()
}

func TestGatewayKilledBeforeDispatchIsChargedOnExpiry(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "RESERVATION_TTL=3s")
	// A provider that takes the connection and never finds its way through the TLS handshake: nothing can be sent.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	gateway, address := s.serve("OPENAI_BASE_URL=https://" + silent.Addr().String() + "/v1")
	key := s.tenant(address, "row", "1")
	call := s.send0(t.Context(), address, key, chat)
	eventually(t, "the reservation is committed", func() bool { return s.events("usage.reserved") == 1 })
	gateway.kill()
	<-call
	s.worker()
	s.expired()
}

func TestGatewayKilledMidStreamIsChargedOnExpiry(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "RESERVATION_TTL=3s")
	gateway, address := s.serve()
	key := s.tenant(address, "row", "1")
	if err := s.provider.Change(func(x *mockupstream.Settings) { x.TokensPerSecond = 5 }); err != nil {
		t.Fatal(err)
	}
	call := s.send0(t.Context(), address, key, strings.Replace(chat, `"model"`, `"stream":true,"model"`, 1))
	eventually(t, "the stream runs", func() bool { return s.billed() > 0 })
	gateway.kill()
	if a := <-call; strings.Contains(string(a.body), "[DONE]") {
		t.Error("the stream came to its end")
	}
	s.worker()
	s.expired()
}

func TestGatewayKilledBeforeSettlementIsChargedOnExpiry(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "RESERVATION_TTL=3s")
	v, through := newValve(t, s.url)
	gateway, address := s.serve(through)
	key := s.tenant(address, "row", "1")
	if err := s.provider.Change(func(x *mockupstream.Settings) { x.Hold = true }); err != nil {
		t.Fatal(err)
	}
	call := s.send0(t.Context(), address, key, chat)
	eventually(t, "the call is at the provider", func() bool { return s.provider.Held() == 1 })
	came := v.at(doomed, swallow) // the next event of the call is its settlement
	if err := s.provider.Change(func(x *mockupstream.Settings) { x.Hold = false }); err != nil {
		t.Fatal(err)
	}
	if a := <-call; a.status != http.StatusOK {
		t.Errorf("the client got %d %s", a.status, a.body)
	}
	<-came
	gateway.kill()
	if n := s.events("usage.settled"); n != 0 {
		t.Errorf("settled %d times", n)
	}
	s.worker()
	s.expired()
}

func TestGatewayKilledAfterSettlementChargesOnce(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "RESERVATION_TTL=3s")
	v, through := newValve(t, s.url)
	gateway, address := s.serve(through)
	key := s.tenant(address, "row", "1")
	if err := s.provider.Change(func(x *mockupstream.Settings) { x.Hold = true }); err != nil {
		t.Fatal(err)
	}
	call := s.send0(t.Context(), address, key, chat)
	eventually(t, "the call is at the provider", func() bool { return s.provider.Held() == 1 })
	came := v.at(doomed, mute)
	if err := s.provider.Change(func(x *mockupstream.Settings) { x.Hold = false }); err != nil {
		t.Fatal(err)
	}
	<-call
	<-came
	eventually(t, "the settlement is committed", func() bool { return s.events("usage.settled") == 1 })
	gateway.kill() // it does not know
	_, other := s.serve()
	s.worker()
	if a := ask(t.Context(), t, other, key, chat); a.status != http.StatusOK {
		t.Errorf("another call is answered %d %s", a.status, a.body)
	}
	s.quiet()
	if settled, billed := s.settled("row"), s.billed(); settled != billed || s.events("usage.settled") != 1 || s.events("reservation.expired") != 0 {
		t.Errorf("settled %d of a bill of %d; %d settlements", settled, billed, s.events("usage.settled"))
	}
	s.verify(exitOK)
}

func TestGatewayStalledWithAHeadLockedIsEndedByPostgres(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	v, through := newValve(t, s.url)
	stalled, address := s.serve(through)
	_, other := s.serve()
	key := s.tenant(other, "row", "1")
	came := v.at(doomed, pass) // the tenant is new to this gateway, so its append is under the lock; the commit is swallowed
	call := s.send0(t.Context(), address, key, chat)
	<-came
	if err := stalled.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other gateway serves the tenant", func() bool {
		return ask(t.Context(), t, other, key, chat).status == http.StatusOK
	})
	if err := stalled.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	v.cut()
	a := <-call
	s.quiet()
	if reserved, released, settled := s.events("usage.reserved"), s.events("reservation.released"), s.events("usage.settled"); reserved != released+settled || (a.status == http.StatusOK) != (settled == 1) {
		t.Errorf("answered %d; reserved %d times, released %d, settled %d", a.status, reserved, released, settled)
	}
	if settled, billed := s.settled("row"), s.billed(); settled != billed {
		t.Errorf("settled %d, billed %d", settled, billed)
	}
	s.verify(exitOK)
}

func TestGatewayStalledLongerThanItsHoldIsChargedThenCredited(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "RESERVATION_TTL=2s")
	stalled, address := s.serve()
	key := s.tenant(address, "row", "1")
	if err := s.provider.Change(func(x *mockupstream.Settings) { x.Hold = true }); err != nil {
		t.Fatal(err)
	}
	call := s.send0(t.Context(), address, key, chat)
	eventually(t, "the call is at the provider", func() bool { return s.provider.Held() == 1 })
	if err := stalled.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.worker()
	eventually(t, "the hold is charged", func() bool { return s.events("reservation.expired") == 1 })
	whole := s.settled("row")
	if whole < s.billed() {
		t.Errorf("charged %d, billed %d", whole, s.billed())
	}
	if err := stalled.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := s.provider.Change(func(x *mockupstream.Settings) { x.Hold = false }); err != nil {
		t.Fatal(err)
	}
	if a := <-call; a.status != http.StatusOK {
		t.Errorf("the client got %d %s", a.status, a.body)
	}
	eventually(t, "the charge is corrected", func() bool { return s.events("usage.settled_late") == 1 })
	if settled, billed := s.settled("row"), s.billed(); settled != billed || settled >= whole {
		t.Errorf("settled %d, billed %d, charged before %d", settled, billed, whole)
	}
	s.verify(exitOK)
}

func TestPostgresKilledUnderLoadLosesNoAcknowledgedHold(t *testing.T) {
	t.Parallel()
	server := testenv.Server(t)
	s := newSystemOn(t, server.URL())
	_, one := s.serve()
	_, two := s.serve()
	s.worker()
	key := s.tenant(one, "row", "100")
	stop := make(chan struct{})
	var calls sync.WaitGroup
	var mu sync.Mutex
	var told []string
	var answered, unavailable atomic.Int64
	for caller := range 8 {
		calls.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				a := ask(t.Context(), t, []string{one, two}[(caller+i)%2], key, chat)
				switch a.status {
				case http.StatusOK:
					answered.Add(1)
					mu.Lock()
					told = append(told, a.header.Get("X-BudgetGuard-Reservation"))
					mu.Unlock()
				case http.StatusServiceUnavailable:
					unavailable.Add(1)
				default:
					t.Errorf("%d %s", a.status, a.body)
					return
				}
			}
		})
	}
	for range 2 {
		before := answered.Load()
		eventually(t, "calls are answered", func() bool { return answered.Load() > before+20 })
		if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-server.Done()
		before = unavailable.Load()
		eventually(t, "calls are refused", func() bool { return unavailable.Load() > before })
		if err := server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	before := answered.Load()
	eventually(t, "calls are answered again", func() bool { return answered.Load() > before+20 })
	close(stop)
	calls.Wait()
	s.quiet()
	if n := s.count(`select count(*) from event where type = 'usage.reserved' and body::json->>'reservationId' = any ($1)`, told); n != int64(len(told)) {
		t.Errorf("%d reservations were acknowledged, %d are recorded", len(told), n)
	}
	if settled, billed := s.settled("row"), s.billed(); settled != billed {
		t.Errorf("settled %d, billed %d", settled, billed)
	}
	s.verify(exitOK)
}

func TestPostgresReadOnlyRefusesNewCalls(t *testing.T) {
	t.Parallel()
	server := testenv.Server(t)
	refusesWhile(t, newSystemOn(t, server.URL()),
		[]string{`alter system set default_transaction_read_only = on`, `select pg_reload_conf()`},
		[]string{`set default_transaction_read_only = off`, `alter system reset default_transaction_read_only`, `select pg_reload_conf()`})
}

func TestPostgresDiskFullRefusesNewCalls(t *testing.T) {
	t.Parallel()
	// Postgres says just this when a write finds no room (make chaos fills a real disk).
	refusesWhile(t, newSystem(t), []string{
		`create function full_disk() returns trigger language plpgsql as $$ begin raise exception 'disk full' using errcode = '53100'; end $$`,
		`create trigger full_disk before insert on outbox for each row execute function full_disk()`,
	}, []string{`drop trigger full_disk on outbox`})
}

// refusesWhile checks that a database which answers and cannot write lets nothing new through, and that what runs is
// settled when it can again.
func refusesWhile(t *testing.T, s *system, breaks, mends []string) {
	t.Helper()
	_, address := s.serve()
	key := s.tenant(address, "row", "1")
	if err := s.provider.Change(func(x *mockupstream.Settings) { x.Hold = true }); err != nil {
		t.Fatal(err)
	}
	call := s.send0(t.Context(), address, key, chat)
	eventually(t, "the call is at the provider", func() bool { return s.provider.Held() == 1 })
	conn, err := s.db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	run := func(list []string) {
		for _, sql := range list {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	run(breaks)
	eventually(t, "new calls are refused", func() bool {
		short, cancel := context.WithCancel(t.Context()) // one that gets through waits at the provider, which is no harm
		defer cancel()
		before := s.provider.Held()
		select {
		case a := <-s.send0(short, address, key, chat):
			return a.status == http.StatusServiceUnavailable
		case <-s.heldMore(short, before):
			return false
		}
	})
	billed := s.billed()
	if a := ask(t.Context(), t, address, key, chat); a.status != http.StatusServiceUnavailable || !strings.Contains(string(a.body), "ledger_unavailable") || s.billed() != billed {
		t.Errorf("answered %d %s", a.status, a.body)
	}
	if err := s.provider.Change(func(x *mockupstream.Settings) { x.Hold = false }); err != nil {
		t.Fatal(err)
	}
	if a := <-call; a.status != http.StatusOK {
		t.Errorf("the running call is answered %d %s", a.status, a.body)
	}
	run(mends)
	eventually(t, "new calls are served", func() bool { return ask(t.Context(), t, address, key, chat).status == http.StatusOK })
	s.quiet()
	if settled, billed := s.settled("row"), s.billed(); settled != billed {
		t.Errorf("settled %d, billed %d", settled, billed)
	}
	s.verify(exitOK)
}

// heldMore is closed when more than n calls wait at the provider.
func (s *system) heldMore(ctx context.Context, n int64) <-chan struct{} {
	more := make(chan struct{})
	go func() {
		for ctx.Err() == nil {
			if s.provider.Held() > n {
				close(more)
				return
			}
			pause(ctx)
		}
	}()
	return more
}

func TestPostgresUnreachableFromOneGateway(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	u := parse(t, s.url)
	wire := toxiproxy.NewProxy(api, "wire", "127.0.0.1:0", u.Host)
	if err := wire.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(wire.Stop)
	u.Host = wire.Listen
	_, cut := s.serve("DATABASE_URL=" + u.String())
	_, whole := s.serve()
	key := s.tenant(whole, "row", "1")
	if err := s.provider.Change(func(x *mockupstream.Settings) { x.Hold = true }); err != nil {
		t.Fatal(err)
	}
	call := s.send0(t.Context(), cut, key, chat)
	eventually(t, "the call is at the provider", func() bool { return s.provider.Held() == 1 })
	wire.Stop()
	if err := s.provider.Change(func(x *mockupstream.Settings) { x.Hold = false }); err != nil {
		t.Fatal(err)
	}
	if a := <-call; a.status != http.StatusOK {
		t.Errorf("the running call is answered %d %s", a.status, a.body)
	}
	if a := ask(t.Context(), t, cut, key, chat); a.status != http.StatusServiceUnavailable {
		t.Errorf("the cut gateway answers %d %s", a.status, a.body)
	}
	if a := ask(t.Context(), t, whole, key, chat); a.status != http.StatusOK {
		t.Errorf("the other gateway answers %d %s", a.status, a.body)
	}
	if n := s.events("usage.settled"); n != 0 {
		t.Errorf("settled %d times over a cut wire", n)
	}
	if err := wire.Start(); err != nil {
		t.Fatal(err)
	}
	s.quiet()
	if n := s.events("usage.settled"); n != 1 || s.settled("row") != s.billed() {
		t.Errorf("settled %d times: %d of a bill of %d", n, s.settled("row"), s.billed())
	}
	s.verify(exitOK)
}

func TestWorkerKilledBetweenPublishAndDelete(t *testing.T) {
	t.Parallel()
	workerKilledAt(t, "delete from outbox")
}

func TestWorkerKilledWithinAProjectionCountsNothingTwice(t *testing.T) {
	t.Parallel()
	workerKilledAt(t, "insert into usage_row")
}

// workerKilledAt kills a worker when it sends a statement that never arrives; another one takes over.
func workerKilledAt(t *testing.T, statement string) {
	t.Helper()
	s := newSystem(t)
	v, through := newValve(t, s.url)
	_, address := s.serve()
	key := s.tenant(address, "row", "1")
	came := v.at(statement, swallow)
	doomed := s.worker(through)
	for range 5 {
		if a := ask(t.Context(), t, address, key, chat); a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	<-came
	s.quiet()
	doomed.kill()
	s.worker()
	eventually(t, "nothing is left to publish and the UsageLedger is complete", func() bool {
		return s.count(`select count(*) from outbox`) == 0 && s.count(`select count(*) from "UsageLedger"`) == 5 &&
			s.count(`select count(*) from tenant_head h where version <> coalesce((select version from projection_cursor c where c.name = 'usage' and c.tenant_id = h.tenant_id), 0)`) == 0
	})
	if usd := s.count(`select (sum(usd) * 1000000000)::bigint from "UsageLedger"`); usd != s.billed() {
		t.Errorf("the UsageLedger says %d, the bill %d", usd, s.billed())
	}
	p := start(t, s.env, "ledger", "verify", "--quiet")
	if code := p.wait(t); code != exitOK {
		t.Errorf("ledger verify --quiet: %d\n%s", code, p.output())
	}
}
