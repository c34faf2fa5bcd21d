package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// maxInFlight bounds the requests under way at once in an open loop. Beyond it a request starts late, and the wait
// is part of its latency like any other.
const maxInFlight = 1024

// load is what one target is sent.
type load struct {
	address  string
	requests [][]byte // sent in turn
	now      func() time.Time
}

// outcome is what came of it.
type outcome struct {
	latencies []time.Duration
	errors    int
	first     error // the first of them
	took      time.Duration
}

func (o *outcome) fail(err error) {
	o.errors++
	if o.first == nil {
		o.first = err
	}
}

// join adds another round.
func (o *outcome) join(other outcome) {
	o.latencies = append(o.latencies, other.latencies...)
	o.errors += other.errors
	o.took += other.took
	if o.first == nil {
		o.first = other.first
	}
}

// rate is the answers per second.
func (o *outcome) rate() float64 { return float64(len(o.latencies)) / o.took.Seconds() }

// pool keeps idle connections; the one used last is used next, as any HTTP client does.
type pool struct {
	load
	mu   sync.Mutex
	idle []*conn
}

func (p *pool) take(ctx context.Context) (*conn, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return c, nil
	}
	p.mu.Unlock()
	return dial(ctx, p.address)
}

func (p *pool) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, c)
}

func (p *pool) close() {
	for _, c := range p.idle {
		c.close()
	}
}

// send is one request on a connection of the pool.
func (p *pool) send(ctx context.Context, request []byte) error {
	c, err := p.take(ctx)
	if err != nil {
		return err
	}
	if err := p.ask(c, request, nil); err != nil {
		c.close()
		return err
	}
	p.put(c)
	return nil
}

// ask sends a request and wants a 200.
func (l *load) ask(c *conn, request []byte, sink io.Writer) error {
	status, err := c.exchange(request, l.now().Add(answerWithin), sink)
	if err == nil && status != http.StatusOK {
		return &statusError{status}
	}
	return err
}

// statusError is an answer other than 200.
type statusError struct{ status int }

func (e *statusError) Error() string { return "status " + http.StatusText(e.status) }

// open sends requests at a fixed rate for a span of time. Each has its due time, whatever became of those before,
// and its latency counts from it.
func (l *load) open(ctx context.Context, perSecond int, span time.Duration) outcome {
	count := int(float64(perSecond) * span.Seconds())
	p := &pool{load: *l}
	defer p.close()
	took, errs := make([]time.Duration, count), make([]error, count)
	slots := make(chan struct{}, maxInFlight)
	var sent sync.WaitGroup
	began := l.now()
	for i := range count {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
		l.until(due)
		if ctx.Err() != nil {
			errs[i] = ctx.Err()
			break
		}
		slots <- struct{}{}
		sent.Go(func() {
			errs[i] = p.send(ctx, l.requests[i%len(l.requests)])
			took[i] = l.now().Sub(due)
			<-slots
		})
	}
	sent.Wait()
	o := outcome{took: l.now().Sub(began), latencies: make([]time.Duration, 0, count)}
	for i, err := range errs {
		switch {
		case err != nil:
			o.fail(err)
		case took[i] > 0:
			o.latencies = append(o.latencies, took[i])
		}
	}
	return o
}

// until waits for an instant.
func (l *load) until(due time.Time) {
	for d := due.Sub(l.now()); d > 0; d = due.Sub(l.now()) { // a signal may end a sleep early
		sleep(d)
	}
}

// closed lets clients send as fast as they are answered for a span of time.
func (l *load) closed(ctx context.Context, clients int, span time.Duration) outcome {
	began := l.now()
	end := began.Add(span)
	outcomes := make([]outcome, clients)
	var next atomic.Int64
	var done sync.WaitGroup
	for i := range outcomes {
		done.Go(func() { outcomes[i] = l.client(ctx, end, &next) })
	}
	done.Wait()
	var o outcome
	for _, one := range outcomes {
		o.join(one)
	}
	o.took = l.now().Sub(began)
	return o
}

// maxFailures ends a client whose every request fails: the target is broken, not slow.
const maxFailures = 100

func (l *load) client(ctx context.Context, end time.Time, next *atomic.Int64) outcome {
	var o outcome
	p := &pool{load: *l}
	defer p.close()
	for {
		sent := l.now()
		if !sent.Before(end) || ctx.Err() != nil || o.errors == maxFailures {
			return o
		}
		request := l.requests[int(next.Add(1))%len(l.requests)]
		if err := p.send(ctx, request); err != nil {
			o.fail(err)
			continue
		}
		o.latencies = append(o.latencies, l.now().Sub(sent))
	}
}

// interrupted tells that a run was ended and its figures mean nothing.
func interrupted(ctx context.Context) error {
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return nil
}
