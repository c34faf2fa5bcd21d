package ratelimit

import (
	"maps"
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
	if _, known := l.logs[tenant]; !known && len(l.logs) >= maxLocalTenants {
		l.makeRoom(now)
	}
	l.logs[tenant] = log
	v := Verdict{Admitted: admitted, Remaining: max(0, most-int64(len(log)))}
	if i := max(0, int64(len(log))-most); i < int64(len(log)) {
		v.Reset = log[i].Add(Window).Sub(now)
	}
	return v
}

// makeRoom drops the tenants whose admissions have all left the window or, where all are busy, everybody:
// a limit that starts anew admits too many for a minute, a memory without bound ends the gateway.
func (l *local) makeRoom(now time.Time) {
	maps.DeleteFunc(l.logs, func(_ string, log []time.Time) bool {
		return len(log) == 0 || !log[len(log)-1].After(now.Add(-Window))
	})
	if len(l.logs) >= maxLocalTenants {
		clear(l.logs)
	}
}
