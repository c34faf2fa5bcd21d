package main

import (
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"
)

// logger is the process's, as LOG_LEVEL and LOG_FORMAT say: JSON, or text where a person reads.
func logger(v *values, w io.Writer) *slog.Logger {
	var level slog.Level
	v.check("LOG_LEVEL", level.UnmarshalText([]byte(v.text("LOG_LEVEL"))))
	options := &slog.HandlerOptions{Level: level}
	format := v.text("LOG_FORMAT")
	if format == "" {
		format = "json"
		if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			format = "text"
		}
	}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	if format != "json" {
		v.check("LOG_FORMAT", errFormat)
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
