package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/budgetguard/budgetguard/domain"
)

// call is what a handler sees of a request.
type call struct {
	now    time.Time
	tenant domain.TenantID // of the path or, for usage, of the query; empty without one
	state  domain.State    // the tenant's; the zero State without one
	param  func(name string) string
	header http.Header
	query  query
	body   fields
}

// answer is what a handler gives back. A nil body is 204.
type answer struct {
	status   int
	body     any
	location string
}

func ok(body any) answer { return answer{status: http.StatusOK, body: body} }

// route is one method on one path.
type route struct {
	method, path string
	params       []string // of the query
	body         bodyRule
	// once says that the route takes an Idempotency-Key. Another refuses it: who sends one relies on it.
	once bool
	// system admits the reserved tenant in the path.
	system bool
	serve  func(ctx context.Context, c *call) (answer, error)
}

func (s *Server) routes() []route {
	const one = "/admin/tenant/:id"
	return []route{
		{method: http.MethodPost, path: "/admin/tenant", body: neededBody, serve: s.createTenant},
		{method: http.MethodGet, path: "/admin/tenants", params: []string{"cursor", "limit"}, serve: s.listTenants},
		{method: http.MethodGet, path: one, serve: s.showTenant},
		{method: http.MethodPatch, path: one, body: neededBody, serve: s.changeTenant},
		{method: http.MethodPost, path: one + "/suspend", body: optionalBody, serve: s.suspendTenant},
		{method: http.MethodPost, path: one + "/resume", body: optionalBody, serve: s.resumeTenant},
		{method: http.MethodPost, path: one + "/budgets", body: neededBody, serve: s.defineBudgets},
		{method: http.MethodGet, path: one + "/budgets", serve: s.listBudgets},
		{method: http.MethodPatch, path: one + "/budgets/:budgetId", body: neededBody, serve: s.changeBudget},
		{method: http.MethodDelete, path: one + "/budgets/:budgetId", serve: s.retireBudget},
		{method: http.MethodPost, path: one + "/budgets/:budgetId/raise", body: neededBody, serve: s.raiseBudget},
		{method: http.MethodDelete, path: one + "/budgets/:budgetId/raise", serve: s.endRaises},
		{method: http.MethodPost, path: one + "/adjustments", body: neededBody, once: true, serve: s.adjust},
		{method: http.MethodPost, path: one + "/apikeys", body: optionalBody, serve: s.issueKey},
		{method: http.MethodPost, path: one + "/apikeys/:keyId/rotate", body: optionalBody, serve: s.rotateKey},
		{method: http.MethodPost, path: one + "/apikeys/:keyId/suspend", body: optionalBody, serve: s.suspendKey},
		{method: http.MethodPost, path: one + "/apikeys/:keyId/resume", body: optionalBody, serve: s.resumeKey},
		{method: http.MethodDelete, path: one + "/apikeys/:keyId", serve: s.revokeKey},
		{method: http.MethodGet, path: one + "/ratelimit", serve: s.showRateLimit},
		{method: http.MethodPut, path: one + "/ratelimit", body: neededBody, serve: s.setRateLimit},
		{method: http.MethodGet, path: one + "/events", params: []string{"after", "limit"}, system: true, serve: s.listEvents},
		{method: http.MethodGet, path: usagePath, params: []string{"tenant", "from", "to", "groupBy"}, serve: s.showUsage},
		{method: http.MethodGet, path: "/admin/projections", serve: s.listProjections},
	}
}

// Register puts /admin, /metrics, /docs and /openapi.json on e. Errors below /admin become problem+json,
// also those of echo's router: for these it wraps e.HTTPErrorHandler, so a server that has one of its own
// sets it before. The address that failed attempts count for is what e.IPExtractor says.
func (s *Server) Register(e *echo.Echo) {
	routing := e.HTTPErrorHandler
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		if path := c.Request().URL.Path; path == "/admin" || strings.HasPrefix(path, "/admin/") {
			_ = RequestID(func(c echo.Context) error { return s.fail(c, err) })(c) // writing failed: the client is gone
			return
		}
		routing(err, c)
	}
	for _, r := range s.routes() { // no echo.Group: its catch-all would turn 405 into 404
		e.Add(r.method, r.path, s.handle(r), RequestID, s.problems, s.authenticate)
	}
	s.registerDocs(e)
	s.registerMetrics(e)
}

// problems answers the errors of the handlers behind it.
func (s *Server) problems(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := next(c); err != nil {
			return s.fail(c, err)
		}
		return nil
	}
}

