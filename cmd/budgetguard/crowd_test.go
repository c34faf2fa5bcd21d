package main

import (
	"log/slog"
	"net"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// joined puts one end of a pipe into a crowd; nil where there is no room.
func joined(t *testing.T, c *crowd) *member {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
	})
	return c.join(&closable{Conn: near})
}

// closable remembers that it was closed.
type closable struct {
	net.Conn

	closed bool
}

func (c *closable) Close() error {
	c.closed = true
	return c.Conn.Close()
}

func gone(m *member) bool {
	c, ok := m.Conn.(*closable)
	return ok && c.closed
}

func TestTheLongestWaitingGoesFirstThenTheUnprovenAndNeverTheProven(t *testing.T) {
	t.Parallel()
	c := newCrowd(3, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	first, second, third := joined(t, c), joined(t, c), joined(t, c)
	c.changed(first, http.StateActive)

	fourth := joined(t, c)
	if !gone(second) || gone(first) || gone(third) {
		t.Fatal("the longest waiting did not go")
	}
	c.changed(third, http.StateActive)
	c.prove(c.remember(t.Context(), third))
	c.changed(fourth, http.StateActive)

	fifth := joined(t, c)
	if !gone(first) || gone(third) || gone(fourth) {
		t.Fatal("the oldest unproven did not go")
	}
	for _, m := range []*member{fourth, fifth} {
		c.changed(m, http.StateActive)
		c.prove(c.remember(t.Context(), m))
	}
	if joined(t, c) != nil {
		t.Error("one was admitted beside three that are proven")
	}

	// A request's end makes its connection wait again, and a place that was left is free.
	c.changed(third, http.StateIdle)
	if joined(t, c) == nil || !gone(third) {
		t.Error("one that is idle again did not go")
	}
	if err := fourth.Close(); err != nil {
		t.Error(err)
	}
	_ = fourth.Close()
	if c.size != 2 {
		t.Errorf("%d are counted, want 2", c.size)
	}
}
