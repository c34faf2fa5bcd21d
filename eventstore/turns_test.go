package eventstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// stepped is a ledger on Postgres whose turns the test carries out: what it submits between two calls of
// turns is decided and written together.
type stepped struct {
	*lanes.Ledger
	t     *testing.T
	store *eventstore.Store
	done  []lanes.Turned
}

func newStepped(t *testing.T, url string) *stepped {
	t.Helper()
	s := &stepped{t: t, store: openStore(t, url)}
	journal, err := eventstore.OpenJournal(t.Context(), url, wall)
	if err != nil {
		t.Fatal(err)
	}
	s.Ledger = lanes.New(journal, lanes.Config{
		Now: wall, Turned: func(d lanes.Turned) { s.done = append(s.done, d) }, After: func(_ time.Duration, then func()) { then() },
	})
	t.Cleanup(func() {
		if err := s.Close(within(t)); err != nil {
			t.Error(err)
		}
	})
	return s
}

// submit queues a command that must succeed. The function it returns says what became of it.
func (s *stepped) submit(tenant domain.TenantID, c domain.Command) (events func() []domain.Recorded) {
	s.t.Helper()
	p, err := s.Submit(tenant, c)
	if err != nil {
		s.t.Fatal(err)
	}
	return func() []domain.Recorded {
		s.t.Helper()
		records, done, err := p.Poll()
		if !done || err != nil {
			s.t.Fatalf("%T: answered %v, %v", c, done, err)
		}
		return records
	}
}

// turns carries out all that is due and says what turns that were.
func (s *stepped) turns() []lanes.Turned {
	s.done = nil
	for s.StepFast(s.t.Context()) || s.StepLocked(s.t.Context()) {
	}
	return s.done
}

// all carries out commands of one tenant in one turn.
func (s *stepped) all(tenant domain.TenantID, commands ...domain.Command) {
	s.t.Helper()
	var events []func() []domain.Recorded
	for _, c := range commands {
		events = append(events, s.submit(tenant, c))
	}
	if turns := s.turns(); len(turns) != 1 {
		s.t.Fatalf("%d turns: %+v", len(turns), turns)
	}
	for _, answered := range events {
		answered()
	}
	agree(s.t, s.Ledger, s.store, tenant)
}

func TestTenantsOfOneTurnKeepTheirOwnAccounts(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := newStepped(t, url)
	suffix := uuid.NewString()[:8]
	one, two := domain.TenantID("a-"+suffix), domain.TenantID("b-"+suffix)
	of := func(model string) domain.Reserve {
		r := reserve(10)
		r.Model = model
		return r
	}
	for i, tenant := range []domain.TenantID{one, two} { // their accounts have the same numbers
		l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
		for _, model := range []string{"gpt-4", "gpt-3.5-turbo"} {
			l.all(tenant, domain.DefineBudget{
				ID: domain.BudgetID(model), Period: domain.Rolling, Span: domain.Span{Duration: domain.Length(time.Hour)}, Limit: 100,
				Scope: domain.Scope{Model: model}, AlertsAt: []domain.Threshold{250_000, 500_000}, Source: domain.SourceAdmin, Actor: "admin",
			})
			r := of(model)
			l.all(tenant, r)
			l.all(tenant, settle(r.Reservation, domain.Amount(11+30*i)))
		}
	}
	var answers []func() []domain.Recorded
	for range 2 { // the last posting of an account counts
		answers = append(answers, l.submit(one, of("gpt-4")), l.submit(two, of("gpt-3.5-turbo")))
	}
	if turns := l.turns(); len(turns) != 1 || turns[0].Tenants != 2 || turns[0].Locked {
		t.Fatalf("not one turn of the fast lane: %+v", turns)
	}
	for _, answer := range answers {
		answer()
	}
	for _, tenant := range []domain.TenantID{one, two} {
		agree(t, l.Ledger, l.store, tenant)
	}
	verified(t, url)
}

func TestReservationsOfOneTurnKeepTheirOwnRows(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := newStepped(t, url)
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	l.all(tenant, domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: 1000, Source: domain.SourceAdmin, Actor: "admin"})
	one, two := reserve(10), reserve(20)
	l.all(tenant, one, two)
	extend := func(r domain.Reserve, add domain.Amount) domain.Command {
		return domain.Extend{Reservation: r.Reservation, Add: add, TTL: time.Duration(add) * time.Hour}
	}
	l.all(tenant, extend(one, 1), extend(two, 2), extend(one, 4)) // the last of each counts
	presume := func(r domain.Reserve) domain.Command {
		return domain.SettlePresumed{Reservation: r.Reservation, Reason: "cut"}
	}
	l.all(tenant, presume(one), presume(two))
	still := func(r domain.Reserve, charged domain.Amount) domain.Command {
		late := settle(r.Reservation, charged)
		late.Basis = domain.BasisPresumed
		return late
	}
	l.all(tenant, still(one, 3), still(two, 5), still(one, 4))
	verified(t, url)
	l.all(tenant, still(one, 2), settle(two.Reservation, 7), settle(one.Reservation, 6))
	verified(t, url)
}

