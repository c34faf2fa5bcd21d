package admin

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// readyTimeout is how long a look takes at most: orchestrators give up after a second or a few.
	readyTimeout = 2 * time.Second
	// readyLife is how long a look is believed. Everybody may ask, so the database is asked at most
	// this often, however many do.
	readyLife = time.Second
)

// health is what GET /ready found the last time. One look at a time is under way, and whoever asks
// meanwhile waits for it.
type health struct {
	mu    sync.Mutex
	under *look     // under way, nil for none
	err   error     // of the last look
	until time.Time // how long it is believed
	// unready is what was logged last, so that the log has the changes and not every probe.
	unready bool
}

// look is one question to what readiness depends on. err may be read once done is closed.
type look struct {
	done chan struct{}
	err  error
}

type statusView struct {
	Status string `json:"status"`
}

// RegisterHealth puts GET /health and GET /ready on e. Both say no more than yes or no: nobody has to
// prove who they are to ask.
func (s *Server) RegisterHealth(e *echo.Echo) {
	probes := []string{http.MethodGet, http.MethodHead}
	e.Match(probes, "/health", s.alive, RequestID, s.problems)
	e.Match(probes, "/ready", s.ready, RequestID, s.problems)
}

// alive answers while the process serves. It asks nothing else: restarting the process because Postgres
// is down would help nobody.
func (s *Server) alive(c echo.Context) error {
	return write(c, ok(statusView{Status: "ok"}))
}

func (s *Server) ready(c echo.Context) error {
	if err := s.readiness(c.Request().Context()); err != nil {
		return &problem{
			code: codeNotReady, retryAfter: ledgerRetry,
			detail: "Postgres does not answer or lacks migrations (budgetguard migrate). The log has more.",
		}
	}
	return write(c, ok(statusView{Status: "ready"}))
}

// readiness returns the result of a recent look, or makes a new one.
func (s *Server) readiness(ctx context.Context) error {
	h := &s.health
	h.mu.Lock()
	if h.under == nil && s.deps.Now().Before(h.until) {
		defer h.mu.Unlock()
		return h.err
	}
	if h.under == nil {
		h.under = &look{done: make(chan struct{})}
		// Whoever asked first may hang up; the others still want to know.
		go s.look(context.WithoutCancel(ctx), h.under)
	}
	waited := h.under
	h.mu.Unlock()

	select {
	case <-waited.done:
		return waited.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look asks once and keeps the answer for readyLife, counted from its end: a slow database is not
// asked without a break.
func (s *Server) look(ctx context.Context, l *look) {
	bounded, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	l.err = s.deps.Ready(bounded)

	h := &s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	h.under, h.err, h.until = nil, l.err, s.deps.Now().Add(readyLife)
	s.noteReady(ctx, l.err)
	close(l.done)
}

// noteReady logs a change; the caller holds the lock.
func (s *Server) noteReady(ctx context.Context, err error) {
	was := s.health.unready
	s.health.unready = err != nil
	switch {
	case err != nil && !was:
		s.deps.Log.WarnContext(ctx, "not ready", slog.String("error", err.Error()))
	case err == nil && was:
		s.deps.Log.InfoContext(ctx, "ready again")
	}
}

// registerMetrics serves what was gathered without the admin key: scrapers have none. An operator who
// minds moves it with /admin to a listener of their own (ADMIN_ADDR).
func (s *Server) registerMetrics(e *echo.Echo) {
	e.GET("/metrics", echo.WrapHandler(promhttp.HandlerFor(s.deps.Metrics, promhttp.HandlerOpts{
		ErrorLog:      slog.NewLogLogger(s.deps.Log.Handler(), slog.LevelError),
		ErrorHandling: promhttp.ContinueOnError, // one broken collector must not blind the rest
	})), RequestID)
}
