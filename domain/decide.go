package domain

import (
	"errors"
	"fmt"
	"time"
)

const (
	// maxAccounts bounds what one request can touch, and so the size of its events.
	maxAccounts = 16
	// maxKeys bounds a tenant's keys: they are part of the state every gateway holds.
	maxKeys = 1000
	// maxTTL bounds a reservation's life.
	maxTTL = 24 * time.Hour
	// MaxRateLimit bounds requests per minute: each admitted request is an entry in Redis for a minute.
	MaxRateLimit = 1_000_000
	// turnSlack is more than the events of one decision can add to its time, a microsecond each.
	turnSlack = 64 * time.Microsecond
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
	}
	if !s.Exists() {
		return nil, ErrTenantUnknown
	}
	switch c := c.(type) {
	case CreateTenant, All: // decided above
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
	case RevokeKey:
		return decideRevokeKey(s, c)
	case DefineBudget:
		return decideDefineBudget(s, c, now)
	case RetireBudget:
		if _, ok := s.budget(c.ID); !ok {
			return nil, fmt.Errorf("%w: %.80q", ErrBudgetUnknown, c.ID)
		}
		return []Event{BudgetRetired{Budget: c.ID, Actor: c.Actor}}, nil
	case Reserve:
		return decideReserve(s, c, now)
	case Settle:
		return decideSettle(s, c)
	case SettlePresumed:
		return decideSettlePresumed(s, c)
	case Release:
		return decideRelease(s, c)
	case Expire:
		return decideExpire(s, c, now)
	}
	return nil, invalid("unknown command %T", c)
}

