package projections

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

func newCounters(t *testing.T) *counters {
	t.Helper()
	options, err := redis.ParseURL(testenv.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return &counters{
		client: client, metrics: newMetrics(), fresh: time.Minute,
		applying: redis.NewScript(applyRegistersLua), replacing: redis.NewScript(replaceRegistersLua),
		inspecting: redis.NewScript(inspectRegistersLua), heads: noHeads{},
	}
}

// noHeads is a ledger without streams.
type noHeads struct{}

func (noHeads) Heads(context.Context, domain.TenantID, int) ([]eventstore.Head, error) {
	return nil, nil
}

// parsed are the registers of the tenant "a".
func (c *counters) parsed(t *testing.T) domain.State {
	t.Helper()
	s, err := parseRegisters("a", c.client.HGetAll(t.Context(), registersKey("a")).Val())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (c *counters) sent(t *testing.T, r run) string {
	t.Helper()
	replies, err := c.send(t.Context(), []run{r})
	if err != nil {
		t.Fatal(err)
	}
	return replies[0]
}

func runOf(events []domain.Recorded) run {
	first, last := events[0], events[len(events)-1]
	return run{tenant: first.Tenant, after: first.Version - 1, upto: last.Version, events: events}
}

// dice are random numbers that a seed repeats (splitmix64).
type dice struct{ state uint64 }

func newDice(seed uint64) *dice { return &dice{state: seed} }

func (d *dice) intN(n int) int {
	d.state += 0x9e3779b97f4a7c15
	z := d.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return int((z ^ z>>31) % uint64(n))
}

// life is a tenant's stream in the making.
type life struct {
	t      *testing.T
	random *dice
	s      domain.State
	now    time.Time
	all    []domain.Recorded
	open   []domain.ReservationID
	made   int // budgets, and adjustments
	after  func(domain.State, []domain.Recorded, time.Time)
}

// stream makes the events of a tenant's life of some weeks, at random, and calls after with what each
// command recorded and the state it led to.
func stream(t *testing.T, random *dice, commands int, after func(domain.State, []domain.Recorded, time.Time)) {
	t.Helper()
	l := &life{t: t, random: random, after: after, s: domain.NewState("a"), now: time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC)}
	l.do(domain.CreateTenant{Name: "a", Actor: "admin"})
	for range commands {
		l.now = l.now.Add(time.Duration(random.intN(int(8 * time.Hour))))
		if random.intN(3) == 0 {
			l.now = l.now.Add(-time.Duration(random.intN(int(7 * time.Hour)))) // closer together
		}
		if random.intN(3) == 0 {
			l.administer()
		} else {
			l.use()
		}
	}
}

// do carries out a command as a store would: what it asks of the past is in the events.
func (l *life) do(c domain.Command) {
	next, recorded, err := domain.Execute(l.s, c, l.now)
	var asked *domain.PastNeededError
	for past := []domain.Past(nil); errors.As(err, &asked); {
		answer := asked.Past
		for _, r := range l.all {
			answer.Add(r)
		}
		past = append(past, answer)
		next, recorded, err = domain.Execute(l.s, domain.Informed{Command: c, Past: past}, l.now)
	}
	l.s = next
	if err == nil && len(recorded) > 0 {
		l.all = append(l.all, recorded...)
		l.after(l.s, recorded, l.now)
	}
}

func (l *life) administer() {
	switch l.random.intN(7) {
	case 0, 1:
		l.define()
	case 2:
		if len(l.s.Budgets) > 3 {
			l.do(domain.RetireBudget{ID: l.s.Budgets[l.random.intN(len(l.s.Budgets))].ID})
		}
	case 3:
		zone, err := domain.ParseZone([]string{"UTC", "Asia/Tokyo", "America/Los_Angeles"}[l.random.intN(3)])
		if err != nil {
			l.t.Fatal(err)
		}
		l.do(domain.ChangeTenant{Zone: &zone})
	case 4:
		if len(l.s.Budgets) > 0 {
			b := l.s.Budgets[l.random.intN(len(l.s.Budgets))]
			l.do(domain.RaiseBudget{ID: b.ID, By: 100, Until: l.now.Add(time.Duration(1+l.random.intN(40)) * time.Hour)})
		}
	case 5:
		l.made++
		l.do(domain.Adjust{Delta: domain.Amount(l.random.intN(40) - 20), Reason: "x", Idempotency: fmt.Sprint(l.made)})
	default:
		l.do(domain.Age{})
	}
}

func (l *life) define() {
	l.made++
	d := domain.DefineBudget{
		ID: domain.BudgetID(fmt.Sprintf("bud|%d", l.made)), Limit: domain.Amount(l.random.intN(10_000)),
		Source: domain.SourceAdmin, AlertsAt: []domain.Threshold{500_000, 1_000_000}[:l.random.intN(3)],
		Scope: []domain.Scope{{}, {}, {Model: "m|n"}, {Tag: "team=a,b"}}[l.random.intN(4)],
	}
	switch periods := domain.CalendarPeriods(); l.random.intN(4) {
	case 0:
		d.Period, d.Span.Duration = domain.Rolling, []domain.Length{domain.Length(time.Hour), domain.Length(24 * time.Hour), domain.Length(5 * 24 * time.Hour)}[l.random.intN(3)]
	case 1:
		d.Period, d.Span.StartDate, d.Span.EndDate = domain.Custom, l.now.Format(time.DateOnly), l.now.AddDate(0, 0, l.random.intN(9)).Format(time.DateOnly)
	default:
		d.Period = periods[l.random.intN(len(periods))]
	}
	l.do(d)
}

func (l *life) use() {
	if l.random.intN(2) == 0 || len(l.open) == 0 {
		id := domain.ReservationID(uuid.NewString())
		r := domain.Request{Reservation: id, Model: []string{"m|n", "x"}[l.random.intN(2)], Tags: map[string]string{"team": []string{"a,b", "c"}[l.random.intN(2)]}}
		l.do(domain.Reserve{Request: r, Amount: domain.Amount(l.random.intN(300)), TTL: time.Hour})
		l.open = append(l.open, id)
		return
	}
	i := l.random.intN(len(l.open))
	id := l.open[i]
	if l.random.intN(6) == 0 {
		l.do(domain.Extend{Reservation: id, Add: domain.Amount(l.random.intN(50)), TTL: time.Hour})
		return
	}
	l.open = append(l.open[:i], l.open[i+1:]...)
	switch l.random.intN(4) {
	case 0:
		l.do(domain.Release{Reservation: id, Reason: domain.ReleasedNotSent})
		return
	case 1:
		l.do(domain.SettlePresumed{Reservation: id})
	case 2:
		l.do(domain.Expire{Reservation: id})
	default:
		l.do(domain.Settle{Reservation: id, Charged: domain.Amount(l.random.intN(400)), Basis: domain.BasisProvider})
		return
	}
	switch l.random.intN(3) {
	case 0:
		l.do(domain.Settle{Reservation: id, Charged: 7, Basis: domain.BasisProvider})
	case 1:
		l.made++
		l.do(domain.Adjust{Reservation: id, Delta: -1, Reason: "x", Idempotency: fmt.Sprint(l.made)})
	}
}

func TestRegistersAreWhatTheStreamAmountsTo(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			c, random := newCounters(t), newDice(seed)
			var all, pending []domain.Recorded
			stream(t, random, 250, func(s domain.State, recorded []domain.Recorded, now time.Time) {
				all, pending = append(all, recorded...), append(pending, recorded...)
				if random.intN(4) > 0 {
					return // longer runs
				}
				// Some of what was applied before comes again in front of it.
				from := max(0, len(all)-len(pending)-random.intN(20))
				if reply := c.sent(t, runOf(all[from:])); reply != replyApplied {
					t.Fatalf("version %d: %s", s.Version, reply)
				}
				pending = nil
				if random.intN(3) == 0 {
					if reply := c.sent(t, runOf(all[random.intN(len(all)):])); reply != replyDuplicate {
						t.Fatalf("repeated: %s", reply)
					}
				}
				got := c.parsed(t)
				for _, at := range []time.Time{now, now.Add(5 * time.Hour), now.Add(24 * time.Hour)} {
					if g, w := got.Balances(at), s.Balances(at); !sameBalances(g, w) || got.Version != s.Version {
						t.Fatalf("version %d at %s:\ngot  %+v\nwant %+v", s.Version, at, g, w)
					}
				}
			})
			if n := c.client.HLen(t.Context(), registersKey("a")).Val(); n > 300 {
				t.Errorf("%d fields: ended windows stay", n)
			}
		})
	}
}

