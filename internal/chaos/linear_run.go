package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	// linearLimit pays for some hundred calls of a tenant that is watched.
	linearLimit = domain.Amount(4_000_000)
	// linearClients call a watched tenant at once, and linearReaders read its balance. The check is exponential in them.
	linearClients, linearReaders = 3, 2
	// linearMost bounds the calls of one client.
	linearMost = 40
	// linearEvery is how long a tenant is watched before the next one.
	linearEvery = 20 * time.Second
	// slowRead is what a reading may take to be part of a history: one that hangs for long overlaps with everything and
	// says little.
	slowRead = 2 * time.Second
	// earlyRefusal is how old what a refusal rests on may be: a gateway may repeat for 100 ms what Postgres said, which
	// may have taken a while to reach it.
	earlyRefusal = 1500 * time.Millisecond
	// refusalsMost ends a client: an exhausted tenant has no more to tell.
	refusalsMost = 8
	// checkWithin bounds the check of one history.
	checkWithin = 30 * time.Second
)

// watched is a tenant whose every operation is written down.
type watched struct {
	id, key string
	limit   domain.Amount

	mu      sync.Mutex
	history []porcupine.Operation
	calls   []*watchedCall
}

// watchedCall is a call whose effects are found out later, in the books.
type watchedCall struct {
	name          string
	sent          int64
	held, settled int64 // when the reservation, and its closing, was first seen; never before the end: never
	answered      bool  // with a reservation
}

// watch follows one tenant after the other until ctx is done.
func (s *stage) watch(ctx context.Context, d *dice) []*watched {
	var list []*watched
	for i := 0; ctx.Err() == nil; i++ {
		w := &watched{id: fmt.Sprintf("linear-%03d", i), limit: linearLimit}
		if s.makeWatched(ctx, d, w) != nil {
			break
		}
		list = append(list, w)
		round, done := context.WithTimeout(ctx, linearEvery)
		var group sync.WaitGroup
		for c := range linearClients {
			caller := d.fork()
			group.Go(func() { s.callWatched(round, caller, w, c) })
		}
		for r := range linearReaders {
			reader := d.fork()
			group.Go(func() { s.readWatched(round, reader, w, linearClients+r) })
		}
		group.Wait()
		done()
	}
	return list
}

