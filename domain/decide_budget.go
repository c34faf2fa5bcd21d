package domain

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// rank orders the sources of a limit: a lower one never overrides a higher one.
func (s Source) rank() int {
	switch s {
	case SourceDemo:
		return 1
	case SourceEnvironment:
		return 2
	case SourceAdmin:
		return 3
	}
	return 0
}

func decideDefineBudget(s State, c DefineBudget, now time.Time) ([]Event, error) {
	other, exists := s.sameAs(c)
	if c.Keep.Limit && !exists {
		return nil, invalid("limitUsd: want the limit of a budget that is new, in dollars, such as \"12.50\"")
	}

	// What the command does not name is what the budget has at this moment.
	c = s.complete(c)
	b, err := newBudget(s, c)
	if err != nil {
		return nil, err
	}

	// The windows of a budget follow from its span, so another span is another budget.
	var events []Event
	if exists {
		if other.Span == b.Span || c.Source.rank() < other.Source.rank() {
			return changeBudget(s, other, c, now)
		}
		events = append(events, BudgetRetired{Budget: other.ID, Actor: c.Actor})
	}
	if len(s.Budgets)-len(events) >= maxBudgets { // one that is retired makes room
		return nil, invalid("a tenant has at most %d budgets; retire one first", maxBudgets)
	}
	if _, taken := s.budget(c.ID); taken || c.ID == "" || !storable(string(c.ID)) {
		return nil, invalid("budget id %.80q is empty or taken", c.ID)
	}
	events = append(events, BudgetDefined{
		Budget: b.ID, Period: b.Period, Span: b.Span, Scope: b.Scope, Start: b.Window.Start, End: b.Window.End,
		Limit: b.Limit, AlertsAt: b.AlertsAt, Source: b.Source, Actor: c.Actor,
	})
	events, err = s.openSeeded(events, b, now)
	if err != nil {
		return nil, err
	}
	return s.inherit(events, other, b.ID, c.Actor, now)
}

// sameAs is the budget that a command would change, if there is one.
func (s *State) sameAs(c DefineBudget) (Budget, bool) {
	wanted := Budget{Period: c.Period, Scope: c.Scope, Span: c.Span}
	i := slices.IndexFunc(s.Budgets, func(other Budget) bool { return other.same(wanted) })
	if i < 0 {
		return Budget{}, false
	}
	return s.Budgets[i], true
}

// complete fills in the parts that a command keeps from the budget that is there, without its raises.
func (s *State) complete(c DefineBudget) DefineBudget {
	if other, exists := s.sameAs(c); exists {
		if c.Keep.Limit {
			c.Limit = other.Base()
		}
		if c.Keep.AlertsAt {
			c.AlertsAt = other.AlertsAt
		}
		if c.Keep.WeekStart {
			c.Span.WeekStart = other.Span.WeekStart
		}
		if c.Keep.AnchorDay {
			c.Span.AnchorDay = other.Span.AnchorDay
		}
	}
	c.Span = c.Span.normal()
	return c
}

// inherit adds to the events of a budget that takes the place of another one the raises of that one: they
// were granted for longer than until its month begins on another day.
func (s *State) inherit(events []Event, old Budget, id BudgetID, actor Actor, now time.Time) ([]Event, error) {
	lasting := old.at(now)
	if len(lasting.Raises) == 0 {
		return events, nil
	}

	// The raises belong to the budget and to the window as the events before have made them.
	after := s.Clone()
	for _, e := range events {
		after = Evolve(after, Recorded{Tenant: s.Tenant, Version: after.Version + 1, Time: now, Event: e})
	}
	b, _ := after.budget(id)
	raised := b
	raised.Raises = lasting.Raises
	raised.Limit = b.Limit + lasting.Limit - lasting.Base() // each is at most MaxAmount
	if raised.Limit > MaxAmount {
		return nil, invalid("limitUsd: with what it is raised by, want at most %s", MaxAmount)
	}
	_, change := after.change(after.Accounts[after.Current[id]], &b, &raised, "raises_kept", actor)
	return append(events, change...), nil
}

