package domain_test

import (
	"testing"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

// held is the given of most scenes here: a budget of 10 with 4 of it held as r, and 5 minutes later.
func held(more ...any) []any {
	return append([]any{budget(Monthly, "10"), time.Second, reserve("r", "4"), 5 * time.Minute}, more...)
}

// expired is held after the reservation's time was over.
func expired(more ...any) []any {
	return append(held(time.Hour, expire()), more...)
}

func TestSettle(t *testing.T) {
	t.Parallel()
	play(t, []scene{
		{"below the reservation gives the rest back", held(), settle("r", "1.5"), []string{"#5 usage.settled r 4→1.5 provider [#3 1.5+0/10]"}, nil},
		{"at the reservation", held(), settle("r", "4"), []string{"#5 usage.settled r 4→4 provider [#3 4+0/10]"}, nil},
		{"at nothing", held(), settle("r", "0"), []string{"#5 usage.settled r 4→0 provider [#3 0+0/10]"}, nil},
		{
			"above the reservation is an overrun", held(),
			settle("r", "6"),
			[]string{"#5 usage.settled r 4→6 provider overrun 2 [#3 6+0/10]"},
			nil,
		},
		{
			"exactly to the limit is not forced", held(),
			settle("r", "10"),
			[]string{"#5 usage.settled r 4→10 provider overrun 6 [#3 10+0/10]"},
			nil,
		},
		{
			"above the limit is recorded all the same, forced", held(),
			settle("r", "10.000000001"),
			[]string{"#5 usage.settled r 4→10.000000001 provider overrun 6.000000001 [#3 10.000000001+0/10!]"},
			nil,
		},
		{
			"above the room others left is forced", held(reserve("q", "6")),
			settle("r", "5"),
			[]string{"#6 usage.settled r 4→5 provider overrun 1 [#3 5+6/10!]"},
			nil,
		},
		{
			"posts to the window of the reservation when that has ended", held("2026-12-01", reserve("q", "9")),
			settle("r", "3"),
			[]string{"#7 usage.settled r 4→3 provider [#3 3+0/10]"},
			nil,
		},
		{
			"posts to every budget of the reservation, and to one that came later and counted it",
			held(budget(Daily, "1")), settle("r", "3"),
			[]string{"#7 usage.settled r 4→3 provider [#3 3+0/10] [#6 3+0/1]"},
			nil,
		},
		{"works for a suspended tenant", held(SuspendTenant{Actor: "admin"}), settle("r", "1"), []string{"#6 usage.settled r 4→1 provider [#3 1+0/10]"}, nil},
		{"twice is refused", held(settle("r", "1")), settle("r", "1"), nil, ErrReservationUnknown},
		{
			"after a release is recorded as late, from nothing", held(release()),
			settle("r", "1"),
			[]string{"#6 usage.settled_late r 0→1 by 1 provider [#3 1+0/10]"},
			nil,
		},
		{"after a release, of nothing, changes nothing", held(release()), settle("r", "0"), nil, nil},
		{"of what was never reserved is refused", held(), settle("q", "1"), nil, ErrReservationUnknown},
		{"below nothing is refused", held(), settle("r", "-0.000000001"), nil, ErrInvalid},
		{"above the largest amount is refused", held(), settle("r", "1000000000.000000001"), nil, ErrInvalid},
		{
			"with a presumed basis counts as presumed", held(),
			Settle{Reservation: "r", Charged: usd("4"), Basis: BasisPresumed},
			[]string{"#5 usage.settled r 4→4 presumed [#3 4(4?)+0/10]"},
			nil,
		},
	})
}

func TestSettlePresumed(t *testing.T) {
	t.Parallel()
	freed := held(time.Hour, Expire{Reservation: "r", Free: true})
	play(t, []scene{
		{"charges the whole hold", held(), presume("r"), []string{"#5 usage.settled r 4→4 presumed [#3 4(4?)+0/10]"}, nil},
		{"twice changes nothing", held(presume("r")), presume("r"), nil, nil},
		{"after an expiry changes nothing", expired(), presume("r"), nil, nil},
		{
			"after a free expiry charges the hold, still presumed", freed,
			presume("r"),
			[]string{"#6 usage.settled_late r 0→4 by 4 presumed [#3 4(4?)+0/10]"},
			nil,
		},
		{
			"after a free expiry is corrected by evidence all the same", append(freed, presume("r")),
			settle("r", "1"),
			[]string{"#7 usage.settled_late r 4→1 by -3 provider [#3 1+0/10]"},
			nil,
		},
		{"after a settlement is refused", held(settle("r", "1")), presume("r"), nil, ErrReservationUnknown},
		{"of what was never reserved is refused", nil, presume("r"), nil, ErrReservationUnknown},
	})
}

func TestRelease(t *testing.T) {
	t.Parallel()
	play(t, []scene{
		{"gives the hold back", held(), release(), []string{"#5 reservation.released r 4 [#3 0+0/10]"}, nil},
		{"twice changes nothing", held(release()), release(), nil, nil},
		{"after a settlement is refused", held(settle("r", "1")), release(), nil, ErrReservationUnknown},
		{
			"after an expiry takes the charge back", expired(),
			release(),
			[]string{"#6 usage.settled_late r 4→0 by -4 provider [#3 0+0/10]"},
			nil,
		},
	})
}

func TestExpire(t *testing.T) {
	t.Parallel()
	play(t, []scene{
		{"is refused a microsecond early", held(10*time.Minute - time.Microsecond), expire(), nil, ErrInvalid},
		{
			"charges the hold from its end on", held(10 * time.Minute),
			expire(),
			[]string{"#5 reservation.expired r 4→4 [#3 4(4?)+0/10]"},
			nil,
		},
		{
			"free gives the hold back", held(10 * time.Minute),
			Expire{Reservation: "r", Free: true},
			[]string{"#5 reservation.expired r 4→0 [#3 0+0/10]"},
			nil,
		},
		{
			"charges an orphan before its time and says so", held(),
			Expire{Reservation: "r", Orphaned: true},
			[]string{"#5 reservation.expired r 4→4 orphaned [#3 4(4?)+0/10]"},
			nil,
		},
		{"never gives an orphan back before its time", held(), Expire{Reservation: "r", Orphaned: true, Free: true}, nil, ErrInvalid},
		{"of an orphan that was settled is refused", held(settle("r", "1")), Expire{Reservation: "r", Orphaned: true}, nil, ErrReservationUnknown},
		{
			"of an orphan is corrected by what its gateway says later", held(Expire{Reservation: "r", Orphaned: true}),
			settle("r", "1"),
			[]string{"#6 usage.settled_late r 4→1 by -3 provider [#3 1+0/10]"},
			nil,
		},
		{"twice is refused", expired(), expire(), nil, ErrReservationUnknown},
		{"after a settlement is refused", held(settle("r", "1"), time.Hour), expire(), nil, ErrReservationUnknown},
		{"after a presumed settlement is refused", held(presume("r"), time.Hour), expire(), nil, ErrReservationUnknown},
	})
}

func TestLateEvidence(t *testing.T) {
	t.Parallel()
	play(t, []scene{
		{
			"below the presumed charge gives back", expired(),
			settle("r", "1.5"),
			[]string{"#6 usage.settled_late r 4→1.5 by -2.5 provider [#3 1.5+0/10]"},
			nil,
		},
		{
			"equal to it only confirms", expired(),
			settle("r", "4"),
			[]string{"#6 usage.settled_late r 4→4 by 0 provider [#3 4+0/10]"},
			nil,
		},
		{
			"above it charges more", expired(),
			settle("r", "6"),
			[]string{"#6 usage.settled_late r 4→6 by 2 provider [#3 6+0/10]"},
			nil,
		},
		{
			"above the limit is recorded, forced", expired(reserve("q", "6")),
			settle("r", "5"),
			[]string{"#7 usage.settled_late r 4→5 by 1 provider [#3 5+6/10!]"},
			nil,
		},
		{
			"after a free expiry charges", held(time.Hour, Expire{Reservation: "r", Free: true}),
			settle("r", "2"),
			[]string{"#6 usage.settled_late r 0→2 by 2 provider [#3 2+0/10]"},
			nil,
		},
		{
			"corrects a presumed settlement too", held(presume("r")),
			settle("r", "1"),
			[]string{"#6 usage.settled_late r 4→1 by -3 provider [#3 1+0/10]"},
			nil,
		},
		{
			"leaves what others were presumed to cost", expired(reserve("q", "3"), presume("q")),
			settle("r", "1"),
			[]string{"#8 usage.settled_late r 4→1 by -3 provider [#3 4(3?)+0/10]"},
			nil,
		},
		{
			"posts to the window of the reservation, long after it ended", expired("2027-02-01", reserve("q", "9")),
			settle("r", "1"),
			[]string{"#8 usage.settled_late r 4→1 by -3 provider [#3 1+0/10]"},
			nil,
		},
		{
			"posts to a budget that was retired", expired(RetireBudget{ID: "monthly", Actor: "admin"}),
			settle("r", "1"),
			[]string{"#7 usage.settled_late r 4→1 by -3 provider [#3 1+0/10]"},
			nil,
		},
		{"comes once", expired(settle("r", "1")), settle("r", "1"), nil, ErrReservationUnknown},
		{
			"that is itself presumed and says the same changes nothing", expired(),
			Settle{Reservation: "r", Charged: usd("4"), Basis: BasisPresumed},
			nil, nil,
		},
	})
}

func TestTheCapFallsBackToTheLimitWithUseAndNeverRisesByAReservation(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	for _, step := range []struct {
		do  any
		cap string
	}{
		{budget(Monthly, "10"), ""},
		{reserve("a", "6"), "10"},
		{reserve("b", "4"), "10"},
		{budget(Monthly, "5"), "10"}, // a cut below use
		{settle("a", "3"), "7"},
		{budget(Monthly, "6"), "7"},
		{settle("b", "8"), "11"}, // an overrun
		{budget(Monthly, "20"), "20"},
		{reserve("c", "1"), "20"},
	} {
		if _, err := st.do(step.do); err != nil {
			t.Fatalf("%+v: %v", step.do, err)
		}
		if a := st.state.Accounts[st.state.Current["monthly"]]; step.cap != "" && a.Cap != usd(step.cap) {
			t.Errorf("after %+v the cap is %s; want %s", step.do, a.Cap, step.cap)
		}
	}
}