// handle is the only place where a handler of a route meets echo.
func (s *Server) handle(r route) echo.HandlerFunc {
	return func(c echo.Context) error {
		request := c.Request()
		ctx := request.Context()
		call := &call{now: s.deps.Now().UTC(), param: c.Param, header: request.Header, query: newQuery(request.URL.RawQuery, r.params)}
		if err := s.identify(ctx, r, call); err != nil {
			return err
		}
		if err := s.permit(ctx, r, call); err != nil {
			return err
		}
		if call.tenant != "" && !call.state.Exists() {
			return domain.ErrTenantUnknown
		}
		if len(r.params) == 0 { // a handler that reads parameters asks when it has
			if err := call.query.problem(); err != nil {
				return err
			}
		}
		if r.method == http.MethodPost && !r.once && len(call.header.Values(idempotencyHeader)) > 0 {
			return invalidRequest("This request would be carried out again although it has an Idempotency-Key.", violation{
				Header: idempotencyHeader, Detail: "this route does not remember it; leave it out, and after a timeout look at the tenant before you send again",
			})
		}
		members, err := readBody(request, r.body)
		if err != nil {
			return err
		}
		call.body = newFields(members)
		result, err := r.serve(ctx, call)
		if err != nil {
			return err
		}
		return write(c, result)
	}
}

// identify finds the tenant that a request is about, and its state. One that does not exist has the
// state of an empty stream: the policy comes first, so that a denied caller learns nothing of it.
func (s *Server) identify(ctx context.Context, r route, c *call) error {
	text := c.param("id")
	if r.path == usagePath {
		text = c.query.values.Get("tenant")
	}
	if text == "" {
		return nil
	}
	id, err := domain.ParseTenantID(text)
	if r.system && text == string(domain.SystemTenant) {
		id, err = domain.SystemTenant, nil
	}
	if err != nil {
		return notFound("No tenant can have this id: " + reason(err) + ".")
	}
	c.tenant = id
	c.state, err = s.deps.Reader.State(ctx, id)
	if errors.Is(err, domain.ErrTenantUnknown) {
		c.state = domain.NewState(id)
		return nil
	}
	if err != nil {
		return reading("tenant "+text, err)
	}
	return nil
}

func write(c echo.Context, a answer) error {
	header := c.Response().Header()
	private(header)
	if a.location != "" {
		header.Set(echo.HeaderLocation, a.location)
	}
	if a.body == nil {
		return c.NoContent(http.StatusNoContent)
	}
	data, err := encode(a.body)
	if err != nil {
		return err
	}
	return c.Blob(a.status, echo.MIMEApplicationJSON, data)
}

// encode writes JSON without escaping what only HTML minds.
func encode(body any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

// private keeps answers out of caches: they have balances, and one has a secret.
func private(h http.Header) {
	h.Set(echo.HeaderCacheControl, "no-store")
	h.Set(echo.HeaderXContentTypeOptions, "nosniff")
}

// gone tells whether an error only says that the client has left.
func gone(ctx context.Context, err error) bool {
	return errors.Is(err, context.Canceled) && ctx.Err() != nil
}

// problemView is RFC 9457 with the members that this API adds.
type problemView struct {
	Type      string      `json:"type"`
	Title     string      `json:"title"`
	Status    int         `json:"status"`
	Detail    string      `json:"detail"`
	Code      code        `json:"code"`
	RequestID string      `json:"requestId"`
	Errors    []violation `json:"errors,omitempty"`
	Messages  []string    `json:"messages,omitempty"`
}

// fail answers an error, and logs it here and nowhere else.
func (s *Server) fail(c echo.Context, err error) error {
	ctx := c.Request().Context()
	if c.Response().Committed || gone(ctx, err) {
		return nil
	}
	p := problemOf(err)
	status, title := p.code.shape()
	id := c.Response().Header().Get(echo.HeaderXRequestID)
	if p.code == codeInternal || p.code == codeUnavailable {
		s.deps.Log.ErrorContext(ctx, "admin request failed", slog.String("request_id", id),
			slog.String("method", c.Request().Method), slog.String("route", c.Path()), slog.String("error", err.Error()))
	}
	data, err := encode(problemView{
		Type: "urn:budgetguard:problem:" + string(p.code), Title: title, Status: status, Detail: p.detail,
		Code: p.code, RequestID: id, Errors: p.violations, Messages: p.messages,
	})
	if err != nil {
		return err
	}
	header := c.Response().Header()
	private(header)
	if p.retryAfter > 0 {
		header.Set(echo.HeaderRetryAfter, strconv.Itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}
	return c.Blob(status, "application/problem+json", data)
}
