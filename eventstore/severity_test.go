package eventstore

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

func TestTheEndOfASessionIsKnownInEveryLanguage(t *testing.T) {
	t.Parallel()
	err := classify(&pgconn.PgError{Severity: "ВАЖНО", SeverityUnlocalized: "FATAL", Code: "57P01"})
	if !lanes.OutcomeUnknown(err) || !lanes.Lost(err) {
		t.Errorf("unknown %t, lost %t; want both", lanes.OutcomeUnknown(err), lanes.Lost(err))
	}
}