func TestReservationsOfOneIDInOneTurnKeepTheirTenants(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := newStepped(t, url)
	suffix := uuid.NewString()[:8]
	tenants, r := []domain.TenantID{domain.TenantID("a-" + suffix), domain.TenantID("b-" + suffix)}, reserve(10)
	for _, tenant := range tenants {
		l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
		l.all(tenant, domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: 1000, Source: domain.SourceAdmin, Actor: "admin"})
		l.all(tenant, r)
	}
	for i, tenant := range tenants {
		l.submit(tenant, domain.Extend{Reservation: r.Reservation, Add: domain.Amount(i + 1), TTL: time.Hour})
	}
	if turns := l.turns(); len(turns) != 1 || turns[0].Tenants != 2 || turns[0].Locked {
		t.Fatalf("not one turn of the fast lane: %+v", turns)
	}
	for _, tenant := range tenants {
		agree(t, l.Ledger, l.store, tenant)
	}
	verified(t, url)
}

func TestAnOverrunOfATurnIsForcedWhateverFollowsIt(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := newStepped(t, url)
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	l.all(tenant, domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: 100, Source: domain.SourceAdmin, Actor: "admin"})
	more, less := reserve(60), reserve(40)
	l.all(tenant, more, less)
	l.all(tenant, settle(more.Reservation, 100), settle(less.Reservation, 10))
	verified(t, url)
}

func TestABudgetThatBeginsBeyondItsThresholdSaysSo(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := newStepped(t, url)
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	r := reserve(60)
	l.all(tenant, r)
	l.all(tenant, settle(r.Reservation, 60))
	l.all(tenant, domain.DefineBudget{
		ID: "month", Period: domain.Monthly, Limit: 100, AlertsAt: []domain.Threshold{500_000}, Source: domain.SourceAdmin, Actor: "admin",
	})
	verified(t, url)
}

func TestAKeyThatIsGivenBackIsTakenAgainInTheSameTurn(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := newStepped(t, url)
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	l.all(tenant, domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: 100, Source: domain.SourceAdmin, Actor: "admin"})
	first, again := reserve(10), reserve(10)
	first.Idempotency, first.Fingerprint = "once", "f"
	again.Idempotency, again.Fingerprint = "once", "f"
	l.all(tenant, first)
	l.all(tenant, domain.Release{Reservation: first.Reservation, Reason: domain.ReleasedNotSent}, again)
	verified(t, url)
}

func TestARequestThatIsGivenBackAndChargedInOneTurnHasItsKeyAgain(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := newStepped(t, url)
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	l.all(tenant, domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: 1000, Source: domain.SourceAdmin, Actor: "admin"})
	for i, back := range []string{domain.ReleasedNotSent, domain.ReleasedNeverDispatched} {
		r := reserve(10)
		r.Idempotency, r.Fingerprint = fmt.Sprint("once", i), "f"
		l.all(tenant, r)
		l.all(tenant, domain.Release{Reservation: r.Reservation, Reason: back}, settle(r.Reservation, 7))
		verified(t, url)
	}
}

func TestARequestThatIsMadeAndChargedTwiceInOneTurnHasOneKey(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := newStepped(t, url)
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	l.all(tenant, domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: 1000, Source: domain.SourceAdmin, Actor: "admin"})
	r := reserve(10)
	r.Idempotency, r.Fingerprint = "once", "f"
	l.all(tenant, r, domain.SettlePresumed{Reservation: r.Reservation, Reason: "cut"}, settle(r.Reservation, 7))
	verified(t, url)
}

func TestABudgetThatIsRetiredIsTheSameColdAndWarm(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := newStepped(t, url)
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	for _, id := range []domain.BudgetID{"month", "other"} {
		l.all(tenant, domain.DefineBudget{ID: id, Period: domain.Monthly, Limit: 1000, Source: domain.SourceAdmin, Actor: "admin"})
	}
	r := reserve(10)
	l.all(tenant, r)
	l.all(tenant, domain.RetireBudget{ID: "month", Actor: "admin"}) // the hold still counts in its window
	newStepped(t, url).all(tenant, settle(r.Reservation, 7))
	verified(t, url)
}

