package domain_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

func custom(limit, start, end string) DefineBudget {
	c := budget(Custom, limit)
	c.Span = Span{StartDate: start, EndDate: end}
	return c
}

func rolling(limit string, length time.Duration) DefineBudget {
	c := budget(Rolling, limit)
	c.Span.Duration = Length(length)
	return c
}

func anchored31(limit string, id BudgetID) DefineBudget {
	c := budget(Monthly, limit)
	c.ID, c.Span.AnchorDay = id, 31
	return c
}

func weekFrom(day Weekday, id BudgetID) DefineBudget {
	c := budget(Weekly, "10")
	c.ID, c.Span.WeekStart = id, day
	return c
}

func TestACustomBudgetIsOneWindowBetweenTwoDatesOrInstants(t *testing.T) {
	t.Parallel()
	december := custom("10", "2026-12-01", "2026-12-31")
	play(t, []scene{
		{
			"dates: the last day is inside", nil, december,
			[]string{"#2 budget.defined custom custom 10 admin 2026-12-01T00:00..2027-01-01T00:00"},
			nil,
		},
		{
			"dates are those of the tenant's zone",
			[]any{moveTo("Asia/Tokyo")},
			december,
			[]string{"#3 budget.defined custom custom 10 admin 2026-11-30T15:00..2026-12-31T15:00"},
			nil,
		},
		{
			"one date is a day", nil, custom("10", "2026-12-24", "2026-12-24"),
			[]string{"#2 budget.defined custom custom 10 admin 2026-12-24T00:00..2026-12-25T00:00"},
			nil,
		},
		{
			"a day of which midnight does not exist begins when it begins",
			[]any{moveTo("America/Santiago")},
			custom("10", "2026-09-06", "2026-09-06"),
			[]string{"#3 budget.defined custom custom 10 admin 2026-09-06T04:00..2026-09-07T03:00"},
			nil,
		},
		{
			"instants: the end is outside", nil, custom("10", "2026-12-01T08:00:00Z", "2026-12-01T18:00:00+01:00"),
			[]string{"#2 budget.defined custom custom 10 admin 2026-12-01T08:00..2026-12-01T17:00"},
			nil,
		},
		{
			"an instant and a date", nil, custom("10", "2026-12-01T08:30:00Z", "2026-12-02"),
			[]string{"#2 budget.defined custom custom 10 admin 2026-12-01T08:30..2026-12-03T00:00"},
			nil,
		},
		{
			"before its window it does not apply",
			[]any{december, "2026-11-30T23:59:59.99Z"},
			reserve("r", "11"),
			[]string{"#3 usage.reserved r 11"},
			nil,
		},
		{
			"from its start on it does",
			[]any{december, "2026-12-01"},
			reserve("r", "4"),
			[]string{"#3 window.opened custom 2026-12-01T00:00..2027-01-01T00:00 limit 10", "#4 usage.reserved r 4 [#3 0+4/10]"},
			nil,
		},
		{
			"within a millisecond before its start it does, from the start on",
			[]any{december, "2026-11-30T23:59:59.999Z"},
			reserve("r", "4"),
			[]string{"#3 window.opened custom 2026-12-01T00:00..2027-01-01T00:00 limit 10", "#4 usage.reserved r 4 [#3 0+4/10]"},
			nil,
		},
		{
			"on its last day it does",
			[]any{december, "2026-12-31T23:59:59.99Z"},
			reserve("r", "10.000000001"), nil, ErrBudgetExceeded,
		},
		{
			"after its window it does not apply",
			[]any{december, "2026-12-15", reserve("r", "10"), "2027-01-01"},
			reserve("q", "11"),
			[]string{"#5 usage.reserved q 11"},
			nil,
		},
		{
			"what was held in its window settles there",
			[]any{december, "2026-12-15", reserve("r", "10"), "2027-01-01"},
			settle("r", "4"),
			[]string{"#5 usage.settled r 10→4 provider [#3 4+0/10]"},
			nil,
		},
		{
			"the same dates again change it, and it keeps the window it was given, whatever the zone is now",
			[]any{december, moveTo("Asia/Tokyo")},
			custom("12", "2026-12-01", "2026-12-31"),
			[]string{"#4 budget.changed custom 10→12 admin"},
			nil,
		},
		{"other dates are another budget, which needs an id of its own", []any{december}, custom("10", "2026-12-01", "2026-12-30"), nil, ErrInvalid},
		{"it needs dates", nil, budget(Custom, "10"), nil, ErrInvalid},
		{"it needs a first date", nil, custom("10", "", "2026-12-31"), nil, ErrInvalid},
		{"it needs a last date", nil, custom("10", "2026-12-01", ""), nil, ErrInvalid},
		{"the end is after the start", nil, custom("10", "2026-12-02", "2026-12-01"), nil, ErrInvalid},
		{"an instant that ends when it begins is no window", nil, custom("10", "2026-12-01T00:00:00Z", "2026-12-01T00:00:00Z"), nil, ErrInvalid},
		{"a day no calendar has is no date", nil, custom("10", "2026-02-30", "2026-03-31"), nil, ErrInvalid},
		{"a day that never was in the zone is no window", []any{moveTo("Pacific/Apia")}, custom("10", "2011-12-30", "2011-12-30"), nil, ErrInvalid},
		{"a nanosecond cannot be stored", nil, custom("10", "2026-12-01T00:00:00.000000001Z", "2026-12-31"), nil, ErrInvalid},
		{"before 1970 there is nothing", nil, custom("10", "1969-12-31", "2026-12-31"), nil, ErrInvalid},
		{"before 1970 there is nothing, east of Greenwich either", []any{moveTo("Asia/Tokyo")}, custom("10", "1970-01-01", "2026-12-31"), nil, ErrInvalid},
		{"the last year is 9998", nil, custom("10", "2026-12-01", "9999-12-31"), nil, ErrInvalid},
		{"the last year is 9998, for instants too", nil, custom("10", "2026-12-01", "9999-01-01T00:00:01Z"), nil, ErrInvalid},
		{"the last day of 9998 is inside", nil, custom("10", "2026-12-01", "9998-12-31"), []string{"#2 budget.defined custom custom 10 admin 2026-12-01T00:00..9999-01-01T00:00"}, nil},
		{"other periods have no dates", nil, DefineBudget{ID: "d", Period: Daily, Span: Span{StartDate: "2026-12-01", EndDate: "2026-12-31"}, Source: SourceAdmin}, nil, ErrInvalid},
		{"other periods have no single date", nil, DefineBudget{ID: "d", Period: Daily, Span: Span{EndDate: "2026-12-31"}, Source: SourceAdmin}, nil, ErrInvalid},
	})
}

