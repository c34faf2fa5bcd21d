package policy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// patience replaces Timeout in tests that are not about it, so that a busy
// machine does not deny for them.
const patience = 30 * time.Second

// noon is a Sunday.
func noon() time.Time {
	return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
}

func write(tb testing.TB, path, text string) string {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// loadPath loads a policy that is patient.
func loadPath(tb testing.TB, path string) *Engine {
	tb.Helper()
	e, err := Load(path)
	if err != nil {
		tb.Fatalf("load %s: %v", path, err)
	}
	e.timeout = patience
	e.Current().timeout = patience
	return e
}

// loadText loads rules of package budgetguard.policy.
func loadText(tb testing.TB, rules string) *Engine {
	tb.Helper()
	return loadPath(tb, write(tb, filepath.Join(tb.TempDir(), "policy.rego"), header+rules))
}

const header = "package budgetguard.policy\n\n"

func TestDefaultAllowsAndLeavesBudgetsToTheLedger(t *testing.T) {
	t.Parallel()
	e := loadPath(t, "")
	for _, in := range []Input{
		{Now: noon(), Route: "/v1/chat/completions"},
		{Now: noon(), Route: "/v1/chat/completions", Usage: "10", Budget: "10"},
		{Now: noon().Add(11 * time.Hour), Route: "/admin/tenant-usage", Admin: true},
	} {
		d, err := e.Decide(t.Context(), in)
		if err != nil || !d.Allow || d.Messages != nil {
			t.Errorf("%+v: got %+v, %v; want allowed", in, d, err)
		}
	}
	if e.NeedsBalances() {
		t.Error("the default policy asks for balances")
	}
}

// denialCases say, for rules, whether the request passes and with what
// messages and error.
func denialCases() map[string]struct {
	rules    string
	allow    bool
	messages []string
	err      error
} {
	type c = struct {
		rules    string
		allow    bool
		messages []string
		err      error
	}
	return map[string]c{
		"allow alone":                 {rules: `default allow := true`, allow: true},
		"allow false":                 {rules: `default allow := false`},
		"allow undefined":             {rules: `allow if input.nothing`, err: ErrUndefined},
		"allow is a string":           {rules: `allow := "yes"`, err: ErrNotBoolean},
		"allow is a number":           {rules: `allow := 1`, err: ErrNotBoolean},
		"allow is a set":              {rules: `allow contains "me"`, err: ErrNotBoolean},
		"allow is null":               {rules: `allow := null`, err: ErrNotBoolean},
		"empty deny":                  {rules: "allow := true\ndeny contains m if {\n\tm := input.nothing\n}", allow: true},
		"undefined deny":              {rules: "allow := true\ndeny := \"x\" if input.nothing", allow: true},
		"deny as a set":               {rules: "allow := true\ndeny contains \"b\"\ndeny contains \"a\"", messages: []string{"a", "b"}},
		"deny as an array":            {rules: "allow := true\ndeny := [\"b\", \"a\", \"b\"]", messages: []string{"a", "b"}},
		"deny as an object of values": {rules: "allow := true\ndeny := {\"x\": \"b\", \"y\": \"a\"}", messages: []string{"a", "b"}},
		"deny as an object of keys":   {rules: "allow := true\ndeny[\"a\"] := true\ndeny[\"b\"] := false", messages: []string{"a"}},
		"deny as a string":            {rules: "allow := true\ndeny := \"a\"", messages: []string{"a"}},
		"deny true":                   {rules: "allow := true\ndeny := true"},
		"deny false":                  {rules: "allow := true\ndeny := false", allow: true},
		"deny with an empty message":  {rules: "allow := true\ndeny contains \"\""},
		"deny with another value":     {rules: "allow := true\ndeny contains {\"code\": 7}", messages: []string{`{"code": 7}`}},
		"deny is a number":            {rules: "allow := true\ndeny := 3", err: ErrDeny},
		"deny without allow":          {rules: "default allow := false\ndeny contains \"a\"", messages: []string{"a"}},
		"deny and allow undefined":    {rules: "allow if input.nothing\ndeny contains \"a\"", messages: []string{"a"}, err: ErrUndefined},
	}
}

func TestAnyDenyMessageAndAnyUnusableAllowDenies(t *testing.T) {
	t.Parallel()
	for name, c := range denialCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := loadText(t, c.rules)
			d, err := e.Decide(t.Context(), Input{Now: noon()})
			if !errors.Is(err, c.err) {
				t.Errorf("error %v, want %v", err, c.err)
			}
			if d.Allow != c.allow || !slices.Equal(d.Messages, c.messages) {
				t.Errorf("got %+v, want allow %v, messages %q", d, c.allow, c.messages)
			}
			if d.Revision != e.Revision() {
				t.Errorf("revision %q, want %q", d.Revision, e.Revision())
			}
		})
	}
}

