package main

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// oracle prices a usage from the catalogue's file, with code of its own.
type oracle struct{ rows map[string]*row }

// prices are dollars per million tokens, as the file has them.
type prices struct {
	Input       *json.Number `json:"input"`
	CachedInput *json.Number `json:"cached_input"`
	CacheWrite  *json.Number `json:"cache_write"`
	Write1h     *json.Number `json:"cache_write_1h"`
	Output      *json.Number `json:"output"`
	AudioInput  *json.Number `json:"audio_input"`
	AudioOutput *json.Number `json:"audio_output"`
}

type long struct {
	prices
	Threshold int64  `json:"threshold_input_tokens"`
	Rule      string `json:"rule"`
}

// holds reports whether a prompt is billed as a long one. A rule that names no operator includes
// the boundary, which is the dearer reading.
func (l *long) holds(prompt int64) bool {
	if strings.Contains(l.Rule, "> threshold") {
		return prompt > l.Threshold
	}
	return prompt >= l.Threshold
}

type tier struct {
	prices
	Long *prices `json:"long_context"`
}

type row struct {
	prices
	ID       string   `json:"id"`
	Aliases  []string `json:"aliases"`
	Routes   []string `json:"routes_to"`
	Flex     *tier    `json:"flex"`
	Priority *tier    `json:"priority"`
	Long     *long    `json:"long_context"`
	OffPeak  *struct {
		prices
		Peaks []string `json:"peak_hours_utc"`
	} `json:"off_peak"`
	Changes []struct {
		prices
		Effective string `json:"effective"`
	} `json:"price_changes"`
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

	// A seed row replaces all prices of a model by one flat rate.
	for _, seed := range file.Seeds {
		if r := o.rows[seed.ID]; r != nil {
			*r = row{prices: seed.prices, ID: r.ID, Aliases: r.Aliases, Routes: r.Routes}
		}
	}
	return o, nil
}

// cost is what an exchange costs in nano-dollars at an instant: the dearest of its readings, at
// the model that answered where that is dearer than the one asked for, or where the catalogue
// knows that the one routes to the other. False says that there is no price.
func (o *oracle) cost(r record, all []figures, at time.Time) (int64, bool) {
	asked := o.rows[r.Asked]
	if asked == nil || len(all) == 0 {
		return 0, false
	}
	cost, ok := asked.dearest(r.Tier, all, at)
	answered := o.rows[r.Answered]
	if answered == nil || answered == asked {
		return cost, ok
	}
	other, known := answered.dearest(r.Tier, all, at)
	if known && (!ok || other > cost || slices.Contains(asked.Routes, answered.ID)) {
		return other, true
	}
	return cost, ok
}

func (r *row) dearest(name string, all []figures, at time.Time) (int64, bool) {
	var dearest int64
	for _, f := range all {
		p, ok := r.at(name, f.prompt, at)
		if !ok {
			return 0, false
		}
		dearest = max(dearest, p.cost(f, r.prices))
	}
	return dearest, true
}

// at are the prices of a tier for a prompt at an instant; false where the file has none.
func (r *row) at(name string, prompt int64, at time.Time) (prices, bool) {
	isLong := r.Long != nil && r.Long.holds(prompt)
	special := map[string]*tier{"flex": r.Flex, "priority": r.Priority, "fast": r.Priority}[name]
	switch {
	case special != nil && isLong && special.Long == nil:
		return prices{}, false
	case special != nil && isLong:
		return *special.Long, true
	case special != nil:
		return special.prices, true
	case isLong:
		return r.Long.prices, true
	case r.OffPeak != nil && !within(r.OffPeak.Peaks, at):
		return r.OffPeak.prices, true
	}

	// Changes ascend by date, and the last that has come counts.
	p := r.prices
	for _, change := range r.Changes {
		if change.Effective <= at.UTC().Format(time.DateOnly) {
			p = change.prices
		}
	}
	return p, true
}

// within reports whether an instant is in one of some spans of the day, as in 22:00-02:00, in UTC.
func within(spans []string, at time.Time) bool {
	clock := at.UTC().Format("15:04")
	return slices.ContainsFunc(spans, func(span string) bool {
		from, to, _ := strings.Cut(span, "-")
		if from <= to {
			return from <= clock && clock < to
		}
		return clock >= from || clock < to
	})
}

// cost is exact, and rounded up once. A price is in dollars per million tokens, which is
// micro-dollars a token, or a thousand nano-dollars. What has no price of its own costs what its
// whole costs, and a cache write what it costs more than input in the row's own prices.
func (p prices) cost(f figures, base prices) int64 {
	input, output := rate(p.Input), rate(p.Output)
	sum := new(big.Rat)
	add := func(tokens int64, price *big.Rat) {
		sum.Add(sum, new(big.Rat).Mul(price, new(big.Rat).SetInt64(max(tokens, 0))))
	}
	add(f.prompt-f.parts(), input)
	add(f.cached, or(p.CachedInput, input))
	add(f.write-f.long, or(p.CacheWrite, surcharged(input, base.CacheWrite, base.Input)))
	longer := or(p.CacheWrite, surcharged(input, base.CacheWrite, base.Input))
	if base.Write1h != nil {
		longer = surcharged(input, base.Write1h, base.Input)
	}
	add(f.long, or(p.Write1h, longer))
	add(f.audio, or(p.AudioInput, input))
	add(f.completion-f.spoken, output)
	add(f.spoken, or(p.AudioOutput, output))

	sum.Mul(sum, big.NewRat(1000, 1))
	nanos := new(big.Int).Quo(sum.Num(), sum.Denom())
	if !sum.IsInt() {
		nanos.Add(nanos, big.NewInt(1))
	}
	return nanos.Int64()
}

func rate(price *json.Number) *big.Rat {
	if price == nil {
		return new(big.Rat)
	}
	r, ok := new(big.Rat).SetString(price.String())
	if !ok {
		return new(big.Rat)
	}
	return r
}

func or(price *json.Number, otherwise *big.Rat) *big.Rat {
	if price == nil {
		return otherwise
	}
	return rate(price)
}

// surcharged is input with the ratio that a part has to input elsewhere.
func surcharged(input *big.Rat, part, whole *json.Number) *big.Rat {
	if part == nil || rate(whole).Sign() == 0 {
		return input
	}
	ratio := new(big.Rat).Quo(rate(part), rate(whole))
	return ratio.Mul(ratio, input)
}
