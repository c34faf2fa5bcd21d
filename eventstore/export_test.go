package eventstore

import (
	"context"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// The bounds, for the tests that reach them.
const (
	MaxQueue        = maxQueue
	MaxCallsPerTurn = maxCallsPerTurn
	RefusalLife     = refusalLife
)

// Append is one tenant's part of a call of ledger_append, as Go that is wrong might make it.
type Append struct {
	Tenant   domain.TenantID
	Expected int64
	Prev     Hash
	Fence    int64
	Records  []domain.Recorded
}

func (a Append) turn() *turn {
	return &turn{stream: &stream{tenant: a.Tenant}, expected: a.Expected, prev: a.Prev, fence: a.Fence, records: a.Records}
}

// Write calls ledger_append as the ledger does.
func Write(ctx context.Context, q querier, appends ...Append) (won []string, at time.Time, err error) {
	turns := make([]*turn, 0, len(appends))
	for _, a := range appends {
		turns = append(turns, a.turn())
	}
	return write(ctx, q, turns)
}

// WriteAstray calls ledger_append with one tenant's head and events, and its balances as another's.
func WriteAstray(ctx context.Context, q querier, a Append, other domain.TenantID) error {
	var c columns
	if err := c.add(a.turn()); err != nil {
		return err
	}
	for i := range c.accounts.tenant {
		c.accounts.tenant[i] = string(other)
	}
	var won []string
	var at time.Time
	return q.QueryRow(ctx, appendSQL, c.args()...).Scan(&won, &at)
}

// Warm is the state a ledger holds of a tenant that is idle.
func (l *Ledger) Warm(tenant domain.TenantID) (domain.State, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.streams[tenant]
	if !ok || s.phase != idle || !s.cached {
		return domain.State{}, false
	}
	return s.state.Clone(), true
}

// Waiting is the number of calls that are queued or running.
func (l *Ledger) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting
}

// Queue puts a command into a tenant's queue without waiting for it.
func (l *Ledger) Queue(tenant domain.TenantID, c domain.Command) error {
	return l.enqueue(tenant, newCall(c))
}
