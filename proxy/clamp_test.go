package proxy_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/mockupstream"
)

// caps are the fields of the last body that the provider got which cap its answer.
type caps struct {
	Tokens     *int64 `json:"max_tokens"`
	Completion *int64 `json:"max_completion_tokens"`
}

// sentCaps are those, with 0 for a field that is not there.
func (g *gateway) sentCaps(t *testing.T) (tokens, completion int64) {
	t.Helper()
	var c caps
	check(t, json.Unmarshal(g.forwarded().body, &c))
	if c.Tokens != nil {
		tokens = *c.Tokens
	}
	if c.Completion != nil {
		completion = *c.Completion
	}
	return tokens, completion
}

// clampChat asks for a chat that may be shortened.
func (g *gateway) clampChat(t *testing.T, key, model, fields string) reply {
	t.Helper()
	body := fmt.Sprintf(`{"model":%q,%s"messages":[{"role":"user","content":"hi"}]}`, model, fields)
	return post(t, g.url+chatPath, body, "X-API-Key", key, "X-BudgetGuard-Clamp", "true")
}

func TestAClampedRequestAsksForWhatTheBudgetCanStillPay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, model, fields string
		wantCompletion      bool // the field that the provider gets
	}{
		{"no cap", "gpt-4o", "", false},
		{"a cap of nothing", "gpt-4o", `"max_tokens":null,`, false},
		{"a high cap", "gpt-4o", `"max_tokens":16000,`, false},
		{"the other field", "gpt-4o", `"max_completion_tokens":16000,`, true},
		{"a model that thinks", "o3", "", true},
		{"a stream", "gpt-4o", `"stream":true,"max_tokens":16000,`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := start(t, setup{})
			key := g.tenant("acme", "0.01")
			r := g.clampChat(t, key, c.model, c.fields).want(t, http.StatusOK)

			shown, err := strconv.ParseInt(r.header.Get("X-BudgetGuard-Max-Tokens"), 10, 64)
			check(t, err)
			tokens, completion := g.sentCaps(t)
			sent, other := tokens, completion
			if c.wantCompletion {
				sent, other = completion, tokens
			}
			if shown < 16 || sent != shown || other != 0 {
				t.Errorf("%d is shown, %d and %d were sent", shown, tokens, completion)
			}
			if held := r.header.Get("X-BudgetGuard-Estimated-Usd"); held > "0.01" {
				t.Errorf("%s was held", held)
			}
			g.settled("acme")

			// One token more does not fit a budget of this size.
			key = g.tenant("other", "0.01")
			field := "max_tokens"
			if c.wantCompletion {
				field = "max_completion_tokens"
			}
			body := `{"model":%q,%q:%d,"messages":[{"role":"user","content":"hi"}]}`
			post(t, g.url+chatPath, fmt.Sprintf(body, c.model, field, shown+1), "X-API-Key", key).
				want(t, http.StatusPaymentRequired)
		})
	}
}

func TestBothCapsOfARequestAreLowered(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "0.01")
	both := `"max_tokens":9000,"max_completion_tokens":20,`
	r := g.clampChat(t, key, "gpt-4o", both).want(t, http.StatusOK)
	shown := r.header.Get("X-BudgetGuard-Max-Tokens")
	tokens, completion := g.sentCaps(t)
	if strconv.FormatInt(tokens, 10) != shown || completion != 20 {
		t.Errorf("%s is shown, %d and %d were sent", shown, tokens, completion)
	}
	g.settled("acme")
}

func TestARequestThatFitsIsNotClamped(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "1")
	r := g.clampChat(t, key, "gpt-4o", `"max_tokens":100,`).want(t, http.StatusOK)
	if tokens, _ := g.sentCaps(t); tokens != 100 || r.header.Get("X-BudgetGuard-Max-Tokens") != "" {
		t.Errorf("%d sent, header %q", tokens, r.header.Get("X-BudgetGuard-Max-Tokens"))
	}
	g.settled("acme")
}

func TestNothingIsClampedBelowTheFloor(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})

	// An answer of 15 tokens of gpt-4o costs 0.00015, so sixteen do not fit beside the prompt.
	key := g.tenant("acme", "0.00017")
	g.clampChat(t, key, "gpt-4o", "").want(t, http.StatusPaymentRequired)
	g.clampChat(t, key, "gpt-4o", `"max_tokens":15,`).want(t, http.StatusPaymentRequired)
	g.nothingForwarded()
}

func TestAClampIsRefusedWhereItIsNotTrueOrFalse(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "0.001")
	ask := func(headers ...string) reply {
		return post(t, g.url+chatPath, chat(""), append([]string{"X-API-Key", key}, headers...)...)
	}
	ask("X-BudgetGuard-Clamp", "yes").want(t, http.StatusBadRequest)
	ask("X-BudgetGuard-Clamp", "true", "X-BudgetGuard-Clamp", "false").want(t, http.StatusBadRequest)
	ask("X-BudgetGuard-Clamp", "false").want(t, http.StatusPaymentRequired)
}

// Each budget may be tighter than the one that refused before.
func TestTheTightestOfSeveralBudgetsClamps(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "0.05")
	g.budget("acme", domain.Weekly, "0.03")
	g.budget("acme", domain.Daily, "0.01")
	g.budget("acme", domain.Total, "0.02")
	r := g.clampChat(t, key, "gpt-4o", "").want(t, http.StatusOK)
	if held := r.header.Get("X-BudgetGuard-Estimated-Usd"); held > "0.01" || held < "0.0099" {
		t.Errorf("%s was held", held)
	}
	g.settled("acme")
}

// Requests that run side by side take room from each other while they are lowered: none is answered
// by anything but an answer or a refusal, and the budget holds.
func TestClampedRequestsSideBySideStayWithinTheBudget(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "0.01")
	g.settings(t, func(s *mockupstream.Settings) { s.LatencyMs = 20 })
	var wait sync.WaitGroup
	for range 40 {
		wait.Go(func() {
			r := g.clampChat(t, key, "gpt-4o", "")
			if r.status != http.StatusOK && r.status != http.StatusPaymentRequired {
				t.Errorf("answered %d", r.status)
			}
		})
	}
	wait.Wait()
	g.quiet()
}
