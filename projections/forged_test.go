package projections_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// Somebody who reaches Redis writes into a register itself, at the right version. No event comes
// afterwards that would overwrite it: the comparison of values alone must find it.
func TestForgedRegisterAtTheRightVersionIsRepairedByTheComparison(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.cfg.Poll = 50 * time.Millisecond
	w.worker()
	tenant := w.tenant("a")
	w.spend(tenant, 8)
	w.converge(tenant)

	const key = "bg:{a}:balances"
	right := w.redis.HGetAll(t.Context(), key).Val()
	account := ""
	for field := range right {
		if field[0] >= '1' && field[0] <= '9' {
			account = field
		}
	}
	cut := right[account][len("1"):]
	repaired := 0.0
	for name, forged := range map[string]map[string]string{
		"an amount, right version":     {account: right[account] + "0"},
		"a version far ahead":          {account: "999999999" + cut},
		"no version":                   {account: "garbage"},
		"zone":                         {"zone": "1|Asia/Tokyo"},
		"a budget that is not there":   {"b:ghost": "1" + "|month|admin|5||||{}"},
		"hash ahead":                   {"version": "999999999"},
		"hash beyond numbers":          {"version": "99999999999999999999999"},
		"hash of letters":              {"version": "zzz"},
		"a field that is nothing here": {"x": "y"},
	} {
		if err := w.redis.HSet(t.Context(), key, forged).Err(); err != nil {
			t.Fatal(err)
		}
		w.eventually(name, func() error { return w.registersRight(tenant) })
		repaired++
	}
	w.eventually("the field that is nothing", func() error { return w.sameFields(key, right) })
	if n := w.metric("budgetguard_projection_events_total", "counters", "repaired"); n < repaired-3 {
		t.Errorf("%v repairs counted, want about %v", n, repaired)
	}
}

// Only honest events come, as fast as they can: the comparison must not see a forgery in any of
// them.
func TestComparisonOfValuesNeverBlamesHonestRegisters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Redis(t))
	w.cfg.Poll = time.Millisecond
	w.worker()
	tenants := []domain.TenantID{w.tenant("a"), w.tenant("b")}
	for range 20 {
		for _, tenant := range tenants {
			w.spend(tenant, 5)
		}
	}
	w.converge(tenants...)
	if n := w.metric("budgetguard_projection_events_total", "counters", "repaired"); n != 0 {
		t.Errorf("%v repairs of registers that nobody forged", n)
	}
}

// sameFields is nil when a hash has no field beyond those that it shall have, and all of them.
func (w *world) sameFields(key string, want map[string]string) error {
	got := w.redis.HGetAll(w.tb.Context(), key).Val()
	for field := range got {
		if _, ok := want[field]; !ok {
			return fmt.Errorf("field %q is left", field)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d fields, want %d", len(got), len(want))
	}
	return nil
}
