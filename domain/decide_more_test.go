package domain_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

func TestExtend(t *testing.T) {
	t.Parallel()
	more := func(add string, ttl time.Duration) Extend { return Extend{Reservation: "r", Add: usd(add), TTL: ttl} }
	two := []any{budget(Monthly, "10"), budget(Daily, "5"), reserve("r", "4")} // #4 the day, #5 the month, #6 r
	play(t, []scene{
		{
			"holds more in every budget", two, more("1", 0),
			[]string{"#7 reservation.extended r by 1 to 5 until 2026-11-22T10:15 [#4 0+5/5] [#5 0+5/10]"},
			nil,
		},
		{"or in none, if one has no room", two, more("1.000000001", 0), nil, ErrBudgetExceeded},
		{
			"lives longer, counted from now", held(), more("0", 15*time.Minute),
			[]string{"#5 reservation.extended r by 0 to 4 until 2026-11-22T10:20 [#3 0+4/10]"},
			nil,
		},
		{"never shorter: nothing is no change", held(), more("0", time.Minute), nil, nil},
		{
			"never shorter, also when it holds more", held(), more("1", time.Minute),
			[]string{"#5 reservation.extended r by 1 to 5 until 2026-11-22T10:15 [#3 0+5/10]"},
			nil,
		},
		{
			"lives longer without room", held(budget(Monthly, "3")), more("0", time.Hour),
			[]string{"#6 reservation.extended r by 0 to 4 until 2026-11-22T11:05 [#3 0+4/3]"},
			nil,
		},
		{"then settles what it holds", held(more("2", 0)), settle("r", "6"), []string{"#6 usage.settled r 6→6 provider [#3 6+0/10]"}, nil},
		{"then expires with what it holds", held(more("2", 0), time.Hour), expire(), []string{"#6 reservation.expired r 6→6 [#3 6(6?)+0/10]"}, nil},
		{"then does not expire when it would have", held(more("0", time.Hour), 50*time.Minute), expire(), nil, ErrInvalid},
		{"then is released whole", held(more("2", 0)), release(), []string{"#6 reservation.released r 6 [#3 0+0/10]"}, nil},
		{
			"after its window has ended holds there, by that window's limit", held("2026-12-01", budget(Monthly, "1")), more("6", 0),
			[]string{"#6 reservation.extended r by 6 to 10 until 2026-12-01T00:00 [#3 0+10/10]"},
			nil,
		},
		{"after its window has ended needs room there", held("2026-12-01", reserve("q", "1")), more("6.000000001", 0), nil, ErrBudgetExceeded},
		{
			"in a budget that was retired holds there all the same", held(RetireBudget{ID: "monthly"}), more("6", 0),
			[]string{"#6 reservation.extended r by 6 to 10 until 2026-11-22T10:15 [#3 0+10/10]"},
			nil,
		},
		{"in a budget that was retired needs room there", held(RetireBudget{ID: "monthly"}), more("6.000000001", 0), nil, ErrBudgetExceeded},
		{
			"in a rolling budget first lets go what has left",
			[]any{rolling("10", time.Hour), reserve("a", "5"), settle("a", "5"), reserve("r", "4"), "2026-11-22T11:01"},
			more("6", 0),
			[]string{"#7 window.slid rolling by 5 [#3 0+4/10]", "#8 reservation.extended r by 6 to 10 until 2026-11-22T11:01 [#3 0+10/10]"},
			nil,
		},
		{
			"in a raised budget first lets go of a raise that ended",
			[]any{budget(Monthly, "10"), RaiseBudget{ID: "monthly", By: usd("5"), Until: at("2026-11-22T10:10"), Actor: "admin"}, reserve("r", "4"), "2026-11-22T10:10"},
			more("6", 0),
			[]string{"#6 budget.changed monthly 15→10 admin (raise_ended) [#4 0+4/10]", "#7 reservation.extended r by 6 to 10 until 2026-11-22T10:15 [#4 0+10/10]"},
			nil,
		},
		{
			"in a raised budget has the room of the raise until it ends",
			[]any{budget(Monthly, "10"), RaiseBudget{ID: "monthly", By: usd("5"), Until: at("2026-11-22T10:10"), Actor: "admin"}, reserve("r", "4")},
			more("11", 0),
			[]string{"#6 reservation.extended r by 11 to 15 until 2026-11-22T10:15 [#4 0+15/15]"},
			nil,
		},
		{"of what is closed is refused", held(settle("r", "1")), more("1", 0), nil, ErrReservationUnknown},
		{"of what is presumed is refused", held(presume("r")), more("1", 0), nil, ErrReservationUnknown},
		{"of what never was is refused", held(), Extend{Reservation: "q", Add: 1}, nil, ErrReservationUnknown},
		{"by less than nothing is refused", held(), more("-0.000000001", 0), nil, ErrInvalid},
		{"above the largest amount is refused", []any{reserve("r", "4")}, more("999999996.000000001", 0), nil, ErrInvalid},
		{"to the largest amount is not", []any{reserve("r", "4")}, more("999999996", 0), []string{"#3 reservation.extended r by 999999996 to 1000000000 until 2026-11-22T10:15"}, nil},
		{"by a life below nothing is refused", held(), more("1", -1), nil, ErrInvalid},
		{"by more than a day is refused", held(), more("1", 24*time.Hour+1), nil, ErrInvalid},
	})
}

func TestAnExtensionThatDoesNotFitNamesTheBudget(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	mustDo(t, st, budget(Monthly, "10"), budget(Daily, "5"), reserve("r", "4"))
	_, err := st.do(Extend{Reservation: "r", Add: usd("2")})
	var exceeded *BudgetExceededError
	if !errors.As(err, &exceeded) || exceeded.Budget != "daily" || exceeded.Requested != usd("2") || exceeded.Held != usd("4") || exceeded.Limit != usd("5") {
		t.Errorf("got %+v", exceeded)
	}
	if r := st.state.Open["r"]; r.Amount != usd("4") {
		t.Errorf("the hold is %s", r.Amount)
	}
}

