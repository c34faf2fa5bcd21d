package eventstore

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

// Ledger writes tenants' streams. It is safe for concurrent use; any number of Ledgers, in any number of
// processes, may write the same database. Its lanes are those of package lanes.
type Ledger = lanes.Ledger

// Turned describes a turn for metrics.
type Turned = lanes.Turned

// Hash links an event to the one before it in its tenant's stream.
type Hash = lanes.Hash

var (
	// ErrTampered says that stored events are not what was appended: a hash does not recompute. Nothing more
	// is written to such a tenant until a person has looked.
	ErrTampered = lanes.ErrTampered
	// ErrRefusedByDatabase says that a constraint of the database refused what Go decided. It is a bug or
	// tampering, never load: nothing was written, and the command is not tried again.
	ErrRefusedByDatabase = lanes.ErrRefusedByDatabase
)

// Genesis is what the first event of a tenant links to.
func Genesis(tenant domain.TenantID) Hash { return lanes.Genesis(tenant) }

// Link is the hash of an event that follows prev; see lanes.Link.
func Link(prev Hash, r domain.Recorded, schema int) Hash { return lanes.Link(prev, r, schema) }

// Config says how a Ledger runs. Only URL and Now are needed.
type Config struct {
	// URL is the database's, as pgx reads it.
	URL string
	// Now is the local clock; only differences to the database's are taken from it.
	Now    func() time.Time
	Logger *slog.Logger
	// Committed is called after each append, from the ledger's own goroutines; it must not block.
	Committed func()
	// Turned is called after each turn with what it did, for metrics; it must not block.
	Turned func(Turned)
}

// OpenLedger connects and starts the lanes. The database must be migrated. Close ends it.
func OpenLedger(ctx context.Context, cfg Config) (*Ledger, error) {
	journal, err := OpenJournal(ctx, cfg.URL, cfg.Now)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	l := lanes.New(journal, lanes.Config{Now: cfg.Now, Logger: cfg.Logger, Committed: cfg.Committed, Turned: cfg.Turned})
	l.Start(ctx)
	return l, nil
}
