package lanes

import (
	"sync"
	"time"
)

// clock estimates the database's clock, which is the one that chooses windows. Each answer of the
// database gives a sample; the one with the shortest round trip is the most exact (Cristian's method)
// and is kept until it is too old to exclude drift.
type clock struct {
	now func() time.Time

	mu     sync.Mutex
	offset time.Duration
	trip   time.Duration
	taken  time.Time
}

// sampleLife bounds how far two clocks that drift by 100 ppm can part before a new sample counts: 3 ms.
const sampleLife = 30 * time.Second

// observe takes a sample.
func (c *clock) observe(s Sample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	trip := s.Received.Sub(s.Sent)
	if !c.taken.IsZero() && trip > c.trip && s.Received.Sub(c.taken) < sampleLife {
		return
	}
	c.offset, c.trip, c.taken = s.At.Sub(s.Sent.Add(trip/2)), trip, s.Received
}

// database is the present time by the database's clock.
func (c *clock) database() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now().Add(c.offset)
}