func TestAdjust(t *testing.T) {
	t.Parallel()
	spent := held(settle("r", "3")) // #3 the month, #4 r, #5 settled
	then := func(steps ...any) []any { return append(slices.Clone(spent), steps...) }
	hour := []any{rolling("10", time.Hour), reserve("a", "3"), settle("a", "3"), "2026-11-22T10:30", reserve("b", "1"), settle("b", "1")}
	play(t, []scene{
		{"up, in the window of a reservation", spent, adjust("1.5", "r", "j"), []string{"#6 usage.adjusted r by 1.5 [#3 4.5+0/10]"}, nil},
		{"down, in the window of a reservation", spent, adjust("-1.5", "r", "j"), []string{"#6 usage.adjusted r by -1.5 [#3 1.5+0/10]"}, nil},
		{"down to nothing", spent, adjust("-3", "r", "j"), []string{"#6 usage.adjusted r by -3 [#3 0+0/10]"}, nil},
		{"not below nothing", spent, adjust("-3.000000001", "r", "j"), nil, ErrInvalid},
		{"up above the limit is forced", spent, adjust("7.5", "r", "j"), []string{"#6 usage.adjusted r by 7.5 [#3 10.5+0/10!]"}, nil},
		{"up to the limit is not", spent, adjust("7", "r", "j"), []string{"#6 usage.adjusted r by 7 [#3 10+0/10]"}, nil},
		{
			"long after its window has ended", then("2027-01-05", reserve("q", "1")), adjust("-1", "r", "j"),
			[]string{"#8 usage.adjusted r by -1 [#3 2+0/10]"},
			nil,
		},
		{"again, with another key", then(adjust("-1", "r", "j")), adjust("-1", "r", "k"), []string{"#7 usage.adjusted r by -1 [#3 1+0/10]"}, nil},
		{"of a presumed charge confirms it", expired(), adjust("-1", "r", "j"), []string{"#6 usage.adjusted r by -1 [#3 3+0/10]"}, nil},
		{"of a presumed charge to nothing", expired(), adjust("-4", "r", "j"), []string{"#6 usage.adjusted r by -4 [#3 0+0/10]"}, nil},
		{"of a presumed charge not below nothing", expired(), adjust("-4.000000001", "r", "j"), nil, ErrInvalid},
		{"then no evidence is awaited", expired(adjust("-1", "r", "j")), settle("r", "2"), nil, ErrReservationUnknown},
		{"what others were presumed to cost cannot be taken", expired(reserve("q", "1"), settle("q", "1")), adjust("-1.000000001", "", "j"), nil, ErrInvalid},
		{"of what was released", held(release()), adjust("2", "r", "j"), []string{"#6 usage.adjusted r by 2 [#3 2+0/10]"}, nil},
		{
			"of what was released, in a budget that came later", held(release(), budget(Daily, "5")), adjust("2", "r", "j"),
			[]string{"#8 usage.adjusted r by 2 [#3 2+0/10] [#7 2+0/5]"},
			nil,
		},
		{"while it is open is refused", held(), adjust("1", "r", "j"), nil, ErrInvalid},
		{"of what never was is refused", spent, adjust("1", "q", "j"), nil, ErrReservationUnknown},
		{"without a reservation, in the window of now", spent, adjust("1.5", "", "j"), []string{"#6 usage.adjusted nothing by 1.5 [#3 4.5+0/10]"}, nil},
		{
			"without a reservation, in every window of the whole tenant, and opens them",
			[]any{budget(Monthly, "10"), budget(Daily, "5"), scoped("s", Total, "9", Scope{Model: "gpt-4"}), custom("7", "2026-12-01", "2026-12-31")},
			adjust("1", "", "j"),
			[]string{
				"#6 window.opened daily 2026-11-22T00:00..2026-11-23T00:00 limit 5", "#7 window.opened monthly 2026-11-01T00:00..2026-12-01T00:00 limit 10",
				"#8 usage.adjusted nothing by 1 [#6 1+0/5] [#7 1+0/10]",
			},
			nil,
		},
		{"without a reservation, where one window has too little to give back, in none", []any{budget(Monthly, "10"), reserve("r", "1"), settle("r", "1"), budget(Hourly, "5"), time.Hour}, adjust("-1", "", "j"), nil, ErrInvalid},
		{"without a budget", nil, adjust("-1", "", "j"), []string{"#2 usage.adjusted nothing by -1"}, nil},
		{
			"in a rolling window gives back what the time just passed has spent, the newest first", hour, adjust("-2", "", "j"),
			[]string{"#8 usage.adjusted nothing by -2 [#3 2+0/10]"},
			nil,
		},
		{
			"and that has not to leave once more",
			append(slices.Clone(hour), adjust("-2", "", "j"), "2026-11-22T11:01"),
			Age{},
			[]string{"#9 window.slid rolling by 2 [#3 0+0/10]"},
			nil,
		},
		{"in a rolling window gives back no more than is left", append(slices.Clone(hour), "2026-11-22T11:01"), adjust("-1.000000001", "", "j"), nil, ErrInvalid},
		{
			"in a rolling window first lets go what has left", append(slices.Clone(hour), "2026-11-22T11:01"), adjust("-1", "", "j"),
			[]string{"#8 window.slid rolling by 3 [#3 1+0/10]", "#9 usage.adjusted nothing by -1 [#3 0+0/10]"},
			nil,
		},
		{
			"in a rolling window, of a reservation, gives back no more than its minute and those before", hour,
			adjust("-3.000000001", "a", "j"), nil, ErrInvalid,
		},
		{
			"in a rolling window, of a reservation that has left, moves nothing", append(slices.Clone(hour), "2026-11-22T11:01", Age{}), adjust("-3", "a", "j"),
			[]string{"#9 usage.adjusted a by -3 [#3 1+0/10]"},
			nil,
		},
		{"needs a key", spent, adjust("1", "r", ""), nil, ErrInvalid},
		{"needs a key that is text", spent, adjust("1", "r", "\xff"), nil, ErrInvalid},
		{"needs a key of at most 255 bytes", spent, adjust("1", "r", strings.Repeat("x", 256)), nil, ErrInvalid},
		{"takes a key of 255 bytes", spent, adjust("1", "r", strings.Repeat("x", 255)), []string{"#6 usage.adjusted r by 1 [#3 4+0/10]"}, nil},
		{"needs a reason", spent, Adjust{Delta: 1, Reservation: "r", Idempotency: "j"}, nil, ErrInvalid},
		{"needs a reason of at most 1000 bytes", spent, Adjust{Delta: 1, Reason: strings.Repeat("x", 1001), Idempotency: "j"}, nil, ErrInvalid},
		{"takes a reason of 1000 bytes", nil, Adjust{Delta: usd("1"), Reason: strings.Repeat("x", 1000), Idempotency: "j"}, []string{"#2 usage.adjusted nothing by 1"}, nil},
		{"needs a reason that is text", spent, Adjust{Delta: 1, Reason: "\x00", Idempotency: "j"}, nil, ErrInvalid},
		{"by nothing is refused", spent, adjust("0", "r", "j"), nil, ErrInvalid},
		{"by more than the largest amount is refused", nil, adjust("1000000000.000000001", "", "j"), nil, ErrInvalid},
		{"by less than minus the largest amount is refused", nil, adjust("-1000000000.000000001", "", "j"), nil, ErrInvalid},
		{"by minus the largest amount is not", nil, adjust("-1000000000", "", "j"), []string{"#2 usage.adjusted nothing by -1000000000"}, nil},
		{"twice with one key is refused", settled3(adjust("1", "r", "j")), adjust("1", "r", "j"), nil, ErrIdempotencyCompleted},
		{"another with one key is refused: another amount", settled3(adjust("1", "r", "j")), adjust("2", "r", "j"), nil, ErrIdempotencyMismatch},
		{"another with one key is refused: another reservation", settled3(adjust("1", "r", "j")), adjust("1", "", "j"), nil, ErrIdempotencyMismatch},
		{"another with one key is refused: another reason", settled3(adjust("1", "r", "j")), Adjust{Delta: usd("1"), Reservation: "r", Reason: "other", Idempotency: "j"}, nil, ErrIdempotencyMismatch},
		{
			"with one key after seven days is another", settled3(adjust("1", "r", "j"), 7*24*time.Hour+time.Millisecond), adjust("1", "r", "j"),
			[]string{"#7 usage.adjusted r by 1 [#3 5+0/10]"},
			nil,
		},
		{"with one key within seven days is not", settled3(adjust("1", "r", "j"), 7*24*time.Hour), adjust("1", "r", "j"), nil, ErrIdempotencyCompleted},
	})
}