// A rolling window of an hour is counted in minutes; the first event of these scenes is at 10:00.
func TestARollingBudgetCountsTheTimeJustPassed(t *testing.T) {
	t.Parallel()
	hour := rolling("10", time.Hour)
	two := []any{hour, reserve("a", "6"), settle("a", "6"), "2026-11-22T10:30", reserve("b", "4"), settle("b", "3")}
	then := func(steps ...any) []any { return append(slices.Clone(two), steps...) }
	play(t, []scene{
		{
			"the window begins with the oldest minute that counts",
			[]any{hour, "2026-11-22T10:00:30Z"},
			reserve("r", "10"),
			[]string{"#3 window.opened rolling 2026-11-22T09:00..9999-01-01T00:00 limit 10", "#4 usage.reserved r 10 [#3 0+10/10]"},
			nil,
		},
		{"what is held and spent takes room", two, reserve("r", "1.000000001"), nil, ErrBudgetExceeded},
		{"a minute counts until its end is an hour ago", then("2026-11-22T11:00:59.998Z"), reserve("r", "1.000000001"), nil, ErrBudgetExceeded},
		{
			"then it leaves, and only it",
			then("2026-11-22T11:01"),
			reserve("r", "7"),
			[]string{"#8 window.slid rolling by 6 [#3 3+0/10]", "#9 usage.reserved r 7 [#3 3+7/10]"},
			nil,
		},
		{"no more than it makes room for", then("2026-11-22T11:01"), reserve("r", "7.000000001"), nil, ErrBudgetExceeded},
		{
			"all of it leaves at last",
			then("2026-11-22T11:31"),
			reserve("r", "10"),
			[]string{"#8 window.slid rolling by 9 [#3 0+0/10]", "#9 usage.reserved r 10 [#3 0+10/10]"},
			nil,
		},
		{
			"Age says so without a reservation",
			then("2026-11-22T11:01"),
			Age{},
			[]string{"#8 window.slid rolling by 6 [#3 3+0/10]"},
			nil,
		},
		{"Age twice changes nothing", then("2026-11-22T11:01", Age{}), Age{}, nil, nil},
		{"Age before anything left changes nothing", two, Age{}, nil, nil},
		{
			"what is open counts however old it is",
			[]any{hour, reserve("a", "6"), "2026-11-22T18:00"},
			reserve("r", "4.000000001"), nil, ErrBudgetExceeded,
		},
		{
			"what settles counts in the minute of its reservation",
			[]any{hour, reserve("a", "6"), "2026-11-22T10:50", settle("a", "6"), "2026-11-22T11:01"},
			reserve("r", "10"),
			[]string{"#6 window.slid rolling by 6 [#3 0+0/10]", "#7 usage.reserved r 10 [#3 0+10/10]"},
			nil,
		},
		{
			"what settles after its minute has left only gives its hold back",
			[]any{hour, reserve("a", "6"), reserve("c", "1"), settle("c", "1"), "2026-11-22T11:30", Age{}},
			settle("a", "8"),
			[]string{"#8 usage.settled a 6→8 provider overrun 2 [#3 0+0/10]"},
			nil,
		},
		{
			"late evidence for a minute that has left moves nothing",
			[]any{hour, reserve("r", "6"), presume("r"), "2026-11-22T11:30", Age{}},
			settle("r", "1"),
			[]string{"#7 usage.settled_late r 6→1 by -5 provider [#3 0+0/10]"},
			nil,
		},
		{
			"late evidence for a minute inside corrects it, and it leaves corrected",
			[]any{hour, reserve("r", "6"), presume("r"), "2026-11-22T10:30", settle("r", "1"), "2026-11-22T11:01"},
			Age{},
			[]string{"#7 window.slid rolling by 1 [#3 0+0/10]"},
			nil,
		},
		{
			"a presumed charge leaves as presumed",
			[]any{hour, reserve("r", "6"), presume("r"), "2026-11-22T10:30", reserve("s", "2"), presume("s"), "2026-11-22T11:01"},
			Age{},
			[]string{"#8 window.slid rolling by 6 [#3 2(2?)+0/10]"},
			nil,
		},
		{
			"an overrun is forced",
			then(reserve("r", "1")), settle("r", "2"),
			[]string{"#9 usage.settled r 1→2 provider overrun 1 [#3 11+0/10!]"},
			nil,
		},
		{"it needs a duration", nil, budget(Rolling, "10"), nil, ErrInvalid},
		{"of a minute at least", nil, rolling("10", 59*time.Second), nil, ErrInvalid},
		{"of whole minutes", nil, rolling("10", 90*time.Second), nil, ErrInvalid},
		{"of 366 days at most", nil, rolling("10", 366*24*time.Hour+time.Minute), nil, ErrInvalid},
		{"a minute will do", nil, rolling("10", time.Minute), []string{"#2 budget.defined rolling rolling 10 admin"}, nil},
		{"366 days will do", nil, rolling("10", 366*24*time.Hour), []string{"#2 budget.defined rolling rolling 10 admin"}, nil},
		{"other periods have none", nil, DefineBudget{ID: "d", Period: Daily, Span: Span{Duration: Length(time.Hour)}, Source: SourceAdmin}, nil, ErrInvalid},
		{"the same duration is the same budget", []any{hour}, rolling("11", time.Hour), []string{"#3 budget.changed rolling 10→11 admin"}, nil},
		{"another duration is another budget, which needs an id of its own", []any{hour}, rolling("10", 2*time.Hour), nil, ErrInvalid},
	})
}

