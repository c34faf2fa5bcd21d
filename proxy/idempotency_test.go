package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/mockupstream"
	"github.com/budgetguard/budgetguard/internal/testenv"
	"github.com/budgetguard/budgetguard/proxy"
)

const once = "Idempotency-Key"

// reused is what a 409 says of the request that the key was used for, in the plain dialect.
type reused struct {
	Reservation struct {
		ID         string
		ChargedUsd *string
		Presumed   *bool
	}
}

func TestARetryOfAPaidRequestIsRefusedWithWhatItCost(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	first := g.chat(key, `"max_tokens":9,`, once, "k").want(t, 200)
	cost, reservation := first.header.Get("X-BudgetGuard-Cost-Usd"), first.header.Get("X-BudgetGuard-Reservation")
	s := g.settled("acme")
	if s.Idempotency != "k" || len(s.Fingerprint) != 64 {
		t.Errorf("recorded %q with fingerprint %q", s.Idempotency, s.Fingerprint)
	}
	again := g.chat(key, `"max_tokens":9,`, once, "k").want(t, 409)
	body := parsed[reused](t, again)
	if again.code() != "idempotency_completed" || body.Reservation.ID != reservation || *body.Reservation.ChargedUsd != cost || *body.Reservation.Presumed {
		t.Errorf("got %s, want reservation %s and %s", again.body, reservation, cost)
	}
	for _, r := range []reply{again, post(t, g.url+chatPath, chat(`"max_tokens":9,`), "Authorization", "Bearer "+key, once, "k").want(t, 409)} {
		if r.header.Get("X-BudgetGuard-Reservation") != reservation || r.header.Get("X-BudgetGuard-Cost-Usd") != cost ||
			r.header.Get("X-Should-Retry") != "false" || r.header.Get("Retry-After") != "" || !containsAll(string(r.body), reservation, cost, "idempotency_completed") {
			t.Errorf("got %v %s", r.header, r.body)
		}
	}
	g.forwarded() // the first alone
	g.settled("acme")
}

func TestAKeyStandsForOneRequestOfOneAPIKey(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	g.chat(key, "", once, "k").want(t, 200)
	for name, r := range map[string]reply{
		"another body":   g.chat(key, `"max_tokens":9,`, once, "k"),
		"one more space": post(t, g.url+chatPath, chat("")+" ", "X-API-Key", key, once, "k"),
		"another path":   post(t, g.url+completionPath, `{"model":"gpt-3.5-turbo-instruct","prompt":"hi"}`, "X-API-Key", key, once, "k"),
	} {
		if r.status != 422 || r.code() != "idempotency_mismatch" || strings.Contains(string(r.body), "reservation\":") {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	g.chat(g.key("acme", domain.IssueKey{}), "", once, "k").want(t, 200)
	g.chat(g.tenant("other", "100"), "", once, "k").want(t, 200)
	g.chat(key, "", once, "l").want(t, 200)
	g.chat(key, "").want(t, 200)
	g.chat(key, "").want(t, 200)
}

func TestARetryOfARunningRequestIsToldToWait(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	g.settings(t, func(s *mockupstream.Settings) { s.Hold = true })
	answered := make(chan reply, 1)
	go func() { answered <- g.chat(key, "", once, "k") }()
	eventually(t, "the call is under way", func() bool { return g.mock.Held() == 1 })
	r := g.chat(key, "", once, "k").want(t, 409)
	body := parsed[reused](t, r)
	if r.code() != "idempotency_in_progress" || r.header.Get("Retry-After") != "1" || r.header.Get("X-Should-Retry") != "false" ||
		body.Reservation.ID == "" || body.Reservation.ChargedUsd != nil || r.header.Get("X-BudgetGuard-Cost-Usd") != "" {
		t.Errorf("got %v %s", r.header, r.body)
	}
	g.chat(key, `"max_tokens":9,`, once, "k").want(t, 422)
	g.settings(t, func(s *mockupstream.Settings) { s.Hold = false })
	if first := (<-answered).want(t, 200); first.header.Get("X-BudgetGuard-Reservation") != body.Reservation.ID {
		t.Errorf("reservation %v, told %s", first.header, body.Reservation.ID)
	}
	g.quiet()
	if r := g.chat(key, "", once, "k").want(t, 409); r.code() != "idempotency_completed" {
		t.Errorf("got %s", r.body)
	}
	g.forwarded()
}

func TestARequestThatCostNothingMayRunAgain(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: atLeast})
	key := g.tenant("acme", "100")
	g.settings(t, func(s *mockupstream.Settings) { s.ErrorRate, s.ErrorStatus = 1, 500 })
	for range 2 {
		g.chat(key, "", once, "k").want(t, 500)
		g.quiet()
	}
	g.settings(t, func(s *mockupstream.Settings) { s.ErrorRate = 0 })
	g.chat(key, "", once, "k").want(t, 200)
	g.quiet()
	g.chat(key, "", once, "k").want(t, 409)
	g.settled("acme")
}

