package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/budgetguard/budgetguard/proxy/request"
)

// Server answers /v1. It is safe for concurrent use.
type Server struct {
	Deps

	cfg     Config
	client  *http.Client
	known   *memory
	log     *slog.Logger
	cut     context.Context    //nolint:containedctx // ends calls that outlive the shutdown's deadline
	stop    context.CancelFunc // of cut
	pending sync.WaitGroup     // settlements on their way
}

// New makes a Server. It starts nothing.
func New(cfg Config, deps Deps) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cut, stop := context.WithCancel(context.Background())
	return &Server{
		Deps: deps, cfg: cfg, client: upstreamClient(), known: newMemory(cfg.Now, deps.Directory), log: cfg.Logger,
		cut: cut, stop: stop,
	}
}

// Register adds the routes. Everything else under /v1 is 404: an unknown endpoint may cost money that
// nobody has reserved.
func (s *Server) Register(e *echo.Echo) {
	for _, route := range []request.Route{request.RouteChat, request.RouteCompletions} {
		e.POST(string(route), func(c echo.Context) error {
			s.serve(c.Response(), c.Request(), route)
			return nil
		})
	}
	e.Any("/v1", s.unknown)
	e.Any("/v1/*", s.unknown)
}

// Cut ends the calls that are still under way and waits until their settlements are with the ledger, or
// ctx is done. It is called after the listener was shut down and its deadline has passed.
func (s *Server) Cut(ctx context.Context) error {
	s.stop()
	done := make(chan struct{})
	go func() {
		s.pending.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Server) unknown(c echo.Context) error {
	w, r := c.Response(), c.Request()
	id := requestID(r)
	w.Header().Set("X-Request-Id", id)
	p := &problem{status: http.StatusNotFound, code: "not_found", message: "Not found", detail: "this endpoint is not proxied: only what can be priced is"}
	path := request.Route(r.URL.Path)
	if path == request.RouteChat || path == request.RouteCompletions {
		w.Header().Set("Allow", http.MethodPost)
		p = &problem{status: http.StatusMethodNotAllowed, code: "method_not_allowed", message: "Method not allowed", detail: "use POST"}
	}
	s.writeProblem(w, r, id, p)
	return nil
}

// exchange is one request on its way.
type exchange struct {
	s       *Server
	w       http.ResponseWriter
	r       *http.Request
	id      string
	route   request.Route
	started time.Time

	who    principal
	asked  request.Request
	body   []byte
	priced priced
	held   hold
}

// serve is the way of a request, from authentication to settlement.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, route request.Route) {
	x := &exchange{s: s, w: w, r: r, route: route, id: requestID(r), started: s.cfg.Now()}
	w.Header().Set("X-Request-Id", x.id)
	defer x.recovered()
	if err := x.admit(); err != nil {
		x.refuse(err)
		return
	}
	s.Metrics.decided(route, "forwarded")
	x.forward()
}

// admit is everything that happens before money is promised, and the promise.
func (x *exchange) admit() error {
	for _, step := range []func() error{x.authenticate, x.limit, x.read, x.price, x.early, x.allow, x.reserve} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// refuse answers a request that was not forwarded.
func (x *exchange) refuse(err error) {
	p := problemOf(err)
	x.s.Metrics.decided(x.route, p.code)
	level := slog.LevelDebug
	if p.status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	x.s.log.Log(x.r.Context(), level, "request refused", slog.String("request_id", x.id), slog.Int("status", p.status),
		slog.String("code", p.code), slog.String("tenant", string(x.who.tenant)), slog.Any("cause", p.cause))
	x.s.writeProblem(x.w, x.r, x.id, p)
}

// recovered turns a panic into a 500. An open hold is left to the reaper: nobody knows what was sent.
func (x *exchange) recovered() {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(cause)
	}
	x.s.log.ErrorContext(x.r.Context(), "panic", slog.String("request_id", x.id), slog.Any("panic", cause), slog.String("stack", string(debug.Stack())))
	x.s.Metrics.decided(x.route, "internal")
	x.s.writeProblem(x.w, x.r, x.id, internal(nil))
}

// requestID is the caller's, if it is harmless, or a new one.
func requestID(r *http.Request) string {
	const longest = 128
	id := r.Header.Get("X-Request-Id")
	harmless := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._:-", c)
	}
	if id != "" && len(id) <= longest && strings.IndexFunc(id, func(c rune) bool { return !harmless(c) }) < 0 {
		return id
	}
	return "req_" + uuid.NewString()
}

// upstreamClient calls the provider. It follows no redirect, which could carry the key elsewhere, and
// asks for no compression, which would hide the usage.
func upstreamClient() *http.Client {
	const idlePerHost = 512 // connections are the provider's to limit; making new ones costs a TLS handshake
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   10 * time.Second,
			MaxIdleConns:          2 * idlePerHost,
			MaxIdleConnsPerHost:   idlePerHost,
			IdleConnTimeout:       90 * time.Second,
			ExpectContinueTimeout: time.Second,
			DisableCompression:    true,
			ForceAttemptHTTP2:     true,
		},
	}
}
