package policy

import "github.com/open-policy-agent/opa/v1/ast"

// readsBalances tells whether compiled modules can see what the ledger holds:
// input.usage, input.budget, input.budgets, or input as a whole or by a name
// that is known only later. Imports and rules of other packages are resolved by
// then. It errs towards true, which costs a query and never a decision.
func readsBalances(modules map[string]*ast.Module) bool {
	found := false
	var visitor *ast.GenericVisitor
	visitor = ast.NewGenericVisitor(func(node any) bool {
		switch node := node.(type) {
		case ast.Var:
			found = found || node.Equal(ast.InputRootDocument.Value)
		case ast.Ref:
			found = found || refersToBalances(node)
			if node.HasPrefix(ast.InputRootRef) {
				for _, part := range node[1:] {
					visitor.Walk(part)
				}
				return true // The head alone would look like input as a whole.
			}
		}
		return found
	})
	for _, module := range modules {
		visitor.Walk(module)
	}
	return found
}

func refersToBalances(ref ast.Ref) bool {
	if !ref.HasPrefix(ast.InputRootRef) {
		return false
	}
	if len(ref) == 1 {
		return true
	}
	name, constant := ref[1].Value.(ast.String)
	return !constant || name == "usage" || name == "budget" || name == "budgets"
}