// makeWatched makes the tenant through gateways that may be down.
func (s *stage) makeWatched(ctx context.Context, d *dice, w *watched) error {
	for try := 0; ; try++ {
		// A try whose outcome is unknown may have made the tenant, or a key nobody knows: each has a name of its own.
		t := &tenant{id: fmt.Sprintf("%s-%d", w.id, try)}
		base := oneOf(d, s.urls) + "/admin/tenant"
		body := fmt.Sprintf(`{"id":%q,"name":%q,"budgets":[{"period":"yearly","limitUsd":%q}]}`, t.id, t.id, w.limit)
		var issued struct {
			Key string `json:"key"`
		}
		err := s.admin(ctx, http.MethodPost, base, body, nil)
		if err == nil {
			err = s.admin(ctx, http.MethodPost, base+"/"+t.id+"/apikeys", `{"name":"linear"}`, &issued)
		}
		if err == nil {
			w.id, w.key = t.id, issued.Key
			return nil
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

func (s *stage) instant() int64 { return s.now().Sub(s.began).Nanoseconds() }

func (w *watched) note(client int, call, back int64, o operation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history = append(w.history, porcupine.Operation{ClientId: client, Input: o, Call: call, Return: back})
}

// callWatched calls, and after each call looks in Postgres itself until its effects are there.
func (s *stage) callWatched(ctx context.Context, d *dice, w *watched, client int) {
	refusals := 0
	for i := 0; i < linearMost && refusals < refusalsMost && ctx.Err() == nil; i++ {
		c := &watchedCall{name: fmt.Sprintf("%s-%d-%d", w.id, client, i), held: never, settled: never}
		w.mu.Lock()
		w.calls = append(w.calls, c)
		w.mu.Unlock()
		refusedAmount, err := s.sendWatched(context.WithoutCancel(ctx), d, w, c)
		if err == nil && refusedAmount > 0 {
			w.note(client, max(0, c.sent-earlyRefusal.Nanoseconds()), s.instant(), operation{kind: reserving, amount: refusedAmount, refused: true})
			refusals++
			_ = sleep(ctx, d.between(500*time.Millisecond, time.Second))
			continue
		}
		s.follow(ctx, w, c)
	}
}

// sendWatched makes the call. A refusal says what was asked for.
func (s *stage) sendWatched(ctx context.Context, d *dice, w *watched, c *watchedCall) (refused domain.Amount, err error) {
	bounded, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	body := fmt.Sprintf(`{"model":"gpt-4o-mini","max_tokens":%d,"messages":[{"role":"user","content":"go on"}]}`, 20+d.below(100))
	r, err := http.NewRequestWithContext(bounded, http.MethodPost, oneOf(d, s.urls)+"/v1/chat/completions", bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-API-Key", w.key)
	r.Header.Set("X-OpenAI-Key", c.name)
	r.Header.Set("X-Request-Id", c.name)
	c.sent = s.instant()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = answer.Body.Close() }() // read to its end
	said, err := io.ReadAll(answer.Body)
	if id := answer.Header.Get("X-BudgetGuard-Reservation"); id != "" {
		c.answered = true
		if answer.StatusCode == http.StatusOK {
			c.held = s.instant()
		}
	}
	if answer.StatusCode != http.StatusPaymentRequired || err != nil {
		return 0, err
	}
	var refusal struct {
		Budget struct {
			Requested domain.Amount `json:"requestedUsd"`
		} `json:"budget"`
	}
	err = json.Unmarshal(said, &refusal)
	return refusal.Budget.Requested, err
}

// follow looks for the reservation of a call and for its end, for as long as it can live.
func (s *stage) follow(ctx context.Context, w *watched, c *watchedCall) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.ttl+10*time.Second)
	defer cancel()
	if c.held == never && !c.answered {
		ctx, cancel = context.WithTimeout(ctx, 5*time.Second) // it may never have got there
		defer cancel()
	}
	for sleep(ctx, 50*time.Millisecond) == nil {
		var reserved, open bool
		err := s.pool.QueryRow(ctx, `select
				exists (select from event where tenant_id = $1 and type = 'usage.reserved' and body::json->>'requestId' = $2),
				exists (select from hold h join event e on e.tenant_id = h.tenant_id and e.version = h.opened
					where h.tenant_id = $1 and e.body::json->>'requestId' = $2)`, w.id, c.name).Scan(&reserved, &open)
		if err != nil || !reserved {
			continue
		}
		c.held = min(c.held, s.instant())
		if !open {
			c.settled = s.instant()
			return
		}
	}
}

// readWatched reads the balance through the gateways.
func (s *stage) readWatched(ctx context.Context, d *dice, w *watched, client int) {
	for sleep(ctx, d.between(0, 600*time.Millisecond)) == nil {
		var seen struct {
			Budgets []struct {
				Spent    domain.Amount `json:"spentUsd"`
				Reserved domain.Amount `json:"reservedUsd"`
			} `json:"budgets"`
		}
		sent := s.instant()
		err := s.admin(ctx, http.MethodGet, oneOf(d, s.urls)+"/admin/tenant/"+w.id, "", &seen)
		back := s.instant()
		if err == nil && len(seen.Budgets) == 1 && back-sent < slowRead.Nanoseconds() {
			w.note(client, sent, back, operation{kind: reading, held: seen.Budgets[0].Reserved, settled: seen.Budgets[0].Spent})
		}
	}
}

// complete adds to a history what the books know of the calls: what took effect, and what it came to. When is what the
// check finds out.
func (w *watched) complete(b *books) ([]porcupine.Operation, error) {
	history := append([]porcupine.Operation{}, w.history...)
	for i, c := range w.calls {
		made := b.byRequest[c.name]
		switch {
		case len(made) > 1:
			return nil, fmt.Errorf("%s has %d reservations", c.name, len(made))
		case len(made) == 0 && c.held != never:
			return nil, fmt.Errorf("%s was told of a reservation that is not in the ledger", c.name)
		case len(made) == 0:
			continue
		}
		r := made[0]
		id := fmt.Sprintf("r%d", i)
		history = append(history, porcupine.Operation{ClientId: len(w.calls) + 3*i, Call: c.sent, Return: c.held, Input: operation{kind: reserving, id: id, amount: r.held}})
		for n, charge := range r.charges {
			o := operation{kind: closing, id: id, amount: charge, corrected: len(r.charges) > 1}
			back := c.settled
			if n > 0 { // one that came after the closing was seen, or before
				o, back = operation{kind: correcting, id: id, amount: charge - r.charges[n-1]}, never
			}
			history = append(history, porcupine.Operation{ClientId: len(w.calls) + 3*i + n + 1, Call: c.sent, Return: back, Input: o})
		}
	}
	return history, nil
}

// checkLinear checks the histories of all watched tenants.
func (v *verdict) checkLinear(list []*watched, b *books) {
	for _, w := range list {
		history, err := w.complete(b)
		if err != nil {
			v.violated("linearizability", "%s: %v", w.id, err)
			continue
		}
		v.linearPartitions++
		v.linearOperations += len(history)
		switch linearizable(w.limit, history, checkWithin) {
		case porcupine.Illegal:
			v.violated("linearizability", "the history of %s is not linearizable:\n%s", w.id, describe(history))
		case porcupine.Unknown:
			v.linearUndecided++
		case porcupine.Ok:
		}
	}
}

// describe lists a history by the time of the calls.
func describe(history []porcupine.Operation) string {
	var text strings.Builder
	for _, o := range sorted(history) {
		back := "any time later"
		if o.Return != never {
			back = time.Duration(o.Return).String()
		}
		_, _ = fmt.Fprintf(&text, "  %s to %s: %s\n", time.Duration(o.Call), back, o.Input.(operation)) // never fails
	}
	return text.String()
}
