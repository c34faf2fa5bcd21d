package eventstore

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestTheEndOfASessionIsKnownInEveryLanguage(t *testing.T) {
	t.Parallel()
	err := &pgconn.PgError{Severity: "ВАЖНО", SeverityUnlocalized: "FATAL", Code: "57P01"}
	if !outcomeUnknown(err) || !lost(err) {
		t.Errorf("unknown %t, lost %t; want both", outcomeUnknown(err), lost(err))
	}
}
