package eventstore_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// TestALostRowThatWouldLoosenALimitFailsClosed takes rows away behind the back of a gateway, and asks another one,
// which loads the tenant from the tables, to reserve.
func TestALostRowThatWouldLoosenALimitFailsClosed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql  string
		want string // of the error; empty where the budget is asked all the same
	}{
		"nothing":                              {`select`, ""},
		"the account of the open window":       {`delete from account`, "its row is missing from account"},
		"the account without its triggers":     {`truncate account`, "its row is missing from account"},
		"the budget":                           {`delete from budget`, "1 budgets are in force"},
		"the budget without its triggers":      {`truncate budget`, "1 budgets are in force"},
		"the budget and its account":           {`delete from account; delete from budget`, "1 budgets are in force"},
		"the tenant":                           {`delete from tenant`, "its row of tenant"},
		"the head":                             {`delete from tenant_head`, "not the last event"},
		"all but the events":                   {`truncate account, budget, tenant, hold, tenant_head`, "not the last event"},
		"what the account holds":               {`update account set held = 0`, "open reservations 0.00000001 USD"},
		"a hold: what it held stays held":      {`delete from hold`, ""},
		"a key: it is unknown to the gateways": {`delete from api_key`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.Database(t)
			l := openLedger(t, url)
			tenant := fresh(t, l, 1000)
			do(t, l, tenant, domain.IssueKey{ID: "k", Name: "ci", Prefix: "bgk_1", Hash: "h"})
			do(t, l, tenant, reserve(10))
			if _, err := openPool(t, url).Exec(within(t), c.sql); err != nil {
				t.Fatal(err)
			}

			_, err := openLedger(t, url).Do(within(t), tenant, reserve(991))
			if c.want == "" {
				if exceeded := (*domain.BudgetExceededError)(nil); !errors.As(err, &exceeded) {
					t.Errorf("%v; want that 991 beside the 10 that are held of 1000 are refused", err)
				}
				return
			}
			if !errors.Is(err, eventstore.ErrTampered) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want one that says %q", err, c.want)
			}
			if err != nil && strings.Contains(c.want, "row") && !strings.Contains(err.Error(), "ledger repair") {
				t.Errorf("%v does not say what to do", err)
			}
		})
	}
}

// TestARetiredBudgetIsNotMissed: what is counted follows the events, in whatever turns they come.
func TestARetiredBudgetIsNotMissed(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := openLedger(t, url)
	tenant := fresh(t, l, 1000)
	for id, period := range map[domain.BudgetID]domain.Period{"a": domain.Daily, "b": domain.Hourly} {
		do(t, l, tenant, domain.DefineBudget{ID: id, Period: period, Limit: 500, Source: domain.SourceAdmin})
		do(t, l, tenant, reserve(1))
	}
	do(t, l, tenant, domain.RetireBudget{ID: "a"})
	do(t, openLedger(t, url), tenant, reserve(1))
	execAs(t, url, `delete from budget where budget_id = 'b'`)
	if _, err := openLedger(t, url).Do(within(t), tenant, reserve(1)); !errors.Is(err, eventstore.ErrTampered) {
		t.Errorf("the budget that was not retired: %v", err)
	}
}
