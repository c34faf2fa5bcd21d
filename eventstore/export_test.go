package eventstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

// Append is one tenant's part of a call of ledger_append, as Go that is wrong might make it.
type Append = lanes.Append

// Write calls ledger_append as the ledger does.
func Write(ctx context.Context, q querier, appends ...Append) (won []domain.TenantID, at time.Time, err error) {
	return write(ctx, q, appends)
}

// WriteAstray calls ledger_append with one tenant's head and events, and its balances as another's.
func WriteAstray(ctx context.Context, q querier, a Append, other domain.TenantID) error {
	var c columns
	if err := c.add(&a); err != nil {
		return err
	}
	for i := range c.accounts.tenant {
		c.accounts.tenant[i] = string(other)
	}
	var won []string
	var at time.Time
	return q.QueryRow(ctx, appendSQL, c.args()...).Scan(&won, &at)
}

// OnTransaction is a transaction that holds a tenant's head, as the lanes get it. Its clock stands still, so
// that a busy machine never takes too long over the past; what is refused then has a test of its own.
func OnTransaction(tx pgx.Tx, tenant domain.TenantID, head lanes.Head) lanes.Locked {
	return &lockedHead{tx: tx, tenant: tenant, head: head, now: func() time.Time { return time.Time{} }}
}

// Pool are the connections of a journal, with its settings.
func (j *Journal) Pool() *pgxpool.Pool { return j.pool }

// ChargeOf is chargeOf.
var ChargeOf = chargeOf
