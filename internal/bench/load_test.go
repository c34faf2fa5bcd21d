package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// against is the load on a server of the test's.
func against(t *testing.T, handler http.HandlerFunc) *load {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	address := strings.TrimPrefix(server.URL, "http://")
	return &load{address: address, requests: requestsTo(address, "X-API-Key: KEY", []string{"a", "b"}, bodies(2, false)), now: time.Now}
}

func TestOpenLoopSendsEveryRequestWhenItIsDue(t *testing.T) {
	t.Parallel()
	var keys [2]atomic.Int64
	l := against(t, func(_ http.ResponseWriter, r *http.Request) {
		keys[r.Header.Get("X-API-Key")[0]-'a'].Add(1)
	})
	o := l.open(t.Context(), 200, 500*time.Millisecond)
	if len(o.latencies) != 100 || o.errors != 0 || keys[0].Load() != 50 || keys[1].Load() != 50 {
		t.Errorf("got %d answers, %d errors (%v), keys %d and %d; want 100, 0, 50, 50",
			len(o.latencies), o.errors, o.first, keys[0].Load(), keys[1].Load())
	}
	if o.took < 490*time.Millisecond {
		t.Errorf("took %s: too early", o.took)
	}
}

func TestAServerThatStallsIsChargedForAllWhoWaited(t *testing.T) {
	t.Parallel()
	const stall = 300 * time.Millisecond
	var stalled atomic.Pointer[time.Time]
	l := against(t, func(http.ResponseWriter, *http.Request) {
		begin := time.Now()
		if !stalled.CompareAndSwap(nil, &begin) {
			begin = *stalled.Load()
		}
		<-time.After(stall - time.Since(begin)) // everybody waits for the end of the one stall
	})
	o := l.open(t.Context(), 100, 300*time.Millisecond)
	late := 0
	for _, d := range o.latencies {
		if d > 100*time.Millisecond {
			late++
		}
	}
	if len(o.latencies) != 30 || late < 15 {
		t.Errorf("%d of %d requests were late; want about 20 of 30: all that were due in the stall's first 200 ms", late, len(o.latencies))
	}
}

func TestOtherStatusesAreErrors(t *testing.T) {
	t.Parallel()
	l := against(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPaymentRequired) })
	var status *statusError
	if o := l.open(t.Context(), 100, 50*time.Millisecond); len(o.latencies) != 0 || o.errors != 5 || !errors.As(o.first, &status) || status.status != 402 {
		t.Errorf("got %d answers, %d errors, first %v; want only errors of status 402", len(o.latencies), o.errors, o.first)
	}
	if o := l.closed(t.Context(), 2, time.Minute); len(o.latencies) != 0 || o.errors != 2*maxFailures {
		t.Errorf("closed loop: got %d answers, %d errors; want %d errors and then the end", len(o.latencies), o.errors, 2*maxFailures)
	}
}

func TestClosedLoopKeepsEveryClientBusy(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int64
	l := against(t, func(http.ResponseWriter, *http.Request) {
		for n := now.Add(1); ; {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		<-time.After(10 * time.Millisecond)
		now.Add(-1)
	})
	o := l.closed(t.Context(), 8, 300*time.Millisecond)
	if o.errors != 0 || most.Load() != 8 || len(o.latencies) < 8 {
		t.Errorf("got %d answers, %d errors, at most %d at once; want 8 at once", len(o.latencies), o.errors, most.Load())
	}
}

func TestStreamsAreCountedAndTimed(t *testing.T) {
	t.Parallel()
	events := streamTokens
	l := against(t, func(w http.ResponseWriter, _ *http.Request) {
		for i := range events {
			_, _ = fmt.Fprintf(w, "data: {\"i\":%d}\n\n", i)
			_ = http.NewResponseController(w).Flush()
			if i == 0 {
				<-time.After(50 * time.Millisecond)
			}
		}
	})
	s := l.streams(t.Context(), 3)
	if len(s.first.latencies) != 3 || s.first.errors != 0 {
		t.Fatalf("got %d streams, %d errors: %v", len(s.first.latencies), s.first.errors, s.first.first)
	}
	for i := range s.first.latencies {
		if s.total.latencies[i]-s.first.latencies[i] < 40*time.Millisecond {
			t.Errorf("first event after %s, the end after %s; want 50 ms between", s.first.latencies[i], s.total.latencies[i])
		}
	}
	events--
	if s := l.streams(t.Context(), 1); s.first.errors != 1 {
		t.Error("a stream that lacks an event is no error")
	}
}