func settled3(more ...any) []any { return append(held(settle("r", "3")), more...) }

func TestAnAdjustmentSaysWhatItWasForAndItsRetryNamesIt(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	mustDo(t, st, issue("k"), request("r", "1", "k", "gpt-4", team("x")), settle("r", "1"), 24*time.Hour, adjust("-0.5", "r", "j"))
	e := st.log[len(st.log)-1].Event.(UsageAdjusted)
	if e.Model != "gpt-4" || e.KeyID != "k" || e.Tags["team"] != "x" || !e.ReservedAt.Equal(at("2026-11-22T10:00:00.000002Z")) || e.Actor != "admin" || e.Reason != "invoice" {
		t.Errorf("got %+v", e)
	}
	_, err := st.do(adjust("-0.5", "r", "j"))
	var used *IdempotencyError
	if !errors.As(err, &used) || used.Attempt.Version != 5 || used.Attempt.Charged != usd("-0.5") || used.Attempt.State != AttemptAdjusted || !strings.Contains(err.Error(), "-0.5") {
		t.Errorf("got %v of %+v", err, used)
	}
}

// keyed is a reservation of 1 with an idempotency key.
func keyed(id, key, fingerprint string, apiKey KeyID) Reserve {
	c := reserve(id, "1")
	c.Idempotency, c.Fingerprint, c.KeyID = key, fingerprint, apiKey
	return c
}

func TestAnIdempotencyKeyPaysForOneRequest(t *testing.T) {
	t.Parallel()
	first := func(steps ...any) []any { return append([]any{issue("k"), keyed("r", "i", "f", "k")}, steps...) }
	again := keyed("q", "i", "f", "k")
	reserved := func(version int) []string { return []string{"#" + string(rune('0'+version)) + " usage.reserved q 1"} }
	play(t, []scene{
		{"while it is held: in progress", first(), again, nil, ErrIdempotencyInProgress},
		{"while it is held, by another request: a mismatch", first(), keyed("q", "i", "other", "k"), nil, ErrIdempotencyMismatch},
		{"after settling: completed", first(settle("r", "0.5")), again, nil, ErrIdempotencyCompleted},
		{"after settling, by another request: a mismatch", first(settle("r", "0.5")), keyed("q", "i", "other", "k"), nil, ErrIdempotencyMismatch},
		{"after a charge of nothing: completed", first(presume("r"), settle("r", "0")), again, nil, ErrIdempotencyCompleted},
		{"after settling by presumption: completed", first(presume("r")), again, nil, ErrIdempotencyCompleted},
		{"after expiry: completed", first(time.Hour, expire()), again, nil, ErrIdempotencyCompleted},
		{"after a free expiry: completed, for nobody knows", first(time.Hour, Expire{Reservation: "r", Free: true}), again, nil, ErrIdempotencyCompleted},
		{"after late evidence: completed", first(presume("r"), settle("r", "0.5")), again, nil, ErrIdempotencyCompleted},
		{"after a release: it runs again", first(release()), again, reserved(5), nil},
		{"after a release, by another request: that runs", first(release()), keyed("q", "i", "other", "k"), reserved(5), nil},
		{"after a release that was late: it runs again", first(presume("r"), release()), again, reserved(6), nil},
		{"after a release that was wrong: completed", first(release(), settle("r", "1")), again, nil, ErrIdempotencyCompleted},
		{"after a release and a second run: in progress", first(release(), keyed("s", "i", "f", "k")), again, nil, ErrIdempotencyInProgress},
		{"whatever comes late for the first run", first(release(), keyed("s", "i", "f", "k"), settle("r", "1")), again, nil, ErrIdempotencyInProgress},
		{"extended: in progress", first(Extend{Reservation: "r", Add: 1}), again, nil, ErrIdempotencyInProgress},
		{"adjusted: completed", first(settle("r", "1"), adjust("-1", "r", "j")), again, nil, ErrIdempotencyCompleted},
		{"of another API key: another key", first(issue("l")), keyed("q", "i", "f", "l"), reserved(5), nil},
		{"of no API key: another key", first(), keyed("q", "i", "f", ""), reserved(4), nil},
		{"an adjustment's key is another too", first(), adjust("1", "", "i"), []string{"#4 usage.adjusted nothing by 1"}, nil},
		{"seven days later: completed", first(settle("r", "1"), 7*24*time.Hour), again, nil, ErrIdempotencyCompleted},
		{"after seven days: it is new", first(settle("r", "1"), 7*24*time.Hour+time.Millisecond), again, reserved(5), nil},
		{
			"after seven days it stands for the new one, though the old one closes",
			[]any{issue("k"), keyed("r", "i", "f", "k"), 8 * 24 * time.Hour, again, settle("r", "1")},
			keyed("s", "i", "f", "k"), nil, ErrIdempotencyInProgress,
		},
		{
			"and is given back with the new one",
			[]any{issue("k"), keyed("r", "i", "f", "k"), 8 * 24 * time.Hour, again, settle("r", "1"), Release{Reservation: "q", Reason: ReleasedNotSent}},
			keyed("s", "i", "f", "k"),
			[]string{"#7 usage.reserved s 1"},
			nil,
		},
		{"none is no key", []any{issue("k"), keyed("r", "", "f", "k")}, keyed("q", "", "f", "k"), reserved(4), nil},
		{"a key has at most 255 bytes", nil, keyed("q", strings.Repeat("x", 256), "f", ""), nil, ErrInvalid},
		{"255 will do", nil, keyed("q", strings.Repeat("x", 255), "f", ""), reserved(2), nil},
		{"a retry of a suspended tenant is refused as that", first(SuspendTenant{}), again, nil, ErrTenantSuspended},
		{"a retry with a revoked key is refused as that", first(RevokeKey{ID: "k"}), again, nil, ErrKeyUnusable},
		{"a refused request leaves no key", []any{budget(Monthly, "0.5")}, keyed("q", "i", "f", ""), nil, ErrBudgetExceeded},
	})
}

