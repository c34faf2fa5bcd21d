package domain_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

// What is just inside a bound is accepted, and what could overflow is not.
func TestBounds(t *testing.T) {
	t.Parallel()
	text := func(n int) string { return strings.Repeat("x", n) }
	name := text(200)
	named := issue("k")
	named.Name = name
	unnamed := issue("k")
	unnamed.Name = "\xff"
	alerts := make([]Threshold, 17)
	for i := range alerts {
		alerts[i] = Threshold(i + 1)
	}
	define := func(more func(*DefineBudget)) DefineBudget {
		c := budget(Monthly, "10")
		more(&c)
		return c
	}
	for _, c := range []struct {
		rule  string
		given []any
		when  Command
		err   error
	}{
		{"a tenant's name of 200 bytes", nil, ChangeTenant{Name: &name}, nil},
		{"no requests per minute", nil, SetRateLimit{PerMin: perMin(0)}, nil},
		{"a million requests per minute", nil, SetRateLimit{PerMin: perMin(MaxRateLimit)}, nil},
		{"a key's name of 200 bytes", nil, named, nil},
		{"a key's name that is no text", nil, unnamed, ErrInvalid},
		{"a suspension's reason of 1000 bytes", []any{issue("k")}, SuspendKey{ID: "k", Reason: text(1000)}, nil},
		{"no secret after a rotation", []any{issue("k"), RotateKey{ID: "k", Hash: "new"}}, RotateKey{ID: "k"}, ErrInvalid},
		{"sixteen alerts", nil, define(func(c *DefineBudget) { c.AlertsAt = alerts[:16] }), nil},
		{"seventeen alerts", nil, define(func(c *DefineBudget) { c.AlertsAt = alerts }), ErrInvalid},
		{"an alert at ten times the limit", nil, define(func(c *DefineBudget) { c.AlertsAt = []Threshold{10_000_000} }), nil},
		{"a budget's id that is no text", nil, define(func(c *DefineBudget) { c.ID = "\xff" }), ErrInvalid},
		{"the largest limit", nil, budget(Monthly, "1000000000"), nil},
		{"a scope's key of 64 bytes", []any{issue(text(64))}, scoped("s", Total, "1", Scope{APIKey: KeyID(text(64))}), nil},
		{"a rolling window of less than no time", nil, rolling("10", -time.Minute), ErrInvalid},
		{"a raised limit of the largest amount", []any{budget(Monthly, "10"), RaiseBudget{ID: "monthly", By: usd("5")}}, budget(Monthly, "999999995"), nil},
		{"a raise that overflows", []any{budget(Monthly, "10")}, RaiseBudget{ID: "monthly", By: math.MaxInt64}, ErrInvalid},
		{"a raise by the largest amount", []any{budget(Monthly, "0")}, RaiseBudget{ID: "monthly", By: MaxAmount}, nil},
		{"a raise's reason of 1000 bytes", []any{budget(Monthly, "10")}, RaiseBudget{ID: "monthly", By: 1, Reason: text(1000)}, nil},
		{"a reservation of the largest amount, for a day", nil, Reserve{Request: Request{Reservation: "r"}, Amount: MaxAmount, TTL: 24 * time.Hour}, nil},
		{"a reservation with a tag whose name is no text", nil, request("r", "1", "", "", map[string]string{"\xff": "a"}), ErrInvalid},
		{"an extension that overflows", []any{reserve("r", "1")}, Extend{Reservation: "r", Add: math.MaxInt64}, ErrInvalid},
		{"an extension by the largest amount", []any{reserve("r", "0")}, Extend{Reservation: "r", Add: MaxAmount}, nil},
		{"an extension for a day", []any{reserve("r", "1")}, Extend{Reservation: "r", TTL: 24 * time.Hour}, nil},
		{"48 commands at once", nil, All{Commands: slices.Repeat([]Command{budget(Monthly, "1")}, 48)}, nil},
		{"49 commands at once", nil, All{Commands: slices.Repeat([]Command{budget(Monthly, "1")}, 49)}, ErrInvalid},
		{
			"four billions spent",
			[]any{budget(Total, "1"), adjust("1000000000", "", "1"), adjust("1000000000", "", "2"), adjust("1000000000", "", "3")},
			adjust("1000000000", "", "4"), nil,
		},
		{
			"more than four billions spent",
			[]any{budget(Total, "1"), adjust("1000000000", "", "1"), adjust("1000000000", "", "2"), adjust("1000000000", "", "3"), adjust("1000000000", "", "4")},
			adjust("0.000000001", "", "5"), ErrAmount,
		},
		{
			"holds of four billions on a new budget",
			[]any{reserve("a", "1000000000"), reserve("b", "1000000000"), reserve("c", "1000000000"), reserve("d", "1000000000")},
			budget(Monthly, "10"), nil,
		},
		{
			"holds of more on a new budget",
			[]any{reserve("a", "1000000000"), reserve("b", "1000000000"), reserve("c", "1000000000"), reserve("d", "1000000000"), reserve("e", "0.000000001")},
			budget(Monthly, "10"), ErrAmount,
		},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			st := newStage(t)
			mustDo(t, st, c.given...)
			if got, err := st.do(c.when); !errors.Is(err, c.err) || (c.err == nil && (err != nil || got == nil)) {
				t.Errorf("got %v, %v; want %v", got, err, c.err)
			}
		})
	}
}

