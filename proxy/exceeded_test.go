package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/internal/mockupstream"
)

type refusal402 struct {
	Error, Detail string
	InFlight      bool
	Fits          *struct{ MaxOutputTokens int64 }
	Budget        struct{ LimitUsd, SpentUsd, PresumedUsd, ReservedUsd string }
}

func TestARefusalSaysWhatWouldFit(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "0.01")
	ask := func(most int64) reply {
		return post(t, g.url+chatPath, fmt.Sprintf(`{"model":"o3","max_completion_tokens":%d,"messages":[{"role":"user","content":"hi"}]}`, most), "X-API-Key", key)
	}

	r := parsed[refusal402](t, ask(100_000).want(t, http.StatusPaymentRequired))
	if r.Fits == nil || r.Fits.MaxOutputTokens < 1 || r.InFlight {
		t.Fatalf("answered %+v", r)
	}
	for _, part := range []string{
		"more than the whole budget", "0.8 of it for up to 100000 output tokens",
		fmt.Sprintf("set max_completion_tokens to at most %d", r.Fits.MaxOutputTokens),
	} {
		if !strings.Contains(r.Detail, part) {
			t.Errorf("%q does not say %q", r.Detail, part)
		}
	}
	ask(r.Fits.MaxOutputTokens+1).want(t, http.StatusPaymentRequired)
	ask(r.Fits.MaxOutputTokens).want(t, http.StatusOK)
	g.settled("acme")
}

func TestAPromptThatDoesNotFitByItselfHasNoAnswerThatDoes(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "0.000001")
	r := parsed[refusal402](t, g.chat(key, `"max_tokens":10,`).want(t, http.StatusPaymentRequired))
	if r.Fits == nil || r.Fits.MaxOutputTokens != 0 || !strings.Contains(r.Detail, "even an answer of one token does not fit") {
		t.Errorf("answered %+v", r)
	}
}

func TestARefusalSaysWhenOnlyHoldsStandInTheWay(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "0.0003")
	g.settings(t, func(s *mockupstream.Settings) { s.Hold = true })
	done := make(chan reply, 1)
	go func() {
		done <- sendBy(http.DefaultClient, request(t, http.MethodPost, g.url+chatPath, strings.NewReader(chat(`"max_tokens":100,`)), "X-API-Key", key, "Content-Type", "application/json"))
	}()
	eventually(t, "the first call is held", func() bool { return g.openHolds() == 1 })

	r := parsed[refusal402](t, g.chat(key, `"max_tokens":100,`).want(t, http.StatusPaymentRequired))
	if !r.InFlight || !strings.Contains(r.Detail, "only calls in flight stand in the way") {
		t.Errorf("answered %+v", r)
	}
	g.settings(t, func(s *mockupstream.Settings) { s.Hold = false })
	(<-done).want(t, http.StatusOK)
	g.settled("acme")
}

func TestARefusalSaysHowMuchOfWhatIsSpentWasPresumed(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: atLeast, upstream: canned(http.StatusBadGateway, "text/html", "<html>")})
	key := g.tenant("acme", "0.0003")
	g.chat(key, `"max_tokens":100,`).want(t, http.StatusBadGateway)
	g.presumed("acme", "upstream_status_502")
	r := parsed[refusal402](t, g.chat(key, `"max_tokens":100,`).want(t, http.StatusPaymentRequired))
	if r.Budget.PresumedUsd != "0.000217" || r.Budget.SpentUsd != r.Budget.PresumedUsd || !strings.Contains(r.Detail, "0.000217 of what is spent was presumed") {
		t.Errorf("answered %+v", r)
	}
}

func TestTheMessageOfAnErrorNamesTheField(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "1")
	for field, body := range map[string]string{
		"max_tokens": `{"model":"gpt-4o","messages":[],"max_tokens":-1}`,
		"messages":   `{"model":"gpt-4o"}`,
		"n":          `{"model":"gpt-4o","messages":[],"n":0.5}`,
		"model":      `{"messages":[]}`,
	} {
		r := post(t, g.url+chatPath, body, "Authorization", "Bearer "+key).want(t, http.StatusBadRequest)
		got := parsed[struct{ Error struct{ Message string } }](t, r).Error.Message
		if !strings.HasPrefix(got, "Invalid request: "+field+": ") && !strings.Contains(got, field) {
			t.Errorf("%s: %q", body, got)
		}
	}
}