func TestAnAttemptIsWhatItsRetryIsAnswered(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	attempt := func(rule string, want Attempt) {
		t.Helper()
		want.AttemptKey, want.Fingerprint, want.Reservation, want.Version, want.At = AttemptKey{Idempotency: "i"}, "f", "r", 2, at("2026-11-22T10:00:00.000001Z")
		_, err := st.do(keyed("q", "i", "f", ""))
		var used *IdempotencyError
		if !errors.As(err, &used) || used.Attempt != want {
			t.Errorf("%s: got %+v; want %+v", rule, used, want)
		}
	}
	mustDo(t, st, keyed("r", "i", "f", ""))
	attempt("held", Attempt{State: AttemptHeld})
	mustDo(t, st, time.Hour, expire())
	attempt("expired", Attempt{State: AttemptPresumed, Charged: usd("1")})
	mustDo(t, st, settle("r", "0.25"))
	attempt("late", Attempt{State: AttemptSettled, Charged: usd("0.25")})
	if key, ok := AttemptKeyOf(keyed("q", "i", "f", "k")); !ok || key != (AttemptKey{KeyID: "k", Idempotency: "i"}) {
		t.Errorf("got %+v, %v", key, ok)
	}
	if key, ok := AttemptKeyOf(adjust("1", "", "j")); !ok || key != (AttemptKey{Idempotency: "j", Adjustment: true}) {
		t.Errorf("got %+v, %v", key, ok)
	}
	for _, c := range []Command{reserve("r", "1"), settle("r", "1"), adjust("1", "", "")} {
		if key, ok := AttemptKeyOf(c); ok {
			t.Errorf("%T uses %+v", c, key)
		}
	}
}

func TestAStateRestoredWithTwoHoldsOfOneKeyStandsForTheNewer(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	mustDo(t, st, keyed("r", "i", "f", ""), 8*24*time.Hour, keyed("q", "i", "f", ""))
	for _, order := range [][]ReservationID{{"r", "q"}, {"q", "r"}} {
		restored := NewState("acme")
		for _, id := range order {
			restored.AdoptReservation(st.state.Open[id])
		}
		if a := restored.Attempts[AttemptKey{Idempotency: "i"}]; a.Reservation != "q" {
			t.Errorf("%v: stands for %s", order, a.Reservation)
		}
	}
}

func alerted(c DefineBudget, shares ...Threshold) DefineBudget {
	c.AlertsAt = shares
	return c
}

const half, most, whole = 500_000, 800_000, 1_000_000

