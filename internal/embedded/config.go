package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// Config says where a server lives and how careful it is with its data.
type Config struct {
	// Dir holds data, password, port and log of both servers. It is made when
	// missing. A relative path is taken from the working directory.
	Dir string
	// Durable makes every commit wait for the disk, as in production. Without it
	// Postgres runs with fsync=off and Redis never calls fsync: transactions mean the
	// same, a crash of a server still loses nothing, a crash of the machine may.
	Durable bool
	// Log is told where the data is, which port changed and what was left over
	// from an earlier run. nil: nobody is told.
	Log *slog.Logger
	// InitCache is a directory that keeps initialised clusters, one per version of
	// Postgres, so that tests copy one instead of waiting for initdb. They were never flushed to
	// the disk and are good for one boot of the machine. Empty: initdb.
	InitCache string
}

func (c Config) log() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}

// Kinds of errors, for errors.Is.
var (
	// ErrMissing is the kind of every [MissingError].
	ErrMissing = errors.New("not installed")
	// ErrInUse is the kind of every [InUseError].
	ErrInUse = errors.New("in use")
	// ErrRunning says that Start was called on a server that runs already.
	ErrRunning = errors.New("already running")
)

// MissingError says which program is not on this machine and what to do. Its kind is ErrMissing.
type MissingError struct {
	// Program is the server that is missing: "postgres" or "redis-server".
	Program string
	// Major is the version that the data on disk needs; empty when any would do.
	Major string
	// Looked lists the places that were searched.
	Looked []string
}

// Error names the program, the places searched and the command that helps.
func (e *MissingError) Error() string {
	program := e.Program
	if e.Major != "" {
		program += " " + e.Major + " (the version that made the data)"
	}
	return fmt.Sprintf("%s is not installed (looked in %s): run \"make deps\"", program, strings.Join(e.Looked, ", "))
}

// Unwrap answers ErrMissing.
func (e *MissingError) Unwrap() error { return ErrMissing }

// InUseError says that another process uses the directory. Its kind is ErrInUse.
type InUseError struct {
	// Dir is the directory that was asked for.
	Dir string
	// Holder is the process id that the lock file names, or "unknown".
	Holder string
}

// Error names the directory and its holder.
func (e *InUseError) Error() string {
	return fmt.Sprintf("%s is in use by another budgetguard (pid %s): stop that one, or choose another directory", e.Dir, e.Holder)
}

// Unwrap answers ErrInUse.
func (e *InUseError) Unwrap() error { return ErrInUse }
