package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/util"
)

// Kinds of a policy that is refused.
var (
	// ErrSyntax means that a file is neither current Rego nor Rego v0.
	ErrSyntax = errors.New("not Rego")
	// ErrNoAllow means that package budgetguard.policy has no rule allow.
	ErrNoAllow = errors.New("no rule allow in package budgetguard.policy")
)

// Where the rules stand, as Rego writes it and as a path.
const (
	allowRef    = "data.budgetguard.policy.allow"
	denyRef     = "data.budgetguard.policy.deny"
	packagePath = "budgetguard/policy"
)

// prepare compiles src and prepares its query.
func prepare(ctx context.Context, src source, timeout time.Duration) (*Policy, error) {
	data, err := readData(src)
	if err != nil {
		return nil, err
	}
	compiler, err := compile(src, false)
	if err != nil {
		return nil, err
	}
	modules, err := openModules(ctx, src, data, timeout)
	if err != nil {
		return nil, err
	}
	p := &Policy{
		fingerprint: src.fingerprint,
		hasDeny:     modules.answers("deny") || len(compiler.GetRules(ast.MustParseRef(denyRef))) > 0,
		balances:    modules.any() || readsBalances(compiler.Modules),
		fixed:       !modules.any() && fixed(compiler.Modules),
		timeout:     timeout,
		slots:       slots(),
	}
	// From here the modules live as long as p, whatever happens below.
	modules.closeWith(p)
	if !modules.answers("allow") && len(compiler.GetRules(ast.MustParseRef(allowRef))) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrNoAllow, src.name)
	}
	query := allowRef
	if p.hasDeny {
		// Each in a list of its own: one undefined must not hide the other.
		query = fmt.Sprintf("[[x | x = %s], [x | x = %s]]", allowRef, denyRef)
	}
	options := append(modules.options(),
		rego.Query(query),
		rego.Compiler(compiler),
		rego.Store(inmem.NewFromObjectWithOpts(data, inmem.OptRoundTripOnWrite(false), inmem.OptReturnASTValuesOnRead(true))),
		// Without this a failing built-in is merely undefined, and a deny rule
		// that divides by zero would let the request pass.
		rego.StrictBuiltinErrors(true),
	)
	p.query, err = rego.New(options...).PrepareForEval(ctx)
	if err != nil {
		return nil, fmt.Errorf("prepare policy %s: %w", src.name, err)
	}
	return p, nil
}

// compile parses and compiles the Rego files of src, with or without tests.
//
// A file is current Rego if it parses as that. A few v0 files do, and only then
// fail to compile (they call a built-in that v1 dropped, say): so where that
// way fails, the other order is tried before the first error is reported.
func compile(src source, tests bool) (*ast.Compiler, error) {
	compiler, err := compileAs(src, tests, ast.RegoV1, ast.RegoV0)
	if err == nil {
		return compiler, nil
	}
	if compiler, errV0 := compileAs(src, tests, ast.RegoV0, ast.RegoV1); errV0 == nil {
		return compiler, nil
	}
	return nil, err
}

func compileAs(src source, tests bool, versions ...ast.RegoVersion) (*ast.Compiler, error) {
	modules := map[string]*ast.Module{}
	for _, name := range slices.Sorted(maps.Keys(src.files)) {
		if path.Ext(name) != ".rego" || (isTest(name) && !tests) {
			continue
		}
		module, err := parse(name, string(src.files[name]), versions)
		if err != nil {
			return nil, err
		}
		if err := checkBuiltins(module); err != nil {
			return nil, err
		}
		modules[name] = module
	}
	compiler := newCompiler(tests)
	if compiler.Compile(modules); compiler.Failed() {
		return nil, fmt.Errorf("compile policy %s: %w", src.name, compiler.Errors)
	}
	return compiler, nil
}

// newCompiler keeps the parsed modules for a test run, which compiles them its
// own way.
func newCompiler(tests bool) *ast.Compiler {
	return ast.NewCompiler().WithCapabilities(capabilities()).WithEnablePrintStatements(tests).WithKeepModules(tests)
}

// parse reads one file as the first version that it is written in.
func parse(name, text string, versions []ast.RegoVersion) (*ast.Module, error) {
	said := make([]string, 0, len(versions))
	for _, v := range versions {
		module, err := ast.ParseModuleWithOpts(name, text, ast.ParserOptions{RegoVersion: v})
		switch {
		case err != nil:
			said = append(said, fmt.Sprintf("as Rego %s: %s", v, err))
		case module == nil:
			said = append(said, fmt.Sprintf("as Rego %s: the file is empty", v))
		default:
			return module, nil
		}
	}
	return nil, fmt.Errorf("%w: %s: %s", ErrSyntax, name, strings.Join(said, "; "))
}

// readData merges the data files of src; each stands at the path of its folder,
// as in a bundle.
func readData(src source) (map[string]any, error) {
	data := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(src.files)) {
		if !isData(name) {
			continue
		}
		var content map[string]any
		if err := util.Unmarshal(src.files[name], &content); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrSource, name, err)
		}
		if folder := path.Dir(name); folder != "." {
			for part := range slices.Values(reversed(strings.Split(folder, "/"))) {
				content = map[string]any{part: content}
			}
		}
		if !merge(data, content) {
			return nil, fmt.Errorf("%w: %s gives a value that another data file gives too", ErrSource, name)
		}
	}
	if parent, ok := data["budgetguard"].(map[string]any); ok && parent["policy"] != nil {
		return nil, fmt.Errorf("%w: data at %s, which belongs to the rules", ErrSource, packagePath)
	}
	return data, nil
}

func reversed(parts []string) []string {
	slices.Reverse(parts)
	return parts
}

// merge adds from to into and tells whether nothing was given twice.
func merge(into, from map[string]any) bool {
	for key, value := range from {
		there, taken := into[key]
		if !taken {
			into[key] = value
			continue
		}
		a, okA := there.(map[string]any)
		b, okB := value.(map[string]any)
		if !okA || !okB || !merge(a, b) {
			return false
		}
	}
	return true
}