func TestThresholdsAreToldOnceByWhatIsSpent(t *testing.T) {
	t.Parallel()
	month := alerted(budget(Monthly, "10"), half, most, whole)
	spent := func(charged string, steps ...any) []any {
		return append([]any{month, reserve("s", charged), settle("s", charged), reserve("r", "1")}, steps...)
	}
	crossed := func(version, account, share, use, limit string) string {
		return "#" + version + " budget.threshold_crossed monthly #" + account + " at " + share + "% with " + use + " of " + limit
	}
	play(t, []scene{
		{"by holding: none", []any{month}, reserve("r", "10"), []string{openedMonth, "#4 usage.reserved r 10 [#3 0+10/10]"}, nil},
		{"below: none", []any{month, reserve("r", "5")}, settle("r", "4.999999999"), []string{"#5 usage.settled r 5→4.999999999 provider [#3 4.999999999+0/10]"}, nil},
		{"exactly at it", []any{month, reserve("r", "5")}, settle("r", "5"), []string{"#5 usage.settled r 5→5 provider [#3 5+0/10]", crossed("6", "3", "50", "5", "10")}, nil},
		{
			"several at once, in their order",
			[]any{month, reserve("r", "10")},
			settle("r", "10"),
			[]string{"#5 usage.settled r 10→10 provider [#3 10+0/10]", crossed("6", "3", "50", "10", "10"), crossed("7", "3", "80", "10", "10"), crossed("8", "3", "100", "10", "10")},
			nil,
		},
		{"not again", spent("5"), settle("r", "1"), []string{"#8 usage.settled r 1→1 provider [#3 6+0/10]"}, nil},
		{"not again after it fell below", spent("5", adjust("-2", "", "j"), settle("r", "1"), reserve("q", "2")), settle("q", "2"), []string{"#11 usage.settled q 2→2 provider [#3 6+0/10]"}, nil},
		{"in the next window again", []any{month, reserve("s", "6"), settle("s", "6"), "2026-12-01", reserve("r", "6")}, settle("r", "6"), []string{"#9 usage.settled r 6→6 provider [#7 6+0/10]", crossed("10", "7", "50", "6", "10")}, nil},
		{"in the window of the reservation, when that has ended", []any{month, reserve("r", "6"), "2026-12-01", reserve("q", "1")}, settle("r", "6"), []string{"#7 usage.settled r 6→6 provider [#3 6+0/10]", crossed("8", "3", "50", "6", "10")}, nil},
		{"by an expiry", []any{month, reserve("r", "6"), time.Hour}, expire(), []string{"#5 reservation.expired r 6→6 [#3 6(6?)+0/10]", crossed("6", "3", "50", "6", "10")}, nil},
		{"by late evidence", []any{month, reserve("r", "6"), release()}, settle("r", "6"), []string{"#6 usage.settled_late r 0→6 by 6 provider [#3 6+0/10]", crossed("7", "3", "50", "6", "10")}, nil},
		{"by an adjustment", spent("4"), adjust("1", "", "j"), []string{"#7 usage.adjusted nothing by 1 [#3 5+1/10]", crossed("8", "3", "50", "5", "10")}, nil},
		{"by a limit that is cut", spent("4"), alerted(budget(Monthly, "5"), half, most, whole), []string{"#7 budget.changed monthly 10→5 admin [#3 4+1/5]", crossed("8", "3", "50", "4", "5"), crossed("9", "3", "80", "4", "5")}, nil},
		{"by a threshold that is new", spent("4"), alerted(budget(Monthly, "10"), half, 400_000), []string{"#7 budget.changed monthly 10→10 admin [#3 4+1/10]", crossed("8", "3", "40", "4", "10")}, nil},
		{"of one said twice, once", []any{alerted(budget(Monthly, "10"), half, half), reserve("r", "6")}, settle("r", "6"), []string{"#5 usage.settled r 6→6 provider [#3 6+0/10]", crossed("6", "3", "50", "6", "10")}, nil},
		{"of a limit of nothing, by anything", []any{alerted(budget(Monthly, "0"), half), reserve("r", "0")}, settle("r", "0.1"), []string{"#5 usage.settled r 0→0.1 provider overrun 0.1 [#3 0.1+0/0!]", crossed("6", "3", "50", "0.1", "0")}, nil},
		{"of a limit of nothing, not by nothing", []any{alerted(budget(Monthly, "0"), half), reserve("r", "0")}, settle("r", "0"), []string{"#5 usage.settled r 0→0 provider [#3 0+0/0]"}, nil},
		{
			"by what a new budget begins with",
			[]any{reserve("r", "6"), settle("r", "6")},
			month,
			[]string{"#4 budget.defined monthly monthly 10 admin", "#5 window.opened monthly 2026-11-01T00:00..2026-12-01T00:00 limit 10 with 6+0", crossed("6", "5", "50", "6", "10")},
			nil,
		},
		{"of a budget that was retired: none", []any{month, reserve("r", "6"), RetireBudget{ID: "monthly"}}, settle("r", "6"), []string{"#6 usage.settled r 6→6 provider [#3 6+0/10]"}, nil},
		{
			"of the largest limit, without overflow",
			[]any{alerted(budget(Total, "1000000000"), 10*whole), reserve("r", "1000000000")},
			settle("r", "1000000000"),
			[]string{"#5 usage.settled r 1000000000→1000000000 provider [#3 1000000000+0/1000000000]"},
			nil,
		},
	})
}

func TestThresholdsOfARollingWindowAreArmedAgainByASlide(t *testing.T) {
	t.Parallel()
	hour := alerted(rolling("10", time.Hour), half, most)
	spent := []any{hour, reserve("a", "3"), settle("a", "3"), "2026-11-22T10:30", reserve("b", "5"), settle("b", "5"), "2026-11-22T11:01"} // told of both: #8, #9
	then := func(steps ...any) []any { return append(slices.Clone(spent), steps...) }
	play(t, []scene{
		{"the slide leaves half: only most is armed again", then(reserve("r", "4")), settle("r", "3"), []string{"#12 usage.settled r 4→3 provider [#3 8+0/10]", "#13 budget.threshold_crossed rolling #3 at 80% with 8 of 10"}, nil},
		{
			"the slide leaves nothing: both are",
			then("2026-11-22T11:31", reserve("r", "8")), settle("r", "8"),
			[]string{"#12 usage.settled r 8→8 provider [#3 8+0/10]", "#13 budget.threshold_crossed rolling #3 at 50% with 8 of 10", "#14 budget.threshold_crossed rolling #3 at 80% with 8 of 10"},
			nil,
		},
		{
			"a slide and an adjustment at once",
			then("2026-11-22T11:31"), adjust("5", "", "j"),
			[]string{"#10 window.slid rolling by 8 [#3 0+0/10]", "#11 usage.adjusted nothing by 5 [#3 5+0/10]", "#12 budget.threshold_crossed rolling #3 at 50% with 5 of 10"},
			nil,
		},
		{
			"what has left crosses nothing when the limit is cut",
			then("2026-11-22T11:31"), alerted(rolling("1", time.Hour), half),
			[]string{"#10 window.slid rolling by 8 [#3 0+0/10]", "#11 budget.changed rolling 10→1 admin [#3 0+0/1]"},
			nil,
		},
	})
}

