package admin

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readyTimeout is how long GET /ready asks: orchestrators give up after a second or a few.
const readyTimeout = 2 * time.Second

// health remembers what GET /ready said last, so that the log has changes and not every probe.
type health struct{ unready atomic.Bool }

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
	ctx, cancel := context.WithTimeout(c.Request().Context(), readyTimeout)
	defer cancel()
	err := s.deps.Ready(ctx)
	s.noteReady(ctx, err)
	if err != nil {
		return &problem{code: codeNotReady, detail: "Postgres does not answer or lacks migrations (budgetguard migrate). The log has more.", retryAfter: ledgerRetry}
	}
	return write(c, ok(statusView{Status: "ready"}))
}

func (s *Server) noteReady(ctx context.Context, err error) {
	switch was := s.health.unready.Swap(err != nil); {
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
