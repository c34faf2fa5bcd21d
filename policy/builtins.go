package policy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// ErrBuiltin is the kind of [BuiltinError].
var ErrBuiltin = errors.New("a policy may not call this built-in")

// BuiltinError refuses a policy that calls a built-in whose answer is not in
// the input, so that its decisions could not be replayed. It is of kind
// [ErrBuiltin].
type BuiltinError struct {
	// Name of the built-in, such as "http.send".
	Name string
	// Where is the file and line, or the name of a WASM module.
	Where string
}

// Error names the built-in, the place and the way out.
func (e *BuiltinError) Error() string {
	hint := "decisions must be replayable from their input alone"
	if strings.HasPrefix(e.Name, "time.") {
		hint += "; the instant of the request is input.now"
	}
	return fmt.Sprintf("%s: %s: %s (%s)", e.Where, ErrBuiltin, e.Name, hint)
}

// Unwrap returns [ErrBuiltin].
func (*BuiltinError) Unwrap() error {
	return ErrBuiltin
}

// forbidden tells whether a built-in does not exist for policies. OPA marks
// those that answer differently from call to call; the families are named
// beside, so that a new member is refused before anybody has read about it.
func forbidden(b *ast.Builtin) bool {
	return b.Nondeterministic ||
		b.Name == "http.send" || b.Name == "opa.runtime" || b.Name == "time.now_ns" ||
		strings.HasPrefix(b.Name, "net.") || strings.HasPrefix(b.Name, "rand.")
}

// capabilities are this OPA's without the forbidden built-ins, and without the
// network: a JSON schema may not fetch another one either.
func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(slices.Clone(c.Builtins), forbidden)
	c.AllowNet = []string{}
	return c
}

// checkBuiltins finds a call of a forbidden built-in before the compiler does,
// which would only say "undefined function".
func checkBuiltins(module *ast.Module) error {
	names := map[string]bool{}
	for _, b := range ast.CapabilitiesForThisVersion().Builtins {
		names[b.Name] = forbidden(b)
	}
	var found *BuiltinError
	check := func(name fmt.Stringer, at *ast.Location) {
		if found == nil && names[name.String()] {
			found = &BuiltinError{Name: name.String(), Where: place(module, at)}
		}
	}
	ast.NewGenericVisitor(func(node any) bool {
		switch node := node.(type) {
		case *ast.Expr:
			if node.IsCall() {
				check(node.Operator(), node.Location)
			}
		case *ast.Term:
			if call, ok := node.Value.(ast.Call); ok && len(call) > 0 {
				check(call[0].Value, node.Location)
			}
		case *ast.With:
			check(node.Target.Value, node.Location)
			check(node.Value.Value, node.Location)
		}
		return found != nil
	}).Walk(module)
	if found != nil {
		return found
	}
	return nil
}

func place(module *ast.Module, at *ast.Location) string {
	if at == nil {
		at = module.Package.Location
	}
	return fmt.Sprintf("%s:%d", at.File, at.Row)
}

// checkModule finds a forbidden built-in that a WASM module asks its host for:
// the names stand in its data, each ended by a zero byte.
func checkModule(name string, module []byte) error {
	for _, b := range ast.CapabilitiesForThisVersion().Builtins {
		if forbidden(b) && bytes.Contains(module, []byte(b.Name+"\x00")) {
			return &BuiltinError{Name: b.Name, Where: name}
		}
	}
	return nil
}