// sameBalances compares as values: no alerts are nil or empty.
func sameBalances(a, b []domain.Balance) bool {
	return fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b)
}

func TestPartsOfARollingWindowAreExactBeyondWhatLuaCanCount(t *testing.T) {
	t.Parallel()
	c := newCounters(t)
	l := &life{t: t, random: newDice(1), s: domain.NewState("a"), now: time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC)}
	l.after = func(_ domain.State, recorded []domain.Recorded, _ time.Time) { c.sent(t, runOf(recorded)) }
	l.do(domain.CreateTenant{Name: "a"})
	l.do(domain.DefineBudget{ID: "b", Period: domain.Rolling, Span: domain.Span{Duration: domain.Length(time.Hour)}, Limit: domain.MaxAmount, Source: domain.SourceAdmin})
	const most = domain.MaxAmount/4 - 1 // odd, and above 2^53
	for range 3 {
		id := domain.ReservationID(uuid.NewString())
		l.do(domain.Reserve{Request: domain.Request{Reservation: id}, Amount: most, TTL: time.Hour})
		l.do(domain.Settle{Reservation: id, Charged: most, Basis: domain.BasisProvider})
		l.now = l.now.Add(20 * time.Second)
	}
	got, want := c.parsed(t), l.s
	for at := l.now; at.Before(l.now.Add(2 * time.Hour)); at = at.Add(17 * time.Second) {
		if g, w := got.Balances(at), want.Balances(at); !sameBalances(g, w) {
			t.Fatalf("at %s:\ngot  %+v\nwant %+v", at, g, w)
		}
	}
	if n := c.client.HLen(t.Context(), registersKey("a")).Val(); n != 4 {
		t.Errorf("%d fields; want the version, the zone, a budget and its register", n)
	}
}

