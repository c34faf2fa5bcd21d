package domain_test

import (
	"fmt"
	"testing"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

// ExampleDecide holds four dollars of ten, then charges what the request really cost.
func ExampleDecide() {
	state := NewState("acme")
	now := time.Date(2026, time.November, 22, 10, 0, 0, 0, time.UTC)
	dollars := func(text string) Amount {
		a, _ := ParseAmount(text)
		return a
	}
	for _, command := range []Command{
		CreateTenant{Name: "ACME", Actor: "admin"},
		DefineBudget{ID: "month", Period: Monthly, Limit: dollars("10"), Source: SourceAdmin, Actor: "admin"},
		Reserve{Request: Request{Reservation: "r1", Model: "gpt-4"}, Amount: dollars("4"), TTL: 15 * time.Minute},
		Settle{Reservation: "r1", Charged: dollars("1.5"), Basis: BasisProvider},
	} {
		events, err := Decide(state, command, now)
		if err != nil {
			fmt.Println("refused:", err)
			return
		}
		for _, event := range events { // a store would append them before it evolves
			state = Evolve(state, Recorded{Tenant: "acme", Version: state.Version + 1, Time: now, Event: event})
			fmt.Println(state.Version, TypeOf(event))
		}
	}
	_, err := Decide(state, Reserve{Request: Request{Reservation: "r2"}, Amount: dollars("9"), TTL: time.Minute}, now)
	fmt.Println(err)
	// Output:
	// 1 tenant.created
	// 2 budget.defined
	// 3 window.opened
	// 4 usage.reserved
	// 5 usage.settled
	// budget exceeded: monthly budget of 10 USD has 1.5 spent and 0 reserved; 9 requested
}

// crowded is a tenant with so many budgets and a thousand reservations open.
func crowded(b *testing.B, budgets int) State {
	b.Helper()
	const open = 1000
	st := newStage(b)
	for i := range budgets {
		st.state = Evolve(st.state, Recorded{
			Tenant: "acme", Version: st.state.Version + 1, Time: st.state.LastTime.Add(time.Microsecond),
			Event: BudgetDefined{Budget: BudgetID(fmt.Sprintf("b%02d", i)), Period: Monthly, Limit: MaxAmount, Source: SourceAdmin},
		})
	}
	for i := range open {
		mustDo(b, st, reserve(fmt.Sprint("open", i), "0.01"))
	}
	return st.state
}

func BenchmarkDecide(b *testing.B) {
	for _, budgets := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("budgets=%d", budgets), func(b *testing.B) {
			state, now := crowded(b, budgets), at("2026-11-22T12:00")
			hold, charge := reserve("r", "0.01"), settle("r", "0.004")
			b.ReportAllocs()
			var err error
			for b.Loop() {
				if state, _, err = Execute(state, hold, now); err != nil {
					b.Fatal(err)
				}
				if state, _, err = Execute(state, charge, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