// decideAll decides each command on what the ones before it made of the state.
func decideAll(s State, all All, now time.Time) ([]Event, error) {
	const most = 64 // far more budgets than a tenant can have, and small enough for one turn
	if len(all.Commands) > most {
		return nil, invalid("at most %d commands at once", most)
	}
	var events []Event
	s = s.Clone()
	for _, c := range all.Commands {
		switch c.(type) { //nolint:gochecksumtype // only these are refused
		case All, Reserve, Settle, SettlePresumed, Release, Expire:
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
	switch c.(type) { //nolint:gochecksumtype // these can record several events
	case Reserve, All:
		at = s.clearOfWindowEnds(at)
	}
	events, err := Decide(s, c, at)
	if err != nil {
		return s, nil, err
	}
	recorded := make([]Recorded, 0, len(events))
	for i, e := range events {
		r := Recorded{Tenant: s.Tenant, Version: s.Version + 1, Time: at.Add(time.Duration(i) * time.Microsecond), Event: e}
		s = Evolve(s, r)
		recorded = append(recorded, r)
	}
	return s, recorded, nil
}

// clearOfWindowEnds moves an instant that lies within turnSlack before the end of a window to that end,
// so that all events of one decision fall into the same windows.
func (s State) clearOfWindowEnds(at time.Time) time.Time {
	for _, b := range s.Budgets {
		if window, _ := s.windowOf(b, at); !at.Add(turnSlack).Before(window.End) {
			at = window.End
		}
	}
	return at
}

func unless(already bool, e Event) ([]Event, error) {
	if already {
		return nil, nil
	}
	return []Event{e}, nil
}

func decideCreate(s State, c CreateTenant) ([]Event, error) {
	if s.Exists() {
		return nil, ErrTenantExists
	}
	if err := checkName(c.Name); err != nil {
		return nil, err
	}
	if err := checkRateLimit(c.RateLimitPerMin); err != nil {
		return nil, err
	}
	return []Event{TenantCreated(c)}, nil
}

func decideChange(s State, c ChangeTenant) ([]Event, error) {
	e := TenantChanged{Name: s.Name, Zone: s.Zone, Actor: c.Actor}
	if c.Name != nil {
		e.Name = *c.Name
	}
	if c.Zone != nil {
		e.Zone = *c.Zone
	}
	if err := checkName(e.Name); err != nil {
		return nil, err
	}
	return unless(e.Name == s.Name && e.Zone.String() == s.Zone.String(), e)
}

func checkName(name string) error {
	if name == "" || len(name) > maxName || !storable(name) {
		return invalid("name: want 1 to %d bytes of UTF-8", maxName)
	}
	return nil
}

func checkRateLimit(perMin *int64) error {
	if perMin != nil && (*perMin < 0 || *perMin > MaxRateLimit) {
		return invalid("rateLimitPerMin: want 0 (none) to %d", MaxRateLimit)
	}
	return nil
}

func decideRateLimit(s State, c SetRateLimit) ([]Event, error) {
	if err := checkRateLimit(c.PerMin); err != nil {
		return nil, err
	}
	same := (c.PerMin == nil) == (s.RateLimit == nil) && (c.PerMin == nil || *c.PerMin == *s.RateLimit)
	return unless(same, RateLimitChanged{RateLimitPerMin: c.PerMin, Actor: c.Actor})
}

func decideIssueKey(s State, c IssueKey) ([]Event, error) {
	if c.ID == "" || c.Hash == "" {
		return nil, invalid("a key needs an id and a hash")
	}
	if _, taken := s.Keys[c.ID]; taken {
		return nil, invalid("key %.80q exists", c.ID)
	}
	if len(s.Keys) >= maxKeys {
		return nil, invalid("a tenant has at most %d keys; revoking does not make room, another tenant does", maxKeys)
	}
	if len(c.Name) > maxName || !storable(c.Name) {
		return nil, invalid("name: at most %d bytes of UTF-8", maxName)
	}
	if c.ExpiresAt != nil {
		expires := c.ExpiresAt.UTC().Truncate(time.Microsecond) // as every recorded time
		c.ExpiresAt = &expires
	}
	return []Event{APIKeyIssued{
		KeyID: c.ID, Name: c.Name, Prefix: c.Prefix, KeyHash: c.Hash,
		ExpiresAt: c.ExpiresAt, Models: c.Models, Tags: c.Tags, Actor: c.Actor,
	}}, nil
}

func decideRevokeKey(s State, c RevokeKey) ([]Event, error) {
	k, ok := s.Keys[c.ID]
	if !ok {
		return nil, fmt.Errorf("%w: %.80q", ErrKeyUnknown, c.ID)
	}
	return unless(k.RevokedAt != nil, APIKeyRevoked{KeyID: c.ID, Actor: c.Actor})
}

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
	if err := checkBudget(c); err != nil {
		return nil, err
	}
	for _, b := range s.Budgets {
		if b.Period == c.Period && b.Scope == c.Scope {
			return changeBudget(s, b, c, now)
		}
	}
	if len(s.Budgets) >= maxAccounts {
		return nil, invalid("a tenant has at most %d budgets; retire one first", maxAccounts)
	}
	if _, taken := s.budget(c.ID); taken || c.ID == "" {
		return nil, invalid("budget id %.80q is empty or taken", c.ID)
	}
	return []Event{BudgetDefined{
		Budget: c.ID, Period: c.Period, Scope: c.Scope, Limit: c.Limit, AlertsAt: c.AlertsAt, Source: c.Source, Actor: c.Actor,
	}}, nil
}

func checkBudget(c DefineBudget) error {
	if _, err := ParsePeriod(string(c.Period)); err != nil {
		return errors.Join(ErrInvalid, err)
	}
	if c.Scope != (Scope{}) {
		return invalid("scope: budgets of a key, a model or a tag are not built yet")
	}
	if c.Limit < 0 || c.Limit > MaxAmount {
		return invalid("limitUsd: want 0 to %s", MaxAmount)
	}
	if c.Source.rank() == 0 {
		return invalid("budget source %q", c.Source)
	}
	return checkThresholds(c.AlertsAt)
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
	if b.Limit == c.Limit && b.Source == c.Source && equalThresholds(b.AlertsAt, c.AlertsAt) {
		return nil, nil
	}
	e := BudgetChanged{Budget: b.ID, Limit: c.Limit, OldLimit: b.Limit, AlertsAt: c.AlertsAt, Source: c.Source, Actor: c.Actor}
	if a := s.Accounts[s.Current[b.ID]]; a != nil && now.Before(a.Window.End) {
		e.Postings = []Posting{{
			Account: a.ID, Budget: b.ID, Limit: c.Limit, Settled: a.Settled, Held: a.Held, Presumed: a.Presumed,
			Forced: a.Use() > c.Limit,
		}}
	}
	return []Event{e}, nil
}

func equalThresholds(a, b []Threshold) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
