package domain_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

func scoped(id BudgetID, p Period, limit string, s Scope) DefineBudget {
	c := budget(p, limit)
	c.ID, c.Scope = id, s
	return c
}

// request is a reservation with what scopes look at: a key, a model and tags as name=value.
func request(id, amount string, key KeyID, model string, tags map[string]string) Reserve {
	c := reserve(id, amount)
	c.KeyID, c.Model, c.Tags = key, model, tags
	return c
}

func team(name string) map[string]string { return map[string]string{"team": name} }

func TestScopesMatchWhatTheyName(t *testing.T) {
	t.Parallel()
	r := Request{KeyID: "k", Model: "gpt-4", Tags: map[string]string{"team": "a", "env": "", "a=b": "c"}}
	for scope, want := range map[Scope]bool{
		{}: true, {APIKey: "k"}: true, {APIKey: "q"}: false, {Model: "gpt-4"}: true, {Model: "gpt-4o"}: false, {Model: "gpt"}: false,
		{Tag: "team=a"}: true, {Tag: "team=b"}: false, {Tag: "team"}: true, {Tag: "tea"}: false, {Tag: "team="}: false,
		{Tag: "env"}: true, {Tag: "env="}: true, {Tag: "env=x"}: false, {Tag: "none"}: false, {Tag: "none="}: false,
		{APIKey: "k", Model: "gpt-4"}: true, {APIKey: "k", Model: "other"}: false, {APIKey: "q", Tag: "team"}: false,
	} {
		if got := scope.Matches(r); got != want {
			t.Errorf("%+v: got %v", scope, got)
		}
	}
	if (Scope{APIKey: "k"}).Matches(Request{}) || (Scope{Tag: "team"}).Matches(Request{}) || (Scope{Model: "m"}).Matches(Request{}) {
		t.Error("a request of nobody matches a scope")
	}
}

func TestABudgetOfAScopeCountsWhatMatchesIt(t *testing.T) {
	t.Parallel()
	long := make([]byte, 201)
	for i := range long {
		long[i] = 'x'
	}
	tagged := func(tag string) DefineBudget { return scoped("t", Total, "1", Scope{Tag: tag}) }
	all := []any{
		issue("k"), scoped("a-key", Total, "10", Scope{APIKey: "k"}), scoped("b-model", Total, "10", Scope{Model: "gpt-4"}),
		scoped("c-tag", Total, "10", Scope{Tag: "team=a"}), scoped("d-any", Total, "10", Scope{Tag: "team"}), budget(Total, "10"),
	}
	play(t, []scene{
		{
			"all of them", all, request("r", "1", "k", "gpt-4", team("a")),
			[]string{
				"#8 window.opened a-key 1970-01-01T00:00..9999-01-01T00:00 limit 10", "#9 window.opened b-model 1970-01-01T00:00..9999-01-01T00:00 limit 10",
				"#10 window.opened c-tag 1970-01-01T00:00..9999-01-01T00:00 limit 10", "#11 window.opened d-any 1970-01-01T00:00..9999-01-01T00:00 limit 10",
				"#12 window.opened total 1970-01-01T00:00..9999-01-01T00:00 limit 10", "#13 usage.reserved r 1 [#8 0+1/10] [#9 0+1/10] [#10 0+1/10] [#11 0+1/10] [#12 0+1/10]",
			},
			nil,
		},
		{
			"none but the tenant's", all, request("r", "1", "", "gpt-4o", nil),
			[]string{"#8 window.opened total 1970-01-01T00:00..9999-01-01T00:00 limit 10", "#9 usage.reserved r 1 [#8 0+1/10]"},
			nil,
		},
		{"a full one refuses what matches", append(all, request("q", "10", "", "gpt-4", nil)), request("r", "0.1", "", "gpt-4", nil), nil, ErrBudgetExceeded},
		{"the key of a scope is one of the tenant's", nil, scoped("s", Total, "1", Scope{APIKey: "k"}), nil, ErrInvalid},
		{"a revoked one too", []any{issue("k"), RevokeKey{ID: "k"}}, scoped("s", Total, "1", Scope{APIKey: "k"}), []string{"#4 budget.defined s total 1 admin apiKey:k"}, nil},
		{"one scope at a time", []any{issue("k")}, scoped("s", Total, "1", Scope{APIKey: "k", Model: "m"}), nil, ErrInvalid},
		{"one scope at a time, a tag too", nil, scoped("s", Total, "1", Scope{Model: "m", Tag: "t"}), nil, ErrInvalid},
		{"a tag has a name", nil, tagged("=x"), nil, ErrInvalid},
		{"a tag's name has at most 64 bytes", nil, tagged(string(long[:65]) + "=x"), nil, ErrInvalid},
		{"a tag's value has at most 64 bytes", nil, tagged("x=" + string(long[:65])), nil, ErrInvalid},
		{"64 each will do", nil, tagged(string(long[:64]) + "=" + string(long[:64])), []string{"#2 budget.defined t total 1 admin tag:" + string(long[:64]) + "=" + string(long[:64])}, nil},
		{"a model's name has at most 200 bytes", nil, scoped("s", Total, "1", Scope{Model: string(long)}), nil, ErrInvalid},
		{"200 will do", nil, scoped("s", Total, "1", Scope{Model: string(long[:200])}), []string{"#2 budget.defined s total 1 admin model:" + string(long[:200])}, nil},
		{"a key's id has at most 64 bytes", []any{issue(string(long[:65]))}, scoped("s", Total, "1", Scope{APIKey: KeyID(long[:65])}), nil, ErrInvalid},
		{"a scope is text", nil, scoped("s", Total, "1", Scope{Model: "\xff"}), nil, ErrInvalid},
		{"a scope has no NUL", nil, scoped("s", Total, "1", Scope{Tag: "a\x00b"}), nil, ErrInvalid},
	})
}

