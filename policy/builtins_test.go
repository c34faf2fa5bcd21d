package policy

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

func TestAPolicyThatCouldNotBeReplayedIsRefusedByTheBuiltinsName(t *testing.T) {
	t.Parallel()
	for builtin, rules := range map[string]string{
		"http.send":            `allow if http.send({"method": "GET", "url": "http://localhost"}).status_code == 200`,
		"net.lookup_ip_addr":   `allow if count(net.lookup_ip_addr("localhost")) > 0`,
		"net.cidr_contains":    `allow if net.cidr_contains("10.0.0.0/8", "10.0.0.1")`,
		"opa.runtime":          `allow if opa.runtime().env.ALLOW == "yes"`,
		"rand.intn":            `allow if rand.intn("x", 2) == 1`,
		"time.now_ns":          "allow if {\n\tsome t in [time.now_ns()]\n\tt > 0\n}",
		"uuid.rfc4122":         `allow if [x | x := uuid.rfc4122("x")][0] != ""`,
		"io.jwt.encode_sign":   `allow if io.jwt.encode_sign({}, {}, {}) != ""`,
		"io.jwt.verify_hs256 ": "",
	} {
		t.Run(builtin, func(t *testing.T) {
			t.Parallel()
			if rules == "" { // The control: verifying is replayable.
				loadText(t, `allow if io.jwt.verify_hs256("a.b.c", "secret")`)
				return
			}
			_, err := Load(write(t, filepath.Join(t.TempDir(), "policy.rego"), header+rules))
			var refused *BuiltinError
			if !errors.As(err, &refused) || !errors.Is(err, ErrBuiltin) || refused.Name != builtin {
				t.Fatalf("got %v; want a BuiltinError about %s", err, builtin)
			}
			if !strings.HasPrefix(refused.Where, "policy.rego:") || !strings.Contains(err.Error(), builtin) {
				t.Errorf("unclear: %v", err)
			}
		})
	}
}

func TestOldSyntaxFindsForbiddenBuiltinsToo(t *testing.T) {
	t.Parallel()
	_, err := Load(write(t, filepath.Join(t.TempDir(), "policy.rego"), header+"allow {\n  time.now_ns() > 0\n}\n"))
	if !errors.Is(err, ErrBuiltin) || !strings.Contains(err.Error(), "policy.rego:4") || !strings.Contains(err.Error(), "input.now") {
		t.Errorf("got %v; want ErrBuiltin at line 4 with a hint", err)
	}
}

func TestAReplacementByAForbiddenBuiltinIsRefused(t *testing.T) {
	t.Parallel()
	_, err := Load(write(t, filepath.Join(t.TempDir(), "policy.rego"), header+"f(_) := 1\nallow if f({}) with f as http.send"))
	if !errors.Is(err, ErrBuiltin) {
		t.Errorf("got %v; want ErrBuiltin", err)
	}
}

func TestNoNondeterministicBuiltinIsLeft(t *testing.T) {
	t.Parallel()
	c := capabilities()
	for _, b := range c.Builtins {
		if b.Nondeterministic || strings.HasPrefix(b.Name, "net.") || strings.HasPrefix(b.Name, "http.") {
			t.Errorf("%s is left", b.Name)
		}
	}
	if len(c.Builtins) < 150 || c.AllowNet == nil {
		t.Errorf("%d built-ins left, network %v", len(c.Builtins), c.AllowNet)
	}
	if all := len(ast.CapabilitiesForThisVersion().Builtins); all <= len(c.Builtins) {
		t.Errorf("OPA's own list shrank to %d", all)
	}
}

func TestNeedsBalancesOnlyWhenARuleCanSeeThem(t *testing.T) {
	t.Parallel()
	for rules, want := range map[string]bool{
		`allow := true`: false,
		`allow if input.route == "/v1/completions"`:                       false,
		`allow if input.tags.usage == "x"`:                                false,
		`allow if input.tags["budgets"]`:                                  false,
		`allow if "usage" in {"usage", input.model}`:                      false,
		`allow if input.usage < 3`:                                        true,
		`allow if input["budget"] > 3`:                                    true,
		`allow if every b in input.budgets { b.remaining > 0 }`:           true,
		`allow if count([b | some b in input.budgets; b.spent > 1]) == 0`: true,
		"allow if {\n\tname := \"usage\"\n\tinput[name] < 3\n}":           true,
		"allow if {\n\tsome name\n\tinput[name] == 3\n}":                  true,
		"allow if {\n\tx := input\n\tx.route\n}":                          true,
		"f(x) := x.usage\nallow if f(input) < 3":                          true,
		`allow if object.get(input, "usage", 0) < 3`:                      true,
		`allow if input.tags[input.budget]`:                               true,
		"import input.usage as u\nallow if u < 3":                         true,
		"import input as i\nallow if i.budget > 3":                        true,
		"import input as i\nallow if i.route":                             false,
		`allow if data.other[input.model] < 3`:                            false,
		`allow if not input.stream`:                                       false,
		`allow if true with input as {"usage": 3}`:                        true,
	} {
		t.Run(rules, func(t *testing.T) {
			t.Parallel()
			if got := loadText(t, rules).NeedsBalances(); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}
