package admin_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
)

// reserve holds an amount of tenant x, as a gateway does.
func (s *site) reserve(n int, amount domain.Amount, key domain.KeyID) (domain.ReservationID, error) {
	s.t.Helper()
	id := domain.ReservationID(fmt.Sprintf("0198c0de-0000-7000-8000-%012d", n))
	_, err := s.ledger.Do(s.t.Context(), "x", domain.Reserve{
		Request: domain.Request{Reservation: id, Route: "/v1/chat/completions", Model: "gpt-4o", KeyID: key}, Amount: amount, TTL: 60e9,
	})
	return id, err
}

func TestBudgetsAreUpsertedByPeriod(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x"}`)
	one := read[tenant](t, s.must(http.StatusOK, "POST", "/admin/tenant/x/budgets", `{"period":"monthly","limitUsd":"12.5","alertsAt":[0.8]}`)).Budgets
	if len(one) != 1 || one[0].LimitUsd != "12.5" {
		t.Fatalf("budgets %+v", one)
	}
	two := read[tenant](t, s.must(http.StatusOK, "POST", "/admin/tenant/x/budgets",
		`{"budgets":[{"period":"monthly","limitUsd":0.000000001,"scope":{}},{"period":"total","limitUsd":1000000000,"scope":null}]}`)).Budgets
	if len(two) != 2 {
		t.Fatalf("budgets %+v", two)
	}
	for _, b := range two {
		if b.Period == "monthly" && (b.ID != one[0].ID || b.LimitUsd != "0.000000001" || len(b.AlertsAt) != 0) {
			t.Errorf("changed to %+v", b)
		}
		if b.Period == "total" && (b.LimitUsd != "1000000000" || b.WindowEnd.Year() != 9999) {
			t.Errorf("total is %+v", b)
		}
	}
	version := read[tenant](t, s.must(http.StatusOK, "GET", "/admin/tenant/x", "")).Version
	s.must(http.StatusOK, "POST", "/admin/tenant/x/budgets", `{"period":"total","limitUsd":"1000000000.000000000"}`)
	if again := read[tenant](t, s.must(http.StatusOK, "GET", "/admin/tenant/x", "")).Version; again != version {
		t.Error("setting what is set recorded an event")
	}
}

func TestEveryPeriodThatIsBuiltIsAccepted(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x","timezone":"Asia/Kathmandu"}`)
	for i, period := range domain.CalendarPeriods() {
		got := read[tenant](t, s.must(http.StatusOK, "POST", "/admin/tenant/x/budgets", `{"period":"`+string(period)+`","limitUsd":1}`))
		if len(got.Budgets) != i+1 {
			t.Errorf("%s: %d budgets", period, len(got.Budgets))
		}
	}
}

