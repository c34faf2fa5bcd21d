package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Limits of what a denied client is told: enough to explain, and too little for
// a policy with thousands of messages to fill the answer.
const (
	maxMessages     = 16
	maxMessageBytes = 256
)

// Kinds of a decision that could not be made. The request is denied.
var (
	// ErrUndefined means that no rule gave allow a value.
	ErrUndefined = errors.New("allow is undefined")
	// ErrNotBoolean means that allow is neither true nor false.
	ErrNotBoolean = errors.New("allow is not a boolean")
	// ErrDeny means that deny is neither messages nor a boolean.
	ErrDeny = errors.New("deny is not a set, array or object of messages")
	// ErrTimeout means that the evaluation took longer than [Timeout].
	ErrTimeout = errors.New("policy took too long")
)

// Decision is a policy's answer. The zero value denies.
type Decision struct {
	// Allow tells whether the request may go on.
	Allow bool
	// Messages say why not: sorted, without repetition, at most 16 of at most
	// 256 bytes (a longer one ends in "…"). There may be none.
	Messages []string
	// Revision names the version of the policy that decided; see
	// [Policy.Revision].
	Revision string
}

// clone lets two callers own one decision.
func (d Decision) clone() Decision {
	d.Messages = slices.Clone(d.Messages)
	return d
}

// allows reads the value of allow; nil is undefined.
func allows(v ast.Value) (bool, error) {
	if v == nil {
		return false, ErrUndefined
	}
	allow, ok := v.(ast.Boolean)
	if !ok {
		return false, fmt.Errorf("%w: it is a value of type %s", ErrNotBoolean, ast.ValueName(v))
	}
	return bool(allow), nil
}

// denies reads the value of deny; nil is undefined. It tells whether it denies,
// and with what messages.
func denies(v ast.Value) (bool, []string, error) {
	var messages []string
	denied := false
	add := func(t *ast.Term) {
		denied = true
		messages = append(messages, message(t))
	}
	switch v := v.(type) {
	case nil:
	case ast.Boolean:
		denied = bool(v)
	case ast.String:
		add(ast.NewTerm(v))
	case ast.Set:
		v.Foreach(add)
	case *ast.Array:
		v.Foreach(add)
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) {
			switch said, isBool := value.Value.(ast.Boolean); {
			case !isBool:
				add(value)
			case bool(said):
				add(key)
			}
		})
	default:
		return true, nil, fmt.Errorf("%w: it is a value of type %s", ErrDeny, ast.ValueName(v))
	}
	return denied, bounded(messages), nil
}

// message is the text of one element: a string as it is, anything else as Rego
// writes it.
func message(t *ast.Term) string {
	text := ""
	if s, ok := t.Value.(ast.String); ok {
		text = string(s)
	} else {
		text = t.Value.String()
	}
	if len(text) <= maxMessageBytes {
		return text
	}
	cut := maxMessageBytes - len("…")
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return strings.Clone(text[:cut]) + "…" // Clone: do not keep the long text alive.
}

func bounded(messages []string) []string {
	slices.Sort(messages)
	messages = slices.Compact(messages)
	messages = slices.DeleteFunc(messages, func(s string) bool { return s == "" })
	if len(messages) == 0 {
		return nil
	}
	return slices.Clone(messages[:min(len(messages), maxMessages)])
}