func TestARaiseLiftsALimitUntilItEnds(t *testing.T) {
	t.Parallel()
	raise := func(by, until string) RaiseBudget {
		c := RaiseBudget{ID: "monthly", By: usd(by), Reason: "launch", Actor: "admin"}
		if until != "" {
			c.Until = at(until)
		}
		return c
	}
	full := []any{alerted(budget(Monthly, "10"), whole), reserve("r", "10"), settle("r", "9")} // #3 the month, #5 settled
	then := func(steps ...any) []any { return append(slices.Clone(full), steps...) }
	topped := raise("5", "")
	hour := raise("5", "2026-11-22T11:00")
	play(t, []scene{
		{"a top-up ends with the window", full, topped, []string{"#6 budget.changed monthly 10→15 admin +5 until 2026-12-01T00:00 (launch) [#3 9+0/15]"}, nil},
		{"before the first request too", []any{budget(Monthly, "10")}, topped, []string{"#3 budget.changed monthly 10→15 admin +5 until 2026-12-01T00:00 (launch)"}, nil},
		{"there is room at once", then(topped), reserve("q", "6"), []string{"#7 usage.reserved q 6 [#3 9+6/15]"}, nil},
		{"and no more", then(topped), reserve("q", "6.000000001"), nil, ErrBudgetExceeded},
		{
			"the next window is without it",
			then(topped, "2026-12-01"), reserve("q", "1"),
			[]string{"#7 budget.changed monthly 15→10 admin (raise_ended)", "#8 window.opened monthly 2026-12-01T00:00..2027-01-01T00:00 limit 10", "#9 usage.reserved q 1 [#8 0+1/10]"},
			nil,
		},
		{"the old window keeps it", then(topped, reserve("q", "6"), "2026-12-01", Age{}), settle("q", "6"), []string{"#9 usage.settled q 6→6 provider [#3 15+0/15]", "#10 budget.threshold_crossed monthly #3 at 100% with 15 of 15"}, nil},
		{"a raise with an end ends with the next reservation", then(hour, "2026-11-22T11:00"), reserve("q", "1"), []string{"#7 budget.changed monthly 15→10 admin (raise_ended) [#3 9+0/10]", "#8 usage.reserved q 1 [#3 9+1/10]"}, nil},
		{"a reservation that is refused ends nothing", then(hour, "2026-11-22T11:00"), reserve("q", "1.000000001"), nil, ErrBudgetExceeded},
		{"a microsecond before its end it is in force", then(hour, "2026-11-22T10:59:59.999999Z"), reserve("q", "6"), []string{"#7 usage.reserved q 6 [#3 9+6/15]"}, nil},
		{"or with Age", then(hour, "2026-11-22T11:00"), Age{}, []string{"#7 budget.changed monthly 15→10 admin (raise_ended) [#3 9+0/10]"}, nil},
		{"Age before changes nothing", then(hour, "2026-11-22T10:59:59.999999Z"), Age{}, nil, nil},
		{
			"its end below use is forced, and crosses",
			then(hour, reserve("q", "6"), settle("q", "3"), "2026-11-22T11:00"),
			Age{},
			[]string{"#9 budget.changed monthly 15→10 admin (raise_ended) [#3 12+0/10!]", "#10 budget.threshold_crossed monthly #3 at 100% with 12 of 10"},
			nil,
		},
		{
			"its end and an adjustment cross once",
			then(hour, reserve("q", "6"), settle("q", "3"), "2026-11-22T11:00"), adjust("1", "", "j"),
			[]string{
				"#9 budget.changed monthly 15→10 admin (raise_ended) [#3 12+0/10!]", "#10 budget.threshold_crossed monthly #3 at 100% with 12 of 10",
				"#11 usage.adjusted nothing by 1 [#3 13+0/10!]",
			},
			nil,
		},
		{
			"its end and a new limit cross once",
			then(hour, reserve("q", "6"), settle("q", "3"), "2026-11-22T11:00"), alerted(budget(Monthly, "11"), whole),
			[]string{
				"#9 budget.changed monthly 15→10 admin (raise_ended) [#3 12+0/10!]", "#10 budget.threshold_crossed monthly #3 at 100% with 12 of 10",
				"#11 budget.changed monthly 10→11 admin [#3 12+0/11!]",
			},
			nil,
		},
		{
			"two raises add up, and each has its end",
			then(hour, raise("2", "2026-11-22T12:00"), "2026-11-22T11:00"),
			Age{},
			[]string{"#8 budget.changed monthly 17→12 admin +2 until 2026-11-22T12:00 (raise_ended) [#3 9+0/12]"},
			nil,
		},
		{
			"the later one may end first",
			then(raise("2", "2026-11-22T12:00"), hour, "2026-11-22T11:30"), raise("1", "2026-11-22T13:00"),
			[]string{
				"#8 budget.changed monthly 17→12 admin +2 until 2026-11-22T12:00 (raise_ended) [#3 9+0/12]",
				"#9 budget.changed monthly 12→13 admin +2 until 2026-11-22T12:00 +1 until 2026-11-22T13:00 (launch) [#3 9+0/13]",
			},
			nil,
		},
		{"both at once", then(hour, raise("2", "2026-11-22T12:00"), "2026-11-22T12:00"), Age{}, []string{"#8 budget.changed monthly 17→10 admin (raise_ended) [#3 9+0/10]"}, nil},
		{
			"a new limit is below the raises: they stay",
			then(hour), alerted(budget(Monthly, "12"), whole),
			[]string{"#7 budget.changed monthly 15→17 admin +5 until 2026-11-22T11:00 [#3 9+0/17]"},
			nil,
		},
		{"the same limit again is no change", then(hour), alerted(budget(Monthly, "10"), whole), nil, nil},
		{"the limit as raised is a change", then(hour), alerted(budget(Monthly, "15"), whole), []string{"#7 budget.changed monthly 15→20 admin +5 until 2026-11-22T11:00 [#3 9+0/20]"}, nil},
		{"a new limit with its raises is at most the largest amount", then(raise("999999990", "")), alerted(budget(Monthly, "10.000000001"), whole), nil, ErrInvalid},
		{"a raise is to at most the largest amount", full, raise("999999990.000000001", ""), nil, ErrInvalid},
		{"to the largest amount", full, raise("999999990", ""), []string{"#6 budget.changed monthly 10→1000000000 admin +999999990 until 2026-12-01T00:00 (launch) [#3 9+0/1000000000]"}, nil},
		{"by nothing is refused", full, raise("0", ""), nil, ErrInvalid},
		{"by less is refused", full, raise("-1", ""), nil, ErrInvalid},
		{"until now is refused", full, raise("1", "2026-11-22T10:00"), nil, ErrInvalid},
		{"until after all time is refused", full, raise("1", "9999-01-01T00:00:01Z"), nil, ErrInvalid},
		{"until all time ends is not", full, raise("1", "9999-01-01"), []string{"#6 budget.changed monthly 10→11 admin +1 until 9999-01-01T00:00 (launch) [#3 9+0/11]"}, nil},
		{"a top-up needs a window that ends: a total has none", []any{budget(Total, "10")}, RaiseBudget{ID: "total", By: 1}, nil, ErrInvalid},
		{"nor has a rolling one", []any{rolling("10", time.Hour)}, RaiseBudget{ID: "rolling", By: 1}, nil, ErrInvalid},
		{"nor a custom one outside its window", []any{custom("10", "2026-12-01", "2026-12-31")}, RaiseBudget{ID: "custom", By: 1}, nil, ErrInvalid},
		{
			"a custom one inside has",
			[]any{custom("10", "2026-11-01", "2026-11-30")},
			RaiseBudget{ID: "custom", By: usd("1"), Actor: "admin"},
			[]string{"#3 budget.changed custom 10→11 admin +1 until 2026-12-01T00:00"},
			nil,
		},
		{"of a budget that is none is refused", nil, RaiseBudget{ID: "none", By: 1}, nil, ErrBudgetUnknown},
		{"the reason has at most 1000 bytes", full, RaiseBudget{ID: "monthly", By: 1, Reason: strings.Repeat("x", 1001)}, nil, ErrInvalid},
		{"the reason is text", full, RaiseBudget{ID: "monthly", By: 1, Reason: "\x00"}, nil, ErrInvalid},
		{"a source of lower rank changes nothing of a raised one", then(hour), budgetFrom(SourceDemo, Monthly, "1"), nil, nil},
	})
}

