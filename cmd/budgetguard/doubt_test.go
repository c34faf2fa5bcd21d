package main

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/proxy/flight"
)

// A reservation is in doubt, and a command waits behind a lock, when the ledger is closed.
func TestDoubtIsLeftToTheNextStartWhereTheLedgerDidNotWriteAll(t *testing.T) {
	t.Parallel()
	for name, locked := range map[string]bool{"it wrote all": false, "it did not": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			ledger, err := eventstore.OpenLedger(t.Context(), eventstore.Config{URL: s.url, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			recorder, err := flight.Open(flight.Config{Dir: t.TempDir(), Header: flight.Header{Gateway: "gw"}, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			g := &gateway{ledger: ledger, blackBox: &blackBox{recorder: recorder}}
			if _, err := ledger.Do(t.Context(), "acme", domain.CreateTenant{Name: "a", Actor: "admin"}); err != nil {
				t.Fatal(err)
			}
			id := domain.ReservationID(uuid.NewString())
			recorder.Reserved("acme", id)
			recorder.Doubted(id)
			want := 0
			if locked {
				want = 1
				s.lockHead("acme")
			}
			if _, err := ledger.Submit("acme", domain.SuspendTenant{Reason: "test", Actor: "admin"}); err != nil {
				t.Fatal(err)
			}
			bounded, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			if locked {
				cancel() // the ledger's time is over already
			}
			defer cancel()
			if err := g.closeLedger(bounded); (err != nil) != locked {
				t.Error(err)
			}
			if left, err := recorder.Close(); left != want || err != nil {
				t.Errorf("%d calls are left, want %d: %v", left, want, err)
			}
		})
	}
}
