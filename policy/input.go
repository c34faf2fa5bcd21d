package policy

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// ErrInput is the kind of every error about an [Input] that cannot be shown to
// a policy. Such a request is denied.
var ErrInput = errors.New("policy input is not usable")

// maxDecimal bounds a money string, in bytes. An int64 of nano-dollars needs
// 21; the rest is room for a sum of them.
const maxDecimal = 32

// Input is what a policy sees of one request, under the names of the contract:
// usage, budget, budgets, route, time, now, weekday, tenant, model, apiKey,
// tags, estimate, stream and admin.
//
// Money is a plain decimal string in USD ("12.5", "0.000000001", "-3"), and
// becomes a JSON number with all its digits. A field whose zero value says
// "there is none" (Usage, Budget, Tenant, Model, APIKey, Estimate) is then
// undefined in Rego; budgets and tags are always there, empty if need be.
type Input struct {
	// Usage (spent plus reserved) and Budget (the limit) are those of the
	// budget with the least remaining.
	Usage, Budget string
	// Budgets are all budgets of the tenant that are looked at.
	Budgets []Budget
	// Route is the path as registered, such as "/v1/chat/completions".
	Route string
	// Now is the instant of the request in the tenant's time zone (UTC without
	// a tenant). It becomes now (RFC 3339), time (the hour, 0 to 23) and
	// weekday ("monday" to "sunday"). It must be set.
	Now time.Time
	// Tenant, Model and APIKey are ids; APIKey is the id of the key, never the
	// secret.
	Tenant, Model, APIKey string
	// Tags are the request's tags, as name and value.
	Tags map[string]string
	// Estimate is the most the request can cost.
	Estimate string
	// Stream tells whether the client asked for a stream.
	Stream bool
	// Admin tells whether the request is for the admin API.
	Admin bool
}

// Budget is one element of the input's budgets: id, period, scope, limit,
// usage, spent, reserved, remaining, resetsAt. Money is a decimal string in
// USD, as in [Input]; Usage is spent plus reserved.
type Budget struct {
	ID, Period string
	// Scope is undefined in Rego when empty: the budget is for the whole tenant.
	Scope map[string]string

	Limit, Usage, Spent, Reserved, Remaining string
	// ResetsAt is undefined in Rego when zero: the budget never resets.
	ResetsAt time.Time
}

// fields collects the members of a Rego object and the first error met.
type fields struct {
	pairs [][2]*ast.Term
	err   error
}

func (f *fields) put(name string, value *ast.Term) {
	f.pairs = append(f.pairs, [2]*ast.Term{ast.InternedTerm(name), value})
}

// text leaves an empty value undefined.
func (f *fields) text(name, value string) {
	if value != "" {
		f.put(name, ast.StringTerm(value))
	}
}

// money leaves an empty value undefined.
func (f *fields) money(name, value string) {
	if value == "" {
		return
	}
	number, ok := decimal(value)
	if !ok {
		if f.err == nil {
			f.err = fmt.Errorf("%w: %s is no decimal amount: %.40q", ErrInput, name, value)
		}
		return
	}
	f.put(name, ast.NewTerm(ast.Number(number)))
}

// value converts in to the Rego object that a policy calls input.
func (in *Input) value() (ast.Value, error) {
	if in.Now.IsZero() {
		return nil, fmt.Errorf("%w: now is not set", ErrInput)
	}
	f := fields{pairs: make([][2]*ast.Term, 0, 14)} // 14: the fields of Input in Rego.
	f.money("usage", in.Usage)
	f.money("budget", in.Budget)
	f.put("budgets", f.budgets(in.Budgets))
	f.put("route", ast.StringTerm(in.Route))
	f.put("time", ast.InternedTerm(in.Now.Hour()))
	f.put("now", ast.StringTerm(in.Now.Format(time.RFC3339Nano)))
	f.put("weekday", ast.InternedTerm(strings.ToLower(in.Now.Weekday().String())))
	f.text("tenant", in.Tenant)
	f.text("model", in.Model)
	f.text("apiKey", in.APIKey)
	f.put("tags", texts(in.Tags))
	f.money("estimate", in.Estimate)
	f.put("stream", ast.InternedTerm(in.Stream))
	f.put("admin", ast.InternedTerm(in.Admin))
	return ast.NewObject(f.pairs...), f.err
}

// usable tells whether value gives no error, without making the value.
func (in *Input) usable() bool {
	if in.Now.IsZero() || !amounts(in.Usage, in.Budget, in.Estimate) {
		return false
	}
	for i := range in.Budgets {
		b := &in.Budgets[i]
		if !amounts(b.Limit, b.Usage, b.Spent, b.Reserved, b.Remaining) {
			return false
		}
	}
	return true
}

// amounts tells whether each is a decimal amount or empty.
func amounts(values ...string) bool {
	for _, v := range values {
		if _, ok := decimal(v); v != "" && !ok {
			return false
		}
	}
	return true
}

func (f *fields) budgets(budgets []Budget) *ast.Term {
	terms := make([]*ast.Term, 0, len(budgets))
	for i := range budgets {
		b := &budgets[i]
		g := fields{pairs: make([][2]*ast.Term, 0, 9)} // 9: the fields of Budget in Rego.
		g.text("id", b.ID)
		g.text("period", b.Period)
		if len(b.Scope) > 0 {
			g.put("scope", texts(b.Scope))
		}
		g.money("limit", b.Limit)
		g.money("usage", b.Usage)
		g.money("spent", b.Spent)
		g.money("reserved", b.Reserved)
		g.money("remaining", b.Remaining)
		if !b.ResetsAt.IsZero() {
			g.put("resetsAt", ast.StringTerm(b.ResetsAt.Format(time.RFC3339Nano)))
		}
		if g.err != nil && f.err == nil {
			f.err = fmt.Errorf("budget %.40q: %w", b.ID, g.err)
		}
		terms = append(terms, ast.ObjectTerm(g.pairs...))
	}
	return ast.ArrayTerm(terms...)
}

func texts(m map[string]string) *ast.Term {
	pairs := make([][2]*ast.Term, 0, len(m))
	for k, v := range m {
		pairs = append(pairs, [2]*ast.Term{ast.StringTerm(k), ast.StringTerm(v)})
	}
	return ast.ObjectTerm(pairs...)
}

// decimal returns s as the shortest JSON number of the same value, so that
// "10.00" and the 10 of a policy are one number. It refuses exponents, signs
// other than one leading minus, and leading zeros: nobody who writes money
// writes those, and OPA panics on a number it cannot read.
func decimal(s string) (string, bool) {
	if len(s) > maxDecimal {
		return "", false
	}
	whole, fraction, dotted := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	if !digits(whole) || (len(whole) > 1 && whole[0] == '0') || (dotted && !digits(fraction)) {
		return "", false
	}
	fraction = strings.TrimRight(fraction, "0")
	if whole == "0" && fraction == "" {
		return "0", true // Never "-0".
	}
	if dotted {
		s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	return s, true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
