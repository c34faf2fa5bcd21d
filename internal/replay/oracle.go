package main

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// oracle prices a usage from the catalogue's file, with code of its own.
type oracle struct{ rows map[string]*row }

type prices struct {
	Input       *json.Number `json:"input"`
	CachedInput *json.Number `json:"cached_input"`
	CacheWrite  *json.Number `json:"cache_write"`
	Write1h     *json.Number `json:"cache_write_1h"`
	Output      *json.Number `json:"output"`
}

type row struct {
	prices
	ID       string   `json:"id"`
	Aliases  []string `json:"aliases"`
	Routes   []string `json:"routes_to"`
	Flex     *prices  `json:"flex"`
	Priority *prices  `json:"priority"`
	OffPeak  *prices  `json:"off_peak"`
	Long     *struct {
		prices
		Threshold int64 `json:"threshold_input_tokens"`
	} `json:"long_context"`
}

func newOracle(catalogue []byte) (*oracle, error) {
	var file struct {
		Models []*row `json:"models"`
		Seeds  []struct {
			prices
			ID string `json:"id"`
		} `json:"seed_rows"`
	}
	if err := json.Unmarshal(catalogue, &file); err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	o := &oracle{rows: map[string]*row{}}
	for _, r := range file.Models {
		for _, name := range append(r.Aliases, r.ID) {
			o.rows[name] = r
		}
	}
	for _, seed := range file.Seeds {
		if r := o.rows[seed.ID]; r != nil {
			r.prices = seed.prices
			r.Flex, r.Priority, r.Long, r.OffPeak = nil, nil, nil, nil
		}
	}
	return o, nil
}

// figures are the tokens of a usage by their documented meaning: cached and written tokens within the
// prompt where they fit, reasoning within the completion unless the total says otherwise.
type figures struct{ prompt, cached, write, long, completion int64 }

// readUsage reads the recorded usage, false where there is none that says what was read.
func readUsage(raw json.RawMessage) (figures, bool) {
	var u struct {
		Prompt     *int64 `json:"prompt_tokens"`
		Completion int64  `json:"completion_tokens"`
		Total      int64  `json:"total_tokens"`
		Hit        int64  `json:"prompt_cache_hit_tokens"`
		NumCached  int64  `json:"num_cached_tokens"`
		Write      int64  `json:"cache_creation_input_tokens"`
		Details    struct {
			Cached int64 `json:"cached_tokens"`
			Write  int64 `json:"cache_write_tokens"`
		} `json:"prompt_tokens_details"`
		Answer struct {
			Reasoning int64 `json:"reasoning_tokens"`
		} `json:"completion_tokens_details"`
	}
	if lenient(raw, &u) != nil || u.Prompt == nil || *u.Prompt <= 0 {
		return figures{}, false
	}
	f := figures{
		prompt: *u.Prompt, cached: max(u.Hit, u.NumCached, u.Details.Cached), write: max(u.Write, u.Details.Write),
		completion: u.Completion,
	}
	if f.cached+f.write > f.prompt {
		f.prompt += f.cached + f.write
	}
	if u.Answer.Reasoning > u.Completion {
		f.completion += u.Answer.Reasoning
	}
	f.completion = max(f.completion, u.Total-f.prompt)
	return f, true
}

// lenient decodes a usage whose details are something else than objects, which some providers send.
func lenient(raw json.RawMessage, into any) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return err
	}
	for name, value := range members {
		if strings.HasSuffix(name, "_details") && !strings.HasPrefix(strings.TrimSpace(string(value)), "{") {
			delete(members, name)
		}
	}
	clean, err := json.Marshal(members)
	if err != nil {
		return err
	}
	return json.Unmarshal(clean, into)
}

// costs are what a usage may cost, in nano-dollars: one amount, or two where the price depends on the hour.
// Empty says that the model has no price.
func (o *oracle) costs(r record, f figures) []int64 {
	asked := o.rows[r.Asked]
	if asked == nil {
		return nil
	}
	answered := o.rows[r.Answered]
	costs := asked.costs(r.Tier, f)
	if answered == nil || answered == asked {
		return costs
	}
	other := answered.costs(r.Tier, f)
	if slices.Contains(asked.Routes, answered.ID) || slices.Max(other) > slices.Max(costs) {
		return other
	}
	return costs
}

func (r *row) costs(tier string, f figures) []int64 {
	p := r.prices
	switch {
	case tier == "flex" && r.Flex != nil:
		p = *r.Flex
	case (tier == "priority" || tier == "fast") && r.Priority != nil:
		p = *r.Priority
	case r.Long != nil && f.prompt > r.Long.Threshold:
		p = r.Long.prices
	}
	costs := []int64{p.cost(f)}
	if r.OffPeak != nil {
		costs = append(costs, r.OffPeak.cost(f))
	}
	return costs
}

// cost is exact, and rounded up once. A price is in dollars per million tokens, which is micro-dollars
// a token, or a thousand nano-dollars.
func (p prices) cost(f figures) int64 {
	sum := new(big.Rat)
	add := func(tokens int64, price, otherwise *json.Number) {
		if price == nil {
			price = otherwise
		}
		rate, ok := new(big.Rat).SetString(price.String())
		if ok {
			sum.Add(sum, rate.Mul(rate, new(big.Rat).SetInt64(tokens)))
		}
	}
	add(f.prompt-f.cached-f.write, p.Input, nil)
	add(f.cached, p.CachedInput, p.Input)
	add(f.write-f.long, p.CacheWrite, p.Input)
	add(f.long, p.Write1h, p.Input)
	add(f.completion, p.Output, nil)

	sum.Mul(sum, big.NewRat(1000, 1))
	nanos := new(big.Int).Quo(sum.Num(), sum.Denom())
	if !sum.IsInt() {
		nanos.Add(nanos, big.NewInt(1))
	}
	return nanos.Int64()
}