func TestABudgetHasAtMostSixteenRaisesAtOnce(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	mustDo(t, st, budget(Monthly, "1"))
	raise := RaiseBudget{ID: "monthly", By: usd("1"), Until: at("2026-11-22T12:00")}
	for range 16 {
		mustDo(t, st, raise)
	}
	if _, err := st.do(raise); !errors.Is(err, ErrInvalid) {
		t.Errorf("the seventeenth: %v", err)
	}
	mustDo(t, st, "2026-11-22T12:00", RaiseBudget{ID: "monthly", By: usd("1"), Until: at("2026-11-22T13:00")})
	if b := st.state.Budgets[0]; b.Limit != usd("2") || len(b.Raises) != 1 {
		t.Errorf("got %+v", b)
	}
}

func TestKeysAreSuspendedAndRotated(t *testing.T) {
	t.Parallel()
	rotate := func(hash string, grace time.Duration) RotateKey {
		return RotateKey{ID: "k", Prefix: "bgk_n", Hash: hash, Grace: grace, Actor: "admin"}
	}
	suspend := SuspendKey{ID: "k", Reason: "leaked", Actor: "admin"}
	play(t, []scene{
		{"suspending says why", []any{issue("k")}, suspend, []string{`#3 apikey.suspended {"apiKeyId":"k","reason":"leaked","actor":"admin"}`}, nil},
		{"twice is no change", []any{issue("k"), suspend}, suspend, nil, nil},
		{"a suspended key cannot reserve", []any{issue("k"), suspend}, reserveWithKey(), nil, ErrKeyUnusable},
		{"nor extend the rules: what is open settles", []any{issue("k"), reserveWithKey(), suspend}, settle("r", "1"), []string{"#5 usage.settled r 1→1 provider"}, nil},
		{"resuming ends it", []any{issue("k"), suspend}, ResumeKey{ID: "k", Actor: "admin"}, []string{`#4 apikey.resumed {"apiKeyId":"k","actor":"admin"}`}, nil},
		{"a resumed key can reserve", []any{issue("k"), suspend, ResumeKey{ID: "k"}}, reserveWithKey(), []string{"#5 usage.reserved r 1"}, nil},
		{"resuming what goes on is no change", []any{issue("k")}, ResumeKey{ID: "k"}, nil, nil},
		{"a revoked key stays so when it is resumed", []any{issue("k"), suspend, RevokeKey{ID: "k"}, ResumeKey{ID: "k"}}, reserveWithKey(), nil, ErrKeyUnusable},
		{"suspending what nobody issued is refused", nil, suspend, nil, ErrKeyUnknown},
		{"resuming what nobody issued is refused", nil, ResumeKey{ID: "k"}, nil, ErrKeyUnknown},
		{"the reason has at most 1000 bytes", []any{issue("k")}, SuspendKey{ID: "k", Reason: strings.Repeat("x", 1001)}, nil, ErrInvalid},
		{"the reason is text", []any{issue("k")}, SuspendKey{ID: "k", Reason: "\xff"}, nil, ErrInvalid},
		{
			"rotating keeps the old secret for its grace",
			[]any{issue("k")},
			rotate("new", time.Hour),
			[]string{`#3 apikey.rotated {"apiKeyId":"k","prefix":"bgk_n","keyHash":"new","oldUntil":"2026-11-22T11:00:00.000002Z","oldKeyHash":"hash of k","actor":"admin"}`},
			nil,
		},
		{"a rotated key can reserve", []any{issue("k"), rotate("new", 0)}, reserveWithKey(), []string{"#4 usage.reserved r 1"}, nil},
		{"for thirty days", []any{issue("k"), rotate("new", 30*24*time.Hour), SetRateLimit{PerMin: perMin(1)}}, ResumeKey{ID: "k"}, nil, nil},
		{"not longer", []any{issue("k")}, rotate("new", 30*24*time.Hour+1), nil, ErrInvalid},
		{"not less than no time", []any{issue("k")}, rotate("new", -1), nil, ErrInvalid},
		{"needs a secret", []any{issue("k")}, rotate("", 0), nil, ErrInvalid},
		{"needs a new secret", []any{issue("k")}, rotate("hash of k", 0), nil, ErrInvalid},
		{"needs one that it has not just had", []any{issue("k"), rotate("new", 0)}, rotate("hash of k", 0), nil, ErrInvalid},
		{"a revoked key is not rotated", []any{issue("k"), RevokeKey{ID: "k"}}, rotate("new", 0), nil, ErrKeyUnknown},
		{"what nobody issued is not rotated", nil, rotate("new", 0), nil, ErrKeyUnknown},
	})
}

func TestARotatedKeyKnowsBothSecrets(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	mustDo(t, st, issue("k"), RotateKey{ID: "k", Prefix: "bgk_n", Hash: "new", Grace: time.Hour})
	k := st.state.Keys["k"]
	if k.Hash != "new" || k.Prefix != "bgk_n" || k.OldHash != "hash of k" || k.OldUntil == nil || !k.OldUntil.Equal(at("2026-11-22T11:00:00.000002Z")) {
		t.Errorf("got %+v", k)
	}
}

