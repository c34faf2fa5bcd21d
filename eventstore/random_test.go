package eventstore_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// chance makes random commands about a tenant: every kind there is, most of them sensible.
type chance struct {
	*rand.Rand //nolint:forbidigo // the test is handed its seed, and prints it
	ids, open  []domain.ReservationID
	budgets    int
	state      func() domain.State
	jump       func(time.Duration)
	now        time.Time // by the database's clock
	late       bool      // everything that is open is overdue
}

func (c *chance) pick(ids []domain.ReservationID) domain.ReservationID {
	if len(ids) == 0 {
		return newID()
	}
	return ids[c.IntN(len(ids))]
}

func (c *chance) command() domain.Command {
	if c.IntN(12) == 0 {
		by := []time.Duration{time.Second, 5 * time.Second, 20 * time.Second, 61 * time.Second, time.Hour, 25 * time.Hour, 32 * 24 * time.Hour}[c.IntN(7)]
		c.jump(by)
		c.now, c.late = c.now.Add(by), by > 24*time.Hour
	}
	switch n := c.IntN(40); {
	case n < 15:
		return c.reserve()
	case n < 22:
		return domain.Settle{Reservation: c.pick(c.open), Charged: domain.Amount(c.IntN(15)), Basis: domain.BasisProvider}
	case n == 22:
		return domain.SettlePresumed{Reservation: c.pick(c.ids), Reason: "cut"}
	case n == 23:
		return domain.Release{Reservation: c.pick(c.ids), Reason: domain.ReleasedNotSent}
	case n < 26:
		return domain.Expire{Reservation: c.pick(c.open)}
	case n == 26:
		return settle(c.pick(c.ids), domain.Amount(c.IntN(20)))
	case n == 27:
		return domain.Extend{Reservation: c.pick(c.open), Add: domain.Amount(c.IntN(5)), TTL: time.Hour}
	case n == 28:
		return domain.Adjust{Delta: domain.Amount(c.IntN(9) - 4), Reason: "bill", Reservation: c.pick(c.ids), Idempotency: fmt.Sprint("a", c.IntN(40)), Actor: "admin"}
	case n == 29:
		return domain.Adjust{Delta: domain.Amount(c.IntN(9) - 4), Reason: "bill", Idempotency: fmt.Sprint("b", c.IntN(20)), Actor: "admin"}
	case n < 34:
		return c.define()
	}
	return c.administer()
}

func (c *chance) reserve() domain.Command {
	r := reserve(domain.Amount(c.IntN(12)))
	r.Model = []string{"gpt-4", "gpt-3.5-turbo"}[c.IntN(2)]
	r.Tags = map[string]string{"team": []string{"search", "ads"}[c.IntN(2)]}
	if c.IntN(3) == 0 {
		r.KeyID = "k1"
	}
	if c.IntN(3) == 0 {
		r.Idempotency, r.Fingerprint = fmt.Sprint("key", c.IntN(15)), "f"
	}
	if c.IntN(3) == 0 {
		r.TTL = 50 * time.Microsecond
	}
	c.ids, c.open = append(c.ids, r.Reservation), append(c.open, r.Reservation)
	return r
}

func (c *chance) define() domain.Command {
	c.budgets++
	today := c.now.UTC().Format(time.DateOnly)
	shapes := []domain.DefineBudget{
		{Period: domain.Rolling, Span: domain.Span{Duration: domain.Length(time.Minute)}},
		{Period: domain.Custom, Span: domain.Span{StartDate: today, EndDate: today}},
		{Period: domain.Monthly, Span: domain.Span{AnchorDay: int64(c.IntN(31)) + 1}},
		{Period: domain.Weekly, Span: domain.Span{WeekStart: []domain.Weekday{"sunday", "friday", ""}[c.IntN(3)]}},
		{Period: domain.Daily},
		{Period: domain.Total},
		{Period: domain.Hourly},
	}
	d := shapes[c.IntN(len(shapes))]
	d.Scope = []domain.Scope{{}, {}, {APIKey: "k1"}, {Model: "gpt-4"}, {Tag: "team=search"}, {Tag: "team"}}[c.IntN(6)]
	d.ID, d.Limit = domain.BudgetID(fmt.Sprint("b", c.budgets)), domain.Amount(40+c.IntN(1000))
	d.AlertsAt = []domain.Threshold{100_000, 500_000, 1_000_000}[:c.IntN(4)]
	d.Source, d.Actor = domain.SourceAdmin, "admin"
	return d
}