// decideChangeBudget defines a budget again with what the command names.
func decideChangeBudget(s State, c ChangeBudget, now time.Time) ([]Event, error) {
	b, err := s.known(c.ID)
	if err != nil {
		return nil, err
	}
	return decideDefineBudget(s, c.of(b), now)
}

// of returns the definition with which the command changes a budget.
func (c ChangeBudget) of(b Budget) DefineBudget {
	define := DefineBudget{
		ID: c.NewID, Period: b.Period, Span: b.Span, Scope: b.Scope,
		Source: SourceAdmin, Actor: c.Actor,
		Keep: Keep{
			Limit:     c.Limit == nil,
			AlertsAt:  c.AlertsAt == nil,
			WeekStart: c.WeekStart == nil,
			AnchorDay: c.AnchorDay == nil,
		},
	}
	if c.Limit != nil {
		define.Limit = *c.Limit
	}
	if c.AlertsAt != nil {
		define.AlertsAt = *c.AlertsAt
	}
	if c.WeekStart != nil {
		define.Span.WeekStart = *c.WeekStart
	}
	if c.AnchorDay != nil {
		define.Span.AnchorDay = *c.AnchorDay
	}
	return define
}

// decideEndRaises takes all raises off a limit.
func decideEndRaises(s State, c EndRaises, now time.Time) ([]Event, error) {
	b, err := s.known(c.ID)
	if err != nil {
		return nil, err
	}
	present, account, events := s.aged(&b, now)
	if len(present.Raises) == 0 {
		return events, nil
	}
	lowered := *present
	lowered.Limit = present.Base()
	lowered.Raises = nil
	_, change := s.change(account, present, &lowered, raiseEnded, c.Actor)
	return append(events, change...), nil
}

// raiseEnded is the reason of a limit that falls because its raise is over; the actor says who ended it.
const raiseEnded = "raise_ended"

// known is a budget of the tenant, or ErrBudgetUnknown.
func (s *State) known(id BudgetID) (Budget, error) {
	b, ok := s.budget(id)
	if !ok {
		return b, fmt.Errorf("%w: %.80q", ErrBudgetUnknown, id)
	}
	return b, nil
}

// openSeeded adds the opening of a new budget's window, with what it has spent and held already, also if that is
// nothing: a window that is open keeps its bounds whatever becomes of the tenant's zone. A tenant that has used
// nothing has nothing to count; there the first reservation opens it, as later ones.
func (s State) openSeeded(events []Event, b Budget, now time.Time) ([]Event, error) {
	window, inside := b.WindowAt(now, s.Zone.Location())
	if !inside || !s.Used {
		return events, nil
	}
	question := Past{Scope: b.Scope, Window: window, Duration: b.Span.Duration}
	i := slices.IndexFunc(s.past, func(p Past) bool { return p.answers(question) })
	if i < 0 {
		return nil, &PastNeededError{Past: question}
	}
	opened := s.opening(&b, window, s.Version+int64(len(events))+1)
	if err := s.seed(&opened, s.past[i]); err != nil {
		return nil, err
	}
	events = append(events, opened)
	account := Account{ID: opened.Account, Window: window, Limit: b.Limit, Settled: opened.Settled, Held: opened.Held}
	return append(events, s.crossings(&b, &account, "")...), nil
}

