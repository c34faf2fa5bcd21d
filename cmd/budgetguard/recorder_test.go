package main

import (
	"context"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/mockupstream"
)

// upstreamTLS is the system's provider behind TLS, so that a call can be stuck before anything is sent: the
// handshake of a connection that is accepted while it is stalled never goes on. Answers close their
// connection, so that no call finds one that is open.
func (s *system) upstreamTLS() (stalled *atomic.Bool) {
	s.t.Helper()
	stalled = &atomic.Bool{}
	web := httptest.NewUnstartedServer(s.provider.Handler())
	web.Listener = &stalling{Listener: web.Listener, stalled: stalled}
	web.Config.SetKeepAlivesEnabled(false)
	web.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshakes
	web.StartTLS()
	s.t.Cleanup(func() { web.CloseClientConnections(); web.Close() })
	file := filepath.Join(s.t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.env = append(s.env, "OPENAI_BASE_URL="+web.URL+"/v1", "SSL_CERT_FILE="+file)
	return stalled
}

type stalling struct {
	net.Listener
	stalled *atomic.Bool
}

func (l *stalling) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil && l.stalled.Load() {
		return &silent{Conn: conn, closed: make(chan struct{})}, nil
	}
	return conn, err
}

// silent is a connection that never answers.
type silent struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *silent) Read([]byte) (int, error) {
	<-c.closed
	return 0, net.ErrClosed
}

func (c *silent) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// background sends calls whose answers nobody needs and waits for their end when the test ends.
func (s *system) background(n int, address, key string) {
	s.t.Helper()
	ctx, hangUp := context.WithCancel(context.WithoutCancel(s.t.Context()))
	var calls sync.WaitGroup
	s.t.Cleanup(func() { hangUp(); calls.Wait() })
	for range n {
		calls.Go(func() {
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, address+"/v1/chat/completions", strings.NewReader(chat))
			if err != nil {
				s.t.Error(err)
				return
			}
			r.Header.Set("X-API-Key", key)
			r.Header.Set("Content-Type", "application/json")
			if a, err := http.DefaultClient.Do(r); err == nil { // most end with the gateway
				_ = a.Body.Close()
			}
		})
	}
}

func (s *system) hold(hold bool) {
	s.t.Helper()
	if err := s.provider.Change(func(x *mockupstream.Settings) { x.Hold = hold }); err != nil {
		s.t.Fatal(err)
	}
}

func (s *system) holds(tenant string) int64 {
	s.t.Helper()
	return s.count(`select count(*) from hold where tenant_id = $1`, tenant)
}