func TestARetryOfAPresumedRequestSaysSo(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: atLeast, config: func(c *proxy.Config) { c.UpstreamTimeout = time.Second }})
	key := g.tenant("acme", "100")
	g.settings(t, func(s *mockupstream.Settings) { s.Hold = true })
	g.chat(key, "", once, "k").want(t, 504)
	s := g.settled("acme")
	r := g.chat(key, "", once, "k").want(t, 409)
	body := parsed[reused](t, r)
	if r.code() != "idempotency_completed" || !*body.Reservation.Presumed || *body.Reservation.ChargedUsd != s.Charged.String() {
		t.Errorf("got %s, want %s presumed", r.body, s.Charged)
	}
	g.forwarded()
}

func TestOfManyAtOnceWithOneKeyOneIsPaidOverTwoGateways(t *testing.T) {
	t.Parallel()
	database, redis := testenv.Database(t), testenv.Redis(t)
	one := start(t, setup{database: database, redis: redis})
	two := startBehind(t, setup{database: database, redis: redis}, one.provider)
	key := one.tenant("acme", "100")
	var paid, refused atomic.Int64
	var all sync.WaitGroup
	for i := range 40 {
		g := []*gateway{one, two}[i%2]
		all.Go(func() {
			switch r := g.chat(key, "", once, "k"); {
			case r.status == 200:
				paid.Add(1)
			case r.status == 409 && strings.HasPrefix(r.code(), "idempotency_"):
				refused.Add(1)
			default:
				t.Errorf("got %d %s %v", r.status, r.body, r.err)
			}
		})
	}
	all.Wait()
	if paid.Load() != 1 || refused.Load() != 39 {
		t.Errorf("%d were paid and %d refused", paid.Load(), refused.Load())
	}
	one.forwarded()
	one.settled("acme")
}

func TestAKeyThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	for name, headers := range map[string][]string{
		"a space": {once, "a b"}, "not ASCII": {once, "schlüssel"}, "too long": {once, strings.Repeat("k", 256)},
		"two": {once, "a", once, "b"},
	} {
		r := g.chat(key, "", headers...)
		if r.status != 400 || r.code() != "invalid_request" || !strings.Contains(string(r.body), "1 to 255 visible") {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	empty := request(t, http.MethodPost, g.url+chatPath, strings.NewReader(chat("")), "X-API-Key", key)
	empty.Header[once] = []string{""}
	send(empty).want(t, 400)
	g.nothingForwarded()
	g.chat(key, "", once, strings.Repeat("k", 255)).want(t, 200)
}

func TestTheAnswersToReusedKeysLookAsTheyDid(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	call := refusal{method: http.MethodPost, path: chatPath, body: chat(""), header: []string{once, "k"}}
	g.settings(t, func(s *mockupstream.Settings) { s.Hold = true })
	answered := make(chan reply, 1)
	go func() { answered <- g.chat(key, "", once, "k") }()
	eventually(t, "the call is under way", func() bool { return g.mock.Held() == 1 })
	call.name, call.status, call.code = "409-in-progress", 409, "idempotency_in_progress"
	g.inBothDialects(call, key)
	g.settings(t, func(s *mockupstream.Settings) { s.Hold = false })
	(<-answered).want(t, 200)
	g.quiet()
	call.name, call.code = "409-completed", "idempotency_completed"
	g.inBothDialects(call, key)
	call.name, call.status, call.code, call.body = "422", 422, "idempotency_mismatch", chat(`"max_tokens":9,`)
	g.inBothDialects(call, key)
}

func TestPinnedTagsWinAndRequiredOnesMustBeThere(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	g.keyless("acme", "100")
	key := g.key("acme", domain.IssueKey{Tags: map[string]string{"team": "search"}, RequiredTags: []string{"team", "env", "cost-centre"}})
	const tags = "X-BudgetGuard-Tags"
	for _, sent := range [][]string{nil, {tags, "env=prod"}, {tags, "team=x,env=prod"}, {tags, "Env=prod,cost-centre=7"}} {
		r := g.chat(key, "", sent...).want(t, 400)
		if r.code() != "invalid_request" || !strings.Contains(string(r.body), "the key requires the tags") || strings.Contains(string(r.body), "tags team") {
			t.Errorf("%v: %s", sent, r.body)
		}
	}
	g.nothingForwarded()
	g.chat(key, "", tags, "team=sales,env=prod", tags, "cost-centre=7").want(t, 200)
	if got := fmt.Sprint(g.settled("acme").Tags); got != "map[cost-centre:7 env:prod team:search]" {
		t.Errorf("recorded %s", got)
	}
}

func TestASuspendedKeyIsNoKey(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	g.keyless("acme", "100")
	seen := g.key("acme", domain.IssueKey{ID: "key_1"})
	unseen := g.key("acme", domain.IssueKey{ID: "key_2"})
	g.chat(seen, "").want(t, 200) // and is in the cache
	g.quiet()
	for _, id := range []domain.KeyID{"key_1", "key_2"} {
		g.do("acme", domain.SuspendKey{ID: id, Actor: "admin"})
	}
	for _, key := range []string{seen, unseen} {
		if r := g.chat(key, "").want(t, 401); r.code() != "invalid_api_key" {
			t.Errorf("got %s", r.body)
		}
	}
	g.do("acme", domain.ResumeKey{ID: "key_1", Actor: "admin"})
	g.chat(seen, "").want(t, 200)
}

func TestBothSecretsOfARotatedKeyWorkForItsGrace(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	g.keyless("acme", "100")
	old := g.key("acme", domain.IssueKey{ID: "key_1"})
	fresh := g.rotate("acme", "key_1", time.Second)
	g.chat(fresh, "").want(t, 200)
	g.chat(old, "").want(t, 200)
	eventually(t, "the old secret ends", func() bool { return g.chat(old, "").status == 401 })
	g.chat(fresh, "").want(t, 200)
}

func TestARefusalNamesTheScopeOfItsBudgetAndOthersPass(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	for id, scope := range map[domain.BudgetID]domain.Scope{"bud_model": {Model: "gpt-3.5-turbo"}, "bud_tag": {Tag: "team=search"}} {
		g.do("acme", domain.DefineBudget{ID: id, Period: domain.Daily, Scope: scope, Limit: 0, Source: domain.SourceAdmin, Actor: "admin"})
	}
	r := g.chat(key, "").want(t, 402)
	if !containsAll(string(r.body), `"scope":"model:gpt-3.5-turbo"`, `"id":"bud_model"`, "it is for model:gpt-3.5-turbo") {
		t.Errorf("got %s", r.body)
	}
	const other = `{"model":"gpt-4o-mini","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}`
	tagged := post(t, g.url+chatPath, other, "X-API-Key", key, "X-BudgetGuard-Tags", "team=search").want(t, 402)
	if !containsAll(string(tagged.body), `"scope":"tag:team=search"`) {
		t.Errorf("got %s", tagged.body)
	}
	g.nothingForwarded()
	passed := post(t, g.url+chatPath, other, "X-API-Key", key, "X-BudgetGuard-Tags", "team=sales").want(t, 200)
	if got := usd(passed.header.Get("X-BudgetGuard-Remaining-Usd")); got != usd("100")-g.settled("acme").Reserved {
		t.Errorf("%s remain of the one budget that applied", got)
	}
}

func TestMoreBudgetsThanCanApplyAre400(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	for i := range 16 {
		g.do("acme", domain.DefineBudget{
			ID: domain.BudgetID(fmt.Sprint("bud_", i)), Period: domain.Rolling, Span: domain.Span{Duration: domain.Length(i+1) * domain.Length(time.Hour)},
			Limit: usd("100"), Source: domain.SourceAdmin, Actor: "admin",
		})
	}
	r := g.chat(key, "").want(t, 400)
	if r.code() != "invalid_request" || !strings.Contains(string(r.body), "counts in 17 budgets") {
		t.Errorf("got %s", r.body)
	}
	g.nothingForwarded()
	g.do("acme", domain.RetireBudget{ID: "bud_3", Actor: "admin"})
	g.chat(key, "").want(t, 200)
}

func TestThePolicySeesTheTightestBudgetThatTheRequestCountsIn(t *testing.T) {
	t.Parallel()
	g := start(t, setup{policy: `package budgetguard.policy
default allow := false
allow if { input.usage < input.budget; count(input.budgets) == 2; input.budgets[0].scope.model == "gpt-4o-mini" }
`})
	key := g.tenant("acme", "100")
	g.do("acme", domain.DefineBudget{ID: "bud_model", Period: domain.Daily, Scope: domain.Scope{Model: "gpt-4o-mini"}, Limit: 0, Source: domain.SourceAdmin, Actor: "admin"})
	g.chat(key, "").want(t, 200)
	r := post(t, g.url+chatPath, `{"model":"gpt-4o-mini","messages":[]}`, "X-API-Key", key).want(t, 403)
	if r.code() != "policy_denied" {
		t.Errorf("got %s", r.body)
	}
	g.settled("acme")
}

func TestAHoldLivesAsLongAsItsCall(t *testing.T) {
	t.Parallel()
	g := start(t, setup{config: func(c *proxy.Config) { c.ReservationTTL = 2 * time.Second }})
	key := g.tenant("acme", "100")
	g.settings(t, func(s *mockupstream.Settings) { s.TokensPerSecond = 4 })
	began := time.Now()
	g.chat(key, `"stream":true,"max_tokens":20,`).want(t, 200)
	took := time.Since(began)
	s := g.settled("acme")
	extended := of[domain.ReservationExtended](g, "acme")
	if took < 4*time.Second || len(extended) < 2 {
		t.Fatalf("extended %d times in %s", len(extended), took)
	}
	due := extended[0].ReservedAt.Add(2 * time.Second)
	for _, e := range extended {
		if e.Reservation != s.Reservation || e.Added != 0 || !e.ExpiresAt.After(due) {
			t.Errorf("extended %+v, due %s", e, due)
		}
		due = e.ExpiresAt
	}
	if len(of[domain.ReservationExpired](g, "acme")) != 0 {
		t.Error("expired")
	}
}

func TestAShortCallsHoldIsNotExtended(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	g.chat(g.tenant("acme", "100"), "").want(t, 200)
	if n := len(of[domain.ReservationExtended](g, "acme")); n != 0 {
		t.Errorf("extended %d times", n)
	}
}

// A tenant without room is refused early, but not before the ledger was asked whether the key is a retry's.
func TestARetryIsToldSoAlsoWhereNewRequestsHaveNoRoom(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "0.0002")
	g.chat(key, `"max_tokens":90,`, once, "k").want(t, 200)
	g.settled("acme")
	for range 3 {
		g.chat(key, `"max_tokens":90,`).want(t, 402)
		if again := g.chat(key, `"max_tokens":90,`, once, "k"); again.status != 409 {
			t.Errorf("a retry is answered %d: %s", again.status, again.body)
		}
	}
}
