package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/domain/pricing"
	"github.com/budgetguard/budgetguard/internal/testenv"
	"github.com/budgetguard/budgetguard/migrations"
)

func TestMain(m *testing.M) {
	os.Exit(testenv.Main(m, testenv.WithTemplate(func(ctx context.Context, url string) error {
		_, err := migrations.Up(ctx, url)
		return err
	})))
}

// exchange is a record of a chat with gpt-4o.
func exchange(id string, change func(*record)) record {
	r := record{
		ID: id, Endpoint: "chat.completions", Status: 200, Asked: "gpt-4o", Answered: "gpt-4o",
		Request:  `{"model":"gpt-4o","max_tokens":50,"messages":[{"role":"user","content":"hi"}]}`,
		Response: `{"model":"gpt-4o","choices":[{"message":{"content":"Hello."}}],"usage":{"prompt_tokens":8,"completion_tokens":2,"total_tokens":10}}`,
		Usage:    json.RawMessage(`{"prompt_tokens":8,"completion_tokens":2,"total_tokens":10}`),
	}
	change(&r)
	return r
}

func TestWhatIsRightPassesAndEveryKindOfViolationIsFound(t *testing.T) {
	t.Parallel()
	stream := `data: {"choices":[{"delta":{"content":"Hello."}}],"usage":null}` + "\n\n" +
		`data: {"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":2,"total_tokens":10}}` + "\n\ndata: [DONE]\n\n"
	records := []record{
		exchange("plain", func(*record) {}),
		exchange("stream", func(r *record) {
			r.Stream, r.Response = true, stream
			r.Request = strings.Replace(r.Request, "{", `{"stream":true,`, 1)
		}),
		exchange("refused by the provider", func(r *record) {
			r.Status, r.Response, r.Usage = 400, `{"error":{"message":"no"}}`, nil
		}),
		exchange("refused by us", func(r *record) { r.Request = `{"model":"nobody's","messages":[]}` }),
		exchange("elsewhere", func(r *record) { r.Endpoint = "embeddings" }),
		exchange("wrong charge", func(r *record) { r.Usage = json.RawMessage(`{"prompt_tokens":8,"completion_tokens":3}`) }),
		exchange("wrong bound", func(r *record) {
			r.Response = strings.Replace(r.Response, `"prompt_tokens":8,"completion_tokens":2,"total_tokens":10`, `"prompt_tokens":9000,"completion_tokens":2`, 1)
			r.Usage = json.RawMessage(`{"prompt_tokens":9000,"completion_tokens":2}`)
		}),
	}
	how := playing{database: testenv.Database(t), catalogue: pricing.Embedded(), tenant: "replay-1", workers: 2, progress: io.Discard}
	r, err := playRecords(t.Context(), "test", records, how)
	if err != nil {
		t.Fatal(err)
	}
	if r.Exchanges != 7 || r.NotServed != 1 || r.Passed != 3 || r.Released != 1 || r.Refused["model_not_priced model"] != 1 {
		t.Errorf("%+v", r)
	}
	found := map[string]string{}
	for _, v := range r.Violations {
		id := v.ID
		found[id] = strings.Join(v.What, "; ")
	}
	for id, parts := range map[string][]string{
		"wrong charge": {"charged 0.00004 (provider)", "costs 0.00005"},
		"wrong bound":  {"the prompt was bounded by", "9000 were counted", "held"},
	} {
		for _, part := range parts {
			if !strings.Contains(found[id], part) {
				t.Errorf("%s: %q does not say %q", id, found[id], part)
			}
		}
	}
	if len(found) != 2 {
		t.Errorf("violations %v", found)
	}
	if err := r.print(io.Discard, 1); err != nil {
		t.Error(err)
	}
}

func TestAnswersAndRequestsThatWereChangedAreViolations(t *testing.T) {
	t.Parallel()
	p := &played{record: exchange("x", func(*record) {}), sent: `{"model":"other"}`, body: "other", status: 201}
	p.judgeBytes()
	if len(p.violations) != 3 {
		t.Errorf("violations %q", p.violations)
	}
}
