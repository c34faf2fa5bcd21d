package sim_test

import (
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/eventstore/lanes"
	"github.com/budgetguard/budgetguard/eventstore/lanes/journaltest"
	"github.com/budgetguard/budgetguard/internal/sim"
)

func TestFakeJournalIsAJournal(t *testing.T) {
	t.Parallel()
	journaltest.Exercise(t, func(testing.TB) lanes.Journal { return sim.NewShared(time.Now) })
}
