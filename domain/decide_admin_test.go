package domain_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

func perMin(n int64) *int64 { return &n }

func TestTenants(t *testing.T) {
	t.Parallel()
	name, long := "Other", strings.Repeat("x", 201)
	play(t, []scene{
		{"a tenant exists once", nil, CreateTenant{Name: "again"}, nil, ErrTenantExists},
		{
			"a name can change", nil,
			ChangeTenant{Name: &name, Actor: "admin"},
			[]string{`#2 tenant.changed {"name":"Other","timezone":"UTC","actor":"admin"}`},
			nil,
		},
		{"a zone can change", nil, moveTo("Asia/Tokyo"), []string{`#2 tenant.changed {"name":"ACME","timezone":"Asia/Tokyo","actor":"admin"}`}, nil},
		{"the same zone is no change", []any{moveTo("Asia/Tokyo")}, moveTo("Asia/Tokyo"), nil, nil},
		{"UTC by name is the zone of the beginning", nil, moveTo("UTC"), nil, nil},
		{"nothing is no change", nil, ChangeTenant{}, nil, nil},
		{"a name is never empty", nil, ChangeTenant{Name: new(string)}, nil, ErrInvalid},
		{"a name is at most 200 bytes", nil, ChangeTenant{Name: &long}, nil, ErrInvalid},
		{
			"suspending says why", nil,
			SuspendTenant{Reason: "unpaid", Actor: "admin"},
			[]string{`#2 tenant.suspended {"reason":"unpaid","actor":"admin"}`},
			nil,
		},
		{"suspending twice is no change", []any{SuspendTenant{}}, SuspendTenant{}, nil, nil},
		{"resuming ends it", []any{SuspendTenant{}}, ResumeTenant{Actor: "admin"}, []string{`#3 tenant.resumed {"actor":"admin"}`}, nil},
		{"resuming what goes on is no change", nil, ResumeTenant{}, nil, nil},
		{
			"a rate limit can be set", nil,
			SetRateLimit{PerMin: perMin(50), Actor: "admin"},
			[]string{`#2 ratelimit.changed {"rateLimitPerMin":50,"actor":"admin"}`},
			nil,
		},
		{"the same rate limit is no change", []any{SetRateLimit{PerMin: perMin(50)}}, SetRateLimit{PerMin: perMin(50)}, nil, nil},
		{"no rate limit of its own is no change", nil, SetRateLimit{}, nil, nil},
		{
			"a rate limit can be taken away",
			[]any{SetRateLimit{PerMin: perMin(50)}},
			SetRateLimit{Actor: "admin"},
			[]string{`#3 ratelimit.changed {"rateLimitPerMin":null,"actor":"admin"}`},
			nil,
		},
		{"a rate limit is not negative", nil, SetRateLimit{PerMin: perMin(-1)}, nil, ErrInvalid},
		{"a rate limit is at most a million", nil, SetRateLimit{PerMin: perMin(MaxRateLimit + 1)}, nil, ErrInvalid},
	})
}

func TestATenantThatWasNeverCreatedTakesNoCommand(t *testing.T) {
	t.Parallel()
	state := NewState("ghost")
	for _, c := range []Command{
		ChangeTenant{},
		SuspendTenant{},
		ResumeTenant{},
		SetRateLimit{},
		issue("k"),
		RevokeKey{ID: "k"},
		budget(Monthly, "1"),
		RetireBudget{ID: "b"},
		reserve("r", "1"), settle("r", "1"), presume("r"), release(), expire(),
	} {
		if _, events, err := Execute(state, c, november); !errors.Is(err, ErrTenantUnknown) || events != nil {
			t.Errorf("%T: got %v, %v; want ErrTenantUnknown", c, events, err)
		}
	}
	for rule, c := range map[string]CreateTenant{
		"no name":                {},
		"a name that is no text": {Name: "\xff"},
		"a negative rate limit":  {Name: "x", RateLimitPerMin: perMin(-1)},
	} {
		if _, _, err := Execute(state, c, november); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v; want ErrInvalid", rule, err)
		}
	}
	if state.Exists() {
		t.Error("the refused commands made a tenant")
	}
}

