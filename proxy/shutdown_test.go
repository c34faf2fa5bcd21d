package proxy_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/mockupstream"
	"github.com/budgetguard/budgetguard/proxy"
)

func TestCutEndsWhatRunsPresumesItAndWaitsForTheSettlements(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: atLeast, deps: func(d *proxy.Deps) { d.Ledger = slowToClose{d.Ledger} }})
	key := g.tenant("acme", "100")
	g.settings(t, func(s *mockupstream.Settings) { s.Hold = true })
	const calls = 10
	replies := make(chan reply, calls)
	for i := range calls {
		more := ""
		if i%2 == 0 {
			more = `"stream":true,`
		}
		go func() { replies <- g.chat(key, more) }()
	}
	eventually(t, "all are under way", func() bool { return g.mock.Held() == calls })
	check(t, g.server.Cut(t.Context()))
	if n := g.openHolds(); n != 0 {
		t.Errorf("%d holds are open behind Cut", n)
	}
	for range calls {
		if r := <-replies; r.status != 502 {
			t.Errorf("got %d %s %v", r.status, r.body, r.err)
		}
	}
	for _, s := range of[domain.UsageSettled](g, "acme") {
		if s.Basis != domain.BasisPresumed || s.Reason != "shutdown" {
			t.Errorf("settled %+v", s)
		}
	}
	if r := g.chat(key, ""); r.status != 503 {
		t.Errorf("behind Cut: got %d %s %v", r.status, r.body, r.err)
	}
}

// slowToClose is a ledger that takes its time over settlements.
type slowToClose struct{ proxy.Ledger }

func (l slowToClose) Do(ctx context.Context, tenant domain.TenantID, c domain.Command) ([]domain.Recorded, error) {
	if _, reserves := c.(domain.Reserve); !reserves {
		timer := time.NewTimer(100 * time.Millisecond)
		defer timer.Stop()
		<-timer.C
	}
	return l.Ledger.Do(ctx, tenant, c)
}

func TestCutInTheMiddleOfAStreamTellsTheClient(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: atLeast})
	key := g.tenant("acme", "100")
	g.settings(t, func(s *mockupstream.Settings) { s.TokensPerSecond = 5 })
	answered := make(chan reply, 1)
	go func() { answered <- g.chat(key, `"stream":true,"max_tokens":100,`) }()
	eventually(t, "the stream runs", func() bool { return len(g.recorder.requests()) == 1 && len(g.forwarded().answer) > 500 })
	check(t, g.server.Cut(t.Context()))
	if r := <-answered; !strings.HasSuffix(string(r.body), `"code":"shutting_down"}}`+"\n\n") {
		t.Errorf("got %s", r.body)
	}
	g.presumed("acme", "shutdown")
}

func TestCutGivesUpWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	g := start(t, setup{deps: func(d *proxy.Deps) { d.Ledger = blocked{d.Ledger, release} }})
	key := g.tenant("acme", "100")
	g.chat(key, "").want(t, 200)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := g.server.Cut(ctx); err == nil {
		t.Error("Cut says that all is settled")
	}
	close(release)
	g.settled("acme")
}

// blocked is a ledger that closes nothing before it may.
type blocked struct {
	proxy.Ledger
	until chan struct{}
}

func (l blocked) Do(ctx context.Context, tenant domain.TenantID, c domain.Command) ([]domain.Recorded, error) {
	if _, reserves := c.(domain.Reserve); !reserves {
		<-l.until
	}
	return l.Ledger.Do(ctx, tenant, c)
}

// faulty is a ledger with a bug behind the reservation.
type faulty struct{ proxy.Ledger }

func (l faulty) Do(ctx context.Context, tenant domain.TenantID, c domain.Command) ([]domain.Recorded, error) {
	if _, err := l.Ledger.Do(ctx, tenant, c); err != nil {
		return nil, err
	}
	panic("a bug: " + prompt[:3])
}

func TestAPanicIs500AndLeavesTheHoldToTheReaper(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: leftBehind, deps: func(d *proxy.Deps) { d.Ledger = faulty{d.Ledger} }})
	key := g.tenant("acme", "100")
	r := g.chat(key, "", "X-Request-Id", "req_1").want(t, 500)
	if r.code() != "internal" || strings.Contains(string(r.body), "a bug") || !strings.Contains(string(r.body), "req_1") {
		t.Errorf("got %s", r.body)
	}
	if n := g.openHolds(); n != 1 {
		t.Errorf("%d holds are open, want the one nobody knows about", n)
	}
	if len(g.recorder.requests()) != 0 || !strings.Contains(g.log.String(), "a bug") {
		t.Error("it was forwarded, or not logged")
	}
}

func TestAPanicInTheMiddleOfAnAnswerBreaksTheConnection(t *testing.T) {
	t.Parallel()
	var armed atomic.Bool
	now := func() time.Time {
		if armed.CompareAndSwap(true, false) {
			panic("a bug")
		}
		return time.Now()
	}
	started, goOn := make(chan struct{}), make(chan struct{})
	g := start(t, setup{
		books: leftBehind, config: func(c *proxy.Config) { c.Now = now },
		upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = w.Write([]byte(delta))
			_ = http.NewResponseController(w).Flush()
			close(started)
			<-goOn
			_, _ = w.Write([]byte(delta + usage + done))
		}),
	})
	key := g.tenant("acme", "100")
	answer, err := http.DefaultClient.Do(request(t, http.MethodPost, g.url+chatPath, strings.NewReader(chat(`"stream":true,`)), "X-API-Key", key))
	check(t, err)
	defer func() { _ = answer.Body.Close() }()
	<-started
	first := make([]byte, len(delta))
	_, err = io.ReadFull(answer.Body, first)
	check(t, err)
	armed.Store(true)
	close(goOn)
	rest, err := io.ReadAll(answer.Body)
	if err == nil || strings.Contains(string(rest), "internal") {
		t.Errorf("the client takes %q for the end: %v", rest, err)
	}
	if n := g.openHolds(); n != 1 {
		t.Errorf("%d holds are open, want the one nobody knows about", n)
	}
}

func TestAClientThatIsGoneBeforeItsReservationIsNotForwarded(t *testing.T) {
	t.Parallel()
	reserved, goOn := make(chan struct{}), make(chan struct{})
	g := start(t, setup{deps: func(d *proxy.Deps) { d.Ledger = stopping{d.Ledger, reserved, goOn} }})
	key := g.tenant("acme", "100")
	hangUp := g.leave(key, "")
	<-reserved
	hangUp()
	close(goOn)
	if r := g.released("acme"); r.Reason != "client_gone_before_dispatch" {
		t.Errorf("released because of %q", r.Reason)
	}
	g.nothingForwarded()
}

// stopping is a ledger that answers a reservation only when its client has gone.
type stopping struct {
	proxy.Ledger
	reserved chan<- struct{}
	goOn     <-chan struct{}
}

func (l stopping) Do(ctx context.Context, tenant domain.TenantID, c domain.Command) ([]domain.Recorded, error) {
	records, err := l.Ledger.Do(ctx, tenant, c)
	if _, reserves := c.(domain.Reserve); reserves {
		close(l.reserved)
		<-l.goOn
		<-ctx.Done() // net/http has noticed
	}
	return records, err
}