func TestErrorsOfThePolicyDeny(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]string{
		"division by zero in allow": "default allow := true\nallow := false if 1 / count(input.tags) > 2",
		"division by zero in deny":  "default allow := true\ndeny contains \"x\" if 1 / count(input.tags) > 2",
		"two values of allow":       "allow := true if input.route\nallow := false if input.now",
		"two values of deny":        "default allow := true\ndeny := \"a\" if input.route\ndeny := \"b\" if input.now",
		"malformed time":            "default allow := true\ndeny contains \"x\" if time.parse_rfc3339_ns(input.route) > 0",
		"not a number":              "default allow := true\nallow := false if to_number(input.route) > 0",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := loadText(t, rules).Decide(t.Context(), Input{Now: noon(), Route: "/v1/completions"})
			if err == nil || d.Allow {
				t.Errorf("got %+v, %v; want denied with an error", d, err)
			}
		})
	}
}

// endless would take minutes.
const endless = `
allow if {
	some a in numbers.range(1, 3000)
	some b in numbers.range(1, 3000)
	some c in numbers.range(1, 3000)
	a + b + c < 0
}`

func TestALoopingPolicyIsStoppedAndDenies(t *testing.T) {
	t.Parallel()
	e, err := Load(write(t, filepath.Join(t.TempDir(), "policy.rego"), header+"default allow := true\n"+strings.Replace(endless, "allow if", "allow := false if", 1)))
	if err != nil {
		t.Fatal(err)
	}
	d, err := e.Decide(t.Context(), Input{Now: noon()})
	if !errors.Is(err, ErrTimeout) || d.Allow {
		t.Errorf("got %+v, %v; want denied with ErrTimeout", d, err)
	}
}

func TestACancelledRequestIsDeniedWithItsOwnError(t *testing.T) {
	t.Parallel()
	e := loadText(t, endless)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d, err := e.Decide(ctx, Input{Now: noon()})
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrTimeout) || d.Allow {
		t.Errorf("got %+v, %v; want denied with context.Canceled", d, err)
	}
}

func TestMessagesAreBoundedInCountAndLength(t *testing.T) {
	t.Parallel()
	e := loadText(t, `
default allow := true
deny contains sprintf("message %05d", [i]) if some i in numbers.range(1, 5000)
deny contains concat("", ["a", concat("", [x | x := "é"; some _ in numbers.range(1, 1000)])])`)
	d, err := e.Decide(t.Context(), Input{Now: noon()})
	if err != nil || d.Allow {
		t.Fatalf("got %+v, %v; want denied", d.Allow, err)
	}
	if len(d.Messages) != maxMessages || !slices.IsSorted(d.Messages) || d.Messages[1] != "message 00001" {
		t.Errorf("got %d messages: %q", len(d.Messages), d.Messages)
	}
	for _, m := range d.Messages {
		if len(m) > maxMessageBytes || !utf8.ValidString(m) {
			t.Errorf("message of %d bytes: %q", len(m), m)
		}
	}
	long := loadText(t, `
default allow := true
deny contains concat("", array.concat(["a"], ["é" | some _ in numbers.range(1, 1000)]))`)
	d, err = long.Decide(t.Context(), Input{Now: noon()})
	if err != nil || len(d.Messages) != 1 {
		t.Fatalf("got %+v, %v", d, err)
	}
	if m := d.Messages[0]; len(m) > maxMessageBytes || !utf8.ValidString(m) || !strings.HasSuffix(m, "é…") {
		t.Errorf("message of %d bytes: %q", len(m), m)
	}
}

func TestRevisionIsTheBeginningOfTheFilesSHA256(t *testing.T) {
	t.Parallel()
	// printf 'package budgetguard.policy\n\nallow := true' | sha256sum | cut -c1-16
	const want = "1213207bb5d50b05"
	if got := loadText(t, "allow := true").Revision(); got != want {
		t.Errorf("revision %s, want %s", got, want)
	}
}