// lockHead keeps anybody from appending to a tenant's stream until unlock is called.
func (s *system) lockHead(tenant string) (unlock func()) {
	s.t.Helper()
	tx, err := s.db.Begin(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	unlock = sync.OnceFunc(func() { _ = tx.Rollback(context.WithoutCancel(s.t.Context())) })
	s.t.Cleanup(unlock)
	if _, err := tx.Exec(s.t.Context(), `select from tenant_head where tenant_id = $1 for update`, tenant); err != nil {
		s.t.Fatal(err)
	}
	return unlock
}

// TestAKilledGatewaysRecorderSettlesWhatItSawAndReleasesWhatItNeverSent kills a gateway with calls in all three
// states. No hold ends by its time or as an orphan: what closes them is the recorder.
func TestAKilledGatewaysRecorderSettlesWhatItSawAndReleasesWhatItNeverSent(t *testing.T) {
	t.Parallel()
	const calls = 20
	dir := filepath.Join(t.TempDir(), "state", "recorder")
	s := newSystem(t, "RECORDER_DIR="+dir, "ORPHAN_AFTER=0")
	stalled := s.upstreamTLS()
	gateway, address := s.serve()
	seen, way, never := s.tenant(address, "seen", "100"), s.tenant(address, "way", "100"), s.tenant(address, "never", "100")

	s.hold(true)
	s.background(calls, address, seen)
	eventually(t, "they are at the provider", func() bool { return s.provider.Held() == calls })
	unlock := s.lockHead("seen")
	s.hold(false)
	eventually(t, "their answers came", func() bool { return s.provider.Held() == 0 })
	billSeen := s.billed()
	s.hold(true)
	s.background(calls, address, way)
	eventually(t, "they are under way", func() bool { return s.provider.Held() == calls })
	billWay := s.billed() - billSeen
	stalled.Store(true)
	s.background(calls, address, never)
	eventually(t, "they are reserved", func() bool { return s.holds("never") == calls })
	eventually(t, "the settlements are recorded", func() bool { return recorded(t, dir, `"Basis":"provider"`) == calls })
	gateway.kill()
	eventually(t, "nothing of the dead waits in the database", func() bool { return s.count(`select count(*) from pg_locks where not granted`) == 0 })
	unlock()
	if n := s.holds("seen"); n != calls {
		t.Fatalf("%d settlements were not committed, want all %d", n, calls)
	}
	held := s.count(`select held from account where tenant_id = 'way'`)

	began := time.Now()
	again, _ := s.serve()
	s.quiet()
	t.Logf("closed %s after the start of the next gateway", time.Since(began).Round(time.Millisecond))
	line := again.line(t, "flight recorder replayed")
	if got := s.settled("seen"); got != billSeen {
		t.Errorf("settled %d of the seen, billed %d\n%s", got, billSeen, line)
	}
	if got := s.settled("way"); got != held || got < billWay {
		t.Errorf("charged %d under way, held %d, billed %d\n%s", got, held, billWay, line)
	}
	if n := s.count(`select count(*) from event where tenant_id = 'never' and type = 'reservation.released' and body::jsonb->>'reason' = 'never_dispatched'`); n != calls || s.settled("never") != 0 {
		t.Errorf("%d released, %d charged\n%s", n, s.settled("never"), line)
	}
	if n := s.count(`select count(*) from event where type = 'usage.settled' and body::jsonb->>'reason' = 'gateway_died'`); n != calls {
		t.Errorf("%d presumed\n%s", n, line)
	}
	eventually(t, "the dead gateway's session has ended", func() bool { return s.count(`select count(*) from gateway_session where ended_at is not null`) == 1 })
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("%v, %v: want the living gateway's", files, err)
	}
	s.verify(exitOK)
	if code := again.stop(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("%v, %v: a clean end leaves nothing", files, err)
	}
}

// recorded counts a text in the recorders' files.
func recorded(t *testing.T, dir, text string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.flight"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		n += strings.Count(string(content), text)
	}
	return n
}

func TestHoldsOfAKilledGatewayThatDoesNotComeBackAreChargedInSeconds(t *testing.T) {
	t.Parallel()
	const calls, after = 50, 8 * time.Second
	s := newSystem(t, "ORPHAN_AFTER="+after.String())
	gateway, address := s.serve()
	_, other := s.serve()
	key := s.tenant(address, "orphan", "100")
	s.hold(true)
	s.background(calls, address, key)
	s.background(5, other, key)
	eventually(t, "they are under way", func() bool { return s.provider.Held() == calls+5 })
	held := s.count(`select held from account where tenant_id = 'orphan'`)
	gateway.kill()
	killed := time.Now()
	eventually(t, "the orphans are charged", func() bool { return s.holds("orphan") == 5 })
	took := time.Since(killed)
	t.Logf("%d orphans were charged %s after the kill", calls, took.Round(time.Millisecond))
	if took > after+time.Minute { // a busy machine's few seconds; their own time is 15 minutes
		t.Errorf("that is more than ORPHAN_AFTER and what a busy machine may take")
	}
	if n := s.count(`select count(*) from event where type = 'reservation.expired' and body::jsonb->>'reason' = 'orphaned'`); n != calls {
		t.Errorf("%d are called orphans, want %d", n, calls)
	}
	s.hold(false)
	s.quiet()
	if charged := s.settled("orphan"); charged > held || charged < s.billed() {
		t.Errorf("charged %d, held %d, billed %d", charged, held, s.billed())
	}
	s.verify(exitOK)
}

