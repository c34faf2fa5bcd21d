package domain_test

import (
	"testing"

	. "github.com/budgetguard/budgetguard/domain"
)

func TestWhatCostsNothingFitsAlways(t *testing.T) {
	t.Parallel()
	day := budget(Daily, "10")
	play(t, []scene{
		{
			"after an overrun",
			[]any{day, reserve("r", "4"), settle("r", "12")},
			reserve("free", "0"),
			[]string{"#6 usage.reserved free 0 [#3 12+0/10]"},
			nil,
		},
		{
			"in a budget that was cut below what is spent",
			[]any{day, reserve("r", "4"), settle("r", "4"), budget(Daily, "1")},
			reserve("free", "0"),
			[]string{"#7 usage.reserved free 0 [#3 4+0/1]"},
			nil,
		},
		{
			"but nothing above it",
			[]any{day, reserve("r", "4"), settle("r", "12")},
			reserve("dear", "0.000000001"),
			nil,
			ErrBudgetExceeded,
		},
	})
}
