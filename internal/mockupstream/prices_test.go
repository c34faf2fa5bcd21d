package mockupstream_test

import (
	"errors"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/internal/mockupstream"
)

func TestUnusableCatalogueIsRefused(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		"no JSON":            `prices`,
		"empty":              `{}`,
		"no input":           `{"models":[{"id":"m","output":1}]}`,
		"null output":        `{"models":[{"id":"m","input":1,"output":null}]}`,
		"negative":           `{"models":[{"id":"m","input":-1,"output":1}]}`,
		"finer than a pico":  `{"models":[{"id":"m","input":0.0000001,"output":1}]}`,
		"exponent":           `{"models":[{"id":"m","input":1e2,"output":1}]}`,
		"absurdly dear":      `{"models":[{"id":"m","input":1000000,"output":1}]}`,
		"name twice":         `{"models":[{"id":"m","input":1,"output":1},{"id":"n","aliases":["m"],"input":1,"output":1}]}`,
		"name with a quote":  `{"models":[{"id":"m\"","input":1,"output":1}]}`,
		"no name":            `{"models":[{"input":1,"output":1}]}`,
		"threshold missing":  `{"models":[{"id":"m","input":1,"output":1,"long_context":{"input":1,"output":1}}]}`,
		"bad tier":           `{"models":[{"id":"m","input":1,"output":1,"flex":{"input":1}}]}`,
		"bad priority":       `{"models":[{"id":"m","input":1,"output":1,"priority":{"output":1}}]}`,
		"bad long context":   `{"models":[{"id":"m","input":1,"output":1,"long_context":{"threshold_input_tokens":1}}]}`,
		"change of no date":  `{"models":[{"id":"m","input":1,"output":1,"price_changes":[{"input":2}]}]}`,
		"change of bad date": `{"models":[{"id":"m","input":1,"output":1,"price_changes":[{"effective":"soon"}]}]}`,
		"changes in disorder": `{"models":[{"id":"m","input":1,"output":1,"price_changes":[
			{"effective":"2027-01-01","input":2},{"effective":"2026-01-01","input":3}]}]}`,
		"bad seed row": `{"models":[{"id":"m","input":1,"output":1}],"seed_rows":[{"id":"m","input":1}]}`,
	}
	for name, prices := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := mockupstream.New(mockupstream.Config{Prices: []byte(prices), Now: newClock(start).now})
			if !errors.Is(err, mockupstream.ErrPrices) {
				t.Errorf("got %v, want ErrPrices", err)
			}
		})
	}
}

func TestServerWithoutClockIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := mockupstream.New(mockupstream.Config{Prices: catalogue(t)}); err == nil {
		t.Error("got no error")
	}
}

func TestPriceChangesBuildOnEachOther(t *testing.T) {
	t.Parallel()
	p := startWith(t, []byte(`{"models":[{"id":"m","input":1,"output":10,"price_changes":[
		{"effective":"2027-01-01","input":2},{"effective":"2028-01-01","output":20}]}],
		"seed_rows":[{"id":"only-seeded","input":3,"output":4}]}`))
	for _, c := range []struct {
		year int
		want int64
	}{{2026, 19_000}, {2027, 28_000}, {2028, 38_000}} {
		p.clock.set(time.Date(c.year, 1, 2, 0, 0, 0, 0, time.UTC))
		p.chat(t, chatOf("m", 9, `,"max_tokens":1`))
		if got := p.Bill(p.clock.now(), time.Time{}).TotalNano; got != c.want {
			t.Errorf("in %d: got %d nano, want %d", c.year, got, c.want)
		}
	}
	p.clock.set(start.AddDate(5, 0, 0))
	p.chat(t, chatOf("only-seeded", 9, `,"max_tokens":1`))
	if got := p.Bill(p.clock.now(), time.Time{}).ByModel["only-seeded"].TotalUsd; got != "0.000031" {
		t.Errorf("a seed row without a model: got %s, want 0.000031", got)
	}
}