func TestABudgetThatComesLaterKnowsWhatTheProjectionHasAndWhatItLacks(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := newStepped(t, url)
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	l.all(tenant, domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: 1000, Source: domain.SourceAdmin, Actor: "admin"})
	for _, charged := range []domain.Amount{7, 5} {
		r := reserve(10)
		l.all(tenant, r)
		l.all(tenant, settle(r.Reservation, charged))
		if charged == 7 {
			execAs(
				t, url, `insert into usage_row select tenant_id, version, ts, ts, 'settled', '/v1/chat/completions', 'gpt-4', null, '`+string(r.Reservation)+`',
					7, 10, 10, 20, '{}' from event where type = 'usage.settled' and tenant_id = '`+string(tenant)+`'`,
				`insert into projection_cursor select 'usage', tenant_id, version from usage_row where tenant_id = '`+string(tenant)+`'`,
			)
		}
	}
	for id, span := range map[domain.BudgetID]domain.Span{"total": {}, "hour": {Duration: domain.Length(time.Hour)}} {
		d := domain.DefineBudget{
			ID: id, Period: domain.Total, Span: span, Limit: 1000, Scope: domain.Scope{Model: "gpt-4"}, Source: domain.SourceAdmin, Actor: "admin",
		}
		if span.Duration != 0 {
			d.Period = domain.Rolling
		}
		l.all(tenant, d)
	}
	state, err := l.store.State(within(t), tenant)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range state.Balances(state.LastTime) {
		if b.Settled != 12 {
			t.Errorf("budget %s knows of %d", b.Budget.ID, b.Settled)
		}
	}
}

func TestABudgetDoesNotTakeOverWhatWasGivenBackUntilItCostsSomething(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := newStepped(t, url)
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	r, other := reserve(10), reserve(10)
	l.all(tenant, r)
	l.all(tenant, other)
	l.all(tenant, domain.Release{Reservation: r.Reservation, Reason: domain.ReleasedNotSent}, settle(other.Reservation, 3))
	execAs(t, url, `insert into presumption (tenant_id, reservation_id, opened, opened_ts, amount, charged, accounts, expires_at, released)
		select tenant_id, gen_random_uuid(), opened, opened_ts, amount, 0, accounts, expires_at, true from presumption, generate_series(1, 20000)`)
	l.all(tenant, domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: 1000, Source: domain.SourceAdmin, Actor: "admin"})
	l.all(tenant, settle(r.Reservation, 4))
	state, err := l.store.State(within(t), tenant)
	if err != nil {
		t.Fatal(err)
	}
	if b := state.Balances(state.LastTime)[0]; b.Settled != 7 {
		t.Errorf("the budget knows of %d", b.Settled)
	}
	execAs(t, url, `delete from presumption where reservation_id <> '`+string(r.Reservation)+`'`)
	verified(t, url)
}

func TestABudgetWhosePastTakesTooLongIsRefusedAlone(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := newStepped(t, url)
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	l.all(tenant, reserve(10))
	slow, err := openPool(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Exec(t.Context(), `lock usage_row`); err != nil {
		t.Fatal(err)
	}
	month := domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: 1000, Source: domain.SourceAdmin, Actor: "admin"}
	defined, err := l.Submit(tenant, month)
	if err != nil {
		t.Fatal(err)
	}
	reserved := l.submit(tenant, reserve(10))
	if turns := l.turns(); len(turns) != 1 {
		t.Errorf("%+v", turns)
	}
	if _, _, err := defined.Poll(); !errors.Is(err, domain.ErrUnavailable) || !strings.Contains(err.Error(), "too long") {
		t.Errorf("got %v", err)
	}
	reserved()
	if err := slow.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.all(tenant, month)
	verified(t, url)
}

