package eventstore_test

import (
	"errors"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

func TestTheIDOfARetiredBudgetIsNotTakenAgain(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l, pool := openLedger(t, url), openPool(t, url)
	define := func(id domain.BudgetID, p domain.Period) domain.DefineBudget {
		return domain.DefineBudget{ID: id, Period: p, Limit: 100, Source: domain.SourceAdmin, Actor: "admin"}
	}
	spend := func(tenant domain.TenantID) {
		t.Helper()
		r := reserve(10)
		do(t, l, tenant, r)
		do(t, l, tenant, settle(r.Reservation, 10))
	}
	for name, between := range map[string]string{
		"its windows are there":     "select 1",
		"its windows are archived":  "with gone as (delete from account returning *) insert into account_archive select * from gone",
		"only its window of before": "update account set win_start = win_start - interval '9 years', win_end = win_end - interval '9 years'",
	} {
		tenant := fresh(t, l, 100)
		spend(tenant)
		do(t, l, tenant, domain.RetireBudget{ID: "month", Actor: "admin"})
		if _, err := pool.Exec(within(t), between); err != nil {
			t.Fatal(err)
		}
		for _, p := range []domain.Period{domain.Monthly, domain.Daily} {
			if _, err := l.Do(within(t), tenant, define("month", p)); !errors.Is(err, eventstore.ErrRefusedByDatabase) {
				t.Errorf("%s: a %s budget of the same id: %v; want ErrRefusedByDatabase", name, p, err)
			}
		}
		do(t, l, tenant, define("again", domain.Monthly)) // with what the month has cost
		spend(tenant)
	}
	tenant := fresh(t, l, 100)
	do(t, l, tenant, domain.RetireBudget{ID: "month", Actor: "admin"}) // it never had a window
	do(t, l, tenant, define("month", domain.Monthly))
	spend(tenant)
}
