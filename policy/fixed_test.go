package policy

import (
	"errors"
	"slices"
	"testing"
)

func TestOnlyAPolicyWithoutInputAndCallsIsFixed(t *testing.T) {
	t.Parallel()
	if !loadPath(t, "").Current().fixed {
		t.Error("the default: decided anew for each request")
	}
	for rules, want := range map[string]bool{
		"allow := true":      true,
		"allow if data.open": true,
		"default allow := false\nallow if not shut\nshut if data.shut": true,
		"allow := true\ndeny contains \"closed\"":                      true,

		"allow if input.admin":                                               false,
		"allow if not input.admin":                                           false,
		"allow if open\nopen if input":                                       false,
		"allow if { some k; input[k] }":                                      false,
		"allow := true\nunused := input.route":                               false,
		"allow := true\ndeny contains input.model":                           false,
		"allow := true\ndeny contains m if { some m in [input.model] }":      false,
		"import input.admin\nallow if admin":                                 false,
		"import input as asked\nallow if asked.admin":                        false,
		"allow if data.x[input.tenant]":                                      false,
		"default allow := false\nallow := true if false else := input.admin": false,
		"allow if every t in [true] { input.stream == t }":                   false,
		"allow := count({k | input.tags[k]}) == 0":                           false,
		"allow if open with input as {}\nopen if true":                       false,
		"allow if f(1)\nf(_) := input.admin":                                 false,
		// This reads the clock though nothing passes it one.
		"allow := crypto.x509.parse_and_verify_certificates(\"x\")[0]": false,
	} {
		if got := loadText(t, rules+"\n").Current().fixed; got != want {
			t.Errorf("%s\nfixed %v, want %v", rules, got, want)
		}
	}
}

func TestAWasmModuleIsNotFixed(t *testing.T) {
	t.Parallel()
	if loadPath(t, module(t, "allow := true\n", "budgetguard/policy/allow")).Current().fixed {
		t.Error("nothing is known of what it reads")
	}
}

func TestAFixedPolicyDecidesEachRequestAlike(t *testing.T) {
	t.Parallel()
	for rules, want := range map[string]Decision{
		"allow := true":  {Allow: true},
		"allow := false": {},
		"allow := true\ndeny contains \"closed\"": {Messages: []string{"closed"}},
	} {
		p := loadText(t, rules+"\n").Current()
		for range 3 {
			d, err := p.Decide(t.Context(), Input{Now: noon()})
			if err != nil || d.Allow != want.Allow || !slices.Equal(d.Messages, want.Messages) || d.Revision != p.Revision() {
				t.Fatalf("%s\ngot %+v, %v", rules, d, err)
			}
			for i := range d.Messages {
				d.Messages[i] = "a caller may write here"
			}
		}
	}
}

func TestAFixedPolicyStillDeniesWhatIsNoRequest(t *testing.T) {
	t.Parallel()
	e := loadPath(t, "")
	decides(t, e, Input{Now: noon()}, "")
	for name, in := range map[string]Input{
		"now":       {},
		"usage":     {Now: noon(), Usage: "x"},
		"budget":    {Now: noon(), Budget: "x"},
		"estimate":  {Now: noon(), Estimate: "1e9"},
		"limit":     {Now: noon(), Budgets: []Budget{{Limit: "x"}}},
		"use":       {Now: noon(), Budgets: []Budget{{Usage: "x"}}},
		"spent":     {Now: noon(), Budgets: []Budget{{Spent: "x"}}},
		"reserved":  {Now: noon(), Budgets: []Budget{{Reserved: "x"}}},
		"remaining": {Now: noon(), Budgets: []Budget{{Limit: "1"}, {Remaining: "x"}}},
	} {
		if d, err := e.Decide(t.Context(), in); !errors.Is(err, ErrInput) || d.Allow {
			t.Errorf("%s: got %+v, %v; want ErrInput", name, d, err)
		}
	}
}

func TestAFixedPolicyThatFailsFailsEachTime(t *testing.T) {
	t.Parallel()
	p := loadText(t, "allow if data.nothing\n").Current()
	for range 2 {
		if d, err := p.Decide(t.Context(), Input{Now: noon()}); !errors.Is(err, ErrUndefined) || d.Allow {
			t.Errorf("got %+v, %v; want ErrUndefined", d, err)
		}
	}
}
