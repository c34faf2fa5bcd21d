package ratelimit

import (
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/budgetguard/budgetguard/internal/testenv"
)

// tolerated is far above what the limiter may wait and below what it waited before it was bounded, so that
// a busy machine does not decide a test.
const tolerated = 2 * time.Second

// wire is a listener in front of Redis. Stalled, it takes everything in and lets out a few bytes, if any.
type wire struct {
	address  string
	accepted atomic.Int64
	stalled  atomic.Bool
	leak     atomic.Int64 // bytes of replies that a stalled wire still lets out
}

// newWire listens; an empty backend is a server that accepts and never answers.
func newWire(t *testing.T, backend string) *wire {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	w := &wire{address: listener.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			w.accepted.Add(1)
			running.Go(func() { w.serve(conn, backend) })
		}
	})
	t.Cleanup(func() { // the clients are closed by then, which ends their connections
		_ = listener.Close()
		running.Wait()
	})
	return w
}

func (w *wire) serve(front net.Conn, backend string) {
	defer func() { _ = front.Close() }()
	if backend == "" {
		_, _ = io.Copy(io.Discard, front)
		return
	}
	back, err := (&net.Dialer{}).Dial("tcp", backend)
	if err != nil {
		return
	}
	defer func() { _ = back.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(throttle{w, front}, back)
	}()
	_, _ = io.Copy(back, front)
	_ = back.Close()
	<-done
}

// throttle passes replies on while the wire is not stalled.
type throttle struct {
	w    *wire
	conn net.Conn
}

func (t throttle) Write(p []byte) (int, error) {
	out := p
	if t.w.stalled.Load() {
		left := max(0, min(int64(len(p)), t.w.leak.Load()))
		t.w.leak.Add(-left)
		out = p[:left]
	}
	if _, err := t.conn.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

func open(t *testing.T, address string) *redis.Client {
	t.Helper()
	client, err := Open(address)
	check(t, err)
	t.Cleanup(func() { check(t, client.Close()) })
	return client
}

// through is the address of a Redis with a wire in front of it, its password and database included.
func through(t *testing.T, address string) (*wire, string) {
	t.Helper()
	u, err := url.Parse(address)
	check(t, err)
	w := newWire(t, u.Host)
	u.Host = w.address
	return w, u.String()
}

// admitLocally sends requests at once and wants local verdicts soon.
func admitLocally(t *testing.T, l *Limiter, requests int) {
	t.Helper()
	began := time.Now()
	var all sync.WaitGroup
	for range requests {
		all.Go(func() {
			if v := l.Admit(t.Context(), "acme", 1_000_000); !v.Local || !v.Admitted {
				t.Errorf("got %+v", v)
			}
		})
	}
	all.Wait()
	if took := time.Since(began); took > tolerated {
		t.Errorf("%d requests took %s", requests, took)
	}
}

func TestARedisThatAcceptsAndNeverAnswersCostsOnePatience(t *testing.T) {
	t.Parallel()
	w := newWire(t, "")
	c := newClock()
	l := New(open(t, "redis://"+w.address), c.now)
	admitLocally(t, l, 20)

	// Within the pause nothing reaches it, and after it one request does.
	before := w.accepted.Load()
	admitLocally(t, l, 500)
	if n := w.accepted.Load(); n != before {
		t.Errorf("%d connections in the pause", n-before)
	}
	for range 3 {
		c.pass(pause)
		admitLocally(t, l, 100)
	}
	if n := w.accepted.Load(); n > before+3 {
		t.Errorf("%d connections in three pauses", n-before)
	}
}

func TestARedisThatStallsInTheMiddleOfAReplyIsLikeNone(t *testing.T) {
	t.Parallel()
	for _, leak := range []int64{0, 1, 6} {
		w, address := through(t, testenv.Redis(t))
		c := newClock()
		l := New(open(t, address), c.now)
		l.patience = 30 * time.Second
		if v := l.Admit(t.Context(), "acme", 1000); v.Local {
			t.Fatalf("before it stalls: %+v", v)
		}
		l.patience = patience

		w.leak.Store(leak)
		w.stalled.Store(true)
		admitLocally(t, l, 20)
		c.pass(pause)
		admitLocally(t, l, 20)

		// And when it answers again, it decides again.
		w.stalled.Store(false)
		back := Verdict{Local: true}
		for tries := 0; back.Local && tries < 100; tries++ {
			c.pass(pause)
			back = l.Admit(t.Context(), "acme", 1000)
		}
		if back.Local {
			t.Errorf("after %d bytes it is not asked again", leak)
		}
	}
}

func TestAnAddressThatIsNoneIsNotRepeated(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"http://u:s3cret@h", "s3cret", "redis://h/s3cret"} {
		if _, err := Open(address); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", address, err)
		}
	}
}
