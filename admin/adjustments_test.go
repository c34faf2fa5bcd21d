package admin_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// adjustment is what clients read of one.
type adjustment struct {
	ID, USD, Reason, ReservationID string
	Version                        int64
	Time                           time.Time
	Postings                       []struct{ BudgetID, SpentUsd, PresumedUsd string }
}

func TestAnAdjustmentIsCarriedOutOnceForEachKey(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	made := read[tenant](t, s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x","budgets":[{"period":"monthly","limitUsd":"10"},{"period":"daily","limitUsd":9,"scope":{"model":"gpt-4o"}}]}`))
	const at = "/admin/tenant/x/adjustments"
	first := s.must(http.StatusCreated, "POST", at, `{"usd":"1.25","reason":"invoice 7"}`, "Idempotency-Key", "inv-7")
	got := read[adjustment](t, first)
	if got.USD != "1.25" || got.Reason != "invoice 7" || got.Version < 3 || got.ID != fmt.Sprint("x:", got.Version) || got.Time.IsZero() ||
		len(got.Postings) != 1 || got.Postings[0].SpentUsd != "1.25" {
		t.Errorf("adjusted %s", first.body)
	}
	again := s.must(http.StatusOK, "POST", at, `{"reason":"invoice 7","usd":1.250}`, "Idempotency-Key", "inv-7")
	if string(again.body) != string(first.body) {
		t.Errorf("again %s, first %s", again.body, first.body)
	}
	p := s.refused(http.StatusUnprocessableEntity, "idempotency_mismatch", "POST", at, `{"usd":"1.26","reason":"invoice 7"}`, "Idempotency-Key", "inv-7")
	if !strings.Contains(p.Detail, "another one") {
		t.Errorf("detail %q", p.Detail)
	}
	s.must(http.StatusCreated, "POST", at, `{"usd":"-0.25","reason":"credit"}`, "Idempotency-Key", "inv-8")
	for _, b := range read[tenant](t, s.must(http.StatusOK, "GET", "/admin/tenant/x", "")).Budgets {
		if want := map[string]string{"monthly": "1", "daily": "0"}[b.Period]; b.SpentUsd != want {
			t.Errorf("%s has %s spent, want %s", b.Period, b.SpentUsd, want)
		}
	}
	if len(made.Budgets) != 2 {
		t.Fatal(made)
	}
}

func TestAnAdjustmentOfAReservationConfirmsIt(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x","budgets":[{"period":"monthly","limitUsd":"10"}]}`)
	const at = "/admin/tenant/x/adjustments"
	held, err := s.reserve(1, 1_000_000_000, "")
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"usd":"-0.4","reason":"the invoice has 0.6","reservationId":%q}`, strings.ToUpper(string(held)))
	if p := s.refused(http.StatusBadRequest, "invalid_request", "POST", at, body, "Idempotency-Key", "a"); !strings.Contains(p.Detail, "still open") {
		t.Errorf("of an open one: %+v", p)
	}
	if _, err := s.ledger.Do(t.Context(), "x", domain.SettlePresumed{Reservation: held, Reason: "cut"}); err != nil {
		t.Fatal(err)
	}
	got := read[adjustment](t, s.must(http.StatusCreated, "POST", at, body, "Idempotency-Key", "a"))
	if got.ReservationID != string(held) || len(got.Postings) != 1 || got.Postings[0].SpentUsd != "0.6" || got.Postings[0].PresumedUsd != "0" {
		t.Errorf("adjusted %+v", got)
	}
	// Of what was settled for good, as a bill that comes later shows.
	settled, err := s.reserve(2, 1_000_000_000, "")
	if err == nil {
		_, err = s.ledger.Do(t.Context(), "x", domain.Settle{Reservation: settled, Charged: 500_000_000, Basis: domain.BasisProvider})
	}
	if err != nil {
		t.Fatal(err)
	}
	got = read[adjustment](t, s.must(http.StatusCreated, "POST", at, fmt.Sprintf(`{"usd":"0.1","reason":"rounding","reservationId":%q}`, settled), "Idempotency-Key", "b"))
	if got.Postings[0].SpentUsd != "1.2" {
		t.Errorf("adjusted %+v", got)
	}
	for _, unknown := range []string{"0198c0de-0000-7000-8000-00000000dead", "nonsense", "x'; drop table event"} {
		s.refused(http.StatusNotFound, "not_found", "POST", at, fmt.Sprintf(`{"usd":1,"reason":"x","reservationId":%q}`, unknown), "Idempotency-Key", "c")
	}
}

func TestAnAdjustmentThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	s.must(http.StatusCreated, "POST", "/admin/tenant", `{"name":"x","budgets":[{"period":"monthly","limitUsd":"10"}]}`)
	const at = "/admin/tenant/x/adjustments"
	for _, key := range []string{"", "a b", "a\tb", "schlüssel", strings.Repeat("k", 256)} {
		p := s.refused(http.StatusBadRequest, "invalid_request", "POST", at, `{"usd":1,"reason":"x"}`, "Idempotency-Key", key)
		if !strings.Contains(p.Detail, "Idempotency-Key") || len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Detail, "1 to 255") {
			t.Errorf("key %.20q: %+v", key, p)
		}
	}
	for _, c := range []struct{ body, says string }{
		{`{"usd":1}`, "want a reason"},
		{`{"reason":"x"}`, "want the difference"},
		{`{"usd":0,"reason":"x"}`, "other than 0"},
		{`{"usd":"1e9","reason":"x"}`, "not a plain decimal"},
		{`{"usd":"1000000000.1","reason":"x"}`, "at most"},
		{`{"usd":-1,"reason":"x"}`, "no 1 USD of confirmed spend"},
		{`{"usd":1,"reason":"x","tenant":"y"}`, "unknown field"},
	} {
		p := s.refused(http.StatusBadRequest, "invalid_request", "POST", at, c.body, "Idempotency-Key", "k")
		if said := fmt.Sprint(p.Detail, p.Errors); !strings.Contains(said, c.says) {
			t.Errorf("%s says %s, want %s", c.body, said, c.says)
		}
	}
	// None of that has used the key up.
	s.must(http.StatusCreated, "POST", at, `{"usd":1,"reason":"x"}`, "Idempotency-Key", "k")
}
