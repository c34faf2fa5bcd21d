package policy

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"
)

// Timeout bounds one evaluation. Policies take some ten microseconds, so this
// is no tuning knob: it is what a policy that loops costs a request before the
// request is denied. It is measured on a clock on the wall, so it is long enough
// that a busy machine does not deny what the policy would allow.
const Timeout = time.Second

// slots bounds the evaluations at work at once: more than there are processors
// would only share them, and each would look slow.
func slots() chan struct{} { return make(chan struct{}, runtime.GOMAXPROCS(0)) }

// revisionDigits is the length of a revision: 64 bits of SHA-256 tell all
// versions of one installation's policy apart, and stay readable in an event.
const revisionDigits = 16

// Policy is one version of a policy, prepared. What it answers never changes, and it is safe
// for concurrent use. A caller that asks NeedsBalances first and Decide later
// takes one Policy from [Engine.Current], so that both are about one version.
type Policy struct {
	fingerprint string // The full SHA-256 that Revision begins.
	query       rego.PreparedEvalQuery
	hasDeny     bool
	balances    bool
	timeout     time.Duration
	slots       chan struct{}
	fixed       bool                     // No request can be told from another.
	decided     atomic.Pointer[Decision] // What a fixed policy answered; nil until it did.
}

// Revision is the beginning of the SHA-256 of the policy's bytes, in hex: of
// the file itself (`sha256sum policy.rego | cut -c1-16`), or, for a directory,
// of the lines that `sha256sum` prints for its files, sorted by path.
func (p *Policy) Revision() string {
	return p.fingerprint[:revisionDigits]
}

// NeedsBalances tells whether any rule can see input.usage, input.budget or
// input.budgets. Where it is false the caller may leave those three out, and
// need not fetch them.
func (p *Policy) NeedsBalances() bool {
	return p.balances
}

// Decide asks the policy about one request. The decision is always usable:
// where err is not nil it denies, and err is for the log ([ErrInput],
// [ErrUndefined], [ErrNotBoolean], [ErrDeny], [ErrTimeout], the context's
// error, or what OPA says).
func (p *Policy) Decide(ctx context.Context, in Input) (Decision, error) {
	if d := p.decided.Load(); d != nil && ctx.Err() == nil && in.usable() {
		return d.clone(), nil
	}
	denied := Decision{Revision: p.Revision()}
	input, err := in.value()
	if err != nil {
		return denied, err
	}
	allow, deny, err := p.evaluate(ctx, input, in.Now)
	if err != nil {
		return denied, fmt.Errorf("evaluate policy %s: %w", denied.Revision, err)
	}
	refused, messages, err := denies(deny)
	denied.Messages = messages
	if err != nil {
		return denied, fmt.Errorf("read deny of policy %s: %w", denied.Revision, err)
	}
	allowed, err := allows(allow)
	if err != nil {
		return denied, fmt.Errorf("read allow of policy %s: %w", denied.Revision, err)
	}
	d := Decision{Allow: allowed && !refused, Messages: messages, Revision: denied.Revision}
	if p.fixed {
		kept := d.clone()
		p.decided.Store(&kept)
	}
	return d, nil
}

// evaluate returns the values of allow and deny; nil is undefined. Built-ins
// that read a clock (the expiry of a token) read now.
func (p *Policy) evaluate(ctx context.Context, input ast.Value, now time.Time) (allow, deny ast.Value, err error) {
	select {
	case p.slots <- struct{}{}: // the wait for a slot is the machine's, not the policy's
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.timeout, ErrTimeout)
	defer cancel()
	results, err := p.query.Eval(ctx,
		rego.EvalParsedInput(input),
		rego.EvalTime(now),
		rego.EvalMetrics(metrics.NoOp()),
		rego.EvalGenerateJSON(asTerm),
	)
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, nil, context.Cause(ctx) // What OPA says is only that it was stopped.
	case err != nil:
		return nil, nil, err
	case len(results) == 0:
		return nil, nil, nil
	}
	term, ok := results[0].Expressions[0].Value.(*ast.Term)
	if !ok {
		return nil, nil, errors.New("query gave no term: a bug, not an input")
	}
	if !p.hasDeny {
		return term.Value, nil, nil
	}
	both, ok := term.Value.(*ast.Array)
	if !ok || both.Len() != 2 {
		return nil, nil, errors.New("query gave no pair: a bug, not an input")
	}
	return only(both.Elem(0)), only(both.Elem(1)), nil
}

// only returns the one element of a list, or nil.
func only(list *ast.Term) ast.Value {
	if a, ok := list.Value.(*ast.Array); ok && a.Len() == 1 {
		return a.Elem(0).Value
	}
	return nil
}

// asTerm hands results over as they are: a large deny set is then never
// converted as a whole.
func asTerm(t *ast.Term, _ *rego.EvalContext) (any, error) {
	return t, nil
}
