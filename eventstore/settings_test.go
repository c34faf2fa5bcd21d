package eventstore

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/budgetguard/budgetguard/internal/testenv"
)

func TestSettingsThatDidNotArriveAreNamedWithWhatToDo(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), testenv.Database(t)) // as through a pooler: no settings
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()

	wanted := map[string]string{"lock_timeout": "2000", "jit": "off"}
	if _, err := conn.Exec(t.Context(), `set jit = off`); err != nil {
		t.Fatal(err)
	}
	err = checkSettings(t.Context(), conn, wanted)
	if err == nil || !strings.Contains(err.Error(), "(lock_timeout)") || strings.Contains(err.Error(), "jit") {
		t.Errorf("lock_timeout is missing and jit is there: %v", err)
	}

	// What the check set is gone again: a second look says the same, and then it is right in other
	// words.
	if err := checkSettings(t.Context(), conn, wanted); err == nil {
		t.Error("the check itself set what was missing")
	}
	if _, err := conn.Exec(t.Context(), `set lock_timeout = '2s'`); err != nil {
		t.Fatal(err)
	}
	if err := checkSettings(t.Context(), conn, wanted); err != nil {
		t.Error(err)
	}
}

func TestRefusalOfAPoolerSaysWhatToDo(t *testing.T) {
	t.Parallel()
	refused := &pgconn.PgError{Code: "08P01", Message: "unsupported startup parameter: lock_timeout"}
	if err := explainRefusal(refused); !strings.Contains(err.Error(), "PgBouncer") || !errors.Is(err, refused) {
		t.Error(err)
	}
	if err := explainRefusal(nil); err != nil {
		t.Error(err)
	}
}
