package eventstore

import (
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
)

// expectation is what must be there beside the events, as the rows that are not lost say.
type expectation struct {
	defined bool // the tenant's own row is there
	budgets int64
	opened  map[domain.BudgetID]domain.AccountID
}

// queueExpectation reads with the state what the state must hold.
func queueExpectation(b *pgx.Batch, tenant string) *expectation {
	want := &expectation{opened: map[domain.BudgetID]domain.AccountID{}}
	b.Queue(`select h.budgets, exists (select from tenant t where t.tenant_id = h.tenant_id)
		from tenant_head h where h.tenant_id = $1 and h.version > 0`, tenant).
		Query(func(rows pgx.Rows) error {
			return eachRow(rows, func() error { return rows.Scan(&want.budgets, &want.defined) })
		})
	b.Queue(`select budget_id, opened from budget where tenant_id = $1 and opened > 0`, tenant).
		Query(func(rows pgx.Rows) error {
			return eachRow(rows, func() error {
				var budget string
				var account int64
				err := rows.Scan(&budget, &account)
				want.opened[domain.BudgetID(budget)] = domain.AccountID(account)
				return err
			})
		})
	return want
}

// check refuses a state that lacks a row without which a limit would be looser than the events say. A lost row of
// hold is none of these: what it held stays held, and only its own settlement is refused.
func (want *expectation) check(s *domain.State) error {
	if !s.Exists() {
		return nil
	}
	if !want.defined {
		return lost(s.Tenant, "its row of tenant is missing")
	}
	if int64(len(s.Budgets)) != want.budgets {
		return lost(s.Tenant, "%d budgets are in force, and the table budget has %d of them", want.budgets, len(s.Budgets))
	}

	for i := range s.Budgets {
		id := s.Budgets[i].ID
		if opened := want.opened[id]; s.Current[id] != opened {
			return lost(s.Tenant, "the newest window of budget %s is account %d, and its row is missing from account", id, opened)
		}
	}
	return checkHeld(s)
}

// checkHeld compares what accounts hold with the reservations that are open.
func checkHeld(s *domain.State) error {
	held := make(map[domain.AccountID]domain.Amount, len(s.Accounts))
	for id := range s.Open {
		r := s.Open[id]
		for _, account := range r.Accounts {
			if _, there := s.Accounts[account]; !there {
				return lost(s.Tenant, "reservation %s is held on account %d, whose row is missing", id, account)
			}
			held[account] += r.Amount
		}
	}

	for id, a := range s.Accounts {
		if held[id] > a.Held {
			return lost(s.Tenant, "account %d holds %s USD, and its open reservations %s USD", id, a.Held, held[id])
		}
	}
	return nil
}

// lost says what is missing and what to do about it.
func lost(tenant domain.TenantID, format string, args ...any) error {
	return fmt.Errorf("%w: tenant %s: %s; nothing is reserved for it until the tables are what the events say: "+
		"run budgetguard ledger verify, then budgetguard ledger repair", ErrTampered, tenant, fmt.Sprintf(format, args...))
}
