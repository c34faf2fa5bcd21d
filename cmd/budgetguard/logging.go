package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/redis/go-redis/v9"
	"golang.org/x/term"
)

// logger is the process's, as LOG_LEVEL and LOG_FORMAT say: JSON, or text where a person reads.
func logger(v *values, w io.Writer) *slog.Logger {
	var level slog.Level
	if level.UnmarshalText([]byte(v.text("LOG_LEVEL"))) != nil {
		v.check("LOG_LEVEL", errors.New("want debug, info, warn or error"))
	}
	options := &slog.HandlerOptions{Level: level}
	format := v.text("LOG_FORMAT")
	if format == "" {
		format = "json"
		if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			format = "text"
		}
	}
	log := slog.New(slog.NewJSONHandler(w, options))
	switch format {
	case "json":
	case "text":
		log = slog.New(slog.NewTextHandler(w, options))
	default:
		v.check("LOG_FORMAT", errFormat)
	}
	redis.SetLogger(redisLog{log})
	return log
}

// redisLog takes what go-redis says, which is every dial that failed: whoever needs Redis says it better.
type redisLog struct{ log *slog.Logger }

func (r redisLog) Printf(ctx context.Context, format string, args ...any) {
	r.log.DebugContext(ctx, "redis", slog.String("said", fmt.Sprintf(format, args...)))
}
