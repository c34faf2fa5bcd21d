package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// flushes are timed to tell what a commit waits for.
const flushes = 50

// header says on what the figures were measured: without it they are worth nothing.
func (b *bench) header(ctx context.Context) ([]string, error) {
	var postgres string
	if err := b.stage.pool.QueryRow(ctx, "select current_setting('server_version')").Scan(&postgres); err != nil {
		return nil, fmt.Errorf("ask Postgres for its version: %w", err)
	}
	redis, err := redisVersion(ctx, b.stage.redis.URL())
	if err != nil {
		return nil, err
	}
	flush, err := timeFlush(b.stage.dir, b.now)
	if err != nil {
		return nil, err
	}
	lines := []string{
		fmt.Sprintf("machine   %s, %d CPUs, %s/%s, load average %s at start", or(processor(), "unknown processor"), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, or(loadAverage(), "unknown")),
		fmt.Sprintf("disk      %d us for a flush (median of %d); commits wait for it", flush.Microseconds(), flushes),
		fmt.Sprintf("versions  commit %s, %s, Postgres %s, Redis %s", commit(ctx, b.stage.root), runtime.Version(), first(postgres), redis),
		fmt.Sprintf("date      %s", b.now().UTC().Format("2006-01-02 15:04 MST")),
	}
	if b.profile != "" {
		lines = append(lines, "profile   taken at saturation: figures are a little worse than without")
	}
	return lines, nil
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func first(text string) string {
	word, _, _ := strings.Cut(text, " ")
	return word
}

func redisVersion(ctx context.Context, url string) (version string, err error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return "", err
	}
	c := redis.NewClient(options)
	defer func() { err = errors.Join(err, c.Close()) }()
	info, err := c.Info(ctx, "server").Result()
	if err != nil {
		return "", fmt.Errorf("ask Redis for its version: %w", err)
	}
	_, rest, _ := strings.Cut(info, "redis_version:")
	version, _, _ = strings.Cut(rest, "\r\n")
	return version, nil
}

// commit names the checkout's revision, with a plus if it was changed since.
func commit(ctx context.Context, root string) string {
	revision, err := exec.CommandContext(ctx, "git", "-C", root, "rev-parse", "--short", "HEAD").Output() //nolint:gosec // our own checkout
	if err != nil {
		return "unknown"
	}
	name := strings.TrimSpace(string(revision))
	changed, err := exec.CommandContext(ctx, "git", "-C", root, "status", "--porcelain").Output() //nolint:gosec // our own checkout
	if err != nil || len(changed) > 0 {
		name += "+"
	}
	return name
}

// timeFlush writes 8 KiB and waits for the disk, as a commit does.
func timeFlush(dir string, now func() time.Time) (median time.Duration, err error) {
	file, err := os.Create(filepath.Join(dir, "flush")) //nolint:gosec // our own directory
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	page := make([]byte, 8<<10)
	var took []time.Duration
	for range flushes {
		began := now()
		if _, err := file.WriteAt(page, 0); err != nil {
			return 0, err
		}
		if err := file.Sync(); err != nil {
			return 0, err
		}
		took = append(took, now().Sub(began))
	}
	return spread(took)[0], nil
}
