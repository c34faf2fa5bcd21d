package proxy_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/mockupstream"
	"github.com/budgetguard/budgetguard/proxy"
	"github.com/budgetguard/budgetguard/proxy/flight"
)

// blackBox is a gateway's flight recorder and its file.
type blackBox struct {
	t   *testing.T
	dir string
	*flight.Recorder
}

func newBlackBox(t *testing.T) *blackBox {
	t.Helper()
	b := &blackBox{t: t, dir: t.TempDir()}
	var err error
	b.Recorder, err = flight.Open(flight.Config{
		Dir: b.dir, Header: flight.Header{Gateway: "test"}, Now: time.Now, Failed: func(err error) { t.Error(err) },
	})
	check(t, err)
	return b
}

// calls are what a replay would find now.
func (b *blackBox) calls() []flight.Call {
	b.t.Helper()
	file, err := os.Open(filepath.Join(b.dir, "test.flight"))
	check(b.t, err)
	defer func() { _ = file.Close() }()
	log, err := flight.Read(file)
	check(b.t, err)
	return log.Calls
}

func (b *blackBox) wire(d *proxy.Deps) { d.Recorder = b.Recorder }

func TestTheRecorderKnowsHowFarEachCallCame(t *testing.T) {
	t.Parallel()
	b := newBlackBox(t)
	g := start(t, setup{deps: b.wire})
	key := g.tenant("acme", "100")
	g.settings(t, func(s *mockupstream.Settings) { s.Hold = true })
	answered := make(chan reply, 1)
	go func() { answered <- g.chat(key, "") }()
	eventually(t, "it is under way", func() bool { return g.mock.Held() == 1 })
	if calls := b.calls(); len(calls) != 1 || !calls[0].Dispatched || calls[0].Closing != nil || calls[0].Tenant != "acme" {
		t.Errorf("%+v", calls)
	}
	g.settings(t, func(s *mockupstream.Settings) { s.Hold = false })
	<-answered
	eventually(t, "it is closed", func() bool { return len(b.calls()) == 0 })
	refused := g.tenant("poor", "0.000000001")
	if r := g.chat(refused, ""); r.status != 402 {
		t.Errorf("got %d", r.status)
	}
	if calls := b.calls(); len(calls) != 0 {
		t.Errorf("a refusal is left: %+v", calls)
	}
	if left, err := b.Close(); left != 0 || err != nil {
		t.Error(left, err)
	}
}

// deaf is a ledger that cannot commit what closes a reservation, or what makes one.
type deaf struct {
	proxy.Ledger
	reserves, closes atomic.Bool
}

func (l *deaf) Do(ctx context.Context, tenant domain.TenantID, c domain.Command) ([]domain.Recorded, error) {
	_, reserves := c.(domain.Reserve)
	if reserves && l.reserves.Load() || !reserves && l.closes.Load() {
		return nil, fmt.Errorf("%w: deaf", domain.ErrUnavailable)
	}
	return l.Ledger.Do(ctx, tenant, c)
}

func TestWhatTheLedgerDidNotTakeStaysInTheRecorder(t *testing.T) {
	t.Parallel()
	b, ledger := newBlackBox(t), &deaf{}
	g := start(t, setup{books: leftBehind, deps: func(d *proxy.Deps) {
		b.wire(d)
		ledger.Ledger, d.Ledger = d.Ledger, ledger
	}})
	key := g.tenant("acme", "100")
	ledger.closes.Store(true)
	answered := g.chat(key, "")
	if answered.status != 200 {
		t.Fatalf("got %d %s", answered.status, answered.body)
	}
	check(t, g.server.Cut(t.Context()))
	calls := b.calls()
	if len(calls) != 1 {
		t.Fatalf("%+v", calls)
	}
	settle, ok := calls[0].Command(false).(domain.Settle)
	if !ok || settle.Basis != domain.BasisProvider || settle.Charged.String() != answered.header.Get("X-BudgetGuard-Cost-Usd") {
		t.Errorf("%+v; the client was told %s", settle, answered.header.Get("X-BudgetGuard-Cost-Usd"))
	}
	g.do("acme", settle)
	if left, err := b.Close(); left != 1 || err != nil {
		t.Error(left, err)
	}
}

func TestAReservationInDoubtIsRememberedAsNeverSent(t *testing.T) {
	t.Parallel()
	b, ledger := newBlackBox(t), &deaf{}
	g := start(t, setup{deps: func(d *proxy.Deps) {
		b.wire(d)
		ledger.Ledger, d.Ledger = d.Ledger, ledger
	}})
	key := g.tenant("acme", "100")
	ledger.reserves.Store(true)
	if r := g.chat(key, ""); r.status != 503 {
		t.Errorf("got %d %s", r.status, r.body)
	}
	calls := b.calls()
	if len(calls) != 1 || calls[0].Dispatched {
		t.Fatalf("%+v", calls)
	}
	if release, ok := calls[0].Command(true).(domain.Release); !ok || release.Reason != flight.ReasonNeverDispatched {
		t.Errorf("%+v", calls[0])
	}
}

func TestAnUnreachableProviderIsNeverDispatchedTo(t *testing.T) {
	t.Parallel()
	b, ledger := newBlackBox(t), &deaf{}
	g := start(t, setup{books: leftBehind, address: "http://127.0.0.1:1", deps: func(d *proxy.Deps) {
		b.wire(d)
		ledger.Ledger, d.Ledger = d.Ledger, ledger
	}})
	key := g.tenant("acme", "100")
	ledger.closes.Store(true)
	if r := g.chat(key, ""); r.status != 502 {
		t.Errorf("got %d %s", r.status, r.body)
	}
	calls := b.calls()
	if len(calls) != 1 || calls[0].Dispatched {
		t.Fatalf("%+v", calls)
	}
	if release, ok := calls[0].Closing.(domain.Release); !ok || release.Reason != "not_sent" {
		t.Errorf("%+v", calls[0])
	}
}
