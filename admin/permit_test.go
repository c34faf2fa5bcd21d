package admin_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// founding is the example of the first day, unchanged.
const founding = `package budgetguard.policy

default allow = false

allow {
  input.usage < input.budget
}

deny_admin_after_hours {
  input.route == "/admin/tenant-usage"
  input.time > 20
}

allow {
  not deny_admin_after_hours
}
`

func TestTheFoundingPolicyClosesUsageAtNightWhereTheBudgetIsSpent(t *testing.T) {
	t.Parallel()
	clock := &hands{at: time.Date(2026, time.November, 22, 20, 30, 0, 0, time.UTC)}
	s := openSite(t, func(set *setup) {
		set.deps.Policy = load(t, founding)
		set.deps.Now = clock.now
	})
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"id":"berlin","name":"x","timezone":"Europe/Berlin","budgets":[{"period":"total","limitUsd":0}]}`)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"id":"rich","name":"x","timezone":"Europe/Berlin","budgets":[{"period":"total","limitUsd":1}]}`)
	p := s.refused(http.StatusForbidden, "policy_denied", "GET", "/admin/tenant-usage?tenant=berlin", "") // 21:30 there
	if !strings.Contains(p.Detail, "revision") {
		t.Errorf("detail %q", p.Detail)
	}
	s.must(http.StatusOK, "GET", "/admin/tenant-usage?tenant=rich", "")
	s.must(http.StatusOK, "GET", "/admin/tenant-usage", "") // 20:30 in UTC
	s.must(http.StatusOK, "GET", "/admin/tenant/berlin", "")
	clock.move(time.Hour)
	s.refused(http.StatusForbidden, "policy_denied", "GET", "/admin/tenant-usage", "")
}

func TestAPolicySeesWhoAndWhatAndItsMessagesAreTold(t *testing.T) {
	t.Parallel()
	s := openSite(t, func(set *setup) {
		set.deps.Policy = load(t, `package budgetguard.policy
default allow := true
deny contains "no keys for the frozen" if { input.admin; input.route == "/admin/tenant/:id/apikeys"; input.tenant == "frozen" }
deny contains "hidden" if { input.tenant == "nobody" }
`)
	})
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"frozen"}`)
	p := s.refused(http.StatusForbidden, "policy_denied", "POST", "/admin/tenant/frozen/apikeys", "")
	if len(p.Messages) != 1 || p.Messages[0] != "no keys for the frozen" {
		t.Errorf("messages %v", p.Messages)
	}
	s.must(http.StatusOK, "GET", "/admin/tenant/frozen", "")
	s.refused(http.StatusForbidden, "policy_denied", "GET", "/admin/tenant/nobody", "") // not told that it does not exist
}

func TestAPolicyThatFailsDenies(t *testing.T) {
	t.Parallel()
	s := openSite(t, func(set *setup) {
		set.deps.Policy = load(t, "package budgetguard.policy\nallow if input.usage < 0\n")
	})
	p := s.refused(http.StatusForbidden, "policy_denied", "GET", "/admin/tenants", "")
	if !strings.Contains(p.Detail, "could not be evaluated") || !strings.Contains(s.log.String(), "policy denies because it failed") {
		t.Errorf("%+v, log %s", p, s.log.String())
	}
}
