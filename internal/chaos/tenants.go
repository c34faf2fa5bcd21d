package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// tenant is one that the clients call as.
type tenant struct {
	id    string
	key   string
	limit domain.Amount // as it was last raised; it never falls
	step  domain.Amount
}

const (
	// tightLimit pays for some fifty calls, so that most of the time is spent at the limit.
	tightLimit = domain.Amount(2_000_000)
	// roomyLimit is rarely met.
	roomyLimit = 50 * tightLimit
	// adminWithin bounds a call of the admin API in a system that is being broken.
	adminWithin = 10 * time.Second
)

// makeTenants makes the tenants before anything is broken: three in four are tight.
func (s *stage) makeTenants(ctx context.Context) ([]*tenant, error) {
	var list []*tenant
	for i := range s.tenants {
		t := &tenant{id: fmt.Sprintf("chaos-%02d", i), limit: tightLimit, step: tightLimit / 4}
		if i%4 == 3 {
			t.limit, t.step = roomyLimit, roomyLimit/4
		}
		if err := s.makeTenant(ctx, t); err != nil {
			return nil, fmt.Errorf("make %s: %w", t.id, err)
		}
		list = append(list, t)
	}
	return list, nil
}

func (s *stage) makeTenant(ctx context.Context, t *tenant) error {
	body := fmt.Sprintf(`{"id":%q,"name":%q,"budgets":%s}`, t.id, t.id, budgets(t.limit))
	if err := s.admin(ctx, http.MethodPost, s.urls[0]+"/admin/tenant", body, nil); err != nil {
		return err
	}
	var issued struct {
		Key string `json:"key"`
	}
	if err := s.admin(ctx, http.MethodPost, s.urls[0]+"/admin/tenant/"+t.id+"/apikeys", `{"name":"chaos"}`, &issued); err != nil {
		return err
	}
	t.key = issued.Key
	return nil
}

// budgets are three periods of one limit: every request must pass them all, and an hour may end in the run.
func budgets(limit domain.Amount) string {
	return fmt.Sprintf(`[{"period":"hourly","limitUsd":%q},{"period":"daily","limitUsd":%q},{"period":"monthly","limitUsd":%q}]`, limit, limit, limit)
}

// admin calls the admin API; an answer that is no 2xx is an error.
func (s *stage) admin(ctx context.Context, method, url, body string, into any) error {
	bounded, cancel := context.WithTimeout(ctx, adminWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(bounded, method, url, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Admin-Key", s.adminKey)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // read to its end
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %.300s", method, r.URL.Path, answer.Status, said)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(said, into)
}

// raise is an operator who raises one budget after the other, through any gateway. Whether it succeeds is left open.
func (s *stage) raise(ctx context.Context, d *dice, tenants []*tenant) {
	const every = 400 * time.Millisecond
	for i := 0; sleep(ctx, every) == nil; i++ {
		t := tenants[i%len(tenants)]
		t.limit += t.step
		_ = s.admin(ctx, http.MethodPost, oneOf(d, s.urls)+"/admin/tenant/"+t.id+"/budgets", `{"budgets":`+budgets(t.limit)+`}`, nil)
	}
}