func TestCommandsThatAreNotAdministrativeAreNotOneOfSeveral(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	mustDo(t, st, reserve("r", "1"))
	for _, c := range []Command{All{}, Informed{Command: budget(Monthly, "1")}, reserve("q", "1"), Extend{Reservation: "r", Add: 1}, settle("r", "1"), presume("r"), release(), expire(), adjust("1", "", "j"), Age{}} {
		if got, err := st.do(All{Commands: []Command{c}}); !errors.Is(err, ErrInvalid) || got != nil {
			t.Errorf("%T: got %v, %v; want ErrInvalid", c, got, err)
		}
	}
}

func TestTheSourceOfALimitAloneIsAChange(t *testing.T) {
	t.Parallel()
	play(t, []scene{
		{"higher", []any{budgetFrom(SourceDemo, Monthly, "10")}, budget(Monthly, "10"), []string{"#3 budget.changed monthly 10→10 admin"}, nil},
		{
			"custom windows that end together are two",
			[]any{custom("10", "2026-12-01", "2026-12-31")},
			func() DefineBudget { c := custom("5", "2026-12-02", "2026-12-31"); c.ID = "second"; return c }(),
			[]string{"#3 budget.defined second custom 5 admin 2026-12-02T00:00..2027-01-01T00:00"},
			nil,
		},
	})
}

func TestOfTwoBudgetsWithTheSameRoomTheFirstRefuses(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	mustDo(t, st, budget(Daily, "5"), budget(Monthly, "5"), RaiseBudget{ID: "daily", By: usd("1"), Until: at("2026-11-29")}, RaiseBudget{ID: "monthly", By: usd("1")})
	_, err := st.do(reserve("r", "7"))
	var exceeded *BudgetExceededError
	if !errors.As(err, &exceeded) || exceeded.Budget != "daily" || exceeded.Window.End != at("2026-11-23") {
		t.Errorf("got %+v", exceeded)
	}
}

func TestAnExtensionRefusedByARetiredBudgetNamesIt(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	mustDo(t, st, held(RetireBudget{ID: "monthly"})...)
	_, err := st.do(Extend{Reservation: "r", Add: usd("7")})
	var exceeded *BudgetExceededError
	if !errors.As(err, &exceeded) || exceeded.Budget != "monthly" || exceeded.Period != Monthly || exceeded.Limit != usd("10") {
		t.Errorf("got %+v", exceeded)
	}
}

