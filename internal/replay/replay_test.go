package main

import (
	"bytes"
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

const (
	usage = `{"prompt_tokens":8,"completion_tokens":2,"total_tokens":10}`
	plain = `{"model":"gpt-4o","choices":[{"message":{"content":"Hello."}}],"usage":` + usage + `}`
	// stream has a usage that only the gateway asked for.
	stream = `data: {"choices":[{"delta":{"content":"Hello."}}],"usage":null}` + "\n\n" +
		`data: {"choices":[],"usage":` + usage + "}\n\ndata: [DONE]\n\n"
)

// exchange is a record of a chat with gpt-4o, changed.
func exchange(id string, change func(*record)) record {
	r := record{
		ID: id, Endpoint: "chat.completions", Status: 200, Asked: "gpt-4o", Answered: "gpt-4o",
		Request:  `{"model":"gpt-4o","max_tokens":50,"messages":[{"role":"user","content":"hi"}]}`,
		Response: plain, Usage: json.RawMessage(usage),
	}
	change(&r)
	return r
}

// with is a record whose answer and recorded usage are another usage.
func with(other string) func(*record) {
	return func(r *record) {
		r.Response = strings.Replace(plain, usage, other, 1)
		r.Usage = json.RawMessage(other)
	}
}

// streams makes a record one of a stream.
func streams(r *record) {
	r.Stream, r.Response = true, stream
	r.Request = strings.Replace(r.Request, "{", `{"stream":true,`, 1)
}

func playThese(t *testing.T, records ...record) report {
	t.Helper()
	r, err := playRecords(t.Context(), "test", records, playing{
		database: testenv.Database(t), catalogue: pricing.Embedded(), tenant: "replay-1",
		workers: 2, progress: io.Discard,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhatIsRightPasses(t *testing.T) {
	t.Parallel()
	r := playThese(t,
		exchange("plain", func(*record) {}),
		exchange("stream", streams),
		exchange("stream whose client asked", func(r *record) {
			streams(r)
			const options = `{"stream_options":{"include_usage":true},`
			r.Request = strings.Replace(r.Request, "{", options, 1)
		}),
		exchange("compressed when it was recorded", func(r *record) {
			r.Headers = map[string]string{
				"content-encoding": "gzip", "Content-Type": "application/json",
			}
		}),
		exchange("cached beside the prompt", with(`{"prompt_tokens":4,"completion_tokens":2,`+
			`"prompt_tokens_details":{"cached_tokens":5}}`)),
		exchange("refused by the provider", func(r *record) {
			r.Status, r.Response, r.Usage = 400, `{"error":{"message":"no"}}`, nil
		}),
		exchange("without a usage", func(r *record) {
			r.Response, r.Usage = strings.Replace(plain, `,"usage":`+usage, "", 1), nil
		}),
		exchange("refused by us", func(r *record) {
			r.Request = `{"model":"unheard-of","messages":[]}`
		}),
		exchange("elsewhere", func(r *record) { r.Endpoint = "embeddings" }),
	)
	if len(r.Violations) != 0 || r.Passed != 7 || r.Priced != 5 {
		t.Errorf("%+v", r)
	}
	if r.NotServed != 1 || r.Released != 1 {
		t.Errorf("%d not served, %d given back", r.NotServed, r.Released)
	}
	const unpriced = "model_not_priced model"
	if r.Refused[unpriced] != 1 || r.Example[unpriced] != "refused by us" {
		t.Errorf("refused %v, for instance %v", r.Refused, r.Example)
	}
	for _, why := range []string{"no usage was recorded", "the provider refused or failed"} {
		if r.Unpriced[why] != 1 {
			t.Errorf("unpriced %v", r.Unpriced)
		}
	}
	if len(r.Models) != 1 || r.Models[0].Exchanges != 5 || r.Models[0].Least < 0 {
		t.Errorf("models %+v", r.Models)
	}
}

func TestEveryKindOfWrongMoneyIsFound(t *testing.T) {
	t.Parallel()
	wants := map[string][]string{
		"charge":  {"charged 0.00004 (provider)", "costs 0.00005"},
		"bound":   {"the prompt was bounded by", "9000 were counted", "held"},
		"hold":    {"held 0.0", "of a cost of 0.05002"},
		"presume": {"charged", "presumed: "},
	}
	r := playThese(t,
		exchange("charge", func(r *record) {
			r.Usage = json.RawMessage(`{"prompt_tokens":8,"completion_tokens":3}`)
		}),
		exchange("bound", with(`{"prompt_tokens":9000,"completion_tokens":2}`)),
		exchange("hold", with(`{"prompt_tokens":8,"completion_tokens":5000}`)),
		exchange("presume", func(r *record) { r.Response = "no JSON" }),
	)
	if r.Passed != 0 || r.Overrun != 2 || len(r.Violations) != len(wants) {
		t.Errorf("%+v", r)
	}
	for _, v := range r.Violations {
		what := strings.Join(v.What, "; ")
		for _, part := range wants[v.ID] {
			if !strings.Contains(what, part) {
				t.Errorf("%s: %q does not say %q", v.ID, what, part)
			}
		}
	}
}

func TestAHoldIsClosedOnceAndNotGivenBackForAnAnswer(t *testing.T) {
	t.Parallel()
	judged := func(p *played, response string) string {
		p.record = exchange("x", func(r *record) { r.Response = response })
		p.judgeEnd()
		return strings.Join(p.violations, "; ")
	}
	if got := judged(&played{}, plain); got != "its hold is still open" {
		t.Error(got)
	}
	if got := judged(&played{released: "not_sent"}, plain); !strings.Contains(got, "not_sent") {
		t.Error(got)
	}
	if got := judged(&played{released: "error"}, `{"error":{"message":"no"}}`); got != "" {
		t.Error(got)
	}
}

func TestARefusalMustBeTheRequestsFault(t *testing.T) {
	t.Parallel()
	for status, violations := range map[int]int{400: 0, 402: 0, 500: 1, 503: 1} {
		p := &played{code: "some_code", status: status}
		p.judge(&oracle{})
		if len(p.violations) != violations {
			t.Errorf("%d: %q", status, p.violations)
		}
	}
}

func TestReportsArePrintedAsTablesAndJSON(t *testing.T) {
	t.Parallel()
	p := &played{code: "model_not_priced model", record: exchange("x", func(*record) {})}
	p.violate("one thing")
	other := &played{record: exchange("y", func(*record) {})}
	other.violate("another")
	r := summarize("some.jsonl", []record{p.record, other.record}, []*played{p, other}, 0)

	var table bytes.Buffer
	if err := write(r, &table, "table", true, 1); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"some.jsonl", "for instance x", "x gpt-4o: one thing", "and 1 more", "outcome",
	} {
		if !strings.Contains(table.String(), part) {
			t.Errorf("the table does not say %q:\n%s", part, table.String())
		}
	}
	var document bytes.Buffer
	if err := write(r, &document, "json", false, 1); err != nil {
		t.Fatal(err)
	}
	var back report
	err := json.Unmarshal(document.Bytes(), &back)
	if err != nil || len(back.Violations) != 2 || back.Rows != nil {
		t.Errorf("%v %s", err, document.String())
	}
}
