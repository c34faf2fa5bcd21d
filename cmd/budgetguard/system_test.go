package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/domain/pricing"
	"github.com/budgetguard/budgetguard/internal/mockupstream"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

const testAdminKey = "an-admin-key-for-tests"

// system is a database, a Redis and a provider; gateways and workers are started on it as processes.
type system struct {
	t        *testing.T
	env      []string
	provider *mockupstream.Server
	url      string // of the database
	db       *pgxpool.Pool
}

func newSystem(t *testing.T, env ...string) *system {
	t.Helper()
	return newSystemOn(t, testenv.Database(t), env...)
}

// newSystemOn is newSystem on a database that the test brings.
func newSystemOn(t *testing.T, database string, env ...string) *system {
	t.Helper()
	provider, err := mockupstream.New(mockupstream.Config{Prices: pricing.Embedded(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	upstream := httptest.NewServer(provider.Handler())
	t.Cleanup(upstream.Close)
	db, err := pgxpool.New(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return &system{t: t, provider: provider, db: db, url: database, env: append([]string{
		"DATABASE_URL=" + database, "REDIS_URL=" + testenv.Redis(t), "OPENAI_BASE_URL=" + upstream.URL + "/v1", "OPENAI_KEY=upstream",
		"ADMIN_API_KEY=" + testAdminKey, "PORT=0", "HOST=127.0.0.1", "MAX_REQS_PER_MIN=0",
	}, env...)}
}

// serve starts a gateway, with variables of its own, and returns its address.
func (s *system) serve(env ...string) (*process, string) {
	s.t.Helper()
	p := start(s.t, append(slices.Clone(s.env), env...), "serve")
	line := p.line(s.t, "serves http://")
	return p, line[strings.Index(line, "http://"):]
}

func (s *system) worker(env ...string) *process {
	s.t.Helper()
	p := start(s.t, append(slices.Clone(s.env), env...), "worker")
	p.line(s.t, "works")
	return p
}

// verify runs ledger verify and expects an exit code.
func (s *system) verify(want int) string {
	s.t.Helper()
	p := start(s.t, s.env, "ledger", "verify")
	if code := p.wait(s.t); code != want {
		s.t.Fatalf("ledger verify exits with %d, want %d:\n%s", code, want, p.output())
	}
	return p.output()
}

// tenant makes a tenant with a key and budgets of the given limits.
func (s *system) tenant(gateway, id string, monthly string) (key string) {
	s.t.Helper()
	body := fmt.Sprintf(`{"id":%q,"name":%q`, id, id)
	if monthly != "" {
		body += fmt.Sprintf(`,"budgets":[{"period":"monthly","limitUsd":%q}]`, monthly)
	}
	s.admin(http.MethodPost, gateway+"/admin/tenant", body+"}", http.StatusCreated, nil)
	var issued struct{ Key string }
	s.admin(http.MethodPost, gateway+"/admin/tenant/"+id+"/apikeys", `{"name":"test"}`, http.StatusCreated, &issued)
	return issued.Key
}

func (s *system) admin(method, url, body string, want int, into any) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("X-Admin-Key", testAdminKey)
	r.Header.Set("Content-Type", "application/json")
	answer := send(s.t, r)
	if answer.status != want {
		s.t.Fatalf("%s %s: %d %s", method, url, answer.status, answer.body)
	}
	if into != nil {
		if err := json.Unmarshal(answer.body, into); err != nil {
			s.t.Fatalf("%s: %v", answer.body, err)
		}
	}
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func send(t *testing.T, r *http.Request) answer {
	t.Helper()
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Error(err)
		return answer{}
	}
	defer func() { _ = a.Body.Close() }()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		t.Error(err)
	}
	return answer{status: a.StatusCode, header: a.Header, body: body}
}

const chat = `{"model":"gpt-3.5-turbo","max_tokens":100,"messages":[{"role":"user","content":"say something"}]}`

// ask sends a chat request with a key.
func ask(ctx context.Context, t *testing.T, gateway, key, body string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, gateway+"/v1/chat/completions", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-API-Key", key)
	r.Header.Set("Content-Type", "application/json")
	return send(t, r)
}

// eventually waits until a condition holds, asking every few milliseconds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(2 * time.Minute)
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// count reads one number from the database.
func (s *system) count(sql string, args ...any) int64 {
	s.t.Helper()
	var n int64
	if err := s.db.QueryRow(s.t.Context(), sql, args...).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// settled is what all windows of a tenant were charged, in nano-dollars.
func (s *system) settled(tenant string) int64 {
	return s.count(`select coalesce(max(settled), 0) from account where tenant_id = $1`, tenant)
}

func (s *system) quiet() {
	s.t.Helper()
	eventually(s.t, "no reservation is open", func() bool { return s.count(`select count(*) from hold`) == 0 })
}

// billed is the provider's whole bill in nano-dollars.
func (s *system) billed() int64 { return s.provider.Bill(time.Time{}, time.Time{}).TotalNano }

func nano(t *testing.T, usd string) int64 {
	t.Helper()
	a, err := domain.ParseAmount(usd)
	if err != nil {
		t.Fatal(err)
	}
	return int64(a)
}

// pause lets a moment pass between two looks at something.
func pause(ctx context.Context) {
	timer := time.NewTimer(5 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func parse(t *testing.T, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
