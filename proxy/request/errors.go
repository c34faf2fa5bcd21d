package request

import "fmt"

// Code says which kind of refusal an [Error] is; the values are the codes of the wire contract.
type Code string

// The two ways a body is refused; both are answered with status 400.
const (
	// InvalidRequest is a body that is malformed, ambiguous, or lacks what a price needs.
	InvalidRequest Code = "invalid_request"
	// NotEstimable is a well-formed body whose cost counting text cannot bound.
	NotEstimable Code = "not_estimable"
)

// Error is the only error type of [Parse]. Message is meant for the caller and never quotes the body; Param names the
// offending top-level field, or is empty.
type Error struct {
	Code    Code
	Message string
	Param   string
}

// Error gives the code, the field and the message in one line.
func (e *Error) Error() string {
	if e.Param == "" {
		return fmt.Sprintf("%s: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("%s: %s: %s", e.Code, e.Param, e.Message)
}

func invalid(param, message string) error {
	return &Error{Code: InvalidRequest, Message: message, Param: param}
}

func notEstimable(param, message string) error {
	return &Error{Code: NotEstimable, Message: message, Param: param}
}
