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
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/budgetguard/budgetguard/proxy/request"
)

// Server answers /v1. It is safe for concurrent use.
type Server struct {
	Deps

	cfg        Config
	client     *http.Client
	known      *memory
	allowed    *allowances
	bodies     *bodies
	unknowns   onceEach   // figures of usages that were warned about
	keyWarning nowAndThen // of the provider's refusal of our key
	log        *slog.Logger
	cut        context.Context    //nolint:containedctx // ends calls that outlive the shutdown's deadline
	stop       context.CancelFunc // of cut
	pending    sync.WaitGroup     // requests, and settlements on their way; added to from zero only by enter
	gate       sync.Mutex         // of closed
	closed     bool               // nothing enters any more
	warm       atomic.Bool        // a reservation has succeeded
}

// New makes a Server. It starts nothing.
func New(cfg Config, deps Deps) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.BodyTimeout <= 0 {
		cfg.BodyTimeout = DefaultBodyTimeout
	}
	if cfg.MaxInFlight <= 0 {
		cfg.MaxInFlight = DefaultMaxInFlight
	}
	cut, stop := context.WithCancel(context.Background())
	return &Server{
		Deps: deps, cfg: cfg, client: upstreamClient(), known: newMemory(cfg.Now, deps.Directory),
		allowed: newAllowances(deps.Allowances, cfg.Now), log: cfg.Logger, cut: cut, stop: stop,
		bodies: newBodies(cfg.MaxInFlight, cfg.MaxBody),
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
	s.registerModels(e)
	for _, path := range []string{"/v1", "/v1/*"} {
		e.Any(path, s.unknown)
		e.RouteNotFound(path, s.unknown) // methods that Any has never heard of
	}
}

// Cut ends the calls that are still under way and waits until their settlements are with the ledger, or
// ctx is done. It is called after the listener was shut down and its deadline has passed; a request that
// comes all the same is answered 503.
func (s *Server) Cut(ctx context.Context) error {
	s.gate.Lock()
	s.closed = true
	s.gate.Unlock()
	s.stop()
	defer s.client.CloseIdleConnections()
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

// enter counts a request in, so that Cut waits for it; false once Cut was called.
func (s *Server) enter() bool {
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.closed {
		return false
	}
	s.pending.Add(1)
	return true
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
	// attempt is the request's idempotency key, empty without one.
	attempt string
	// clamp reports whether the client would rather have its answer shortened than refused; lowered is the
	// cap that came of it, in tokens of one answer, 0 where nothing was lowered.
	clamp   bool
	lowered int64
	// uploaded says that the body was read to its end, answering that the status has been written.
	uploaded, answering bool
	// room is what the body takes of the room for all bodies, in bytes.
	room int64
	// decision is what became of the request, empty until that is known.
	decision string
}

// decided counts what became of the request, once: a call that was forwarded stays so when it fails.
func (x *exchange) decided(decision string) {
	if x.decision == "" {
		x.decision = decision
		x.s.Metrics.decided(x.route, decision)
	}
}

// begin writes the status of an answer that is passed on.
func (x *exchange) begin(status int) {
	x.w.WriteHeader(status)
	x.answering = true
}

// serve is the way of a request, from authentication to settlement.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, route request.Route) {
	x := &exchange{s: s, w: w, r: r, route: route, id: requestID(r), started: s.cfg.Now()}
	s.cross(w, r)
	s.boundBody(w, s.cfg.BodyTimeout)
	x.boundAnswer(0) // a provider may think for minutes, and what is written then has its own bounds
	w.Header().Set("X-Request-Id", x.id)
	if !s.enter() {
		x.decided(x.refuse(unavailable(errShutdown)))
		return
	}
	defer s.pending.Done()
	defer x.recovered()
	defer x.giveRoom()
	if err := x.admit(); err != nil {
		x.decided(x.refuse(err))
		return
	}
	x.decided("forwarded")
	x.forward()
}

// admit is everything that happens before money is promised, and the promise.
func (x *exchange) admit() error {
	for _, step := range []func() error{x.authenticate, x.known, x.limit, x.read, x.price, x.early, x.allow, x.reserve} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// known says that the caller is a tenant.
func (x *exchange) known() error {
	if x.s.cfg.Authenticated != nil {
		x.s.cfg.Authenticated(x.r.Context())
	}
	return nil
}

// refuse answers with an error of ours and returns its code.
func (x *exchange) refuse(err error) string {
	if !x.uploaded {
		x.s.boundBody(x.w, refusedBodyTimeout)
	}
	x.boundAnswer(writeTimeout)
	p := x.truth(problemOf(err))
	x.s.log.Log(x.r.Context(), p.level(), "request refused", slog.String("request_id", x.id), slog.Int("status", p.status),
		slog.String("code", p.code), slog.String("tenant", string(x.who.tenant)), slog.Any("cause", p.cause))
	x.s.writeProblem(x.w, x.r, x.id, p)
	return p.code
}

// truth turns the failure of a step that ended because the client left into that: a question cut short by
// its caller says nothing about the ledger, and must not ring the alarm for a dead database.
func (x *exchange) truth(p *problem) *problem {
	left := errors.Is(x.r.Context().Err(), context.Canceled)
	if left && p.code == "ledger_unavailable" && errors.Is(p.cause, context.Canceled) {
		return clientClosed(p.cause)
	}
	return p
}

// refusedBodyTimeout is how long net/http may wait for the rest of a body that nobody wants: it takes that
// in before it sends the refusal, and without a bound a client that sends nothing more would hold the
// connection for ever.
const refusedBodyTimeout = 5 * time.Second

// boundBody ends reading from the client after a time. A writer without deadlines only lacks the guard.
func (s *Server) boundBody(w http.ResponseWriter, most time.Duration) {
	_ = http.NewResponseController(w).SetReadDeadline(s.cfg.Now().Add(min(most, s.cfg.BodyTimeout)))
}

// boundAnswer ends writing to a client that does not read after a time; 0 lifts every bound, also that of
// the listener.
func (x *exchange) boundAnswer(most time.Duration) {
	until := time.Time{}
	if most > 0 {
		until = x.s.cfg.Now().Add(most)
	}
	_ = http.NewResponseController(x.w).SetWriteDeadline(until)
}

// bodyRead lifts the bound: from here on a read that ends says that the client has gone.
func (x *exchange) bodyRead() {
	x.uploaded = true
	_ = http.NewResponseController(x.w).SetReadDeadline(time.Time{})
}

// recovered turns a panic into a 500 or, where the answer has begun, into a connection that breaks off,
// so that nobody takes a part for the whole. An open hold is left to the reaper: nobody knows what was sent.
func (x *exchange) recovered() {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(cause)
	}
	x.s.log.ErrorContext(x.r.Context(), "panic", slog.String("request_id", x.id), slog.Any("panic", cause), slog.String("stack", string(debug.Stack())))
	if x.answering {
		panic(http.ErrAbortHandler)
	}
	x.decided("internal")
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
