package admin_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestHealthIs200WhileTheProcessServes(t *testing.T) {
	t.Parallel()
	s := openSite(t, func(set *setup) { set.cfg.AdminKey = "" })
	s.store.Close()
	if got := s.must(http.StatusOK, "GET", "/health", "", "X-Admin-Key", ""); strings.TrimSpace(string(got.body)) != `{"status":"ok"}` {
		t.Errorf("health %s", got.body)
	}
	if got := s.send("HEAD", "/health", ""); got.status != http.StatusOK {
		t.Errorf("HEAD %d", got.status)
	}
}

// clock is moved by hand.
type clock struct{ passed atomic.Int64 }

func (c *clock) now() time.Time       { return time.Unix(1_800_000_000, c.passed.Load()).UTC() }
func (c *clock) pass(d time.Duration) { c.passed.Add(int64(d)) }

func TestReadyIs503WhilePostgresIsMissingAndLogsTheChanges(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	var c clock
	s := openSite(t, func(set *setup) {
		ping := set.deps.Ready
		set.deps.Now = c.now
		set.deps.Ready = func(ctx context.Context) error {
			if down.Load() {
				gone, cancel := context.WithCancel(ctx)
				cancel()
				return ping(gone)
			}
			return ping(ctx)
		}
	})
	s.must(http.StatusOK, "GET", "/ready", "", "X-Admin-Key", "")
	down.Store(true)
	for range 3 {
		c.pass(time.Second)
		p := s.refused(http.StatusServiceUnavailable, "not_ready", "GET", "/ready", "")
		if strings.Contains(p.Detail, "context") {
			t.Errorf("the error shows: %q", p.Detail)
		}
	}
	down.Store(false)
	c.pass(time.Second)
	s.must(http.StatusOK, "GET", "/ready", "")
	if log := s.log.String(); strings.Count(log, `"not ready"`) != 1 || strings.Count(log, `"ready again"`) != 1 {
		t.Errorf("log %s", log)
	}
}

func TestAFloodOfProbesAsksOnceASecond(t *testing.T) {
	t.Parallel()
	var looks atomic.Int64
	var c clock
	s := openSite(t, func(set *setup) {
		ping := set.deps.Ready
		set.deps.Now = c.now
		set.deps.Ready = func(ctx context.Context) error {
			looks.Add(1)
			return ping(ctx)
		}
	})
	for round := range 3 {
		var probes sync.WaitGroup
		for range 100 {
			probes.Go(func() { s.must(http.StatusOK, "GET", "/ready", "") })
		}
		probes.Wait()
		if n := looks.Load(); n != int64(round+1) {
			t.Errorf("round %d: Postgres was asked %d times", round+1, n)
		}
		c.pass(time.Second)
	}
}

func TestAProbeThatHangsUpDoesNotFailTheOthers(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}), make(chan struct{})
	s := openSite(t, func(set *setup) {
		ping := set.deps.Ready
		set.deps.Ready = func(ctx context.Context) error {
			close(asked) // a second look would panic
			<-answer
			return ping(ctx)
		}
	})
	gone, hangUp := context.WithCancel(t.Context())
	first := make(chan struct{})
	go func() {
		defer close(first)
		r := httptest.NewRequestWithContext(gone, http.MethodGet, "/ready", nil)
		s.echo.ServeHTTP(httptest.NewRecorder(), r)
	}()
	<-asked
	hangUp()
	<-first

	second := make(chan struct{})
	go func() {
		defer close(second)
		s.must(http.StatusOK, "GET", "/ready", "")
	}()
	close(answer)
	<-second
}

func TestMetricsAreWhatWasGathered(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	total := prometheus.NewCounter(prometheus.CounterOpts{Name: "budgetguard_test_total", Help: "A test."})
	registry.MustRegister(total)
	total.Add(3)
	s := openSite(t, func(set *setup) { set.deps.Metrics = registry })
	got := s.must(http.StatusOK, "GET", "/metrics", "", "X-Admin-Key", "")
	if !strings.Contains(string(got.body), "budgetguard_test_total 3\n") {
		t.Errorf("metrics %s", got.body)
	}
}