func TestAnAccountThatIsNotLoadedCanNeitherBeExtendedNorAdjusted(t *testing.T) {
	t.Parallel()
	for _, c := range []Command{Extend{Reservation: "r", Add: 1}, adjust("1", "p", "j")} {
		st := newStage(t)
		mustDo(t, st, budget(Monthly, "10"), reserve("r", "1"), reserve("p", "1"), presume("p"))
		clear(st.state.Accounts)
		if got, err := st.do(c); err == nil || got != nil || errors.Is(err, ErrInvalid) || errors.Is(err, ErrReservationUnknown) {
			t.Errorf("%T: got %v, %v", c, got, err)
		}
	}
	st := newStage(t)
	state := Evolve(st.state, Recorded{Tenant: "acme", Version: 2, Time: at("2026-11-23"), Event: WindowSlid{Account: 7, Oldest: 3, Postings: []Posting{{Account: 7}}}})
	if len(state.Accounts) != 0 || state.Version != 2 {
		t.Errorf("an account that is not there slid to %+v", state)
	}
}

func TestAStreamBeginsWithItsTenant(t *testing.T) {
	t.Parallel()
	s := Evolve(NewState(""), Recorded{Tenant: "acme", Version: 1, Time: at("2026-11-23"), Event: TenantCreated{Name: "ACME"}})
	if s.Tenant != "acme" || !s.CreatedAt.Equal(at("2026-11-23")) || s.Name != "ACME" || !s.Exists() || s.Used {
		t.Errorf("got %+v", s)
	}
}

// The parts of a rolling account, as the next slide will find them.
func TestPartsOfARollingAccount(t *testing.T) {
	t.Parallel()
	hour := rolling("10", time.Hour)
	const ten = 29_922_360 // the minute of 10:00
	for _, c := range []struct {
		rule  string
		steps []any
		want  []Bucket
	}{
		{"by the minute of the reservation", []any{hour, reserve("a", "3"), "2026-11-22T10:30", reserve("b", "1"), presume("b"), settle("a", "3")}, []Bucket{{ten, usd("3"), 0}, {ten + 30, usd("1"), usd("1")}}},
		{"nothing is no part", []any{hour, reserve("a", "3"), settle("a", "0")}, nil},
		{"what comes to nothing is none any more", []any{hour, reserve("a", "3"), presume("a"), settle("a", "0")}, nil},
		{"what is confirmed stays", []any{hour, reserve("a", "3"), presume("a"), settle("a", "3")}, []Bucket{{ten, usd("3"), 0}}},
		{
			"a credit takes from the newest first",
			[]any{hour, reserve("a", "3"), settle("a", "3"), "2026-11-22T10:30", reserve("b", "1"), settle("b", "1"), "2026-11-22T10:40", adjust("-2", "", "j")},
			[]Bucket{{ten, usd("2"), 0}},
		},
		{
			"and leaves what is presumed",
			[]any{hour, reserve("a", "3"), settle("a", "3"), "2026-11-22T10:30", reserve("b", "1"), presume("b"), adjust("-2", "", "j")},
			[]Bucket{{ten, usd("1"), 0}, {ten + 30, usd("1"), usd("1")}},
		},
		{
			"a credit of a reservation takes from its minute and before, not from newer ones",
			[]any{hour, reserve("a", "3"), settle("a", "3"), "2026-11-22T10:30", reserve("b", "1"), settle("b", "1"), adjust("-3", "a", "j")},
			[]Bucket{{ten + 30, usd("1"), 0}},
		},
		{
			"the oldest minute that counts still counts what settles",
			[]any{reserve("a", "3"), "2026-11-22T11:00:30Z", hour, settle("a", "2")},
			[]Bucket{{ten, usd("2"), 0}},
		},
		{
			"the minute before does not",
			[]any{reserve("a", "3"), "2026-11-22T11:01", hour, settle("a", "2")},
			nil,
		},
	} {
		st := newStage(t)
		mustDo(t, st, c.steps...)
		account := st.state.Accounts[st.state.Current["rolling"]]
		if !slices.Equal(account.Buckets, c.want) {
			t.Errorf("%s: got %+v; want %+v", c.rule, account.Buckets, c.want)
		}
	}
}

