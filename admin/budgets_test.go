package admin_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

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
		if b.Period == "monthly" && (b.ID != one[0].ID || b.LimitUsd != "0.000000001" || len(b.AlertsAt) != 1) {
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
		{`{"period":"rolling","limitUsd":1}`, "a rolling budget needs one"},
		{`{"period":"rolling","duration":"90s","limitUsd":1}`, "such as 90m, 24h or 30d"},
		{`{"period":"rolling","duration":"367d","limitUsd":1}`, "to 366d"},
		{`{"period":"daily","duration":"24h","limitUsd":1}`, "no other has one"},
		{`{"period":"custom","limitUsd":1}`, "needs both"},
		{`{"period":"custom","startDate":"2026-01-01","limitUsd":1}`, "needs both"},
		{`{"period":"custom","startDate":"2026-02-01","endDate":"2026-01-01","limitUsd":1}`, "is not after"},
		{`{"period":"custom","startDate":"2026-02-30","endDate":"2026-12-31","limitUsd":1}`, "want a date"},
		{`{"period":"custom","startDate":"tomorrow","endDate":"2026-12-31","limitUsd":1}`, "want a date"},
		{`{"period":"monthly","startDate":"2026-01-01","endDate":"2026-02-01","limitUsd":1}`, "no other has any"},
		{`{"period":"monthly","weekStart":"sunday","limitUsd":1}`, "of a weekly budget"},
		{`{"period":"weekly","weekStart":"Sunday","limitUsd":1}`, "monday or sunday"},
		{`{"period":"weekly","anchorDay":3,"limitUsd":1}`, "of a monthly budget"},
		{`{"period":"monthly","anchorDay":0,"limitUsd":1}`, "want 1 to 31"},
		{`{"period":"monthly","anchorDay":32,"limitUsd":1}`, "want 1 to 31"},
		{`{"period":"monthly","limitUsd":1,"scope":{"model":"gpt-4o","tag":"team"}}`, "want one of apiKey, model and tag"},
		{`{"period":"monthly","limitUsd":1,"scope":{"apiKey":"key_unknown"}}`, "has no key"},
		{`{"period":"monthly","limitUsd":1,"scope":{"model":""}}`, "whole tenant"},
		{`{"period":"monthly","limitUsd":1,"scope":{"tag":"=x"}}`, "name=value"},
		{`{"period":"monthly","limitUsd":1,"scope":{"tenant":"x"}}`, "unknown field"},
		{`{"budgets":[{"period":"rolling","duration":"24h","limitUsd":1},{"period":"rolling","duration":"1d","limitUsd":2}]}`, "is there twice"},
		{`{"period":"fortnightly","limitUsd":1}`, "want one of hourly"},
		{`{"period":"monthly","limitUsd":"1.0000000001"}`, "more than 9 places"},
		{`{"period":"monthly","limitUsd":1.0000000001}`, "more than 9 places"},
		{`{"period":"monthly","limitUsd":1e-10}`, "more than 9 places"},
		{`{"period":"monthly","limitUsd":1e99}`, "out of range"},
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

func TestBudgetsAreUpsertedByPeriodScopeDurationAndDates(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x","timezone":"Europe/Berlin"}`)
	id := read[key](t, s.must(http.StatusCreated, "POST", "/admin/tenant/x/apikeys", "")).ID
	bodies := []string{
		`{"period":"weekly","weekStart":"sunday","limitUsd":%d}`,
		`{"period":"monthly","anchorDay":31,"limitUsd":%d}`,
		`{"period":"monthly","limitUsd":%d,"scope":{"model":"gpt-4o"}}`,
		`{"period":"monthly","limitUsd":%d,"scope":{"tag":"team=search"}}`,
		`{"period":"monthly","limitUsd":%d,"scope":{"apiKey":"` + id + `"}}`,
		`{"period":"rolling","duration":"90m","limitUsd":%d}`,
		`{"period":"rolling","duration":"30d","limitUsd":%d}`,
		`{"period":"custom","startDate":"2026-03-01","endDate":"2026-03-28","limitUsd":%d}`,
		`{"period":"custom","startDate":"2099-01-01T08:00:00Z","endDate":"2099-01-02T08:00:00+01:00","limitUsd":%d}`,
	}
	shown := map[string]budget{}
	for round := 1; round <= 2; round++ {
		for i, body := range bodies {
			got := read[tenant](t, s.must(http.StatusOK, "POST", "/admin/tenant/x/budgets", fmt.Sprintf(body, round))).Budgets
			if want := max(i+1, (round-1)*len(bodies)); len(got) != want {
				t.Fatalf("%s: %d budgets, want %d", body, len(got), want)
			}
			for _, b := range got {
				if before, ok := shown[b.ID]; ok && b.identity() != before.identity() {
					t.Errorf("%+v became %+v", before, b)
				}
				shown[b.ID] = b
			}
		}
	}
	if len(shown) != len(bodies) {
		t.Fatalf("%d ids for %d budgets", len(shown), len(bodies))
	}
	for _, b := range shown {
		if b.LimitUsd != "2" || b.SpentUsd != "0" || b.RemainingUsd != "2" {
			t.Errorf("%+v", b)
		}
		window := b.WindowEnd.Sub(b.WindowStart)
		switch {
		case b.Duration == "90m" && (window < 90*time.Minute || window > 92*time.Minute),
			b.Duration == "30d" && (window < 30*24*time.Hour || window > 31*24*time.Hour),
			b.WeekStart != "" && b.WindowStart.In(berlin(t)).Weekday() != time.Sunday,
			b.AnchorDay != 0 && b.WindowStart.In(berlin(t)).AddDate(0, 0, 1).Day() > 1 && b.WindowStart.In(berlin(t)).Day() != 31,
			b.StartDate == "2026-03-01" && (b.WindowStart.Format(time.RFC3339) != "2026-02-28T23:00:00Z" || b.WindowEnd.Format(time.RFC3339) != "2026-03-28T23:00:00Z"),
			b.EndDate == "2099-01-02T08:00:00+01:00" && b.WindowEnd.Format(time.RFC3339) != "2099-01-02T07:00:00Z":
			t.Errorf("window %s to %s of %+v", b.WindowStart, b.WindowEnd, b)
		}
	}
}

func berlin(t *testing.T) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// identity is what an upsert goes by.
func (b budget) identity() string {
	return fmt.Sprint(b.Period, b.Scope, b.Duration, b.StartDate, b.EndDate, b.WeekStart, b.AnchorDay)
}

func TestANewBudgetCountsWhatItsWindowHasCost(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x"}`)
	id, err := s.reserve(1, 7, "")
	if err == nil {
		_, err = s.ledger.Do(t.Context(), "x", domain.Settle{Reservation: id, Charged: 5, Basis: domain.BasisProvider})
	}
	if err == nil {
		_, err = s.reserve(2, 3, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	budgets := read[tenant](t, s.must(http.StatusOK, "POST", "/admin/tenant/x/budgets", `{"budgets":[
		{"period":"monthly","limitUsd":1},{"period":"rolling","duration":"24h","limitUsd":1},{"period":"daily","limitUsd":1,"scope":{"model":"gpt-4o"}},
		{"period":"monthly","limitUsd":1,"scope":{"tag":"team"}}]}`)).Budgets
	for _, b := range budgets {
		spent, held := "0.000000005", "0.000000003"
		if b.Scope["tag"] != "" {
			spent, held = "0", "0"
		}
		if b.SpentUsd != spent || b.ReservedUsd != held {
			t.Errorf("%s of %v begins with %s spent and %s reserved", b.Period, b.Scope, b.SpentUsd, b.ReservedUsd)
		}
	}
}

func TestARaiseHoldsUntilItEnds(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	made := read[tenant](t, s.must(http.StatusCreated, "POST", "/admin/tenant",
		`{"name":"x","budgets":[{"period":"monthly","limitUsd":"10"},{"period":"total","limitUsd":"5"},{"period":"rolling","duration":"24h","limitUsd":"5"}]}`))
	at := func(period string) string {
		for _, b := range made.Budgets {
			if b.Period == period {
				return "/admin/tenant/x/budgets/" + b.ID + "/raise"
			}
		}
		t.Fatalf("no %s budget in %+v", period, made.Budgets)
		return ""
	}
	find := func(r response, period string) budget {
		for _, b := range read[tenant](t, r).Budgets {
			if b.Period == period {
				return b
			}
		}
		t.Fatalf("no %s budget in %s", period, r.body)
		return budget{}
	}
	topped := find(s.must(http.StatusOK, "POST", at("monthly"), `{"usd":"2.5","reason":"launch"}`), "monthly")
	if topped.LimitUsd != "12.5" || topped.RemainingUsd != "12.5" || len(topped.Raises) != 1 || topped.Raises[0].ByUsd != "2.5" || !topped.Raises[0].Until.Equal(topped.WindowEnd) {
		t.Errorf("topped up %+v", topped)
	}
	// A new limit is the one below the raises.
	changed := find(s.must(http.StatusOK, "POST", "/admin/tenant/x/budgets", `{"period":"monthly","limitUsd":"20"}`), "monthly")
	if changed.LimitUsd != "22.5" || len(changed.Raises) != 1 {
		t.Errorf("changed %+v", changed)
	}
	soon := time.Now().Add(5 * time.Second) // enough for a busy machine to answer the next line
	raised := find(s.must(http.StatusOK, "POST", at("total"), `{"usd":1,"until":"`+soon.UTC().Format(time.RFC3339Nano)+`"}`), "total")
	if raised.LimitUsd != "6" || !raised.Raises[0].Until.Equal(soon.Truncate(time.Microsecond)) {
		t.Errorf("raised %+v", raised)
	}
	<-time.After(time.Until(soon) + 100*time.Millisecond) // the raise is over then
	if over := find(s.must(http.StatusOK, "GET", "/admin/tenant/x", ""), "total"); over.LimitUsd != "5" || len(over.Raises) != 0 {
		t.Errorf("after its end %+v", over)
	}
	for _, c := range []struct{ period, body, says string }{
		{"monthly", `{}`, "by how many dollars"},
		{"monthly", `{"usd":0}`, "more than 0"},
		{"monthly", `{"usd":"-1"}`, "more than 0"},
		{"monthly", `{"usd":"1000000000"}`, "a limit of at most"},
		{"monthly", `{"usd":1,"until":"2020-01-01T00:00:00Z"}`, "is over"},
		{"monthly", `{"usd":1,"until":"tomorrow"}`, "RFC 3339"},
		{"total", `{"usd":1}`, "say when the raise does"},
		{"rolling", `{"usd":1}`, "say when the raise does"},
	} {
		p := s.refused(http.StatusBadRequest, "invalid_request", "POST", at(c.period), c.body)
		if said := fmt.Sprint(p.Detail, p.Errors); !strings.Contains(said, c.says) {
			t.Errorf("%s of %s says %s, want %s", c.body, c.period, said, c.says)
		}
	}
	s.refused(http.StatusNotFound, "not_found", "POST", "/admin/tenant/x/budgets/bud_unknown/raise", `{"usd":1}`)
}
