package admin

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
)

// FuzzParseJSON: what is accepted is JSON, and means what encoding/json reads in it.
func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{
		`{"name":"x","budgets":[{"limitUsd":1.5,"alertsAt":[0.5,1e400]}]}`, `{"a":1,"a":2}`, `{"a":{"b":1,"b":2}}`, `[[[[]]]]`,
		`{} {}`, "", "\xff", "\ufeff{}", `"\ud800"`, `{"\u0061":1,"a":2}`, `-0`, `1.0`, `nul`, `{"":{"":[]}}`, `[1,]`, `[1 2]`, `{"a" 1}`,
		strings.Repeat("[", 17) + strings.Repeat("]", 17), strings.Repeat(`{"a":`, 40),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseJSON(data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("accepted %q", data)
		}
		decoder := json.NewDecoder(strings.NewReader(string(data)))
		decoder.UseNumber()
		var want any
		if err := decoder.Decode(&want); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: got %#v, want %#v (%v)", data, got, want, err)
		}
	})
}

// FuzzParseShare: what is accepted is in parts per million and writes back as the same number.
func FuzzParseShare(f *testing.F) {
	for _, seed := range []string{"0", "1", "0.8", "0.800000", "10", "0.0000001", ".5", "5.", "-1", "+1", "1e1", "", "99999999999999999", "0.5.5", "١"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseShare(text)
		if err != nil {
			return
		}
		written, err := share(got).MarshalJSON()
		if err != nil || !json.Valid(written) {
			t.Fatalf("%q writes %q: %v", text, written, err)
		}
		if back, err := parseShare(string(written)); err != nil || back != got {
			t.Errorf("%q: %d, then %q: %d, %v", text, got, written, back, err)
		}
	})
}

func TestSharesAreWrittenShortAndExact(t *testing.T) {
	t.Parallel()
	for ppm, want := range map[share]string{0: "0", 1: "0.000001", 100_000: "0.1", 800_000: "0.8", 1_000_000: "1", 1_500_000: "1.5", 10_000_000: "10"} {
		if got, err := ppm.MarshalJSON(); err != nil || string(got) != want {
			t.Errorf("%d: %s, want %s (%v)", ppm, got, want, err)
		}
	}
}

func TestEveryCodeHasAShape(t *testing.T) {
	t.Parallel()
	for _, c := range []code{
		codeInvalid, codeAdminKey, codePolicy, codeNotFound, codeMethod, codeExists, codeTooLarge, codeMediaType,
		codeTooMany, codeUnavailable, codeDisabled, codeNotReady,
	} {
		if status, title := c.shape(); status == 500 || title == "" {
			t.Errorf("%s: %d %q", c, status, title)
		}
	}
}

func TestEveryRefusalOfTheDomainHasAStatus(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]code{
		domain.ErrInvalid: codeInvalid, domain.ErrPeriod: codeInvalid, domain.ErrAmount: codeInvalid,
		domain.ErrTenantUnknown: codeNotFound, domain.ErrKeyUnknown: codeNotFound, domain.ErrBudgetUnknown: codeNotFound,
		domain.ErrTenantExists: codeExists, domain.ErrUnavailable: codeUnavailable,
		// Nothing here reserves, so these would be bugs.
		domain.ErrTenantSuspended: codeInternal, domain.ErrKeyUnusable: codeInternal, domain.ErrBudgetExceeded: codeInternal,
		domain.ErrReservationUnknown: codeInternal, domain.ErrReservationExists: codeInternal, domain.ErrUnknownEvent: codeInternal,
	} {
		if got := problemOf(err).code; got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}

func TestTheMapOfAttemptsIsBounded(t *testing.T) {
	t.Parallel()
	g := newGuesses()
	now := domain.WindowAt(domain.Total, domain.NewState("x").CreatedAt, nil).Start
	for i := range 2 * maxAddresses {
		g.judge(string(rune(i)), [32]byte{}, false, now)
	}
	if n := len(g.addresses); n > maxAddresses {
		t.Errorf("%d addresses", n)
	}
	g.judge("later", [32]byte{}, false, now.Add(guessWindow))
	if n := len(g.addresses); n > maxAddresses {
		t.Errorf("%d addresses", n)
	}
}
