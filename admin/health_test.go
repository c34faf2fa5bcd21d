package admin_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

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

func TestReadyIs503WhilePostgresIsMissingAndLogsTheChanges(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	s := openSite(t, func(set *setup) {
		ping := set.deps.Ready
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
		p := s.refused(http.StatusServiceUnavailable, "not_ready", "GET", "/ready", "")
		if strings.Contains(p.Detail, "context") {
			t.Errorf("the error shows: %q", p.Detail)
		}
	}
	down.Store(false)
	s.must(http.StatusOK, "GET", "/ready", "")
	if log := s.log.String(); strings.Count(log, `"not ready"`) != 1 || strings.Count(log, `"ready again"`) != 1 {
		t.Errorf("log %s", log)
	}
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
