package policy

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	opacompile "github.com/open-policy-agent/opa/v1/compile"
)

// build compiles rules to WASM, as `opa build -t wasm` does.
func build(t *testing.T, rules string, entrypoints ...string) *bundle.Bundle {
	t.Helper()
	b := &bundle.Bundle{
		Modules: []bundle.ModuleFile{{
			URL: "policy.rego", Path: "/policy.rego", Raw: []byte(header + rules),
			Parsed: ast.MustParseModuleWithOpts(header+rules, ast.ParserOptions{RegoVersion: ast.RegoV1}),
		}},
		Data: map[string]any{"limits": map[string]any{"usd": 1}},
	}
	b.Manifest.Init()
	c := opacompile.New().WithTarget(opacompile.TargetWasm).WithEntrypoints(entrypoints...).WithBundle(b)
	if err := c.Build(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c.Bundle()
}

func module(t *testing.T, rules string, entrypoints ...string) string {
	t.Helper()
	modules := build(t, rules, entrypoints...).WasmModules
	if len(modules) != 1 {
		t.Fatalf("%d modules", len(modules))
	}
	return write(t, filepath.Join(t.TempDir(), "policy.wasm"), string(modules[0].Raw))
}

const priced = `
default allow := false
allow if input.estimate < 1
deny contains "no o1" if input.model == "o1-pro"
`

func TestAWasmModuleDecidesLikeItsRules(t *testing.T) {
	t.Parallel()
	for name, entrypoints := range map[string][]string{
		"each rule": {"budgetguard/policy/allow", "budgetguard/policy/deny"},
		"package":   {"budgetguard/policy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := loadPath(t, module(t, priced, entrypoints...))
			if !e.NeedsBalances() {
				t.Error("nobody knows what a module reads, yet balances are left out")
			}
			decides(t, e, Input{Estimate: "0.999999999"}, "")
			decides(t, e, Input{Estimate: "0.5", Model: "o1-pro"}, "no o1")
			if d, err := e.Decide(t.Context(), Input{Now: noon(), Estimate: "1"}); err != nil || d.Allow {
				t.Errorf("got %+v, %v; want denied", d, err)
			}
		})
	}
}

func TestAWasmModuleWithoutDenyHasNone(t *testing.T) {
	t.Parallel()
	e := loadPath(t, module(t, priced, "budgetguard/policy/allow"))
	decides(t, e, Input{Estimate: "0.5", Model: "o1-pro"}, "")
}

func TestAWasmModuleWithoutAllowIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := Load(module(t, priced, "budgetguard/policy/deny")); !errors.Is(err, ErrNoAllow) {
		t.Errorf("got %v; want ErrNoAllow", err)
	}
}

func TestAWasmBundleDecidesWithItsData(t *testing.T) {
	t.Parallel()
	b := build(t, "default allow := false\nallow if input.estimate < data.limits.usd\ndeny contains \"no o1\" if input.model == \"o1-pro\"", "budgetguard/policy/allow")
	var packed bytes.Buffer
	if err := bundle.NewWriter(&packed).Write(*b); err != nil {
		t.Fatal(err)
	}
	e := loadPath(t, write(t, filepath.Join(t.TempDir(), "bundle.tar.gz"), packed.String()))
	decides(t, e, Input{Estimate: "0.5"}, "")
	decides(t, e, Input{Estimate: "0.5", Model: "o1-pro"}, "no o1") // The rule that is no entrypoint stayed Rego.
	if d, err := e.Decide(t.Context(), Input{Now: noon(), Estimate: "1"}); err != nil || d.Allow {
		t.Errorf("got %+v, %v; want denied", d, err)
	}
}

func TestAWasmModuleThatAsksForAForbiddenBuiltinIsRefused(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]string{
		"http.send":   `allow if http.send({"method": "GET", "url": "http://localhost"}).status_code == 200`,
		"time.now_ns": `allow if time.now_ns() > 0`,
		"rand.intn":   `allow if rand.intn("x", 2) == 1`,
	} {
		_, err := Load(module(t, rules, "budgetguard/policy/allow"))
		var refused *BuiltinError
		if !errors.As(err, &refused) || refused.Name != name {
			t.Errorf("got %v; want a BuiltinError about %s", err, name)
		}
	}
}

func TestALoopingWasmModuleIsStoppedAndDenies(t *testing.T) {
	t.Parallel()
	e, err := Load(module(t, endless, "budgetguard/policy/allow"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // The second time needs a new instance: the first was stopped.
		if d, err := e.Decide(t.Context(), Input{Now: noon()}); !errors.Is(err, ErrTimeout) || d.Allow {
			t.Errorf("got %+v, %v; want denied with ErrTimeout", d, err)
		}
	}
}
