package main

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// keyed is a request with an idempotency key.
func (s *system) keyed(address, key, idempotency string) answer {
	s.t.Helper()
	return send(s.t, s.keyedRequest(address, key, idempotency))
}

func (s *system) keyedRequest(address, key, idempotency string) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, address+"/v1/chat/completions", strings.NewReader(chat))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-API-Key", key)
	r.Header.Set("Idempotency-Key", idempotency)
	return r
}

// A gateway dies with a keyed call under way. Whoever retries it at another gateway waits while nobody knows
// what became of it, and is told what it was charged after: the provider is asked once.
func TestARetryAtAnotherGatewayAfterACrashIsNeverASecondCall(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "ORPHAN_AFTER=3s")
	gateway, address := s.serve()
	_, other := s.serve()
	key := s.tenant(address, "retry", "100")
	s.hold(true)
	first := s.keyedRequest(address, key, "order-1")
	go func() { // its answer never comes
		if answer, err := http.DefaultClient.Do(first); err == nil {
			_ = answer.Body.Close()
		}
	}()
	eventually(t, "it is under way", func() bool { return s.provider.Held() == 1 })
	gateway.kill()
	if a := s.keyed(other, key, "order-1"); a.status != http.StatusConflict || !strings.Contains(string(a.body), "idempotency_in_progress") {
		t.Errorf("while it is held: %d %s", a.status, a.body)
	}
	eventually(t, "it is charged as an orphan", func() bool { return s.holds("retry") == 0 })
	a := s.keyed(other, key, "order-1")
	if a.status != http.StatusConflict || !strings.Contains(string(a.body), "idempotency_completed") || a.header.Get("X-Should-Retry") != "false" {
		t.Errorf("after it was charged: %d %s", a.status, a.body)
	}
	s.hold(false)
	s.quiet()
	if bill := s.provider.Bill(time.Time{}, time.Time{}); bill.Requests != 1 || s.settled("retry") < bill.TotalNano {
		t.Errorf("%d calls were billed %d, charged %d", bill.Requests, bill.TotalNano, s.settled("retry"))
	}
	s.verify(exitOK)
}