func TestARequestThatCountsInSeventeenBudgetsIsRefused(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	for i := range 17 {
		mustDo(t, st, scoped(BudgetID(fmt.Sprintf("b%02d", i)), Total, "10", Scope{Tag: fmt.Sprintf("t%02d", i)}))
	}
	tags := map[string]string{}
	for i := range 16 {
		tags[fmt.Sprintf("t%02d", i)] = "x"
	}
	if got, err := st.do(request("sixteen", "1", "", "", tags)); err != nil || len(got) != 17 {
		t.Errorf("sixteen: got %v, %v", got, err)
	}
	tags["t16"] = "x"
	for _, amount := range []string{"1", "11"} {
		if got, err := st.do(request("seventeen", amount, "", "", tags)); !errors.Is(err, ErrInvalid) || got != nil {
			t.Errorf("seventeen: got %v, %v; want ErrInvalid", got, err)
		}
	}
}

func TestAnAdjustmentThatCountsInSeventeenBudgetsIsRefused(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	for i := range 17 {
		c := rolling("10", time.Duration(i+1)*time.Minute)
		c.ID = BudgetID(fmt.Sprintf("b%02d", i))
		if mustDo(t, st, c); i == 15 {
			mustDo(t, st, adjust("1", "", "first"))
		}
	}
	if got, err := st.do(adjust("1", "", "second")); !errors.Is(err, ErrInvalid) || got != nil {
		t.Errorf("got %v, %v; want ErrInvalid", got, err)
	}
}

