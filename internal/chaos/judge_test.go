package main

import (
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/mockupstream"
)

// ledgerOf makes books by hand: one reservation for each call that is named.
func ledgerOf(charges map[int64]domain.Amount) *books {
	b := &books{byRequest: map[string][]*reservation{}, byID: map[domain.ReservationID]*reservation{}}
	for number, charged := range charges {
		r := &reservation{
			id: domain.ReservationID("r-" + name(number)), request: name(number), tenant: "t", held: 100, charged: charged,
			charges: []domain.Amount{charged}, closed: domain.TypeUsageSettled, accounts: []domain.AccountID{1},
		}
		b.byRequest[r.request], b.byID[r.id] = append(b.byRequest[r.request], r), r
	}
	return b
}

func billOf(numbers ...int64) (lines []billLine) {
	for _, n := range numbers {
		lines = append(lines, billLine{amount: 10, key: mockupstream.KeyID(name(n))})
	}
	return lines
}

// The judge must find what a broken gateway would leave behind.
func TestTheJudgeFindsWhatTheBillGivesAway(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		books *books
		bill  []billLine
		want  string
	}{
		"all is well":                   {ledgerOf(map[int64]domain.Amount{1: 10, 2: 100}), billOf(1, 2), ""},
		"charged for nothing":           {ledgerOf(map[int64]domain.Amount{1: 10}), nil, ""},
		"forwarded without a hold":      {ledgerOf(map[int64]domain.Amount{1: 10}), billOf(1, 2), "forwarded without a hold"},
		"released, and billed":          {ledgerOf(map[int64]domain.Amount{1: 0}), billOf(1), "billed above the charge"},
		"charged less than billed":      {ledgerOf(map[int64]domain.Amount{1: 9}), billOf(1), "billed above the charge"},
		"one hold, sent twice":          {ledgerOf(map[int64]domain.Amount{1: 100}), billOf(1, 1), "forwarded twice"},
		"a call that nobody ever began": {ledgerOf(nil), billOf(77), "forwarded without a hold"},
	} {
		v := &verdict{}
		billed := v.checkBill(c.bill, c.books, 5)
		if got := strings.Join(v.violations, "\n"); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: the judge says %q, want %q", what, got, c.want)
		}
		if c.want == "" && billed[account{"t", 1}] != v.billed {
			t.Errorf("%s: the window is billed %s of %s", what, billed[account{"t", 1}], v.billed)
		}
	}
}

func TestTheJudgeFindsWhatTheClientsWereTold(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		call  call
		books *books
		bill  []billLine
		want  string
	}{
		"answered":             {call{status: 200, whole: true, reservation: "r-chaos-1", costUSD: "0.00000001"}, ledgerOf(map[int64]domain.Amount{1: 10}), billOf(1), ""},
		"refused":              {call{status: 402, code: "budget_exceeded"}, ledgerOf(nil), nil, ""},
		"broken off":           {call{status: 502, code: "upstream_unreachable", reservation: "r-chaos-1"}, ledgerOf(map[int64]domain.Amount{1: 100}), billOf(1), ""},
		"refused, and billed":  {call{status: 503, code: "ledger_unavailable"}, ledgerOf(map[int64]domain.Amount{1: 100}), billOf(1), "refused and forwarded"},
		"refused, and held":    {call{status: 402, code: "budget_exceeded"}, ledgerOf(map[int64]domain.Amount{1: 0}), nil, "refused and held"},
		"a hold that is gone":  {call{status: 200, whole: true, reservation: "r-chaos-1"}, ledgerOf(nil), billOf(1), "acknowledged and lost"},
		"somebody else's hold": {call{status: 200, whole: true, reservation: "r-chaos-2"}, ledgerOf(map[int64]domain.Amount{2: 10}), billOf(1), "acknowledged and mixed up"},
		"an answer from where": {call{status: 200, whole: true, reservation: "r-chaos-1"}, ledgerOf(map[int64]domain.Amount{1: 10}), nil, "answered and not billed"},
		"told too much":        {call{status: 200, whole: true, reservation: "r-chaos-1", costUSD: "1"}, ledgerOf(map[int64]domain.Amount{1: 10}), billOf(1), "told more than charged"},
		"a bug":                {call{status: 500, code: "internal"}, ledgerOf(nil), nil, "internal error"},
	} {
		v := &verdict{}
		v.checkCalls(map[int64]call{1: c.call}, c.bill, c.books)
		if got := strings.Join(v.violations, "\n"); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: the judge says %q, want %q", what, got, c.want)
		}
	}
}

func TestTheJudgeCountsAllAndShowsSome(t *testing.T) {
	t.Parallel()
	v := &verdict{}
	for range 3 * maxShown {
		v.violated("one", "x")
	}
	v.violated("two", "y")
	if v.count != 3*maxShown+1 || len(v.violations) != maxShown+1 {
		t.Errorf("counted %d, shows %d", v.count, len(v.violations))
	}
}
