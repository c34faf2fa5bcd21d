package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// counts are what the storage was asked to do: they explain the figures, and differ less between machines.
type counts struct {
	turns, transactions, wal int64
	commands                 map[string]int64 // of Redis, by name
}

// count reads the counters of Postgres and Redis: the turns of the ledger (one outbox row each), the transactions
// that wrote, the bytes of write-ahead log, and the calls of each Redis command.
func (s *stage) count(ctx context.Context) (counts, error) {
	var c counts
	err := s.pool.QueryRow(ctx, `
		select coalesce(pg_sequence_last_value(pg_get_serial_sequence('outbox', 'id')::regclass), 0),
		       pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint`).
		Scan(&c.turns, &c.transactions, &c.wal)
	if err != nil {
		return c, fmt.Errorf("read the counters of Postgres: %w", err)
	}
	c.commands, err = redisCalls(ctx, s.redis.URL())
	return c, err
}

func redisCalls(ctx context.Context, url string) (calls map[string]int64, err error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	client := redis.NewClient(options)
	defer func() { err = errors.Join(err, client.Close()) }()
	info, err := client.Info(ctx, "commandstats").Result()
	if err != nil {
		return nil, fmt.Errorf("read the counters of Redis: %w", err)
	}
	return readCalls(info), nil
}

// readCalls reads lines such as cmdstat_xadd:calls=7,usec=120,usec_per_call=17.14,... What is no such line is left out.
func readCalls(info string) map[string]int64 {
	calls := map[string]int64{}
	for line := range strings.Lines(info) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "cmdstat_")
		name, values, found := strings.Cut(rest, ":calls=")
		if !ok || !found {
			continue
		}
		digits, _, _ := strings.Cut(values, ",")
		if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
			calls[name] = n
		}
	}
	return calls
}

// add adds what was done between two readings.
func (c *counts) add(before, after counts) {
	c.turns += after.turns - before.turns
	c.transactions += after.transactions - before.transactions
	c.wal += after.wal - before.wal
	if c.commands == nil {
		c.commands = map[string]int64{}
	}
	for name, n := range after.commands {
		c.commands[name] += n - before.commands[name]
	}
}

// fewCalls are not worth a word, per request.
const fewCalls = 0.05

// perRequest is a sentence.
func (c *counts) perRequest(requests int) string {
	each := func(n int64) float64 { return float64(n) / float64(max(requests, 1)) }
	names := make([]string, 0, len(c.commands))
	var all int64
	for name, n := range c.commands {
		all += n
		if each(n) >= fewCalls {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return int(c.commands[b]-c.commands[a]) + strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %.1f", name, each(c.commands[name]))
	}
	return fmt.Sprintf("%.2f turns of the ledger, %.2f writing transactions, %.1f kB of WAL, %.1f Redis commands (%s)",
		each(c.turns), each(c.transactions), each(c.wal)/1000, each(all), strings.Join(names, ", "))
}

func (b *bench) showCounts() {
	b.show("Per request at saturation\n\n")
	for _, t := range b.targets {
		if t.guarded {
			b.show("%s: %s\n", t.name, t.counts.perRequest(len(t.closed.latencies)))
		}
	}
	b.show("\n")
}
