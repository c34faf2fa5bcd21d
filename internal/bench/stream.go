package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// chunksPerSecond is the pace of each stream: a fast model's.
	chunksPerSecond = 100
	// streamTokens is the length of each stream.
	streamTokens = 100
	// streamSpread is the time over which the streams begin: together they would measure the crowd at the door.
	streamSpread = time.Second
)

// streamed is what came of concurrent streams.
type streamed struct {
	first, total outcome
}

// flow watches a stream go by: when its first event came, and how many there were.
type flow struct {
	now    func() time.Time
	first  time.Time
	events int
	ended  bool // the last byte was a line end: one more ends an event
}

// Write counts the blank lines, each of which ends an event.
func (f *flow) Write(p []byte) (int, error) {
	if f.first.IsZero() {
		f.first = f.now()
	}
	for _, b := range p {
		if b == '\n' && f.ended {
			f.events++
		}
		f.ended = b == '\n'
	}
	return len(p), nil
}

// streams opens concurrent streams, spread over a second, and reads them to their ends. Each must have at least
// streamTokens events.
func (l *load) streams(ctx context.Context, count int) streamed {
	first, total := make([]time.Duration, count), make([]time.Duration, count)
	errs := make([]error, count)
	var sent sync.WaitGroup
	began := l.now()
	for i := range count {
		due := began.Add(time.Duration(i) * streamSpread / time.Duration(count))
		l.until(due)
		sent.Go(func() { first[i], total[i], errs[i] = l.stream(ctx, due, l.requests[i%len(l.requests)]) })
	}
	sent.Wait()
	var s streamed
	for i, err := range errs {
		if err != nil {
			s.first.fail(err)
			continue
		}
		s.first.latencies = append(s.first.latencies, first[i])
		s.total.latencies = append(s.total.latencies, total[i])
	}
	return s
}

func (l *load) stream(ctx context.Context, due time.Time, request []byte) (first, total time.Duration, err error) {
	c, err := dial(ctx, l.address)
	if err != nil {
		return 0, 0, err
	}
	defer c.close()
	f := &flow{now: l.now}
	if err := l.ask(c, request, f); err != nil {
		return 0, 0, err
	}
	if f.events < streamTokens {
		return 0, 0, fmt.Errorf("a stream of %d events ended after %d", streamTokens, f.events)
	}
	return f.first.Sub(due), l.now().Sub(due), nil
}