// A new budget counts what the requests it matches have spent, and hold, in its window.
func TestANewBudgetBeginsWithItsPast(t *testing.T) {
	t.Parallel()
	month := "#%d window.opened %s 2026-11-01T00:00..2026-12-01T00:00 limit 10 with %s"
	opened := func(version int, id, with string) string { return fmt.Sprintf(month, version, id, with) }
	empty := func(version int, id, window string) string {
		return fmt.Sprintf("#%d window.opened %s %sT00:00 limit 10", version, id, window)
	}
	defined := func(version int, id string) string {
		return fmt.Sprintf("#%d budget.defined %s monthly 10 admin", version, id)
	}
	past := []any{
		issue("k"),
		request("a", "1", "k", "gpt-4", team("x")), settle("a", "0.5"), // closed
		request("b", "2", "k", "gpt-4o", team("y")), // open
		request("c", "4", "", "gpt-4", team("x")), presume("c"),
		request("d", "8", "", "gpt-4o", nil), settle("d", "8"), adjust("-3", "d", "refund"),
		request("e", "1", "", "gpt-4", nil),
		Release{Reservation: "e", Reason: ReleasedNotSent},
	}
	play(t, []scene{
		{"nothing was ever reserved: nothing is opened", []any{issue("k")}, budget(Monthly, "10"), []string{defined(3, "monthly")}, nil},
		{"nothing matches: it opens with nothing", past, scoped("s", Monthly, "10", Scope{Tag: "env"}), []string{defined(13, "s") + " tag:env", empty(14, "s", "2026-11-01T00:00..2026-12-01")}, nil},
		{"the tenant's", past, budget(Monthly, "10"), []string{defined(13, "monthly"), opened(14, "monthly", "9.5(4?)+2 adopted b c")}, nil},
		{"a key's", past, scoped("s", Monthly, "10", Scope{APIKey: "k"}), []string{defined(13, "s") + " apiKey:k", opened(14, "s", "0.5+2 adopted b")}, nil},
		{"a model's", past, scoped("s", Monthly, "10", Scope{Model: "gpt-4"}), []string{defined(13, "s") + " model:gpt-4", opened(14, "s", "4.5(4?)+0 adopted c")}, nil},
		{"another model's, adjusted", past, scoped("s", Monthly, "10", Scope{Model: "gpt-4o"}), []string{defined(13, "s") + " model:gpt-4o", opened(14, "s", "5+2 adopted b")}, nil},
		{"a tag's", past, scoped("s", Monthly, "10", Scope{Tag: "team=x"}), []string{defined(13, "s") + " tag:team=x", opened(14, "s", "4.5(4?)+0 adopted c")}, nil},
		{"a tag's name's", past, scoped("s", Monthly, "10", Scope{Tag: "team"}), []string{defined(13, "s") + " tag:team", opened(14, "s", "4.5(4?)+2 adopted b c")}, nil},
		{
			"above its limit: nothing more fits", append(slices.Clone(past), budget(Monthly, "9")),
			reserve("r", "0.000000001"), nil, ErrBudgetExceeded,
		},
		{
			"an adjustment of no reservation counts in the tenant's",
			[]any{adjust("2.5", "", "fee")},
			budget(Monthly, "10"),
			[]string{defined(3, "monthly"), opened(4, "monthly", "2.5+0")},
			nil,
		},
		{
			"and in none of a scope",
			[]any{adjust("2.5", "", "fee")},
			scoped("s", Monthly, "10", Scope{Model: "gpt-4"}),
			[]string{defined(3, "s") + " model:gpt-4", empty(4, "s", "2026-11-01T00:00..2026-12-01")},
			nil,
		},
		{
			"more given back than was spent is nothing, not less",
			[]any{adjust("-2.5", "", "credit"), reserve("r", "1"), presume("r")},
			budget(Monthly, "10"),
			[]string{defined(5, "monthly"), opened(6, "monthly", "1(1?)+0 adopted r")},
			nil,
		},
		{
			"a window that was empty stays as it was, in whatever zone the tenant is now",
			[]any{reserve("a", "9"), settle("a", "9"), "2026-11-23T00:10", budget(Daily, "10"), moveTo("America/New_York")},
			reserve("b", "10"),
			[]string{"#7 usage.reserved b 10 [#5 0+10/10]"},
			nil,
		},
		{
			"what the last window had is not its past",
			[]any{reserve("a", "1"), settle("a", "1"), reserve("b", "1"), presume("b"), reserve("c", "1"), "2026-12-01"},
			budget(Monthly, "10"),
			[]string{defined(7, "monthly"), empty(8, "monthly", "2026-12-01T00:00..2027-01-01")},
			nil,
		},
		{
			"a rolling one counts the time just passed, and all that is open",
			[]any{
				reserve("a", "1"), settle("a", "1"), reserve("b", "2"), "2026-11-22T10:30", reserve("c", "4"), presume("c"), reserve("d", "0.5"), settle("d", "0.25"), "2026-11-22T11:01",
			},
			rolling("10", time.Hour),
			[]string{"#9 budget.defined rolling rolling 10 admin", "#10 window.opened rolling 2026-11-22T10:01..9999-01-01T00:00 limit 10 with 4.25(4?)+2 adopted b c"},
			nil,
		},
		{
			"and forgets it in its time",
			[]any{reserve("c", "4"), presume("c"), "2026-11-22T10:30", reserve("d", "0.5"), settle("d", "0.25"), rolling("10", time.Hour), "2026-11-22T11:01"},
			Age{},
			[]string{"#8 window.slid rolling by 4 [#7 0.25+0/10]"},
			nil,
		},
		{
			"a custom one outside its window has none",
			[]any{reserve("a", "1"), settle("a", "1")},
			custom("10", "2026-12-01", "2026-12-31"),
			[]string{"#4 budget.defined custom custom 10 admin 2026-12-01T00:00..2027-01-01T00:00"},
			nil,
		},
		{
			"a custom one inside has",
			[]any{reserve("a", "1"), settle("a", "1"), "2026-11-23", reserve("b", "2"), settle("b", "2")},
			custom("10", "2026-11-23", "2026-12-31"),
			[]string{"#6 budget.defined custom custom 10 admin 2026-11-23T00:00..2027-01-01T00:00", "#7 window.opened custom 2026-11-23T00:00..2027-01-01T00:00 limit 10 with 2+0"},
			nil,
		},
		{
			"of several at once, each",
			[]any{reserve("a", "1"), settle("a", "1")},
			All{Commands: []Command{budget(Monthly, "10"), budget(Total, "20")}},
			[]string{
				defined(4, "monthly"), opened(5, "monthly", "1+0"),
				"#6 budget.defined total total 20 admin", "#7 window.opened total 1970-01-01T00:00..9999-01-01T00:00 limit 20 with 1+0",
			},
			nil,
		},
		{
			"more than an account can hold is refused",
			[]any{adjust("1000000000", "", "1"), adjust("1000000000", "", "2"), adjust("1000000000", "", "3"), adjust("1000000000", "", "4"), adjust("0.000000001", "", "5")},
			budget(Monthly, "10"), nil, ErrAmount,
		},
		{
			"as much as an account can hold is not",
			[]any{adjust("1000000000", "", "1"), adjust("1000000000", "", "2"), adjust("1000000000", "", "3"), adjust("1000000000", "", "4")},
			budget(Monthly, "10"),
			[]string{defined(6, "monthly"), opened(7, "monthly", "4000000000+0")},
			nil,
		},
	})
}