func TestRunBehindAGapChangesNothing(t *testing.T) {
	t.Parallel()
	c := newCounters(t)
	var all []domain.Recorded
	stream(t, newDice(1), 40, func(_ domain.State, r []domain.Recorded, _ time.Time) { all = append(all, r...) })
	if reply := c.sent(t, runOf(all[1:])); reply != replyGap {
		t.Errorf("without the first event: %s", reply)
	}
	c.sent(t, runOf(all[:10]))
	before := c.client.HGetAll(t.Context(), registersKey("a")).Val()
	if reply := c.sent(t, runOf(all[11:])); reply != replyGap {
		t.Errorf("without the eleventh event: %s", reply)
	}
	if after := c.client.HGetAll(t.Context(), registersKey("a")).Val(); !reflect.DeepEqual(before, after) {
		t.Errorf("registers changed from %v to %v", before, after)
	}
}

func TestOlderSnapshotNeverReplacesNewerRegisters(t *testing.T) {
	t.Parallel()
	c := newCounters(t)
	var states []domain.State
	stream(t, newDice(1), 40, func(s domain.State, _ []domain.Recorded, _ time.Time) { states = append(states, s.Clone()) })
	older, newer := states[10], states[20]
	for _, step := range []struct {
		s     domain.State
		force bool
		want  int64
	}{{newer, false, newer.Version}, {older, false, newer.Version}, {older, true, older.Version}, {newer, false, newer.Version}} {
		if err := c.put(t.Context(), step.s, step.force); err != nil {
			t.Fatal(err)
		}
		if got := c.parsed(t).Version; got != step.want {
			t.Errorf("registers at %d after putting %d (force %v), want %d", got, step.s.Version, step.force, step.want)
		}
	}
}

func TestKeyOfAnotherTypeIsReplaced(t *testing.T) {
	t.Parallel()
	c := newCounters(t)
	var last domain.State
	var all []domain.Recorded
	stream(t, newDice(1), 20, func(s domain.State, r []domain.Recorded, _ time.Time) {
		last, all = s.Clone(), append(all, r...)
	})
	c.client.Set(t.Context(), registersKey("a"), "x", 0)
	if versions, err := c.cursors(t.Context(), []domain.TenantID{"a", "b"}); err != nil || len(versions) != 0 {
		t.Errorf("cursors: %v, %v", versions, err)
	}
	if reply := c.sent(t, runOf(all)); reply != replyGap {
		t.Errorf("apply: %s", reply)
	}
	if err := c.put(t.Context(), last, false); err != nil || c.parsed(t).Version != last.Version {
		t.Errorf("put: %v", err)
	}
}

