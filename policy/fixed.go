package policy

import "github.com/open-policy-agent/opa/v1/ast"

// fixed tells whether compiled modules answer every request alike: they name
// input nowhere and call no built-in and no function. What is left to them is
// their own text and data. Calls are left out as a whole: a few read a clock without
// being asked to (the check of a certificate), and a policy without input has
// next to no use for one. It errs towards false,
// which costs an evaluation and never a decision.
func fixed(modules map[string]*ast.Module) bool {
	depends := false
	visitor := ast.NewGenericVisitor(func(node any) bool {
		switch node := node.(type) {
		case ast.Var:
			depends = depends || node.Equal(ast.InputRootDocument.Value)
		case *ast.Expr:
			depends = depends || node.IsCall()
		case *ast.Term:
			_, call := node.Value.(ast.Call)
			depends = depends || call
		}
		return depends
	})
	for _, module := range modules {
		visitor.Walk(module)
	}
	return !depends
}