// newBudget is the budget a command describes.
func newBudget(s State, c DefineBudget) (Budget, error) {
	b := Budget{ID: c.ID, Period: c.Period, Span: c.Span, Scope: c.Scope, Limit: c.Limit, AlertsAt: c.AlertsAt, Source: c.Source}
	if _, err := ParsePeriod(string(c.Period)); err != nil {
		return b, errors.Join(ErrInvalid, err)
	}
	if err := errors.Join(c.Span.check(c.Period), c.Scope.check(), checkThresholds(c.AlertsAt)); err != nil {
		return b, err
	}
	if c.Limit < 0 || c.Limit > MaxAmount {
		return b, invalid("limitUsd: want 0 to %s", MaxAmount)
	}
	if c.Source.rank() == 0 {
		return b, invalid("budget source %q", c.Source)
	}
	if key := c.Scope.APIKey; key != "" {
		if _, ok := s.Keys[key]; !ok {
			return b, invalid("scope: the tenant has no key %.80q", key)
		}
	}
	var err error
	if c.Period == Custom {
		b.Window, err = c.Span.custom(s.Zone.Location())
	}
	return b, err
}

// same tells whether two budgets are one by their period, scope, duration and dates.
func (b Budget) same(other Budget) bool {
	return b.Period == other.Period && b.Scope == other.Scope && b.Span.same(other.Span)
}

func checkThresholds(alerts []Threshold) error {
	const most, whole = 16, 1_000_000
	if len(alerts) > most {
		return invalid("alertsAt: at most %d thresholds", most)
	}
	for _, t := range alerts {
		if t <= 0 || t > 10*whole {
			return invalid("alertsAt: want shares of the limit above 0 and at most 10")
		}
	}
	return nil
}

func changeBudget(s State, b Budget, c DefineBudget, now time.Time) ([]Event, error) {
	if c.Source.rank() < b.Source.rank() {
		return nil, nil
	}
	if b.Base() == c.Limit && b.Source == c.Source && slices.Equal(b.AlertsAt, c.AlertsAt) {
		return nil, nil
	}
	present, account, events := s.aged(&b, now)
	changed := *present
	changed.Limit += c.Limit - changed.Base()
	changed.AlertsAt, changed.Source = c.AlertsAt, c.Source
	if changed.Limit > MaxAmount {
		return nil, invalid("limitUsd: with what it is raised by, want at most %s", MaxAmount)
	}
	_, change := s.change(account, present, &changed, "", c.Actor)
	return append(events, change...), nil
}

// maxRaises bounds the raises that a limit can have at once.
const maxRaises = 16

func decideRaise(s State, c RaiseBudget, now time.Time) ([]Event, error) {
	b, err := s.known(c.ID)
	if err != nil {
		return nil, err
	}
	present, account, events := s.aged(&b, now)
	until, err := raiseEnd(s, present, c, now)
	switch {
	case err != nil:
		return nil, err
	case c.By <= 0 || c.By > MaxAmount || present.Limit+c.By > MaxAmount:
		return nil, invalid("usd: want more than 0, and a limit of at most %s with it", MaxAmount)
	case len(present.Raises) >= maxRaises:
		return nil, invalid("a budget has at most %d raises at once", maxRaises)
	case len(c.Reason) > maxReason || !storable(c.Reason):
		return nil, invalid("reason: want at most %d bytes of UTF-8", maxReason)
	}
	raised := *present
	raised.Limit += c.By
	raised.Raises = append(slices.Clip(raised.Raises), Raise{By: c.By, Until: until})
	_, change := s.change(account, present, &raised, c.Reason, c.Actor)
	return append(events, change...), nil
}

// raiseEnd is when a raise ends: when it says, or with the window that is open.
func raiseEnd(s State, b *Budget, c RaiseBudget, now time.Time) (time.Time, error) {
	if !c.Until.IsZero() {
		until := c.Until.UTC().Truncate(time.Microsecond)
		if !until.After(now) || until.After(totalWindow().End) {
			return until, invalid("until: %s is over", c.Until.Format(time.RFC3339))
		}
		return until, nil
	}
	window, _, ok := s.windowOf(b, now)
	if !ok || window.End.Equal(totalWindow().End) {
		return now, invalid("until: a %s budget has no window that ends now; say when the raise does", b.Period)
	}
	return window.End, nil
}
