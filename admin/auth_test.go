package admin_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
)

// hands is a clock that a test moves.
type hands struct {
	mu sync.Mutex
	at time.Time
}

func (h *hands) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at
}

func (h *hands) move(by time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = h.at.Add(by)
}

// knock sends one attempt from an address and gives the status.
func (s *site) knock(key, address string) *httptest.ResponseRecorder {
	request := httptest.NewRequestWithContext(s.t.Context(), http.MethodGet, "/admin/projections", nil)
	request.RemoteAddr = address
	if key != "" {
		request.Header.Set("X-Admin-Key", key)
	}
	recorder := httptest.NewRecorder()
	s.echo.ServeHTTP(recorder, request)
	return recorder
}

func openClocked(t *testing.T) (*site, *hands) {
	t.Helper()
	clock := &hands{at: time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)}
	return openSite(t, func(set *setup) { set.deps.Now = clock.now }), clock
}

func TestOnlyTheAdminKeyGetsIn(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	for i, key := range []string{"", "x", adminKey + "x", adminKey[1:], strings.ToUpper(adminKey), strings.Repeat("k", 100_000)} {
		p := s.refused(http.StatusUnauthorized, "invalid_admin_key", "GET", "/admin/tenants", "", "X-Admin-Key", key)
		if strings.Contains(p.Detail, adminKey) || i < 0 {
			t.Error("the key shows")
		}
	}
	s.must(http.StatusOK, "GET", "/admin/tenants", "")
	if strings.Contains(s.log.String(), adminKey) {
		t.Error("the key is in the log")
	}
}

func TestWithoutAnAdminKeyTheAPIIsClosedWithAHint(t *testing.T) {
	t.Parallel()
	s := openSite(t, func(set *setup) { set.cfg.AdminKey = "" })
	for _, key := range []string{"", "x"} {
		p := s.refused(http.StatusServiceUnavailable, "admin_disabled", "GET", "/admin/tenants", "", "X-Admin-Key", key)
		if !strings.Contains(p.Detail, "ADMIN_API_KEY") {
			t.Errorf("no hint in %q", p.Detail)
		}
	}
	if s.log.String() != "" {
		t.Errorf("log %s", s.log.String())
	}
}

func TestUnknownPathsAndMethodsAreProblemsToo(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.refused(http.StatusNotFound, "not_found", "GET", "/admin/nothing", "")
	s.refused(http.StatusNotFound, "not_found", "GET", "/admin", "")
	s.refused(http.StatusMethodNotAllowed, "method_not_allowed", "DELETE", "/admin/tenants", "")
	if got := s.send("DELETE", "/admin/tenants", ""); !strings.Contains(got.header.Get("Allow"), "GET") {
		t.Errorf("Allow %q", got.header.Get("Allow"))
	}
	if got := s.send("GET", "/elsewhere", ""); got.status != http.StatusNotFound || strings.Contains(got.header.Get("Content-Type"), "problem") {
		t.Errorf("outside /admin: %d %v", got.status, got.header)
	}
}

func TestOneStaleKeyIsLimitedAndLocksNobodyOut(t *testing.T) {
	t.Parallel()
	s, clock := openClocked(t)
	for i := range 10 {
		if got := s.knock("stale", "192.0.2.1:1"); got.Code != http.StatusUnauthorized {
			t.Fatalf("attempt %d: %d", i, got.Code)
		}
	}
	clock.move(20 * time.Second)
	got := s.knock("stale", "192.0.2.1:2")
	if got.Code != http.StatusTooManyRequests || got.Header().Get("Retry-After") != "40" {
		t.Errorf("the eleventh: %d, Retry-After %q", got.Code, got.Header().Get("Retry-After"))
	}
	if got := s.knock(adminKey, "192.0.2.1:3"); got.Code != http.StatusOK {
		t.Errorf("the right key from the same address: %d", got.Code)
	}
	if got := s.knock("stale", "192.0.2.2:1"); got.Code != http.StatusUnauthorized {
		t.Errorf("another address: %d", got.Code)
	}
	if n := strings.Count(s.log.String(), "admin key attempts limited"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	clock.move(40 * time.Second)
	if got := s.knock("stale", "192.0.2.1:4"); got.Code != http.StatusUnauthorized {
		t.Errorf("after the minute: %d", got.Code)
	}
}

func TestGuessingLocksTheAddressForTheMinute(t *testing.T) {
	t.Parallel()
	s, clock := openClocked(t)
	for i := range 10 {
		if got := s.knock(fmt.Sprint("guess", i), "192.0.2.1:1"); got.Code != http.StatusUnauthorized {
			t.Fatalf("guess %d: %d", i, got.Code)
		}
	}
	if got := s.knock(adminKey, "192.0.2.1:1"); got.Code != http.StatusTooManyRequests {
		t.Errorf("the right guess after ten wrong ones: %d", got.Code)
	}
	if got := s.knock(adminKey, "192.0.2.9:1"); got.Code != http.StatusOK {
		t.Errorf("another address: %d", got.Code)
	}
	clock.move(time.Minute)
	if got := s.knock(adminKey, "192.0.2.1:1"); got.Code != http.StatusOK {
		t.Errorf("after the minute: %d", got.Code)
	}
}

func TestAnIPv6CustomerIsOneAddress(t *testing.T) {
	t.Parallel()
	s, _ := openClocked(t)
	for i := range 10 {
		s.knock("wrong", fmt.Sprintf("[2001:db8:0:1::%d]:1", i))
	}
	if got := s.knock("wrong", "[2001:db8:0:1:ffff::1]:1"); got.Code != http.StatusTooManyRequests {
		t.Errorf("the same /64: %d", got.Code)
	}
	if got := s.knock("wrong", "[2001:db8:0:2::1]:1"); got.Code != http.StatusUnauthorized {
		t.Errorf("another /64: %d", got.Code)
	}
}

func TestRequestIDsThatForgeLogsAreReplaced(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	for id, kept := range map[string]bool{
		"req_1.a-B": true, "": false, "a b": false, "a\"b": false, "ä": false, strings.Repeat("x", 129): false,
	} {
		got := s.send("GET", "/admin/tenants", "", echo.HeaderXRequestID, id).header.Get(echo.HeaderXRequestID)
		if (got == id) != kept || got == "" {
			t.Errorf("%.20q became %q", id, got)
		}
	}
}
