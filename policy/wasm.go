package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	_ "github.com/open-policy-agent/opa/v1/features/wasm" // The engine that runs modules.
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/resolver"
	"github.com/open-policy-agent/opa/v1/resolver/wasm"
)

// manifestName is the file in which a bundle says what its modules answer.
const manifestName = ".manifest"

// wasmModules are the WASM modules of a policy, and what each answers.
type wasmModules struct {
	resolvers   []*wasm.Resolver
	entrypoints map[string]*wasm.Resolver // "budgetguard/policy/allow" → its module.
}

// openModules starts the WASM modules of src. Which rules a module answers is
// said by the bundle's manifest, or, without one, found out by asking.
func openModules(ctx context.Context, src source, data map[string]any, timeout time.Duration) (*wasmModules, error) {
	m := &wasmModules{entrypoints: map[string]*wasm.Resolver{}}
	declared, err := readManifest(src)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(src.files)) {
		if path.Ext(name) != ".wasm" {
			continue
		}
		asked := declared[name]
		if declared == nil {
			asked = []string{packagePath, packagePath + "/allow", packagePath + "/deny"}
		}
		if err := m.open(ctx, src, name, asked, data, timeout); err != nil {
			m.close()
			return nil, fmt.Errorf("open module %s of policy %s: %w", name, src.name, err)
		}
	}
	return m, nil
}

// readManifest returns the entrypoints of each module, or nil without a manifest.
func readManifest(src source) (map[string][]string, error) {
	content, ok := src.files[manifestName]
	if !ok {
		return nil, nil
	}
	var manifest struct {
		Wasm []struct{ Entrypoint, Module string }
	}
	if err := json.Unmarshal(content, &manifest); err != nil {
		return nil, fmt.Errorf("%w: manifest of %s: %w", ErrSource, src.name, err)
	}
	declared := map[string][]string{}
	for _, w := range manifest.Wasm {
		module := strings.TrimPrefix(w.Module, "/")
		declared[module] = append(declared[module], strings.Trim(w.Entrypoint, "/"))
	}
	return declared, nil
}

func (m *wasmModules) open(ctx context.Context, src source, name string, asked []string, data any, timeout time.Duration) error {
	module := src.files[name]
	if err := checkModule(name, module); err != nil {
		return err
	}
	refs := make([]ast.Ref, 0, len(asked))
	for _, entrypoint := range asked {
		refs = append(refs, entrypointRef(entrypoint))
	}
	r, err := wasm.NewWithContext(ctx, refs, module, data)
	if err != nil {
		return err
	}
	m.resolvers = append(m.resolvers, r)
	for i, entrypoint := range asked {
		if has(ctx, r, refs[i], timeout) {
			m.entrypoints[entrypoint] = r
		}
	}
	return nil
}

// has tells whether a module knows an entrypoint. It asks it about an empty
// request: any answer will do, an error of the rule included. The SDK has no
// list to read and no typed error.
func has(ctx context.Context, r *wasm.Resolver, entrypoint ast.Ref, timeout time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := r.Eval(ctx, askNothing(entrypoint))
	return err == nil || !strings.Contains(err.Error(), "unknown entrypoint")
}

func askNothing(entrypoint ast.Ref) resolver.Input {
	return resolver.Input{Ref: entrypoint, Input: ast.ObjectTerm()}
}

func entrypointRef(entrypoint string) ast.Ref {
	ref := ast.Ref{ast.DefaultRootDocument}
	for part := range strings.SplitSeq(entrypoint, "/") {
		ref = append(ref, ast.StringTerm(part))
	}
	return ref
}

func (m *wasmModules) any() bool {
	return len(m.resolvers) > 0
}

// answers tells whether a module gives the rule of that name.
func (m *wasmModules) answers(rule string) bool {
	return m.entrypoints[packagePath] != nil || m.entrypoints[packagePath+"/"+rule] != nil
}

func (m *wasmModules) options() []func(*rego.Rego) {
	options := make([]func(*rego.Rego), 0, len(m.entrypoints))
	for entrypoint, r := range m.entrypoints {
		options = append(options, rego.Resolver(entrypointRef(entrypoint), r))
	}
	return options
}

// closeWith frees the modules once nobody can reach p any more: decisions that
// began before a reload may still be running on it.
func (m *wasmModules) closeWith(p *Policy) {
	for _, r := range m.resolvers {
		runtime.AddCleanup(p, (*wasm.Resolver).Close, r)
	}
}

func (m *wasmModules) close() {
	for _, r := range m.resolvers {
		r.Close()
	}
}
