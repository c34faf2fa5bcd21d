package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

const (
	// budgetUSD is never met: refusals are cheaper than answers and would flatter the figures.
	budgetUSD = "1000000"
	model     = "gpt-4o-mini"
	path      = "/v1/chat/completions"
	// maxTokens is the length of each answer.
	maxTokens = 190
)

// issueTenants makes tenants with a daily and a monthly budget and a key each, by the admin API. It returns the keys.
func (s *stage) issueTenants(ctx context.Context, count int) ([]string, error) {
	keys := make([]string, 0, count)
	for i := range count {
		id := fmt.Sprintf("bench-%04d", i)
		key, err := s.issueTenant(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("make tenant %s: %w", id, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func (s *stage) issueTenant(ctx context.Context, id string) (string, error) {
	admin := s.gateway.url + "/admin/tenant"
	if err := s.call(ctx, http.MethodPost, admin, s.adminKey, fmt.Sprintf(`{"id":%q,"name":%q}`, id, id), nil); err != nil {
		return "", err
	}
	for _, period := range []string{"daily", "monthly"} {
		budget := fmt.Sprintf(`{"period":%q,"limitUsd":%q}`, period, budgetUSD)
		if err := s.call(ctx, http.MethodPost, admin+"/"+id+"/budgets", s.adminKey, budget, nil); err != nil {
			return "", err
		}
	}
	var issued struct {
		Key string `json:"key"`
	}
	err := s.call(ctx, http.MethodPost, admin+"/"+id+"/apikeys", s.adminKey, `{"name":"bench"}`, &issued)
	if err == nil && issued.Key == "" {
		err = fmt.Errorf("the answer has no key")
	}
	return issued.Key, err
}

// prompt is about 190 bytes, and another one for each tenant.
func prompt(i int) string {
	return fmt.Sprintf("Question %d: a request reaches the provider only after the most it can cost is reserved, durably, inside "+
		"every budget that applies to it. What does that mean for somebody who pays the bill?", i)
}

// bodies are the same for all targets.
func bodies(count int, stream bool) []string {
	length, tail := maxTokens, ""
	if stream {
		length, tail = streamTokens, `,"stream":true`
	}
	list := make([]string, count)
	for i := range list {
		list[i] = fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%q}],"max_tokens":%d%s}`, model, prompt(i), length, tail)
	}
	return list
}

// requestsTo are the bodies as requests to an address, with headers that the keys are put into, one after the other.
func requestsTo(address, header string, keys, bodies []string) [][]byte {
	list := make([][]byte, len(bodies))
	for i, b := range bodies {
		list[i] = post(address, path, strings.ReplaceAll(header, "KEY", keys[i%len(keys)]), b)
	}
	return list
}