func TestARefusalOfARollingBudgetSaysWhenItWillHaveMoreRoom(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	mustDo(t, st, rolling("10", time.Hour), reserve("h", "1"))
	window := func(rule, amount, start, end string) {
		t.Helper()
		_, err := st.do(reserve("r", amount))
		var exceeded *BudgetExceededError
		if !errors.As(err, &exceeded) || exceeded.Window != (Window{Start: at(start), End: at(end)}) {
			t.Errorf("%s: %v of %+v", rule, err, exceeded)
		}
	}
	window("nothing spent: with the next minute", "11", "2026-11-22T09:00:00.000004Z", "2026-11-22T10:01")
	mustDo(t, st, "2026-11-22T10:10:30Z", reserve("a", "6"), settle("a", "6"), "2026-11-22T10:20:30Z", reserve("b", "3"), settle("b", "3"), "2026-11-22T10:30")
	window("when the oldest minute leaves", "1", "2026-11-22T09:30", "2026-11-22T11:11")
	st.now = at("2026-11-22T11:11")
	window("the oldest one that is left", "7", "2026-11-22T10:11", "2026-11-22T11:21")
	mustDo(t, st, RaiseBudget{ID: "rolling", By: usd("1"), Until: at("2026-11-22T11:15")})
	window("or when a raise ends", "8", "2026-11-22T10:11:00.000002Z", "2026-11-22T11:15")
	if b := st.state.Balances(at("2026-11-22T11:12"))[0]; b.Window != (Window{Start: at("2026-11-22T10:12"), End: at("2026-11-22T11:21")}) || b.Settled != usd("3") || b.Limit != usd("11") {
		t.Errorf("the balance: %+v", b)
	}
	if b := st.state.Balances(at("2026-11-22T11:21"))[0]; b.Settled != 0 || b.Held != usd("1") || b.Limit != usd("10") || b.Account != 3 {
		t.Errorf("the balance when time has passed and nobody said so: %+v", b)
	}
	account := st.state.Accounts[3]
	if got := account.SlidesAt(); !got.Equal(at("2026-11-22T11:21")) || !(Account{}).SlidesAt().IsZero() {
		t.Errorf("slides at %s", got)
	}
}