func TestWhatANewBudgetAdoptedClosesThereToo(t *testing.T) {
	t.Parallel()
	adopted := func(steps ...any) []any {
		return append([]any{budget(Monthly, "10"), reserve("r", "4"), reserve("p", "3"), presume("p"), budget(Daily, "8")}, steps...)
	}
	const opened = "adopted in #8: " // after #3 the month, #4 r, #5 p, #6 presumed, #7 defined
	play(t, []scene{
		{opened + "settles", adopted(), settle("r", "1"), []string{"#9 usage.settled r 4→1 provider [#3 4(3?)+0/10] [#8 4(3?)+0/8]"}, nil},
		{opened + "is released", adopted(), release(), []string{"#9 reservation.released r 4 [#3 3(3?)+0/10] [#8 3(3?)+0/8]"}, nil},
		{opened + "expires", adopted(time.Hour), expire(), []string{"#9 reservation.expired r 4→4 [#3 7(7?)+0/10] [#8 7(7?)+0/8]"}, nil},
		{
			opened + "is extended", adopted(),
			Extend{Reservation: "r", Add: usd("1")},
			[]string{"#9 reservation.extended r by 1 to 5 until 2026-11-22T10:15 [#3 3(3?)+5/10] [#8 3(3?)+5/8]"},
			nil,
		},
		{opened + "is extended where both have room", adopted(), Extend{Reservation: "r", Add: usd("1.000000001")}, nil, ErrBudgetExceeded},
		{opened + "is corrected late", adopted(), settle("p", "0.5"), []string{"#9 usage.settled_late p 3→0.5 by -2.5 provider [#3 0.5+4/10] [#8 0.5+4/8]"}, nil},
		{opened + "is adjusted", adopted(), adjust("-1", "p", "j"), []string{"#9 usage.adjusted p by -1 [#3 2+4/10] [#8 2+4/8]"}, nil},
		{
			opened + "an evidence after a release", adopted(release(), budget(Total, "9")), settle("r", "1"),
			[]string{"#12 usage.settled_late r 0→1 by 1 provider [#3 4(3?)+0/10] [#8 4(3?)+0/8] [#11 4(3?)+0/9]"},
			nil,
		},
		{
			opened + "in a rolling one",
			[]any{budget(Monthly, "10"), reserve("r", "4"), 5 * time.Minute, rolling("8", time.Hour)},
			settle("r", "3"),
			[]string{"#7 usage.settled r 4→3 provider [#3 3+0/10] [#6 3+0/8]"},
			nil,
		},
		{
			opened + "in a rolling one that its minute has left",
			[]any{budget(Monthly, "10"), reserve("r", "4"), 2 * time.Hour, rolling("8", time.Hour)},
			settle("r", "3"),
			[]string{"#7 usage.settled r 4→3 provider [#3 3+0/10] [#6 0+0/8]"},
			nil,
		},
	})
}

