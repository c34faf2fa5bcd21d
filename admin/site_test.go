package admin_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/budgetguard/budgetguard/admin"
	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/testenv"
	"github.com/budgetguard/budgetguard/policy"
	"github.com/budgetguard/budgetguard/projections"
)

const adminKey = "correct-horse-battery-staple"

// site is an admin API on a real ledger.
type site struct {
	t      *testing.T
	echo   *echo.Echo
	ledger *eventstore.Ledger
	store  *eventstore.Store
	router routers.Router
	log    *lockedBuffer
}

// setup is what a test changes of a site before it opens.
type setup struct {
	cfg  admin.Config
	deps admin.Deps
}

func openSite(t *testing.T, changes ...func(*setup)) *site {
	t.Helper()
	url := testenv.Database(t)
	now := time.Now
	ledger, err := eventstore.OpenLedger(t.Context(), eventstore.Config{URL: url, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	store, err := eventstore.OpenStore(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		store.Close()
		if err := ledger.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	s := &site{t: t, ledger: ledger, store: store, echo: echo.New(), router: router(t), log: &lockedBuffer{}}
	s.echo.IPExtractor = echo.ExtractIPDirect()
	set := setup{
		cfg: admin.Config{AdminKey: adminKey, KeyPepper: []byte("pepper"), DefaultRateLimit: 100},
		deps: admin.Deps{
			Ledger: ledger, Reader: reader{store}, Usage: sums{store.Pool()}, Policy: load(t, ""),
			Defaults:    func(domain.TenantID) []domain.DefineBudget { return nil },
			Ready:       store.Ping,
			Projections: func(context.Context) ([]admin.ProjectionLag, error) { return nil, nil },
			Metrics:     prometheus.NewRegistry(),
			Now:         now, Rand: rand.Reader, Log: slog.New(slog.NewJSONHandler(s.log, nil)),
		},
	}
	for _, change := range changes {
		change(&set)
	}
	server, err := admin.New(set.cfg, set.deps)
	if err != nil {
		t.Fatal(err)
	}
	server.Register(s.echo)
	server.RegisterHealth(s.echo)
	return s
}

// reader is the adapter that cmd has: the store under the names of this package.
type reader struct{ *eventstore.Store }

func (r reader) Events(ctx context.Context, tenant domain.TenantID, after int64, limit int) ([]domain.Recorded, error) {
	return r.Read(ctx, tenant, after, limit)
}

// sums is the adapter that cmd has: the query of package projections under the names of this package.
type sums struct{ pool *pgxpool.Pool }

func (s sums) UsageSums(ctx context.Context, q admin.UsageQuery) (admin.UsageReport, error) {
	got, err := projections.UsageSums(ctx, s.pool, projections.UsageQuery{
		Tenant: q.Tenant, From: q.From, To: q.To, GroupBy: projections.Grouping(q.GroupBy), Zone: q.Zone,
	})
	report := admin.UsageReport{Total: got.Total.USD}
	for _, row := range got.Rows {
		report.Rows = append(report.Rows, admin.UsageSum(row))
	}
	return report, err
}

// usage stands for that query where a test says what it answers; it keeps what it was asked.
type usage struct {
	asked  admin.UsageQuery
	report admin.UsageReport
	err    error
}

func (u *usage) UsageSums(_ context.Context, q admin.UsageQuery) (admin.UsageReport, error) {
	u.asked = q
	return u.report, u.err
}

// load reads a policy; an empty one is the embedded default.
func load(t *testing.T, rego string) *policy.Engine {
	t.Helper()
	path := ""
	if rego != "" {
		path = filepath.Join(t.TempDir(), "policy.rego")
		if err := os.WriteFile(path, []byte(rego), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	engine, err := policy.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

// document reads openapi.json as any tool would.
func document(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func router(t *testing.T) routers.Router {
	t.Helper()
	r, err := legacy.NewRouter(document(t))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// response is an answer with its body read.
type response struct {
	status int
	header http.Header
	body   []byte
}

// request has the admin key. Pairs of header names and values may follow.
func (s *site) request(method, target, body string, headers ...string) *http.Request {
	s.t.Helper()
	request := httptest.NewRequestWithContext(s.t.Context(), method, target, strings.NewReader(body))
	request.Header.Set("X-Admin-Key", adminKey)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	return request
}

func (s *site) serve(request *http.Request) response {
	recorder := httptest.NewRecorder()
	s.echo.ServeHTTP(recorder, request)
	return response{status: recorder.Code, header: recorder.Header(), body: recorder.Body.Bytes()}
}

// send makes a request and holds it and its answer against openapi.json.
func (s *site) send(method, target, body string, headers ...string) response {
	s.t.Helper()
	request := s.request(method, target, body, headers...)
	got := s.serve(request)
	if method != http.MethodHead && !strings.HasPrefix(target, "/docs") {
		s.holdAgainstDocument(request, body, got)
	}
	return got
}

// holdAgainstDocument fails the test where an answer, or a request that was accepted, is not what
// openapi.json says.
func (s *site) holdAgainstDocument(request *http.Request, body string, got response) {
	s.t.Helper()
	route, params, err := s.router.FindRoute(request)
	if err != nil {
		if got.status != http.StatusNotFound && got.status != http.StatusMethodNotAllowed && got.status != http.StatusUnauthorized {
			s.t.Errorf("%s %s answers %d and is not in openapi.json", request.Method, request.URL.Path, got.status)
		}
		return
	}
	request.Body = io.NopCloser(strings.NewReader(body))
	in := &openapi3filter.RequestValidationInput{
		Request: request, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, MultiError: true, IncludeResponseStatus: true},
	}
	if got.status < http.StatusBadRequest {
		if err := openapi3filter.ValidateRequest(s.t.Context(), in); err != nil {
			s.t.Errorf("accepted %s %s %s, which openapi.json does not: %v", request.Method, request.URL, body, err)
		}
	}
	err = openapi3filter.ValidateResponse(s.t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: got.status, Header: got.header,
		Body: io.NopCloser(bytes.NewReader(got.body)), Options: in.Options,
	})
	if err != nil {
		s.t.Errorf("%s %s answers %d %s, which is not in openapi.json: %v", request.Method, request.URL, got.status, got.body, err)
	}
}

// must sends and demands a status.
func (s *site) must(status int, method, target, body string, headers ...string) response {
	s.t.Helper()
	got := s.send(method, target, body, headers...)
	if got.status != status {
		s.t.Fatalf("%s %s %s: %d %s, want %d", method, target, body, got.status, got.body, status)
	}
	return got
}

// refused sends and demands a problem.
func (s *site) refused(status int, code, method, target, body string, headers ...string) problem {
	s.t.Helper()
	got := s.send(method, target, body, headers...)
	p := read[problem](s.t, got)
	if got.status != status || p.Code != code {
		s.t.Fatalf("%s %s %.200s: %d %s, want %d %s", method, target, body, got.status, got.body, status, code)
	}
	if media := got.header.Get("Content-Type"); media != "application/problem+json" {
		s.t.Errorf("%s %s: Content-Type %q", method, target, media)
	}
	if p.Status != status || p.RequestID == "" || p.RequestID != got.header.Get("X-Request-Id") {
		s.t.Errorf("%s %s: status or request id of %s do not match the answer's", method, target, got.body)
	}
	return p
}

// problem is what clients read of a refusal.
type problem struct {
	Type, Title, Detail, Code, RequestID string
	Status                               int
	Messages                             []string
	Errors                               []struct{ Pointer, Parameter, Detail string }
}

// tenant is what clients read of a tenant.
type tenant struct {
	ID, Name, Timezone string
	RateLimitPerMin    *int64
	Suspended          bool
	CreatedAt          time.Time
	Version            int64
	Budgets            []budget
	APIKeys            []key
}

type budget struct {
	ID, Period, Source, Duration, StartDate, EndDate, WeekStart string
	AnchorDay                                                   int
	Scope                                                       map[string]string
	Raises                                                      []struct {
		ByUsd string
		Until time.Time
	}
	LimitUsd, BaseLimitUsd, SpentUsd, ReservedUsd, PresumedUsd, RemainingUsd string
	WindowStart, WindowEnd                                                   time.Time
	AlertsAt                                                                 []json.Number
}

type key struct {
	ID, Key, Name, Prefix string
	CreatedAt             time.Time
	ExpiresAt, RevokedAt  *time.Time
	OldUntil              *time.Time
	Suspended             bool
	Models, RequiredTags  []string
	Tags                  map[string]string
}

func read[T any](t *testing.T, r response) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Fatalf("read %d %s: %v", r.status, r.body, err)
	}
	return v
}

// lockedBuffer is a log that a test can read while the server writes.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