func TestWeeksAndMonthsBeginWhereABudgetSays(t *testing.T) {
	t.Parallel()
	month := func(steps ...any) []any { return append([]any{anchored31("10", "m")}, steps...) }
	opened := func(bounds string) []string {
		return []string{"#3 window.opened m " + bounds + " limit 10", "#4 usage.reserved r 1 [#3 0+1/10]"}
	}
	week := func(bounds string) []string {
		return []string{"#3 window.opened w " + bounds + " limit 10", "#4 usage.reserved r 1 [#3 0+1/10]"}
	}
	play(t, []scene{
		{"the 31st: in a month that has it", month("2027-01-31"), reserve("r", "1"), opened("2027-01-31T00:00..2027-02-28T00:00"), nil},
		{"the 31st: the day before", month("2027-01-30"), reserve("r", "1"), opened("2026-12-31T00:00..2027-01-31T00:00"), nil},
		{"the 31st: February's last day", month("2027-02-28"), reserve("r", "1"), opened("2027-02-28T00:00..2027-03-31T00:00"), nil},
		{"the 31st: the day before February's last", month("2027-02-27T23:59"), reserve("r", "1"), opened("2027-01-31T00:00..2027-02-28T00:00"), nil},
		{"the 31st: February of a leap year", month("2028-02-29"), reserve("r", "1"), opened("2028-02-29T00:00..2028-03-31T00:00"), nil},
		{"the 31st: a month of thirty days", month("2027-04-30"), reserve("r", "1"), opened("2027-04-30T00:00..2027-05-31T00:00"), nil},
		{"a week from Sunday", []any{weekFrom("sunday", "w")}, reserve("r", "1"), week("2026-11-22T00:00..2026-11-29T00:00"), nil},
		{"a week from Monday, said so", []any{weekFrom("monday", "w")}, reserve("r", "1"), week("2026-11-16T00:00..2026-11-23T00:00"), nil},
		{"a week from Thursday", []any{weekFrom("thursday", "w")}, reserve("r", "1"), week("2026-11-19T00:00..2026-11-26T00:00"), nil},
		{"Monday by name is the week of the beginning", []any{weekFrom("monday", "w")}, weekFrom("", "v"), nil, nil},
		{"the first by number is the month of the beginning", []any{budget(Monthly, "10")}, DefineBudget{Period: Monthly, Span: Span{AnchorDay: 1}, Limit: usd("10"), Source: SourceAdmin}, nil, nil},
		{"only a weekly budget has a first day of the week", nil, DefineBudget{ID: "m", Period: Monthly, Span: Span{WeekStart: "sunday"}, Source: SourceAdmin}, nil, ErrInvalid},
		{"it is a day", nil, weekFrom("someday", "w"), nil, ErrInvalid},
		{"only a monthly budget has a first day of the month", nil, DefineBudget{ID: "w", Period: Weekly, Span: Span{AnchorDay: 2}, Source: SourceAdmin}, nil, ErrInvalid},
		{"no month has a 32nd", nil, DefineBudget{ID: "m", Period: Monthly, Span: Span{AnchorDay: 32}, Source: SourceAdmin}, nil, ErrInvalid},
		{"nor one below the first", nil, DefineBudget{ID: "m", Period: Monthly, Span: Span{AnchorDay: -1}, Source: SourceAdmin}, nil, ErrInvalid},
	})
}

