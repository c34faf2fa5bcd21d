package ratelimit

import (
	"sync"
	"time"
)

// maxLocalTenants bounds the logs kept while Redis is away.
const maxLocalTenants = 10_000

// local is one gateway's own sliding window.
type local struct {
	mu   sync.Mutex
	logs map[string][]time.Time
}

func newLocal() *local { return &local{logs: map[string][]time.Time{}} }

func (l *local) admit(tenant string, most int64, now time.Time) Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	log := l.logs[tenant]
	left := 0
	for left < len(log) && !log[left].After(now.Add(-Window)) {
		left++
	}
	log = log[left:]
	admitted := int64(len(log)) < most
	if admitted {
		log = append(log, now)
	}
	if len(l.logs) >= maxLocalTenants {
		clear(l.logs)
	}
	l.logs[tenant] = log
	v := Verdict{Admitted: admitted, Remaining: max(0, most-int64(len(log)))}
	if i := max(0, int64(len(log))-most); i < int64(len(log)) {
		v.Reset = log[i].Add(Window).Sub(now)
	}
	return v
}
