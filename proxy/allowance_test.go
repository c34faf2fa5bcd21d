package proxy_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// dearer is a provider whose bill is above its bounds.
func dearer(prompt, completion int) http.HandlerFunc {
	return canned(200, "application/json", fmt.Sprintf(`{"model":"gpt-4o",
		"choices":[{"index":0,"message":{"content":"hi"}}],
		"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}`,
		prompt, completion, prompt+completion))
}

func TestAWrongBoundIsWrongOnceOnEveryGateway(t *testing.T) {
	t.Parallel()
	for rule, upstream := range map[string]http.HandlerFunc{
		"a preamble that no request shows": dearer(5_000, 10),
		"a cap that the provider ignores":  dearer(9, 3_000),
		"both":                             dearer(5_000, 3_000),
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			database, redis := testenv.Database(t), testenv.Redis(t)
			same := setup{books: unbilled, upstream: upstream, database: database, redis: redis}
			g := start(t, same)
			key := g.tenant("acme", "100")
			ask := func(at *gateway) domain.UsageSettled {
				t.Helper()
				post(t, at.url+chatPath, `{"model":"gpt-4o","max_tokens":10,
					"messages":[{"role":"user","content":"hi"}]}`, "X-API-Key", key).want(t, 200)
				all := of[domain.UsageSettled](at, "acme")
				return all[len(all)-1]
			}

			if s := ask(g); s.Charged <= s.Reserved {
				t.Fatalf("charged %s of %s: the test has no overrun", s.Charged, s.Reserved)
			}
			if n := g.metric("budgetguard_overruns_total", ""); n != 1 {
				t.Errorf("%v overruns are counted", n)
			}

			// The next call on this gateway, and the first one on a gateway that starts later.
			eventually(t, "the lesson is stored", func() bool {
				known, err := g.store.Allowances(t.Context())
				return err == nil && len(known) == 1
			})
			for _, at := range []*gateway{g, start(t, same)} {
				if s := ask(at); s.Reserved < s.Charged {
					t.Errorf("held %s for a call of %s", s.Reserved, s.Charged)
				}
			}
		})
	}
}

func TestNothingIsHeldBeforeEarlierOverrunsAreKnown(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	key := g.tenant("acme", "100")
	rename := func(from, to string) {
		t.Helper()
		_, err := g.store.Pool().Exec(t.Context(), `alter table `+from+` rename to `+to)
		check(t, err)
	}

	rename("allowance", "elsewhere")
	if code := g.chat(key, "").want(t, 503).code(); code != "ledger_unavailable" {
		t.Errorf("answered %s", code)
	}
	g.nothingForwarded()
	rename("elsewhere", "allowance")
	g.chat(key, "").want(t, 200)
}
