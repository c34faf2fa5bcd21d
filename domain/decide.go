package domain

import "time"

const (
	// maxAccounts bounds what one request can touch, and so the size of its events; maxBudgets those of a
	// tenant, which are part of the state every gateway holds.
	maxAccounts = 16
	maxBudgets  = 256
	// maxKeys bounds a tenant's keys: they are part of the state every gateway holds.
	maxKeys = 1000
	// maxTTL bounds a reservation's life.
	maxTTL = 24 * time.Hour
	// MaxRateLimit bounds requests per minute: each admitted request is an entry in Redis for a minute.
	MaxRateLimit = 1_000_000
	// turnSlack is more than the events of one decision can add to its time, a microsecond each: of 16 budgets
	// each may have had a raise that ended, with its 16 thresholds, and a window to open or to slide.
	turnSlack = time.Millisecond
)

// Decide says what a command would record at an instant, which must not be before the state's last
// event, or why it is refused: an error of one of the kinds in this package. No events and no error
// means that the command asks for what is so already. It changes nothing.
func Decide(s State, c Command, now time.Time) ([]Event, error) {
	switch c := c.(type) { //nolint:gochecksumtype // the others need a tenant
	case CreateTenant:
		return decideCreate(s, c)
	case All:
		return decideAll(s, c, now)
	case Informed:
		s.past = c.Past
		return Decide(s, c.Command, now)
	}
	if !s.Exists() {
		return nil, ErrTenantUnknown
	}
	switch c := c.(type) { //nolint:gochecksumtype // the others are administrative
	case Reserve:
		return decideReserve(s, c, now)
	case Extend:
		return decideExtend(s, c, now)
	case Settle:
		return decideSettle(s, c)
	case SettlePresumed:
		return decideSettlePresumed(s, c)
	case Release:
		return decideRelease(s, c)
	case Expire:
		return decideExpire(s, c, now)
	case Adjust:
		return decideAdjust(s, c, now)
	case Age:
		return decideAge(s, now), nil
	}
	return decideAdministration(s, c, now)
}

// decideAdministration decides what operators ask of a tenant that exists.
func decideAdministration(s State, c Command, now time.Time) ([]Event, error) {
	switch c := c.(type) { //nolint:gochecksumtype // the others are decided above
	case ChangeTenant:
		return decideChange(s, c)
	case SuspendTenant:
		return unless(s.Suspended, TenantSuspended(c))
	case ResumeTenant:
		return unless(!s.Suspended, TenantResumed(c))
	case SetRateLimit:
		return decideRateLimit(s, c)
	case IssueKey:
		return decideIssueKey(s, c)
	case RevokeKey, SuspendKey, ResumeKey, RotateKey:
		return decideKey(s, c, now)
	case DefineBudget:
		return decideDefineBudget(s, c, now)
	case ChangeBudget:
		return decideChangeBudget(s, c, now)
	case RaiseBudget:
		return decideRaise(s, c, now)
	case EndRaises:
		return decideEndRaises(s, c, now)
	case RetireBudget:
		if _, err := s.known(c.ID); err != nil {
			return nil, err
		}
		return []Event{BudgetRetired{Budget: c.ID, Actor: c.Actor}}, nil
	}
	return nil, invalid("unknown command %T", c)
}

// decideAll decides each command on what the ones before it made of the state.
func decideAll(s State, all All, now time.Time) ([]Event, error) {
	const most = 48 // with a window and 16 thresholds each still within turnSlack
	if len(all.Commands) > most {
		return nil, invalid("at most %d commands at once", most)
	}
	var events []Event
	s = s.Clone()
	for _, c := range all.Commands {
		switch c.(type) { //nolint:gochecksumtype // only these are refused
		case All, Informed, Reserve, Extend, Settle, SettlePresumed, Release, Expire, Adjust, Age:
			return nil, invalid("%T cannot be one of several", c)
		}
		decided, err := Decide(s, c, now)
		if err != nil {
			return nil, err
		}
		for _, e := range decided {
			s = Evolve(s, Recorded{Tenant: s.Tenant, Version: s.Version + 1, Time: now, Event: e})
		}
		events = append(events, decided...)
	}
	return events, nil
}

// Execute decides a command and evolves the state by what it records, with the versions and times the
// events get: the first at now or just after the last event, each following a microsecond later. On an
// error, or without events, the state is unchanged. Hash and Body of the events are left to the store.
func Execute(s State, c Command, now time.Time) (State, []Recorded, error) {
	at := now.UTC().Truncate(time.Microsecond)
	if earliest := s.LastTime.Add(time.Microsecond); at.Before(earliest) {
		at = earliest
	}
	switch c.(type) { //nolint:gochecksumtype // these can record several events, which must be of the same windows
	case Reserve, Extend, Adjust, Age, DefineBudget, ChangeBudget, RaiseBudget, EndRaises, All, Informed:
		at = s.clearOfWindowEnds(at, s.defined(c))
	}
	events, err := Decide(s, c, at)
	if err != nil {
		return s, nil, err
	}
	recorded := make([]Recorded, 0, len(events))
	for i, e := range events {
		r := Recorded{Tenant: s.Tenant, Version: s.Version + 1, Time: at.Add(time.Duration(i) * time.Microsecond), Event: e}
		s.evolve(r)
		recorded = append(recorded, r)
	}
	return s, recorded, nil
}

// clearOfWindowEnds moves an instant that lies within turnSlack before the end of a window, or before the
// beginning of a custom one, to that boundary, so that all events of one decision fall into the same windows.
// Behind one boundary may be another, of a budget that was looked at before.
func (s *State) clearOfWindowEnds(at time.Time, more []Budget) time.Time {
	for from := at; ; from = at {
		for i := range s.Budgets {
			at = s.clearOf(&s.Budgets[i], at)
		}
		for i := range more {
			at = s.clearOf(&more[i], at)
		}
		if at.Equal(from) {
			return at
		}
	}
}

func (s *State) clearOf(b *Budget, at time.Time) time.Time {
	soon := at.Add(turnSlack)
	if a := s.Accounts[s.Current[b.ID]]; a.openAt(at) && soon.Before(a.Window.End) {
		return at // as nearly always
	}
	window, _, inside := s.windowOf(b, at)
	boundary := window.End
	if !inside {
		boundary = b.Window.Start
	}
	if boundary.After(at) && !soon.Before(boundary) {
		return boundary
	}
	return at
}

// defined are the budgets that a command will define, if it is accepted.
func (s *State) defined(c Command) []Budget {
	switch c := c.(type) { //nolint:gochecksumtype // the others define none
	case Informed:
		return s.defined(c.Command)
	case All:
		var budgets []Budget
		for _, each := range c.Commands {
			budgets = append(budgets, s.defined(each)...)
		}
		return budgets
	case ChangeBudget:
		if b, ok := s.budget(c.ID); ok {
			return s.defined(c.of(b))
		}
	case DefineBudget:
		if b, err := newBudget(*s, s.complete(c)); err == nil {
			return []Budget{b}
		}
	}
	return nil
}

func unless(already bool, e Event) ([]Event, error) {
	if already {
		return nil, nil
	}
	return []Event{e}, nil
}
