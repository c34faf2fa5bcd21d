package main

import (
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/budgetguard/budgetguard/internal/embedded"
)

// The exit codes that scripts rely on.
const (
	exitOK         = 0
	exitFailure    = 1
	exitUsage      = 2
	exitConfig     = 3
	exitDependency = 4
	exitUnverified = 5
)

// exitError is an error that knows its exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

func configError(format string, args ...any) error {
	return &exitError{code: exitConfig, err: fmt.Errorf(format, args...)}
}

func dependencyError(format string, args ...any) error {
	return &exitError{code: exitDependency, err: fmt.Errorf(format, args...)}
}

// cannotListen says what to do about an address that cannot be had.
func cannotListen(address string, err error) error {
	return &exitError{code: exitFailure, err: fmt.Errorf("listen on %s: %w; choose another address (--port 0 picks a free one)", address, err)}
}

// exitCode finds the code of an error; a server that cannot be reached is a dependency that is down.
func exitCode(err error) int {
	var known *exitError
	var unreachable *pgconn.ConnectError
	var network *net.OpError
	switch {
	case errors.As(err, &known):
		return known.code
	case errors.As(err, &unreachable), errors.As(err, &network), errors.Is(err, embedded.ErrMissing):
		return exitDependency
	}
	return exitFailure
}
