package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

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

	// What the ledger says: released is the reason, empty where the hold was not given back.
	at       time.Time
	reserved *domain.UsageReserved
	settled  *domain.UsageSettled
	released string

	judgement
}

// playAll plays all records, several at once, and judges them.
func (s *stage) playAll(
	ctx context.Context, records []record, o *oracle, workers int, progress func(int),
) ([]*played, error) {
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
	url := s.gateway.URL + p.record.path()
	body := strings.NewReader(p.record.Request)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
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
	whole, err := io.ReadAll(answer.Body)
	if err != nil {
		p.violate("read the answer: %v", err)
	}
	p.status, p.body = answer.StatusCode, string(whole)
	if answer.Header.Get("X-BudgetGuard-Reservation") == "" {
		var refusal struct{ Code, Param, Detail string }
		_ = json.Unmarshal(whole, &refusal) // an answer that is none of ours has no code
		p.code = strings.TrimSpace(refusal.Code + " " + refusal.Param)
	}
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
					p.reserved, p.at = &e, r.Time
				}
			case domain.UsageSettled:
				if p := byID[e.RequestID]; p != nil {
					p.settled = &e
				}
			case domain.ReservationReleased:
				if p := byID[e.RequestID]; p != nil {
					p.released = e.Reason
				}
			}
		}
		if len(records) < page {
			return nil
		}
	}
}
