package eventstore_test

import (
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// What a rolling account was charged is written also where the turn that opened it retires its budget.
func TestARollingAccountOpenedAndRetiredInOneTurnKeepsItsParts(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	journal, err := eventstore.OpenJournal(t.Context(), url, wall)
	if err != nil {
		t.Fatal(err)
	}
	l := lanes.New(journal, lanes.Config{Now: wall, Turned: func(turned lanes.Turned) {
		if turned.Err != nil { // its commands would go on one by one
			t.Error(turned.Err)
		}
	}})
	hour := domain.Span{Duration: domain.Length(time.Hour)}
	for _, c := range []domain.Command{
		domain.CreateTenant{Name: "a", Actor: "admin"},
		domain.DefineBudget{ID: "roll", Period: domain.Rolling, Span: hour, Limit: 1000, Source: domain.SourceAdmin, Actor: "admin"},
		domain.Adjust{Delta: 5, Reason: "x", Idempotency: "i", Actor: "admin"},
		domain.RetireBudget{ID: "roll", Actor: "admin"},
	} {
		p, err := l.Submit("a", c)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if _, done, err := p.Poll(); !done || err != nil {
				t.Errorf("%T: %v, %v", c, done, err)
			}
		}()
	}
	for l.StepLocked(t.Context()) {
	}
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
	verified(t, url)
}