func TestABudgetThatCannotBeIsRefusedWhole(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x"}`)
	for _, c := range []struct{ body, says string }{
		{`{"period":"rolling","duration":"24h","limitUsd":1}`, "not built yet"},
		{`{"period":"custom","startDate":"2026-01-01","endDate":"2026-02-01","limitUsd":1}`, "not built yet"},
		{`{"period":"monthly","limitUsd":1,"scope":{"model":"gpt-4o"}}`, "not built yet"},
		{`{"period":"fortnightly","limitUsd":1}`, "want one of hourly"},
		{`{"period":"monthly","limitUsd":"1.0000000001"}`, "more than 9 places"},
		{`{"period":"monthly","limitUsd":1.0000000001}`, "more than 9 places"},
		{`{"period":"monthly","limitUsd":1e2}`, "not a plain decimal"},
		{`{"period":"monthly","limitUsd":"0x10"}`, "not a plain decimal"},
		{`{"period":"monthly","limitUsd":" 1"}`, "not a plain decimal"},
		{`{"period":"monthly","limitUsd":""}`, "want a decimal"},
		{`{"period":"monthly","limitUsd":true}`, "want dollars"},
		{`{"period":"monthly","limitUsd":null}`, "want the limit"},
		{`{"period":"monthly","limitUsd":-1}`, "limitUsd: want 0"},
		{`{"period":"monthly","limitUsd":"1000000000.000000001"}`, "limitUsd: want 0"},
		{`{"period":"monthly","limitUsd":"99999999999999999999"}`, "out of range"},
		{`{"period":"monthly","limitUsd":1,"alertsAt":[0.8000001]}`, "6 places"},
		{`{"period":"monthly","limitUsd":1,"alertsAt":[8e-1]}`, "6 places"},
		{`{"period":"monthly","limitUsd":1,"alertsAt":["0.8"]}`, "shares of the limit"},
		{`{"period":"monthly","limitUsd":1,"alertsAt":[0]}`, "above 0"},
		{`{"period":"monthly","limitUsd":1,"alertsAt":[-0.5]}`, "shares of the limit"},
		{`{"period":"monthly","limitUsd":1,"alertsAt":[10.1]}`, "at most 10"},
		{`{"period":"monthly","limitUsd":1,"alertsAt":0.8}`, "want an array"},
		{`{"budgets":[]}`, "at least one"},
		{`{"budgets":[{"period":"monthly","limitUsd":1}],"period":"daily"}`, "unknown field"},
		{`{"budgets":[{"period":"daily","limitUsd":1},{"period":"monthly","limitUsd":-1}]}`, "limitUsd: want 0"},
	} {
		p := s.refused(http.StatusBadRequest, "invalid_request", "POST", "/admin/tenant/x/budgets", c.body)
		if said := fmt.Sprint(p.Errors); !strings.Contains(said, c.says) {
			t.Errorf("%s says %s, want %s", c.body, said, c.says)
		}
	}
	if got := read[tenant](t, s.must(http.StatusOK, "GET", "/admin/tenant/x", "")); len(got.Budgets) != 0 || got.Version != 1 {
		t.Errorf("a refused body left %+v", got.Budgets)
	}
}

func TestBalancesAreThoseOfTheLedger(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x","budgets":[{"period":"monthly","limitUsd":"0.00000001"}]}`)
	first, err := s.reserve(1, 6, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ledger.Do(t.Context(), "x", domain.SettlePresumed{Reservation: first, Reason: "cut"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.reserve(2, 3, ""); err != nil {
		t.Fatal(err)
	}
	b := read[tenant](t, s.must(http.StatusOK, "GET", "/admin/tenant/x", "")).Budgets[0]
	if b.SpentUsd != "0.000000006" || b.ReservedUsd != "0.000000003" || b.PresumedUsd != "0.000000006" || b.RemainingUsd != "0.000000001" {
		t.Errorf("balance %+v", b)
	}
	cut := read[tenant](t, s.must(http.StatusOK, "POST", "/admin/tenant/x/budgets", `{"period":"monthly","limitUsd":"0.000000004"}`)).Budgets[0]
	if cut.RemainingUsd != "-0.000000005" {
		t.Errorf("after the cut %+v", cut)
	}
	if _, err := s.reserve(3, 1, ""); !errors.Is(err, domain.ErrBudgetExceeded) {
		t.Errorf("a cut limit still lets reserve: %v", err)
	}
}

func TestARetiredBudgetIsGone(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	made := read[tenant](t, s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x","budgets":[{"period":"monthly","limitUsd":0}]}`))
	at := "/admin/tenant/x/budgets/" + made.Budgets[0].ID
	if got := s.must(http.StatusNoContent, "DELETE", at, ""); len(got.body) != 0 {
		t.Errorf("204 with %s", got.body)
	}
	s.refused(http.StatusNotFound, "not_found", "DELETE", at, "")
	if left := read[tenant](t, s.must(http.StatusOK, "GET", "/admin/tenant/x", "")).Budgets; len(left) != 0 {
		t.Errorf("left %+v", left)
	}
}
