package eventstore_test

import (
	"testing"

	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
	"github.com/budgetguard/budgetguard/eventstore/lanes/journaltest"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

func TestJournalInPostgresIsAJournal(t *testing.T) {
	t.Parallel()
	journaltest.Exercise(t, func(tb testing.TB) lanes.Journal {
		tb.Helper()
		j, err := eventstore.OpenJournal(tb.Context(), testenv.Database(tb), wall)
		if err != nil {
			tb.Fatal(err)
		}
		return j
	})
}
