package main

import (
	"container/list"
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// standing is the activity of a connection. The first is closed first, the last is never closed.
type standing int

const (
	// waiting has no request: it is new, sends its headers, or is kept alive.
	waiting standing = iota
	// unproven has a request whose caller has not proved to be a tenant.
	unproven
	// proven has a request of a tenant that was authenticated. It may hold money, so it is never cut.
	proven
	standings
)

// String names a standing in metrics.
func (s standing) String() string {
	return [standings]string{"waiting", "unproven", "proven"}[s]
}

// crowd bounds the client connections of all listeners together. A process that runs out of descriptors
// can serve nobody; connections that only stand there must not take the place of those that pay.
type crowd struct {
	most    int
	refused prometheus.Counter
	dropped *prometheus.CounterVec
	log     *slog.Logger

	mu       sync.Mutex
	size     int
	standing [standings]*list.List // of *member, the longest in it first
	warned   time.Time
}

// newCrowd admits at most so many connections at once.
func newCrowd(most int, registry prometheus.Registerer, log *slog.Logger) *crowd {
	c := &crowd{most: most, log: log}
	c.refused = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "budgetguard_connections_refused_total",
		Help: "Connections closed at once because all others had requests of tenants.",
	})
	c.dropped = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "budgetguard_connections_dropped_total",
		Help: "Connections closed to make room for new ones, by what they were doing.",
	}, []string{"standing"})
	registry.MustRegister(c.refused, c.dropped)
	for i := range c.standing {
		c.standing[i] = list.New()
	}
	return c
}

// member is one connection.
type member struct {
	net.Conn

	crowd *crowd
	// at and place are the crowd's to change; place is nil once the connection has left.
	at    standing
	place *list.Element
}

// Close closes the connection and gives its place back. It may be called several times.
func (m *member) Close() error {
	m.crowd.leave(m)
	return m.Conn.Close()
}

// CloseWrite says to the client that nothing more comes. net/http does so before it closes a connection
// whose request it has not read to its end: a plain close could destroy the answer on its way.
func (m *member) CloseWrite() error {
	if half, ok := m.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// gate is a listener whose connections belong to a crowd.
type gate struct {
	net.Listener

	crowd *crowd
}

// Accept returns the next connection that there is room for.
func (g gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if m := g.crowd.join(conn); m != nil {
			return m, nil
		}
		_ = conn.Close() // refused; the client sees that it was closed
	}
}

// join counts a connection in. Where the crowd is full, the one that has been waiting longest goes, or else
// the oldest one of an unproven caller; nil if all others are proven.
func (c *crowd) join(conn net.Conn) *member {
	c.mu.Lock()
	var victim *member
	if c.size >= c.most {
		if victim = c.victim(); victim == nil {
			c.mu.Unlock()
			c.refused.Inc()
			return nil
		}
		c.remove(victim)
	}
	m := &member{Conn: conn, crowd: c, at: waiting}
	m.place = c.standing[waiting].PushBack(m)
	c.size++
	loud := victim != nil && time.Since(c.warned) > time.Minute
	if loud {
		c.warned = time.Now()
	}
	c.mu.Unlock()

	if victim != nil {
		c.dropped.WithLabelValues(victim.at.String()).Inc()
		_ = victim.Conn.Close() // the other side may have closed it already
	}
	if loud {
		c.log.Warn("there are as many connections as descriptors allow; idle ones are closed for new ones "+
			"(raise the limit of open files, ulimit -n)", slog.Int("at_most", c.most))
	}
	return m
}

// victim is the connection to give up; the caller holds the lock.
func (c *crowd) victim() *member {
	for _, s := range []standing{waiting, unproven} {
		if first := c.standing[s].Front(); first != nil {
			m, _ := first.Value.(*member)
			return m
		}
	}
	return nil
}

// remove takes a connection out; the caller holds the lock.
func (c *crowd) remove(m *member) {
	c.standing[m.at].Remove(m.place)
	m.place = nil
	c.size--
}

func (c *crowd) leave(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.place != nil {
		c.remove(m)
	}
}

// move changes what a connection is doing.
func (c *crowd) move(m *member, to standing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.place == nil || m.at == to {
		return
	}
	c.standing[m.at].Remove(m.place)
	m.at = to
	m.place = c.standing[to].PushBack(m)
}

// changed follows what net/http says of a connection. A request counts from its headers' end: until then
// its connection waits.
func (c *crowd) changed(conn net.Conn, state http.ConnState) {
	m, ok := conn.(*member)
	if !ok {
		return
	}
	switch state {
	case http.StateActive:
		c.move(m, unproven)
	case http.StateIdle:
		c.move(m, waiting)
	case http.StateNew, http.StateClosed, http.StateHijacked: // Close gives the place back
	}
}

// memberKey is where the context of a request has its connection.
type memberKey struct{}

// remember puts a connection into the context of its requests.
func (c *crowd) remember(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, memberKey{}, conn)
}

// prove says that the request of a context has an authenticated caller.
func (c *crowd) prove(ctx context.Context) {
	if m, ok := ctx.Value(memberKey{}).(*member); ok {
		c.move(m, proven)
	}
}
