package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/budgetguard/budgetguard/domain"
)

// played is one exchange and what became of it.
type played struct {
	record  record
	request string // its id: a request's is used once
	sent    string // what the provider got

	status int
	body   string
	code   string // of a refusal of ours

	reserved *domain.UsageReserved
	settled  *domain.UsageSettled
	released bool

	// violations are what must not be.
	violations []string
	bound      int64 // of the prompt
	counted    int64 // by the provider
}

// playAll plays all records, several at once, and judges them.
func (s *stage) playAll(ctx context.Context, records []record, o *oracle, workers int, progress func(int)) ([]*played, error) {
	all := make([]*played, 0, len(records))
	work := make(chan *played)
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for range workers {
		wg.Go(func() {
			for p := range work {
				s.play(ctx, p)
				mu.Lock()
				done++
				progress(done)
				mu.Unlock()
			}
		})
	}
	for i, r := range records {
		if r.path() == "" {
			continue
		}
		p := &played{record: r, request: fmt.Sprint("replay-", i)}
		all = append(all, p)
		work <- p
	}
	close(work)
	wg.Wait()

	// Settlements are not waited for by their calls, but by the end of the gateway.
	s.gateway.Close()
	if err := s.server.Cut(ctx); err != nil {
		return nil, err
	}
	if err := s.read(ctx, all); err != nil {
		return nil, err
	}
	for _, p := range all {
		p.judge(o)
	}
	return all, nil
}

// play sends one request and reads its answer.
func (s *stage) play(ctx context.Context, p *played) {
	s.mu.Lock()
	s.open[p.request] = p
	s.mu.Unlock()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.gateway.URL+p.record.path(), strings.NewReader(p.record.Request))
	if err != nil {
		p.violate("send: %v", err)
		return
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Tenant-Id", string(s.tenant))
	r.Header.Set("X-Request-Id", p.request)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		p.violate("send: %v", err)
		return
	}
	defer func() { _ = answer.Body.Close() }() // it was read to its end
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		p.violate("read the answer: %v", err)
	}
	p.status, p.body = answer.StatusCode, string(body)
	if answer.Header.Get("X-BudgetGuard-Reservation") == "" {
		var refusal struct{ Code, Param, Detail string }
		_ = json.Unmarshal(body, &refusal) // an answer that is none of ours has no code
		p.code = strings.TrimSpace(refusal.Code + " " + refusal.Param)
	}
}

func (p *played) violate(format string, args ...any) {
	p.violations = append(p.violations, fmt.Sprintf(format, args...))
}

// read finds what the ledger says of each exchange.
func (s *stage) read(ctx context.Context, all []*played) error {
	byID := make(map[string]*played, len(all))
	for _, p := range all {
		byID[p.request] = p
	}
	const page = 5000
	for after := int64(0); ; {
		records, err := s.store.Read(ctx, s.tenant, after, page)
		if err != nil {
			return err
		}
		for _, r := range records {
			after = r.Version
			switch e := r.Event.(type) { //nolint:gochecksumtype // only what becomes of a call
			case domain.UsageReserved:
				if p := byID[e.RequestID]; p != nil {
					p.reserved = &e
				}
			case domain.UsageSettled:
				if p := byID[e.RequestID]; p != nil {
					p.settled = &e
				}
			case domain.ReservationReleased:
				if p := byID[e.RequestID]; p != nil {
					p.released = true
				}
			}
		}
		if len(records) < page {
			return nil
		}
	}
}

// judge holds an exchange against its record.
func (p *played) judge(o *oracle) {
	switch {
	case p.code != "":
		return // refused, for a stated reason
	case p.reserved == nil:
		p.violate("it was answered %d, neither refused nor held: %.200s", p.status, p.body)
		return
	}
	p.judgeBytes()
	f, told := readUsage(p.record.Usage)
	if !told || p.record.Status != http.StatusOK {
		return
	}
	p.bound, p.counted = p.reserved.Estimate.PromptTokens, f.prompt
	if p.bound < p.counted {
		p.violate("the prompt was bounded by %d tokens, %d were counted", p.bound, p.counted)
	}
	costs := o.costs(p.record, f)
	if len(costs) == 0 {
		return
	}
	if least := slices.Min(costs); int64(p.reserved.Amount) < least {
		p.violate("held %s of a cost of %s", p.reserved.Amount, domain.Amount(least))
	}
	if p.settled == nil || !slices.Contains(costs, int64(p.settled.Charged)) {
		charged := "nothing"
		if p.settled != nil {
			charged = fmt.Sprintf("%s (%s)", p.settled.Charged, p.settled.Basis)
		}
		p.violate("charged %s, the usage %s costs %s", charged, compact(p.record.Usage), domain.Amount(costs[0]))
	}
}

// judgeBytes checks that both bodies went through as they were.
func (p *played) judgeBytes() {
	if p.status != p.record.Status {
		p.violate("status %d, recorded %d", p.status, p.record.Status)
	}
	if p.sent != p.record.Request && !sameButStreamOptions(p.sent, p.record.Request) {
		p.violate("the provider got another request")
	}
	if p.body != p.record.Response && p.body != withoutUsage(p.record.Response) {
		p.violate("the client got another answer")
	}
}

func sameButStreamOptions(a, b string) bool {
	var left, right map[string]any
	if json.Unmarshal([]byte(a), &left) != nil || json.Unmarshal([]byte(b), &right) != nil {
		return false
	}
	delete(left, "stream_options")
	delete(right, "stream_options")
	return reflect.DeepEqual(left, right)
}

// withoutUsage is a stream without what was asked for by the gateway alone: the event with nothing but
// the usage, and the null in every other.
func withoutUsage(stream string) string {
	var kept strings.Builder
	for _, event := range strings.SplitAfter(stream, "\n\n") {
		data := strings.TrimPrefix(strings.TrimSpace(event), "data:")
		var chunk struct {
			Choices []json.RawMessage `json:"choices"`
			Usage   json.RawMessage   `json:"usage"`
			Groq    json.RawMessage   `json:"x_groq"`
			Error   json.RawMessage   `json:"error"`
		}
		object := json.Unmarshal([]byte(data), &chunk) == nil
		asked := len(chunk.Usage) > 2 && string(chunk.Usage) != "null"
		if object && len(chunk.Choices) == 0 && asked && len(chunk.Error) == 0 {
			continue
		}
		for _, member := range []string{`,"usage":null`, `, "usage": null`, `"usage":null,`} {
			if strings.Contains(event, member) {
				event = strings.Replace(event, member, "", 1)
				break
			}
		}
		kept.WriteString(event)
	}
	return kept.String()
}

func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}