func TestScriptsAreLoadedIntoARedisThatLostThem(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t)
	c := newCounters(t)
	options, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.client.Close()
	c.client = redis.NewClient(options)
	defer func() { _ = c.client.Close() }()
	var all []domain.Recorded
	stream(t, newDice(1), 20, func(_ domain.State, r []domain.Recorded, _ time.Time) { all = append(all, r...) })
	c.sent(t, runOf(all[:5]))
	if err := c.client.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if reply := c.sent(t, runOf(all[5:])); reply != replyApplied {
		t.Error(reply)
	}
}

// failing says what Postgres says when it is down.
type failing struct{ asked int }

func (f *failing) State(context.Context, domain.TenantID) (domain.State, error) {
	f.asked++
	return domain.State{}, domain.ErrUnavailable
}

func TestRegistersThatNobodyVouchesForAreNotRead(t *testing.T) {
	t.Parallel()
	c := newCounters(t)
	states := &failing{}
	r := &Registers{client: c.client, states: states, metrics: newMetrics()}
	now := time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC)
	var last domain.State
	stream(t, newDice(1), 100, func(s domain.State, _ []domain.Recorded, _ time.Time) { last = s.Clone() })
	if len(last.Budgets) == 0 {
		t.Fatal("this seed leaves no budget")
	}
	if err := c.put(t.Context(), last, false); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Balances(t.Context(), "a", now); !errors.Is(err, domain.ErrUnavailable) {
		t.Errorf("nobody vouched: %v", err)
	}
	if err := c.compared(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if balances, err := r.Balances(t.Context(), "a", now); err != nil || !sameBalances(balances, last.Balances(now)) {
		t.Errorf("vouched for: %v, %v", balances, err)
	}
	c.client.HSet(t.Context(), registersKey("a"), budgetField("x"), "1|monthly|admin")
	if _, err := r.Balances(t.Context(), "a", now); !errors.Is(err, domain.ErrUnavailable) {
		t.Errorf("a field that does not read: %v", err)
	}
}

func TestRedisThatFailsIsLeftAloneForAWhile(t *testing.T) {
	t.Parallel()
	states := &failing{}
	r, err := NewRegisters(Config{RedisURL: "redis://127.0.0.1:1"}, states)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	now := time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC)
	for range 3 {
		_, _ = r.Balances(t.Context(), "a", now)
	}
	if got := r.shunned.Load(); got != now.Add(shunFor).UnixMicro() || states.asked != 3 {
		t.Errorf("shunned until %d, Postgres asked %d times", got, states.asked)
	}
}

func FuzzParseRegisters(f *testing.F) {
	f.Add(`1|monthly|admin|100|7:1700000000000000|500000,1000000|{"scope":{},"span":{}}`, "4|monthly|0|9|100|1|2|0|0|0||b")
	f.Add(`1|rolling|admin|100|||{"scope":{"model":"m|n"},"span":{"duration":"1h"}}`, "4|rolling|0|253370764800000000|100|1|2|0|3600000000|7|7:1:0,9:0:0|bud|1")
	f.Add(`1|custom|admin|100|||{"scope":{},"span":{},"start":"2026-01-01T00:00:00Z"}`, "4|rolling|0|9|1|1|1|1|1|1|1:1:1|b")
	f.Add("", "||||||||||||")
	f.Fuzz(func(t *testing.T, budget, account string) {
		s, err := parseRegisters("a", map[string]string{versionField: "9", zoneField: "1|Asia/Tokyo", "b:b": budget, "4": account})
		if err != nil {
			if !errors.Is(err, errRegisters) {
				t.Errorf("error of another kind: %v", err)
			}
			return
		}
		s.Balances(time.Unix(0, 0))
		s.Balances(time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC))
		if len(s.Budgets) != 1 || len(s.Accounts) != 1 {
			t.Errorf("read %d budgets and %d accounts", len(s.Budgets), len(s.Accounts))
		}
	})
}