func TestWeeksAndMonthsOfABudgetInOddZones(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule           string
		period         Period
		span           Span
		zone           string
		at, start, end string
	}{
		{"a Sunday without a midnight begins at one", Weekly, Span{WeekStart: "sunday"}, "America/Santiago", "2026-09-06T04:00", "2026-09-06T04:00", "2026-09-13T03:00"},
		{"the week before it ends there", Weekly, Span{WeekStart: "sunday"}, "America/Santiago", "2026-09-06T03:59", "2026-08-30T04:00", "2026-09-06T04:00"},
		{"a Sunday that has two midnights begins at the first", Weekly, Span{WeekStart: "sunday"}, "America/Havana", "2026-11-01T05:30", "2026-11-01T04:00", "2026-11-08T05:00"},
		{"the 30th never was: the month begins on the 31st", Monthly, Span{AnchorDay: 30}, "Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00", "2012-01-29T10:00"},
		{"and the one before ends then", Monthly, Span{AnchorDay: 30}, "Pacific/Apia", "2011-12-30T09:59", "2011-11-30T10:00", "2011-12-30T10:00"},
		{"the 31st, the day after it, begins then too", Monthly, Span{AnchorDay: 31}, "Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00", "2012-01-30T10:00"},
		{"a Friday that never was: the week begins on Saturday", Weekly, Span{WeekStart: "friday"}, "Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00", "2012-01-05T10:00"},
		{"set back into the day before the anchor", Monthly, Span{AnchorDay: 7}, "America/St_Johns", "2010-11-07T03:00", "2010-11-07T02:30", "2010-12-07T03:30"},
	} {
		got, ok := Budget{Period: c.period, Span: c.span}.WindowAt(at(c.at), location(t, c.zone))
		if want := (Window{Start: at(c.start), End: at(c.end)}); !ok || got != want {
			t.Errorf("%s: %s..%s; want %s..%s", c.rule, got.Start, got.End, want.Start, want.End)
		}
	}
}

