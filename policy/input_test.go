package policy

import (
	"encoding/json"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

func TestInputShowsEveryFieldUnderItsContractName(t *testing.T) {
	t.Parallel()
	berlin := time.FixedZone("CET", 3600)
	in := Input{
		Usage: "7.5", Budget: "10.00",
		Budgets: []Budget{
			{
				ID: "b1", Period: "monthly", Scope: map[string]string{"model": "gpt-4o"},
				Limit: "10", Usage: "7.5", Spent: "7", Reserved: "0.5", Remaining: "2.5",
				ResetsAt: time.Date(2026, 12, 1, 0, 0, 0, 0, berlin),
			},
			{ID: "b2", Period: "total", Limit: "1", Usage: "2", Spent: "2", Reserved: "0", Remaining: "-1"},
		},
		Route: "/v1/chat/completions", Now: time.Date(2026, 11, 22, 23, 30, 0, 0, berlin),
		Tenant: "acme", Model: "gpt-4o", APIKey: "key-1",
		Tags: map[string]string{"team": "search"}, Estimate: "0.000000001", Stream: true, Admin: true,
	}
	want := `{
		"usage": 7.5, "budget": 10,
		"budgets": [
			{"id": "b1", "period": "monthly", "scope": {"model": "gpt-4o"}, "limit": 10, "usage": 7.5, "spent": 7,
			 "reserved": 0.5, "remaining": 2.5, "resetsAt": "2026-12-01T00:00:00+01:00"},
			{"id": "b2", "period": "total", "limit": 1, "usage": 2, "spent": 2, "reserved": 0, "remaining": -1}
		],
		"route": "/v1/chat/completions", "time": 23, "now": "2026-11-22T23:30:00+01:00", "weekday": "sunday",
		"tenant": "acme", "model": "gpt-4o", "apiKey": "key-1", "tags": {"team": "search"},
		"estimate": 0.000000001, "stream": true, "admin": true
	}`
	sameValue(t, in, want)
}

func TestWhatThereIsNotIsUndefined(t *testing.T) {
	t.Parallel()
	sameValue(t, Input{Now: noon()}, `{
		"budgets": [], "route": "", "time": 12, "now": "2026-11-22T12:00:00Z", "weekday": "sunday",
		"tags": {}, "stream": false, "admin": false
	}`)
}

func sameValue(t *testing.T, in Input, want string) {
	t.Helper()
	got, err := in.value()
	if err != nil {
		t.Fatal(err)
	}
	if wanted := ast.MustParseTerm(want); got.Compare(wanted.Value) != 0 {
		t.Errorf("got  %s\nwant %s", got, wanted)
	}
}

func TestUnusableInputDenies(t *testing.T) {
	t.Parallel()
	e := loadPath(t, "")
	for name, in := range map[string]Input{
		"no time":       {},
		"bad usage":     {Now: noon(), Usage: "1e3"},
		"bad budget":    {Now: noon(), Budget: "ten"},
		"bad estimate":  {Now: noon(), Estimate: "1,5"},
		"bad remaining": {Now: noon(), Budgets: []Budget{{ID: "b", Remaining: "--1"}}},
	} {
		d, err := e.Decide(t.Context(), in)
		if !errors.Is(err, ErrInput) || d.Allow {
			t.Errorf("%s: got %+v, %v; want denied with ErrInput", name, d, err)
		}
	}
}

func TestMoneyIsComparedToTheNanoDollarBelowAMillionDollars(t *testing.T) {
	t.Parallel()
	e := loadText(t, "default allow := false\nallow if input.usage < input.budget")
	for _, pair := range [][2]string{
		{"0", "0.000000001"},
		{"0.1", "0.100000001"},
		{"999999.999999998", "999999.999999999"},
		{"-0.000000001", "0"},
		{"9223372036", "9223372036.854775807"},
	} {
		less, err := e.Decide(t.Context(), Input{Now: noon(), Usage: pair[0], Budget: pair[1]})
		if err != nil || !less.Allow {
			t.Errorf("%s < %s: got %v, %v", pair[0], pair[1], less.Allow, err)
		}
		for _, swapped := range [][2]string{{pair[1], pair[0]}, {pair[0], pair[0]}, {pair[1], pair[1]}} {
			d, err := e.Decide(t.Context(), Input{Now: noon(), Usage: swapped[0], Budget: swapped[1]})
			if err != nil || d.Allow {
				t.Errorf("%s < %s: got %v, %v", swapped[0], swapped[1], d.Allow, err)
			}
		}
	}
}

func TestMoneyKeepsAllItsDecimals(t *testing.T) {
	t.Parallel()
	const amount = "9223372036.854775807" // The largest domain.Amount.
	e := loadText(t, "allow := true\ndeny contains json.marshal(input.budget)")
	d, err := e.Decide(t.Context(), Input{Now: noon(), Budget: amount})
	if err != nil || len(d.Messages) != 1 || d.Messages[0] != amount {
		t.Errorf("got %+v, %v; want %s", d, err, amount)
	}
}

func FuzzDecimal(f *testing.F) {
	for _, seed := range []string{
		"", "0", "-0", "-0.0", "10.00", "0.000000001", "-3", "007", ".5", "5.", "1e3", "+1", "1_0", "٣", "--1",
		"9223372036.854775807", "-9223372036.854775808", "0x10", " 1", "1.0000000000000000000000000000000",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		number, ok := decimal(s)
		if !ok {
			return
		}
		if !json.Valid([]byte(number)) {
			t.Fatalf("decimal(%q) = %q, no JSON", s, number)
		}
		want, okWant := new(big.Rat).SetString(s)
		got, okGot := new(big.Rat).SetString(number)
		if !okWant || !okGot || want.Cmp(got) != 0 {
			t.Fatalf("decimal(%q) = %q, another value", s, number)
		}
		if again, ok := decimal(number); !ok || again != number {
			t.Fatalf("decimal(%q) = %q: not stable", number, again)
		}
	})
}