func TestAGatewayThatStoodStillSettlesLateWhatWasChargedMeanwhile(t *testing.T) {
	t.Parallel()
	const calls = 20
	s := newSystem(t, "ORPHAN_AFTER=2s")
	gateway, address := s.serve()
	key := s.tenant(address, "stalled", "100")
	s.worker()
	s.hold(true)
	s.background(calls, address, key)
	eventually(t, "they are under way", func() bool { return s.provider.Held() == calls })
	if err := gateway.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "they are charged as orphans", func() bool { return s.holds("stalled") == 0 })
	if charged := s.settled("stalled"); charged < s.billed() {
		t.Errorf("charged %d, below the bill of %d", charged, s.billed())
	}
	s.hold(false)
	if err := gateway.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "they are corrected", func() bool {
		return s.count(`select count(*) from event where type = 'usage.settled_late'`) == calls
	})
	if settled := s.settled("stalled"); settled != s.billed() {
		t.Errorf("settled %d, billed %d", settled, s.billed())
	}
	if a := ask(t.Context(), t, address, key, chat); a.status != http.StatusOK {
		t.Errorf("behind the stall: %d %s", a.status, a.body)
	}
	s.quiet()
	if n := s.count(`select count(*) from gateway_session where ended_at is null and heartbeat_at > clock_timestamp() - interval '3 seconds'`); n != 1 {
		t.Errorf("%d sessions live, want the one that woke", n)
	}
	s.verify(exitOK)
	if code := gateway.stop(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

func TestADamagedRecorderIsSetAsideAndStopsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "gone.flight"), []byte("not what a recorder writes"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSystem(t, "RECORDER_DIR="+dir)
	gateway, _ := s.serve()
	gateway.line(t, "cannot be read to its end")
	eventually(t, "it is set aside", func() bool { _, err := os.Stat(filepath.Join(dir, "gone.flight.damaged")); return err == nil })
	if code := gateway.stop(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

func TestARecorderOfAnotherLedgerIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := newSystem(t, "RECORDER_DIR="+dir), newSystem(t, "RECORDER_DIR="+dir)
	gateway, address := first.serve()
	key := first.tenant(address, "a", "100")
	first.hold(true)
	first.background(1, address, key)
	eventually(t, "it is under way", func() bool { return first.provider.Held() == 1 })
	gateway.kill()
	other, _ := second.serve()
	other.line(t, "left alone")
	if code := other.stop(t); code != exitOK || recorded(t, dir, `"gateway"`) != 1 {
		t.Errorf("exit code %d; the file is gone", code)
	}
	_, _ = first.serve()
	first.quiet()
	first.verify(exitOK)
}

// A gateway's machine comes back when its session is forgotten: what the file knows corrects the charge, and it goes.
func TestARecorderOlderThanAnySessionIsReplayedAndRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newSystem(t, "RECORDER_DIR="+dir, "ORPHAN_AFTER=2s")
	gateway, address := s.serve()
	key := s.tenant(address, "a", "100")
	s.hold(true)
	s.background(1, address, key)
	eventually(t, "it is under way", func() bool { return s.provider.Held() == 1 })
	unlock := s.lockHead("a")
	s.hold(false)
	eventually(t, "its settlement is recorded", func() bool { return recorded(t, dir, `"Basis":"provider"`) == 1 })
	gateway.kill()
	eventually(t, "nothing of the dead waits in the database", func() bool { return s.count(`select count(*) from pg_locks where not granted`) == 0 })
	unlock()
	s.worker()
	eventually(t, "it is charged as an orphan", func() bool { return s.holds("a") == 0 })
	if _, err := s.db.Exec(t.Context(), `delete from gateway_session`); err != nil {
		t.Fatal(err)
	}

	files, err := filepath.Glob(filepath.Join(dir, "*.flight"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	age(t, files[0], eventstore.SessionLife-time.Hour)
	young, _ := s.serve()
	young.line(t, "left alone")
	young.stop(t)
	age(t, files[0], eventstore.SessionLife+time.Hour)
	old, _ := s.serve()
	old.line(t, "long forgotten")
	eventually(t, "it is removed", func() bool { _, err := os.Stat(files[0]); return os.IsNotExist(err) })
	if settled := s.settled("a"); settled != s.billed() {
		t.Errorf("settled %d, billed %d", settled, s.billed())
	}
	s.verify(exitOK)
}

// age makes a file look as if it was written some time ago.
func age(t *testing.T, file string, by time.Duration) {
	t.Helper()
	at := time.Now().Add(-by)
	if err := os.Chtimes(file, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestRecorderDirMustBeUsableIfItWasAskedFor(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, append(s.env, "RECORDER_DIR="+file+"/below"), "serve")
	if code := p.wait(t); code != exitConfig || !strings.Contains(p.output(), "RECORDER_DIR") {
		t.Errorf("exit code %d: %s", code, p.output())
	}
	off := start(t, append(s.env, "RECORDER_DIR=off"), "serve")
	off.line(t, "no flight recorder")
	off.line(t, "serves http://")
	if code := off.stop(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(filepath.Join(off.cmd.Dir, "off")); err == nil {
		t.Error("there is a directory called off")
	}
}