func TestAnAttemptLivesSevenDaysToTheMicrosecond(t *testing.T) {
	t.Parallel()
	const reserved = "2026-11-22T10:00:00.000001Z"
	for _, c := range []struct {
		after time.Duration
		err   error
	}{{AttemptLife, ErrIdempotencyInProgress}, {AttemptLife + time.Microsecond, nil}} {
		st := newStage(t)
		mustDo(t, st, keyed("r", "i", "f", ""))
		st.now = at(reserved).Add(c.after)
		if _, err := st.do(keyed("q", "i", "f", "")); !errors.Is(err, c.err) {
			t.Errorf("after %s: %v; want %v", c.after, err, c.err)
		}
	}
}

// A hold can outlive its key: then the key stands for the newest of its requests, in whatever order they close.
func TestAKeyStandsForTheNewestOfItsRequests(t *testing.T) {
	t.Parallel()
	old := []any{keyed("r", "i", "f", ""), 8 * 24 * time.Hour, keyed("q", "i", "f", ""), Release{Reservation: "q", Reason: ReleasedNotSent}, settle("r", "1")}
	play(t, []scene{
		{"given back: for the old one, which was used too long ago", old, keyed("s", "i", "f", ""), []string{"#6 usage.reserved s 1"}, nil},
		{"given back in error", append(slices.Clone(old), settle("q", "1")), keyed("s", "i", "f", ""), nil, ErrIdempotencyCompleted},
	})
}

func TestAttemptAfterAnEvent(t *testing.T) {
	t.Parallel()
	of := Request{Reservation: "r", KeyID: "k", Idempotency: "i", Fingerprint: "f"}
	key, made, own := AttemptKey{KeyID: "k", Idempotency: "i"}, at("2026-11-22"), at("2026-11-23")
	attempt := func(version int64, at time.Time, state AttemptState, charged Amount) Attempt {
		return Attempt{AttemptKey: key, Fingerprint: "f", Reservation: "r", Version: version, At: at, State: state, Charged: charged}
	}
	for _, c := range []struct {
		event Event
		want  Attempt
	}{
		{UsageReserved{Request: of}, attempt(9, own, AttemptHeld, 0)},
		{UsageSettled{Request: of, ReservedAt: made, Charged: 5, Basis: BasisCounted}, attempt(0, made, AttemptSettled, 5)},
		{UsageSettled{Request: of, ReservedAt: made, Charged: 5, Basis: BasisPresumed}, attempt(0, made, AttemptPresumed, 5)},
		{ReservationExpired{Request: of, ReservedAt: made, Charged: 5}, attempt(0, made, AttemptPresumed, 5)},
		{UsageSettledLate{Request: of, ReservedAt: made, Charged: 5, Basis: BasisProvider}, attempt(0, made, AttemptSettled, 5)},
		{ReservationReleased{Request: of, ReservedAt: made}, attempt(0, made, "", 0)},
		{ReservationExtended{Request: of, ReservedAt: made}, Attempt{}},
		{UsageReserved{Request: Request{Reservation: "r", Fingerprint: "f"}}, Attempt{}},
		{TenantResumed{}, Attempt{}},
	} {
		if got, ok := AttemptAfter(Recorded{Version: 9, Time: own, Event: c.event}); got != c.want || ok != (c.want != Attempt{}) {
			t.Errorf("%T: got %+v, %v; want %+v", c.event, got, ok, c.want)
		}
	}
	got, ok := AttemptAfter(Recorded{Version: 9, Time: own, Event: UsageAdjusted{Delta: -5, Reservation: "r", Reason: "x", Idempotency: "i"}})
	if !ok || got.AttemptKey != (AttemptKey{Idempotency: "i", Adjustment: true}) || got.Version != 9 || !got.At.Equal(own) || got.State != AttemptAdjusted || got.Charged != -5 || got.Fingerprint == "" {
		t.Errorf("an adjustment: got %+v, %v", got, ok)
	}
}