func TestAKeyPinsAndRequiresTags(t *testing.T) {
	t.Parallel()
	pinned, required := issue("k"), issue("k")
	pinned.Tags, required.RequiredTags = map[string]string{"team": "a"}, []string{"team", "env"}
	with := func(tags map[string]string) Reserve { return request("r", "1", "k", "gpt-4", tags) }
	play(t, []scene{
		{"as pinned", []any{pinned}, with(team("a")), []string{"#3 usage.reserved r 1"}, nil},
		{"as pinned, with others", []any{pinned}, with(map[string]string{"team": "a", "env": "x"}), []string{"#3 usage.reserved r 1"}, nil},
		{"other than pinned is refused", []any{pinned}, with(team("b")), nil, ErrInvalid},
		{"without what is pinned is refused", []any{pinned}, with(nil), nil, ErrInvalid},
		{"with what is required", []any{required}, with(map[string]string{"team": "a", "env": ""}), []string{"#3 usage.reserved r 1"}, nil},
		{"without one that is required is refused", []any{required}, with(team("a")), nil, ErrInvalid},
		{"of another key nothing is asked", []any{pinned, issue("l")}, request("r", "1", "l", "gpt-4", nil), []string{"#4 usage.reserved r 1"}, nil},
	})
}

func TestAReleaseNeedsProof(t *testing.T) {
	t.Parallel()
	because := func(reason string) Release { return Release{Reservation: "r", Reason: reason} }
	released := []string{"#5 reservation.released r 4 [#3 0+0/10]"}
	play(t, []scene{
		{"never dispatched", held(), because(ReleasedNeverDispatched), released, nil},
		{"not sent", held(), because(ReleasedNotSent), released, nil},
		{"the client had gone", held(), because(ReleasedClientGone), released, nil},
		{"a status that bills nothing", held(), because(ReleasedStatus + "429"), released, nil},
		{"no status", held(), because(ReleasedStatus), nil, ErrInvalid},
		{"half a status", held(), because(ReleasedStatus + "42"), nil, ErrInvalid},
		{"more than a status", held(), because(ReleasedStatus + "4290"), nil, ErrInvalid},
		{"letters", held(), because(ReleasedStatus + "4xx"), nil, ErrInvalid},
		{"a timeout is no proof", held(), because("timeout"), nil, ErrInvalid},
		{"nothing is no proof", held(), because(""), nil, ErrInvalid},
		{"without proof a presumed charge stays", held(presume("r")), because("timeout"), nil, ErrInvalid},
		{"a presumption does not outweigh the proof", held(release()), presume("r"), nil, nil},
		{"evidence does", held(release()), settle("r", "1"), []string{"#6 usage.settled_late r 0→1 by 1 provider [#3 1+0/10]"}, nil},
		{"evidence that it was free says nothing new", held(release()), settle("r", "0"), nil, nil},
		{
			"evidence counts in budgets that came later too", held(release(), budget(Daily, "5"), reserve("q", "1")), settle("r", "1"),
			[]string{"#9 usage.settled_late r 0→1 by 1 provider [#3 1+1/10] [#7 1+1/5]"},
			nil,
		},
		{
			"also where that is all they count", held(release(), budget(Daily, "5")), settle("r", "1"),
			[]string{"#8 usage.settled_late r 0→1 by 1 provider [#3 1+0/10] [#7 1+0/5]"},
			nil,
		},
		{
			"and in a rolling one", held(release(), rolling("5", time.Hour)), settle("r", "1"),
			[]string{"#8 usage.settled_late r 0→1 by 1 provider [#3 1+0/10] [#7 1+0/5]"},
			nil,
		},
		{
			"but in none whose window came later than its time", held(release(), "2026-11-22T11:00", budget(Hourly, "5")), settle("r", "1"),
			[]string{"#8 usage.settled_late r 0→1 by 1 provider [#3 1+0/10]"},
			nil,
		},
		{"a released id is taken", held(release()), reserve("r", "1"), nil, ErrReservationExists},
	})
}

// crowd is a tenant with budgets, each of a tag of its own and with a dollar spent for it.
func crowd(t *testing.T, budgets int, limit string, alerts ...Threshold) *stage {
	t.Helper()
	st := newStage(t)
	for i := range budgets {
		tag := fmt.Sprint("team", i)
		d := scoped(BudgetID(tag), Monthly, limit, Scope{Tag: "team=" + tag})
		d.AlertsAt = alerts
		mustDo(t, st, d, request(tag, "1", "", "gpt-4", map[string]string{"team": tag}), settle(tag, "1"))
	}
	return st
}

func TestWhatTimeAloneChangesIsToldInTurnsThatAreShort(t *testing.T) {
	t.Parallel()
	const budgets = 64
	alerts := make([]Threshold, 16)
	for i := range alerts {
		alerts[i] = Threshold(500_000 + i)
	}
	st := crowd(t, budgets, "1.5", alerts...)
	for i := range budgets {
		mustDo(t, st, RaiseBudget{ID: BudgetID(fmt.Sprint("team", i)), By: usd("1000"), Until: at("2026-11-22T11:00"), Actor: "admin"})
	}
	st.now = at("2026-11-22T11:00")
	lowered := 0
	for turn := 0; ; turn++ {
		state, events, err := Execute(st.state, Age{}, st.now)
		if err != nil {
			t.Fatal(err)
		}
		if st.state = state; len(events) == 0 {
			break
		}
		if took := events[len(events)-1].Time.Sub(events[0].Time); took >= time.Millisecond {
			t.Errorf("turn %d is of %s", turn, took)
		}
		for _, e := range events {
			if _, ok := e.Event.(BudgetChanged); ok {
				lowered++
			}
		}
	}
	if lowered != budgets {
		t.Errorf("%d raises ended, of %d", lowered, budgets)
	}
}

func TestABudgetTakesOverSoManyReservationsAndNoMore(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	for i := range MaxAdopted {
		mustDo(t, st, reserve(fmt.Sprint("r", i), "0.01"))
	}
	if _, err := st.do(budget(Monthly, "1000")); err != nil {
		t.Errorf("with %d open reservations: %v", MaxAdopted, err)
	}
	mustDo(t, st, reserve("one more", "0.01"))
	if _, err := st.do(budget(Daily, "1000")); !errors.Is(err, ErrInvalid) {
		t.Errorf("with one more: %v", err)
	}
}