func TestOnlyCommandsOfTheClosedSetAreDecided(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	for _, c := range []Command{nil, &Reserve{}} {
		if events, err := Decide(st.state, c, st.now); !errors.Is(err, ErrInvalid) || events != nil {
			t.Errorf("%T: got %v, %v; want ErrInvalid", c, events, err)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	expires := time.Date(2027, time.January, 1, 1, 0, 0, 1999, time.FixedZone("", 3600))
	timed, long := issue("k"), issue("k")
	timed.ExpiresAt, long.Name = &expires, strings.Repeat("x", 201)
	play(t, []scene{
		{
			"a key is recorded by its hash", nil, issue("k"),
			[]string{`#2 apikey.issued {"apiKeyId":"k","name":"","prefix":"bgk_","keyHash":"hash of k","actor":"admin"}`},
			nil,
		},
		{
			"its expiry is recorded in UTC and whole microseconds", nil, timed,
			[]string{`#2 apikey.issued {"apiKeyId":"k","name":"","prefix":"bgk_","keyHash":"hash of k","expiresAt":"2027-01-01T00:00:00.000001Z","actor":"admin"}`},
			nil,
		},
		{"a key's id is taken for ever", []any{issue("k"), RevokeKey{ID: "k"}}, issue("k"), nil, ErrInvalid},
		{"a key needs an id", nil, issue(""), nil, ErrInvalid},
		{"a key needs a hash", nil, IssueKey{ID: "k"}, nil, ErrInvalid},
		{"a key's name is at most 200 bytes", nil, long, nil, ErrInvalid},
		{"a key can be revoked", []any{issue("k")}, RevokeKey{ID: "k", Actor: "admin"}, []string{`#3 apikey.revoked {"apiKeyId":"k","actor":"admin"}`}, nil},
		{"revoking twice is no change", []any{issue("k"), RevokeKey{ID: "k"}}, RevokeKey{ID: "k"}, nil, nil},
		{"revoking what nobody issued is refused", nil, RevokeKey{ID: "k"}, nil, ErrKeyUnknown},
	})
}

func TestATenantHasAtMostAThousandKeys(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	for i := range 1000 {
		if _, err := st.do(issue(fmt.Sprint("k", i))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := st.do(issue("one more")); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v; want ErrInvalid", err)
	}
}

func TestBudgets(t *testing.T) {
	t.Parallel()
	month := budget(Monthly, "10")
	named := func(id string, p Period) DefineBudget { b := budget(p, "1"); b.ID = BudgetID(id); return b }
	alerts := func(shares ...Threshold) DefineBudget { b := budget(Monthly, "10"); b.AlertsAt = shares; return b }
	scoped := month
	scoped.ID, scoped.Scope = "model", Scope{Model: "gpt-4"}
	play(t, []scene{
		{"a budget is defined", nil, month, []string{"#2 budget.defined monthly monthly 10 admin"}, nil},
		{"a limit of nothing is a limit", nil, budget(Monthly, "0"), []string{"#2 budget.defined monthly monthly 0 admin"}, nil},
		{"one of the same period is changed, under its own id", []any{month}, named("other", Monthly), []string{"#3 budget.changed monthly 10→1 admin"}, nil},
		{"the same again is no change", []any{month}, month, nil, nil},
		{"other alerts are a change", []any{alerts(1, 2)}, alerts(1, 3), []string{"#3 budget.changed monthly 10→10 admin"}, nil},
		{"fewer alerts are a change", []any{alerts(1, 2)}, alerts(1), []string{"#3 budget.changed monthly 10→10 admin"}, nil},
		{"the same alerts are no change", []any{alerts(1, 2)}, alerts(1, 2), nil, nil},
		{"an id that another period has is refused", []any{month}, named("monthly", Daily), nil, ErrInvalid},
		{"an id is needed", nil, named("", Daily), nil, ErrInvalid},
		{"one for a model is another than the tenant's", []any{month}, scoped, []string{"#3 budget.defined model monthly 10 admin model:gpt-4"}, nil},
		{"an unknown period is refused", nil, budget("fortnightly", "1"), nil, ErrPeriod},
		{"an unknown period is invalid too", nil, budget("fortnightly", "1"), nil, ErrInvalid},
		{"a negative limit is refused", nil, budget(Monthly, "-1"), nil, ErrInvalid},
		{"a limit above the largest amount is refused", nil, budget(Monthly, "1000000000.1"), nil, ErrInvalid},
		{"an alert at nothing is refused", nil, alerts(0), nil, ErrInvalid},
		{"an alert above ten times the limit is refused", nil, alerts(10_000_001), nil, ErrInvalid},
		{"seventeen alerts are refused", nil, alerts(make([]Threshold, 17)...), nil, ErrInvalid},
		{"an unknown source is refused", nil, budgetFrom("rumour", Monthly, "1"), nil, ErrInvalid},
		{
			"retired and defined again under a new id counts what is held",
			[]any{month, reserve("r", "0.5"), RetireBudget{ID: "monthly"}},
			named("second", Monthly),
			[]string{
				"#6 budget.defined second monthly 1 admin",
				"#7 window.opened second 2026-11-01T00:00..2026-12-01T00:00 limit 1 with 0+0.5 adopted r",
			},
			nil,
		},
		{"retiring says which", []any{month}, RetireBudget{ID: "monthly", Actor: "admin"}, []string{`#3 budget.retired {"budgetId":"monthly","actor":"admin"}`}, nil},
		{"retiring what there is not is refused", []any{month}, RetireBudget{ID: "daily"}, nil, ErrBudgetUnknown},
	})
}

func TestASourceOfLowerRankNeverOverridesALimit(t *testing.T) {
	t.Parallel()
	ranks := []Source{SourceDemo, SourceEnvironment, SourceAdmin}
	for first, set := range ranks {
		for second, later := range ranks {
			st := newStage(t)
			if _, err := st.do(budgetFrom(set, Monthly, "10")); err != nil {
				t.Fatal(err)
			}
			got, err := st.do(budgetFrom(later, Monthly, "20"))
			if err != nil || (len(got) == 1) != (second >= first) {
				t.Errorf("%s after %s: recorded %v, %v", later, set, got, err)
			}
		}
	}
}

func TestATenantHasAtMost256Budgets(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	tagged := func(i int) DefineBudget {
		c := budget(Total, "1")
		c.ID, c.Scope.Tag = BudgetID(fmt.Sprintf("b%03d", i)), fmt.Sprint("n=", i)
		return c
	}
	for i := range 256 {
		mustDo(t, st, tagged(i))
	}
	if _, err := st.do(tagged(256)); !errors.Is(err, ErrInvalid) {
		t.Errorf("the 257th: got %v; want ErrInvalid", err)
	}
	mustDo(t, st, RetireBudget{ID: "b007"}, tagged(256))
}

func TestTimesStrictlyIncreaseWhateverTheClockSays(t *testing.T) {
	t.Parallel()
	st := newStage(t)
	for _, step := range []any{budget(Monthly, "10"), reserve("a", "1"), "2026-11-22T09:00", reserve("b", "1"), "2026-11-22T10:00:00.0000005Z", settle("a", "1"), "2026-11-22T13:00", settle("b", "1")} {
		if _, err := st.do(step); err != nil {
			t.Fatal(err)
		}
	}
	for i, r := range st.log {
		if r.Version != int64(i+1) || r.Time.Location() != time.UTC || r.Time.Truncate(time.Microsecond) != r.Time {
			t.Errorf("event %d: version %d at %s", i+1, r.Version, r.Time)
		}
		if i > 0 && !r.Time.After(st.log[i-1].Time) {
			t.Errorf("event %d at %s is not after %s", i+1, r.Time, st.log[i-1].Time)
		}
	}
	if last := st.log[len(st.log)-1].Time; !last.Equal(at("2026-11-22T13:00")) {
		t.Errorf("the clock is followed again once it is ahead: %s", last)
	}
}
