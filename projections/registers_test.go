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
	}
}

func (c *counters) parsed(t *testing.T, tenant domain.TenantID) domain.State {
	t.Helper()
	s, err := parseRegisters(tenant, c.client.HGetAll(t.Context(), registersKey(tenant)).Val())
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

// stream makes the events of a tenant's life of some weeks, at random, and calls after with what each
// command recorded and the state it led to.
func stream(t *testing.T, random *dice, commands int, after func(domain.State, []domain.Recorded, time.Time)) {
	t.Helper()
	s, now := domain.NewState("a"), time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC)
	var open []domain.ReservationID
	budgets := 0
	do := func(c domain.Command) {
		next, recorded, err := domain.Execute(s, c, now)
		s = next
		if err == nil && len(recorded) > 0 {
			after(s, recorded, now)
		}
	}
	do(domain.CreateTenant{Name: "a", Actor: "admin"})
	for range commands {
		now = now.Add(time.Duration(random.intN(int(8 * time.Hour))))
		switch random.intN(12) {
		case 0:
			budgets++
			periods := domain.CalendarPeriods()
			do(domain.DefineBudget{
				ID: domain.BudgetID(fmt.Sprintf("bud|%d", budgets)), Period: periods[random.intN(len(periods))],
				Limit: domain.Amount(random.intN(10_000)), Source: domain.SourceAdmin, AlertsAt: []domain.Threshold{500_000, 1_000_000}[:random.intN(3)],
			})
		case 1:
			if len(s.Budgets) > 0 && random.intN(3) == 0 {
				do(domain.RetireBudget{ID: s.Budgets[random.intN(len(s.Budgets))].ID})
			}
		case 2:
			zone, err := domain.ParseZone([]string{"UTC", "Asia/Tokyo", "America/Los_Angeles"}[random.intN(3)])
			if err != nil {
				t.Fatal(err)
			}
			do(domain.ChangeTenant{Zone: &zone})
		case 3, 4, 5, 6, 7:
			id := domain.ReservationID(uuid.NewString())
			do(domain.Reserve{Request: domain.Request{Reservation: id}, Amount: domain.Amount(random.intN(300)), TTL: time.Hour})
			open = append(open, id)
		default:
			if len(open) == 0 {
				continue
			}
			i := random.intN(len(open))
			id := open[i]
			open = append(open[:i], open[i+1:]...)
			switch random.intN(3) {
			case 0:
				do(domain.Release{Reservation: id})
			case 1:
				do(domain.Settle{Reservation: id, Charged: domain.Amount(random.intN(400)), Basis: domain.BasisProvider})
			default:
				do(domain.SettlePresumed{Reservation: id})
				if random.intN(2) == 0 {
					do(domain.Settle{Reservation: id, Charged: 7, Basis: domain.BasisProvider})
				}
			}
		}
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
				got := c.parsed(t, "a")
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
		if got := c.parsed(t, "a").Version; got != step.want {
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
	if err := c.put(t.Context(), last, false); err != nil || c.parsed(t, "a").Version != last.Version {
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
	f.Add("1|monthly|admin|100|500000,1000000|{}", "4|monthly|0|9|100|1|2|0|b")
	f.Add("1|monthly|admin|100||{\"model\":\"m|n\"}", "4|monthly|0|253370764800000000|100|1|2|0|bud|1")
	f.Add("", "|||||||||")
	f.Fuzz(func(t *testing.T, budget, account string) {
		s, err := parseRegisters("a", map[string]string{versionField: "9", zoneField: "1|Asia/Tokyo", "b:b": budget, "4": account})
		if err != nil {
			if !errors.Is(err, errRegisters) {
				t.Errorf("error of another kind: %v", err)
			}
			return
		}
		s.Balances(time.Unix(0, 0))
		if len(s.Budgets) != 1 || len(s.Accounts) != 1 {
			t.Errorf("read %d budgets and %d accounts", len(s.Budgets), len(s.Accounts))
		}
	})
}
