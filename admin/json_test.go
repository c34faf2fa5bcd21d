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

func TestEveryCodeHasAShape(t *testing.T) {
	t.Parallel()
	for _, c := range []code{
		codeInvalid, codeAdminKey, codePolicy, codeNotFound, codeMethod, codeExists, codeTooLarge, codeMediaType,
		codeInProgress, codeCompleted, codeMismatch, codeTooMany, codeUnavailable, codeDisabled, codeNotReady,
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
		domain.ErrTenantExists: codeExists, domain.ErrUnavailable: codeUnavailable, domain.ErrReservationUnknown: codeNotFound,
		domain.ErrIdempotencyMismatch: codeMismatch, domain.ErrIdempotencyInProgress: codeInProgress, domain.ErrIdempotencyCompleted: codeCompleted,
		&domain.IdempotencyError{Kind: domain.ErrIdempotencyMismatch}: codeMismatch,
		// A store that does not say what a window had cost is a bug too.
		&domain.PastNeededError{}: codeInternal,
		// Nothing here reserves, so these would be bugs.
		domain.ErrTenantSuspended: codeInternal, domain.ErrKeyUnusable: codeInternal, domain.ErrBudgetExceeded: codeInternal,
		domain.ErrReservationExists: codeInternal, domain.ErrUnknownEvent: codeInternal,
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
