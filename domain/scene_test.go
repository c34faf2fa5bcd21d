package domain_test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

// scene is a rule as given, when, then. Given and when are a Command, a string that sets the clock or a
// Duration that moves it on. Then is what when records, as show writes it, or why it is refused.
//
// Every scene begins at 2026-11-22T10:00 with the tenant acme, created (#1) in UTC. A number after # is a
// version, and so an account's id too.
type scene struct {
	rule  string
	given []any
	when  any
	then  []string
	err   error
}

func play(t *testing.T, scenes []scene) {
	t.Helper()
	for _, sc := range scenes {
		t.Run(sc.rule, func(t *testing.T) {
			t.Parallel()
			st := newStage(t)
			for _, step := range sc.given {
				if _, err := st.do(step); err != nil {
					t.Fatalf("given %+v: %v", step, err)
				}
			}
			got, err := st.do(sc.when)
			if !errors.Is(err, sc.err) || (sc.err == nil && err != nil) {
				t.Fatalf("got error %v; want %v", err, sc.err)
			}
			if !slices.Equal(got, sc.then) {
				t.Errorf("recorded\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(sc.then, "\n\t"))
			}
		})
	}
}

// stage is a tenant's stream and a clock.
type stage struct {
	state State
	now   time.Time
	log   []Recorded
}

func newStage(tb testing.TB) *stage {
	tb.Helper()
	st := &stage{state: NewState("acme"), now: at("2026-11-22T10:00")}
	if _, err := st.do(CreateTenant{Name: "ACME", Actor: "admin"}); err != nil {
		tb.Fatal(err)
	}
	return st
}

func (st *stage) do(step any) ([]string, error) {
	switch step := step.(type) {
	case string:
		st.now = at(step)
		return nil, nil
	case time.Duration:
		st.now = st.now.Add(step)
		return nil, nil
	case Command:
		if c, ok := step.(Adjust); ok {
			st.bring(c.Reservation)
		}
		state, recorded, err := executeKnowing(st.state, st.log, step, st.now)
		st.state, st.log = state, append(st.log, recorded...)
		var shown []string
		for _, r := range recorded {
			shown = append(shown, show(r.Version, r.Event))
		}
		return shown, err
	}
	panic(fmt.Sprintf("no step: %T", step))
}

// bring adopts a reservation that is closed for good, with accounts that hold what the events said of them last.
func (st *stage) bring(id ReservationID) {
	if _, presumed := st.state.Presumed[id]; presumed {
		return
	}
	var r Reservation
	var accounts []Account
	for _, recorded := range st.log {
		switch e := recorded.Event.(type) { //nolint:gochecksumtype // what it was, and where it was posted last
		case UsageReserved:
			if e.Reservation == id {
				r = Reservation{Request: e.Request, Amount: e.Amount, At: recorded.Time}
			}
		case UsageSettled:
			if e.Reservation == id {
				r.Accounts, accounts = nil, nil
				for _, p := range e.Postings {
					r.Accounts = append(r.Accounts, p.Account)
					accounts = append(accounts, Account{ID: p.Account, Budget: p.Budget, Limit: p.Limit, Settled: p.Settled, Held: p.Held, Presumed: p.Presumed})
				}
			}
		}
	}
	if _, open := st.state.Open[id]; id != "" && r.Reservation == id && !open {
		st.state.AdoptClosed(r, accounts)
	}
}

// executeKnowing executes a command as a store does that knows the whole past.
func executeKnowing(s State, log []Recorded, c Command, now time.Time) (State, []Recorded, error) {
	var known []Past
	for {
		next, recorded, err := Execute(s, Informed{Command: c, Past: known}, now)
		var needed *PastNeededError
		if !errors.As(err, &needed) {
			return next, recorded, err
		}
		answer := needed.Past
		for _, r := range log {
			answer.Add(r)
		}
		known = append(known, answer)
	}
}

// show is an event as scenes write it: what it says about money, or its JSON.
func show(version int64, e Event) string {
	const minute = "2006-01-02T15:04"
	name := string(TypeOf(e))
	switch e := e.(type) { //nolint:gochecksumtype // the others are shown as their JSON
	case WindowOpened:
		return fmt.Sprintf("#%d %s %s %s..%s limit %s%s", version, name, e.Budget, e.Start.Format(minute), e.End.Format(minute), e.Limit, seeded(e))
	case UsageReserved:
		return fmt.Sprintf("#%d %s %s %s%s", version, name, e.Reservation, e.Amount, balances(e.Postings))
	case UsageSettled:
		text := fmt.Sprintf("#%d %s %s %s→%s %s", version, name, e.Reservation, e.Reserved, e.Charged, e.Basis)
		if e.Overrun != 0 {
			text += " overrun " + e.Overrun.String()
		}
		return text + balances(e.Postings)
	case ReservationReleased:
		return fmt.Sprintf("#%d %s %s %s%s", version, name, e.Reservation, e.Reserved, balances(e.Postings))
	case ReservationExpired:
		text := fmt.Sprintf("#%d %s %s %s→%s", version, name, e.Reservation, e.Reserved, e.Charged)
		if e.Reason != "" {
			text += " " + e.Reason
		}
		return text + balances(e.Postings)
	case UsageSettledLate:
		return fmt.Sprintf("#%d %s %s %s→%s by %s %s%s", version, name, e.Reservation, e.WasCharged, e.Charged, e.Delta, e.Basis, balances(e.Postings))
	case BudgetChanged:
		return fmt.Sprintf("#%d %s %s %s→%s %s%s%s", version, name, e.Budget, e.OldLimit, e.Limit, e.Source, raised(e), balances(e.Postings))
	case BudgetDefined:
		text := fmt.Sprintf("#%d %s %s %s %s %s", version, name, e.Budget, e.Period, e.Limit, e.Source)
		if e.Scope != (Scope{}) {
			text += " " + e.Scope.String()
		}
		if e.Period == Custom {
			text += " " + e.Start.Format(minute) + ".." + e.End.Format(minute)
		}
		return text
	case BudgetThresholdCrossed:
		return fmt.Sprintf("#%d %s %s #%d at %d%% with %s of %s", version, name, e.Budget, e.Account, e.Threshold/10_000, e.Use, e.Limit)
	case WindowSlid:
		return fmt.Sprintf("#%d %s %s by %s%s", version, name, e.Budget, e.Aged, balances(e.Postings))
	case ReservationExtended:
		return fmt.Sprintf("#%d %s %s by %s to %s until %s%s", version, name, e.Reservation, e.Added, e.Amount, e.ExpiresAt.Format(minute), balances(e.Postings))
	case UsageAdjusted:
		return fmt.Sprintf("#%d %s %s by %s%s", version, name, cmp.Or(e.Reservation, "nothing"), e.Delta, balances(e.Postings))
	}
	body, err := EncodeEvent(e)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("#%d %s %s", version, name, body)
}

// seeded writes what a window had cost before it was opened: spent(presumed?)+held, and what it adopted.
func seeded(e WindowOpened) string {
	if e.Settled == 0 && e.Held == 0 && len(e.Adopted) == 0 {
		return ""
	}
	text := " with " + e.Settled.String()
	if e.Presumed != 0 {
		text += fmt.Sprintf("(%s?)", e.Presumed)
	}
	text += "+" + e.Held.String()
	if len(e.Adopted) > 0 {
		text += fmt.Sprint(" adopted ", strings.Trim(fmt.Sprint(e.Adopted), "[]"))
	}
	return text
}

// raised writes the raises that are part of a limit, and why it changed.
func raised(e BudgetChanged) string {
	text := ""
	for _, r := range e.Raises {
		text += fmt.Sprintf(" +%s until %s", r.By, r.Until.Format("2006-01-02T15:04"))
	}
	if e.Reason != "" {
		text += " (" + e.Reason + ")"
	}
	return text
}

// balances writes postings as [#account spent+held/limit], with ? for the presumed part and ! for forced.
func balances(postings []Posting) string {
	var b strings.Builder
	for _, p := range postings {
		fmt.Fprintf(&b, " [#%d %s", p.Account, p.Settled)
		if p.Presumed != 0 {
			fmt.Fprintf(&b, "(%s?)", p.Presumed)
		}
		fmt.Fprintf(&b, "+%s/%s", p.Held, p.Limit)
		if p.Forced {
			b.WriteString("!")
		}
		b.WriteString("]")
	}
	return b.String()
}

// The commands of the scenes, short.

func budget(p Period, limit string) DefineBudget {
	return budgetFrom(SourceAdmin, p, limit)
}

func budgetFrom(s Source, p Period, limit string) DefineBudget {
	return DefineBudget{ID: BudgetID(p), Period: p, Limit: usd(limit), Source: s, Actor: "admin"}
}

func reserve(id, amount string) Reserve {
	return Reserve{Request: Request{Reservation: ReservationID(id)}, Amount: usd(amount), TTL: 15 * time.Minute}
}

func reserveWithKey() Reserve {
	c := reserve("r", "1")
	c.KeyID = "k"
	return c
}

func settle(id, charged string) Settle {
	return Settle{Reservation: ReservationID(id), Charged: usd(charged), Basis: BasisProvider}
}

func presume(id string) SettlePresumed {
	return SettlePresumed{Reservation: ReservationID(id), Reason: "cut"}
}

func release() Release { return Release{Reservation: "r", Reason: ReleasedNotSent} }
func expire() Expire   { return Expire{Reservation: "r"} }

func issue(id string) IssueKey {
	return IssueKey{ID: KeyID(id), Hash: "hash of " + id, Prefix: "bgk_", Actor: "admin"}
}

func adjust(delta, reservation, key string) Adjust {
	return Adjust{Delta: usd(delta), Reservation: ReservationID(reservation), Reason: "invoice", Idempotency: key, Actor: "admin"}
}

func moveTo(zone string) ChangeTenant {
	z, err := ParseZone(zone)
	if err != nil {
		panic(err)
	}
	return ChangeTenant{Zone: &z, Actor: "admin"}
}