func TestAHoldThatCountsInSixteenBudgetsRefusesTheSeventeenthUntilItCloses(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	tags := map[string]string{"t16": "x"}
	for i := range 16 {
		tag := fmt.Sprintf("t%02d", i)
		tags[tag] = "x"
		mustDo(t, st, scoped(BudgetID(tag), Total, "10", Scope{Tag: tag}))
	}
	mustDo(t, st, request("r", "1", "", "", tags))
	seventeenth := scoped("t16", Total, "10", Scope{Tag: "t16"})
	if got, err := st.do(seventeenth); !errors.Is(err, ErrInvalid) || got != nil {
		t.Errorf("while it is open: got %v, %v; want ErrInvalid", got, err)
	}
	mustDo(t, st, scoped("other", Total, "10", Scope{Tag: "other"}), settle("r", "0.5"))
	if got, err := st.do(seventeenth); err != nil || len(got) != 2 {
		t.Errorf("when it is closed: got %v, %v", got, err)
	}
}

// The store must be asked: a state does not remember what is closed.
func TestWithoutItsPastABudgetIsNotDefined(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	mustDo(t, st, reserve("r", "1"), settle("r", "1"))
	month := Window{Start: at("2026-11-01"), End: at("2026-12-01")}
	_, events, err := Execute(st.state, budget(Monthly, "10"), st.now)
	var needed *PastNeededError
	if !errors.As(err, &needed) || events != nil || needed.Past.Window != month || needed.Past.Scope != (Scope{}) || needed.Error() == "" {
		t.Fatalf("got %v, %v", events, err)
	}
	for rule, wrong := range map[string]Past{
		"another window":   {Window: Window{Start: month.Start, End: month.End.Add(1)}},
		"another scope":    {Window: month, Scope: Scope{Model: "m"}},
		"another duration": {Window: month, Duration: 1},
	} {
		if _, _, err := Execute(st.state, Informed{Command: budget(Monthly, "10"), Past: []Past{wrong}}, st.now); !errors.As(err, &needed) {
			t.Errorf("with the answer for %s: %v", rule, err)
		}
	}
	before := slices.Clone(needed.Past.Spent)
	answer := needed.Past
	answer.Count(0, usd("1"))
	answer.Count(0, usd("2"))
	_, recorded, err := Execute(st.state, Informed{Command: budget(Monthly, "10"), Past: []Past{{}, answer}}, st.now)
	if err != nil || len(recorded) != 2 || recorded[1].Event.(WindowOpened).Settled != usd("3") || len(before) != 0 {
		t.Errorf("got %+v, %v", recorded, err)
	}
}

func TestAPastKeepsItsPartsInOrder(t *testing.T) {
	t.Parallel()
	p := Past{Duration: Length(time.Hour)}
	for _, number := range []int64{5, 3, 9, 3, 7, -1} {
		p.Count(number, 1)
	}
	if want := []Bucket{{Number: -1, Settled: 1}, {Number: 3, Settled: 2}, {Number: 5, Settled: 1}, {Number: 7, Settled: 1}, {Number: 9, Settled: 1}}; !slices.Equal(p.Spent, want) {
		t.Errorf("got %+v", p.Spent)
	}
}