func TestABudgetWhoseWeeksBeginOnAnotherDayIsRetiredAndANewOneCounts(t *testing.T) {
	t.Parallel()
	play(t, []scene{
		{
			"unused: nothing to count",
			[]any{weekFrom("", "w")},
			weekFrom("sunday", "v"),
			[]string{`#3 budget.retired {"budgetId":"w","actor":"admin"}`, "#4 budget.defined v weekly 10 admin"},
			nil,
		},
		{
			"what was spent and is held since Sunday counts, what was before does not",
			[]any{
				weekFrom("", "w"), "2026-11-28", reserve("old", "1"), settle("old", "1"), "2026-11-29T09:00", reserve("a", "3"), settle("a", "2"), reserve("r", "4"),
			},
			weekFrom("sunday", "v"),
			[]string{
				`#9 budget.retired {"budgetId":"w","actor":"admin"}`, "#10 budget.defined v weekly 10 admin",
				"#11 window.opened v 2026-11-29T00:00..2026-12-06T00:00 limit 10 with 2+4 adopted r",
			},
			nil,
		},
		{
			"a hold closes on both",
			[]any{weekFrom("", "w"), reserve("r", "4"), weekFrom("sunday", "v")},
			settle("r", "3"),
			[]string{"#8 usage.settled r 4→3 provider [#3 3+0/10] [#7 3+0/10]"},
			nil,
		},
		{
			"a source of lower rank changes nothing of it",
			[]any{weekFrom("", "w")},
			DefineBudget{ID: "v", Period: Weekly, Span: Span{WeekStart: "sunday"}, Limit: usd("20"), Source: SourceEnvironment},
			nil, nil,
		},
		{"it needs a new id", []any{weekFrom("", "w")}, weekFrom("sunday", "w"), nil, ErrInvalid},
		{
			"the same for the day of the month",
			[]any{budget(Monthly, "10"), reserve("r", "4")},
			anchored31("10", "m"),
			[]string{
				`#5 budget.retired {"budgetId":"monthly","actor":"admin"}`, "#6 budget.defined m monthly 10 admin",
				"#7 window.opened m 2026-10-31T00:00..2026-11-30T00:00 limit 10 with 0+4 adopted r",
			},
			nil,
		},
	})
}

func TestATenantWith256BudgetsCanStillMoveTheWeekOfOne(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	mustDo(t, st, weekFrom("", "w"))
	for i := range 255 {
		c := budget(Total, "1")
		c.ID, c.Scope.Model = BudgetID(rune(1000+i)), string(rune(1000+i))
		mustDo(t, st, c)
	}
	if got, err := st.do(weekFrom("sunday", "v")); err != nil || len(got) != 2 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestADecisionNeverFallsBetweenTwoWindows(t *testing.T) {
	t.Parallel()
	at1, at2 := "2026-11-22T12:00:00.0005Z", "2026-11-22T12:00:00.0012Z"
	first, second := custom("1", "2026-11-22", at1), custom("2", "2026-11-22", at2)
	first.ID, second.ID = "b", "a" // looked at in the order of ids
	play(t, []scene{
		{
			"behind the end of one window may be that of another",
			[]any{first, second, "2026-11-22T11:59:59.9999Z"},
			reserve("r", "9"),
			[]string{"#4 usage.reserved r 9"},
			nil,
		},
		{
			"a new budget's window counts too",
			[]any{rolling("10", time.Hour), reserve("r", "1"), settle("r", "1"), "2026-11-22T23:59:59.9995Z"},
			budget(Daily, "5"),
			[]string{"#6 budget.defined daily daily 5 admin", "#7 window.opened daily 2026-11-23T00:00..2026-11-24T00:00 limit 5"},
			nil,
		},
		{
			"one of several, too",
			[]any{rolling("10", time.Hour), reserve("r", "1"), settle("r", "1"), "2026-11-22T23:59:59.9995Z"},
			All{Commands: []Command{budget(Total, "7"), budget(Daily, "5")}},
			[]string{
				"#6 budget.defined total total 7 admin", "#7 window.opened total 1970-01-01T00:00..9999-01-01T00:00 limit 7 with 1+0",
				"#8 budget.defined daily daily 5 admin", "#9 window.opened daily 2026-11-23T00:00..2026-11-24T00:00 limit 5",
			},
			nil,
		},
	})
}
