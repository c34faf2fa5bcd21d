package proxy

import (
	"sync"
	"time"
)

// onceEach says of each of a bounded number of names when it is seen for the first time. What comes
// beyond the bound is never the first, so a hostile provider cannot fill a log or the memory. Safe for
// concurrent use; the zero value is ready.
type onceEach struct {
	mu   sync.Mutex
	seen map[string]bool
}

const onceMost = 64

func (o *onceEach) first(name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen[name] || len(o.seen) == onceMost {
		return false
	}
	if o.seen == nil {
		o.seen = map[string]bool{}
	}
	o.seen[name] = true
	return true
}

// nowAndThen says when a warning that keeps coming is due again. Safe for concurrent use; the zero value
// is due at once.
type nowAndThen struct {
	mu   sync.Mutex
	next time.Time
}

func (n *nowAndThen) due(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now.Before(n.next) {
		return false
	}
	n.next = now.Add(warningEvery)
	return true
}