func (c *chance) administer() domain.Command {
	budgets := c.state().Budgets
	var budget domain.BudgetID = "none"
	if len(budgets) > 0 {
		budget = budgets[c.IntN(len(budgets))].ID
	}
	switch c.IntN(6) {
	case 0:
		return domain.RetireBudget{ID: budget, Actor: "admin"}
	case 1:
		return domain.RaiseBudget{ID: budget, By: domain.Amount(c.IntN(30)), Until: c.now.Add(time.Duration(c.IntN(100)) * time.Second), Reason: "launch", Actor: "admin"}
	case 2:
		return domain.SuspendKey{ID: "k1", Actor: "admin"}
	case 3:
		return domain.ResumeKey{ID: "k1", Actor: "admin"}
	case 4:
		return domain.RotateKey{ID: "k1", Hash: fmt.Sprint("h", newID()), Prefix: "bgk_", Grace: time.Hour, Actor: "admin"}
	}
	return domain.Age{}
}

// TestWhateverIsDoneTheTablesAreTheEvents does random things and compares, after each, what a cold load, the
// cached state and the fold of the events say, and lets Verify look for broken laws.
func TestWhateverIsDoneTheTablesAreTheEvents(t *testing.T) {
	t.Parallel()
	const steps = 250
	url, jump := timeMachine(t, testenv.Database(t))
	l, other, s := openLedger(t, url), openLedger(t, url), openStore(t, url)
	tenant := fresh(t, l, 2000)
	do(t, l, tenant, domain.IssueKey{ID: "k1", Prefix: "bgk_", Hash: string("h" + newID()), Actor: "admin"})
	seed := uint64(time.Now().UnixNano())
	c := &chance{jump: jump, now: time.Now(), Rand: rand.New(rand.NewPCG(seed, 1)), state: func() domain.State { //nolint:forbidigo // as above
		state, err := s.State(within(t), tenant)
		if err != nil {
			t.Fatal(err)
		}
		return state
	}}
	kinds := map[string]int{}
	for i := range steps {
		ledger := []*eventstore.Ledger{l, l, l, other}[c.IntN(4)] // two gateways, so that caches go stale
		command := c.command()
		if c.late { // nothing stays open for days
			c.late = false
			for _, id := range c.open {
				if _, err := ledger.Do(within(t), tenant, domain.Expire{Reservation: id}); err != nil && !refusal(err) {
					t.Fatal(err)
				}
			}
		}
		records, err := ledger.Do(within(t), tenant, command)
		if err != nil && !refusal(err) {
			t.Fatalf("seed %d, step %d: %T %+v: %v", seed, i, command, command, err)
		}
		for _, r := range records {
			kinds[string(domain.TypeOf(r.Event))]++
		}
		c.open = slices.Sorted(maps.Keys(c.state().Open))
		agree(t, ledger, s, tenant)
		if i%50 == 49 {
			verified(t, url)
		}
		if t.Failed() {
			t.Fatalf("seed %d, step %d: %T %+v", seed, i, command, command)
		}
	}
	t.Logf("seed %d: %v", seed, kinds)
}

// refusal tells whether an error is a decision, and not a failure.
func refusal(err error) bool {
	for _, kind := range []error{
		domain.ErrInvalid, domain.ErrBudgetExceeded, domain.ErrReservationUnknown, domain.ErrReservationExists, domain.ErrKeyUnusable, domain.ErrBudgetUnknown,
		domain.ErrIdempotencyInProgress, domain.ErrIdempotencyCompleted, domain.ErrIdempotencyMismatch, domain.ErrAmount,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}