func TestABudgetTakesOverThePresumptionsOfItsScope(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := newStepped(t, url)
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	l.all(tenant, domain.IssueKey{ID: "k", Prefix: "bg_", Hash: "h:" + string(tenant), Actor: "admin"})
	own := func(r domain.Reserve) domain.Reserve {
		r.KeyID, r.Model, r.Tags = "k", "small", map[string]string{"team": "a=b"}
		return r
	}
	for _, r := range []domain.Reserve{reserve(10), own(reserve(10)), own(reserve(10))} {
		l.all(tenant, r)
		l.all(tenant, domain.SettlePresumed{Reservation: r.Reservation, Reason: "cut"})
	}
	// So many others that those of the scope are not among the first.
	execAs(t, url, `insert into presumption (tenant_id, reservation_id, opened, opened_ts, amount, charged, accounts, expires_at, released)
		select tenant_id, ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, opened, opened_ts, amount, 0, accounts, expires_at, false
		from (select * from presumption where opened = 3) p, generate_series(1, 10001) n`)
	for i, scope := range []domain.Scope{{APIKey: "k"}, {Model: "small"}, {Tag: "team"}, {Tag: "team=a=b"}} {
		l.all(tenant, domain.DefineBudget{
			ID: domain.BudgetID(fmt.Sprint(i)), Period: domain.Monthly, Scope: scope, Limit: 1000, Source: domain.SourceAdmin, Actor: "admin",
		})
	}
	state, err := l.store.State(within(t), tenant)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range state.Balances(state.LastTime) {
		if b.Settled != 20 || b.Presumed != 20 {
			t.Errorf("the budget of %s knows of %d, presumed %d", b.Budget.Scope, b.Settled, b.Presumed)
		}
	}
}

func TestAKeyThatAnotherRequestHasInTheSameTurnStaysWithIt(t *testing.T) {
	t.Parallel()
	url, jump := timeMachine(t, testenv.Database(t))
	l := newStepped(t, url)
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	l.all(tenant, domain.DefineBudget{ID: "total", Period: domain.Total, Limit: 1000, Source: domain.SourceAdmin, Actor: "admin"})
	older, newer := reserve(10), reserve(20)
	older.Idempotency, older.Fingerprint = "once", "f"
	newer.Idempotency, newer.Fingerprint = "once", "g"
	l.all(tenant, older)
	jump(8 * 24 * time.Hour) // the key's life is over, the reservation's is not
	newStepped(t, url).all(tenant, newer, settle(older.Reservation, 7))
	verified(t, url)
}

func TestLateNewsOfAKeyWhoseLifeIsOverMeansNothing(t *testing.T) {
	t.Parallel()
	for name, others := range map[string]int{"while nobody forgot it": 0, "when it is forgotten": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, jump := timeMachine(t, testenv.Database(t))
			l := newStepped(t, url)
			tenant := domain.TenantID("t-" + uuid.NewString()[:8])
			l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
			older, newer := reserve(10), reserve(20)
			older.Idempotency, older.Fingerprint = "once", "f"
			newer.Idempotency, newer.Fingerprint = "once", "f"
			l.all(tenant, older)
			l.all(tenant, domain.Release{Reservation: older.Reservation, Reason: domain.ReleasedNotSent})
			l.all(tenant, newer)
			l.all(tenant, settle(newer.Reservation, 9))
			jump(8 * 24 * time.Hour)
			for range others {
				other := reserve(1)
				other.Idempotency, other.Fingerprint = "other", "f"
				newStepped(t, url).all(tenant, other)
			}
			newStepped(t, url).all(tenant, settle(older.Reservation, 7))
			verified(t, url)
		})
	}
}

func TestARefusalIsConfirmedUnderTheLock(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l, other := newStepped(t, url), newStepped(t, url)
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	l.all(tenant, domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: 100, Source: domain.SourceAdmin, Actor: "admin"})
	held := reserve(60)
	l.all(tenant, held)
	other.all(tenant, settle(held.Reservation, 5)) // there is room, and l does not know
	granted := l.submit(tenant, reserve(90))
	if turns := l.turns(); len(turns) != 1 || !turns[0].Locked {
		t.Errorf("%+v", turns)
	}
	if len(granted()) == 0 {
		t.Error("nothing was recorded")
	}
	agree(t, l.Ledger, l.store, tenant)
}

func TestEventsOfAnotherGatewayAreVerifiedBeforeTheyAreBuiltUpon(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l, other := newStepped(t, url), newStepped(t, url)
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	l.all(tenant, domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: 100, Source: domain.SourceAdmin, Actor: "admin"})
	held := reserve(60)
	l.all(tenant, held)
	other.all(tenant, settle(held.Reservation, 55))
	execAs(t, url, `update event set body = replace(body, '0.000000055', '0.000000005') where type = 'usage.settled' and tenant_id = '`+string(tenant)+`'`)
	p, err := l.Submit(tenant, reserve(90))
	if err != nil {
		t.Fatal(err)
	}
	l.turns()
	if _, done, err := p.Poll(); !done || !errors.Is(err, eventstore.ErrTampered) {
		t.Errorf("answered %v, %v", done, err)
	}
}

func TestAStreamOfOneEventIsRecognised(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	newStepped(t, url).all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	newStepped(t, url).all(tenant, domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: 100, Source: domain.SourceAdmin, Actor: "admin"})
}
