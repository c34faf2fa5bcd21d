package journaltest

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

// load is what a cold load says.
func (d *desk) load() domain.State {
	d.t.Helper()
	l, unlock := d.lock()
	defer unlock()
	s, _, err := l.Load(d.t.Context(), lanes.Mark{})
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

// loads fails the test unless a cold load says what the desk knows.
func (d *desk) loads(what string) {
	d.t.Helper()
	if got, want := asText(d.t, d.load()), asText(d.t, d.state); got != want {
		d.t.Errorf("%s: loaded\n%s\nwant\n%s", what, got, want)
	}
}

// fast writes commands in one append, which must win.
func (d *desk) fast(commands ...domain.Command) {
	d.t.Helper()
	a, after := d.decide(d.now(), commands...)
	d.wins(a)
	d.moved(a, after)
}

// presumption is what the lock says a closed reservation was charged.
func (d *desk) presumption(id domain.ReservationID) (domain.Presumption, bool) {
	d.t.Helper()
	l, unlock := d.lock()
	defer unlock()
	d.state.ForgetPresumption(id)
	if err := l.Presumption(d.t.Context(), &d.state, id); err != nil {
		d.t.Fatal(err)
	}
	p, ok := d.state.Presumed[id]
	return p, ok
}

// attempt is what the lock says of an idempotency key.
func (d *desk) attempt(key string) (domain.Attempt, bool) {
	d.t.Helper()
	l, unlock := d.lock()
	defer unlock()
	s, of := domain.NewState(d.tenant), domain.AttemptKey{Idempotency: key}
	if err := l.Attempt(d.t.Context(), &s, of); err != nil {
		d.t.Fatal(err)
	}
	a, ok := s.Attempts[of]
	return a, ok
}

func keyed(key string, amount domain.Amount) domain.Reserve {
	r := reserve(amount)
	r.Idempotency, r.Fingerprint = key, "f"
	return r
}

func extensions(t *testing.T, b *bench) {
	t.Helper()
	d := b.desk(t)
	id := d.open().Reservation
	d.fast(domain.Extend{Reservation: id, Add: 5})
	d.fast(domain.Extend{Reservation: id, Add: 1}, domain.Extend{Reservation: id, Add: 4, TTL: time.Hour}) // the last one counts
	d.loads("extended twice in one append")
	if r := d.load().Open[id]; r.Amount != 20 || !r.ExpiresAt.After(d.now().Add(30*time.Minute)) {
		t.Errorf("the hold is %d until %s", r.Amount, r.ExpiresAt)
	}
	r := reserve(3)
	d.fast(r, domain.Extend{Reservation: r.Reservation, Add: 4})
	d.loads("reserved and extended in one append")
	d.fast(domain.Extend{Reservation: id, Add: 2}, domain.SettlePresumed{Reservation: id})
	if p, ok := d.presumption(id); !ok || p.Amount != 22 || p.Charged != 22 {
		t.Errorf("presumed %t: %d of %d", ok, p.Charged, p.Amount)
	}
	of, account := d.open(), d.account()
	wrong := domain.ReservationExtended{
		Request: of.Request, ReservedAt: of.At, Added: 1, Amount: 8, ExpiresAt: of.ExpiresAt,
		Postings: []domain.Posting{{Account: account.ID, Budget: account.Budget, Limit: account.Limit, Settled: 22, Presumed: 22, Held: 8}},
	}
	for what, spoil := range map[string]func(*domain.ReservationExtended){
		"a hold that is closed":    func(e *domain.ReservationExtended) { e.Reservation = id },
		"a hold that is not there": func(e *domain.ReservationExtended) { e.Reservation = reserve(1).Reservation },
		"no UUID":                  func(e *domain.ReservationExtended) { e.Reservation = "x" },
		"more than the limit":      func(e *domain.ReservationExtended) { e.Postings[0].Held = 79 },
	} {
		e := wrong
		e.Postings = slices.Clone(wrong.Postings)
		spoil(&e)
		if _, err := d.write(d.follow(e)); !lanes.RefusedForGood(err) {
			t.Errorf("extending %s: %v; want a refusal for good", what, err)
		}
	}
	d.unchanged("after wrong extensions")
}

func releases(t *testing.T, b *bench) {
	t.Helper()
	d := b.desk(t)
	id := d.open().Reservation
	d.fast(domain.Release{Reservation: id, Reason: domain.ReleasedNotSent})
	if p, ok := d.presumption(id); !ok || !p.Released || p.Charged != 0 || p.Amount != 10 {
		t.Errorf("released: %t, %+v", ok, p)
	}
	d.locked(domain.Settle{Reservation: id, Charged: 3, Basis: domain.BasisProvider})
	if _, ok := d.presumption(id); ok || d.account().Settled != 3 {
		t.Errorf("evidence leaves it presumed %t, with %d settled", ok, d.account().Settled)
	}
	r := reserve(5) // all in one append
	d.fast(r, domain.Release{Reservation: r.Reservation, Reason: domain.ReleasedNotSent}, domain.Settle{Reservation: r.Reservation, Charged: 5, Basis: domain.BasisProvider})
	if _, ok := d.presumption(r.Reservation); ok || d.account().Settled != 8 {
		t.Errorf("released and billed in one append: presumed %t, %d settled", ok, d.account().Settled)
	}
	d.loads("after releases")
}

func attempts(t *testing.T, b *bench) {
	t.Helper()
	d, other := b.desk(t), b.desk(t)
	if _, ok := d.attempt("k"); ok {
		t.Error("a key that nobody used was used")
	}
	first := keyed("k", 5)
	blind, _ := d.decide(d.now(), keyed("k", 6)) // by a gateway that does not know
	d.fast(first)
	d.loads("a key is held")
	if a, ok := d.attempt("k"); !ok || a.State != domain.AttemptHeld || a.Reservation != first.Reservation || a.Fingerprint != "f" || a.Version != d.state.Version {
		t.Errorf("held: %t, %+v", ok, a)
	}
	blind.Expected, blind.Prev = d.state.Version, d.hash // of the key alone it knows nothing
	for i := range blind.Records {
		blind.Records[i].Version = blind.Expected + int64(i) + 1
		if e, ok := blind.Records[i].Event.(domain.UsageReserved); ok {
			e.Postings[0].Held += 5
		}
	}
	d.link(&blind)
	neighbour, after := other.decide(other.now(), keyed("k", 5)) // another tenant's key
	if won, err := d.write(blind, neighbour); err != nil || !slices.Equal(won, []domain.TenantID{other.tenant}) {
		t.Errorf("a key that was used, beside one that was not: won %v, %v", won, err)
	}
	other.moved(neighbour, after)
	l, unlock := d.lock()
	if won, err := l.Append(t.Context(), blind, d.state); err != nil || won {
		t.Errorf("a key that was used, under the lock: won %t, %v", won, err)
	}
	unlock()
	d.fast(domain.Settle{Reservation: first.Reservation, Charged: 4, Basis: domain.BasisProvider})
	if a, ok := d.attempt("k"); !ok || a.State != domain.AttemptSettled || a.Charged != 4 || a.Version == 0 {
		t.Errorf("settled: %t, %+v", ok, a)
	}
	d.givenBack()
	d.locked(domain.Adjust{Delta: 2, Reason: "r", Idempotency: "k"}) // a scope of its own
	if a, ok := d.attempt("k"); !ok || a.Reservation != first.Reservation {
		t.Errorf("after an adjustment: %t, %+v", ok, a)
	}
	d.loads("after keys")
}

// givenBack holds and gives back keys.
func (d *desk) givenBack() {
	d.t.Helper()
	r, again := keyed("g", 3), keyed("g", 3)
	d.fast(r)
	d.fast(domain.Release{Reservation: r.Reservation, Reason: domain.ReleasedNotSent})
	if a, ok := d.attempt("g"); ok {
		d.t.Errorf("given back: %+v", a)
	}
	d.fast(again, domain.Release{Reservation: again.Reservation, Reason: domain.ReleasedNotSent}, keyed("g", 2)) // twice in one append
	if a, ok := d.attempt("g"); !ok || a.State != domain.AttemptHeld {
		d.t.Errorf("given back and taken in one append: %t, %+v", ok, a)
	}
	if _, ok := d.presumption(r.Reservation); !ok {
		d.t.Error("no presumption of what was released")
	}
	d.locked(domain.Settle{Reservation: r.Reservation, Charged: 1, Basis: domain.BasisProvider}) // the key is another's by now
	if a, ok := d.attempt("g"); !ok || a.State != domain.AttemptHeld || a.Reservation == r.Reservation {
		d.t.Errorf("evidence for the request that gave its key back: %t, %+v", ok, a)
	}
}

// attemptLife has a charge say that its reservation was made eight days ago, which only an event can.
func attemptLife(t *testing.T, b *bench) {
	t.Helper()
	d := b.desk(t)
	long := d.now().Add(-domain.AttemptLife - time.Hour)
	use := func(key string, basis domain.Basis) domain.Reservation {
		r := keyed(key, 5)
		d.fast(r)
		of, account := d.state.Open[r.Reservation], d.account()
		e := domain.UsageSettled{
			Request: of.Request, ReservedAt: long, Reserved: of.Amount, Charged: 5, Basis: basis,
			Postings: []domain.Posting{{Account: account.ID, Budget: account.Budget, Limit: account.Limit, Held: account.Held - 5, Settled: account.Settled + 5, Presumed: account.Presumed}},
		}
		if basis == domain.BasisPresumed {
			e.Postings[0].Presumed += 5
		}
		a := d.follow(e)
		d.wins(a)
		d.moved(a, domain.Evolve(d.state, a.Records[0]))
		d.state.ForgetClosed() // as a gateway does
		return of
	}
	use("old", domain.BasisProvider)
	again := keyed("old", 2)
	d.fast(again)
	if a, ok := d.attempt("old"); !ok || a.Reservation != again.Reservation || a.State != domain.AttemptHeld {
		t.Errorf("a key whose life is over: %t, %+v", ok, a)
	}
	// What the key paid for is corrected in the turn that uses it anew.
	of := use("late", domain.BasisPresumed)
	account := d.account()
	p := domain.Posting{Account: account.ID, Budget: account.Budget, Limit: account.Limit, Held: account.Held, Settled: account.Settled - 1, Presumed: account.Presumed - 5}
	late := domain.UsageSettledLate{
		Request: of.Request, ReservedAt: long, WasCharged: 5, Charged: 4, Delta: -1, Basis: domain.BasisProvider, Postings: []domain.Posting{p},
	}
	anew := keyed("late", 2)
	p.Held += 2
	a := d.follow(late, domain.UsageReserved{Request: anew.Request, Amount: 2, ExpiresAt: d.now().Add(time.Minute), Postings: []domain.Posting{p}})
	d.wins(a)
	d.moved(a, domain.Evolve(domain.Evolve(d.state, a.Records[0]), a.Records[1]))
	if a, ok := d.attempt("late"); !ok || a.Reservation != anew.Reservation || a.State != domain.AttemptHeld {
		t.Errorf("a key whose life is over, in the turn that corrects it: %t, %+v", ok, a)
	}
	d.loads("after keys whose life is over")
	d.overtaken(long)
}

// overtaken closes a reservation that outlived its key, which pays for another one by now, and uses the key anew.
func (d *desk) overtaken(long time.Time) {
	d.t.Helper()
	newer, outlived := keyed("two", 5), reserve(1)
	d.fast(newer, outlived)
	of, account := d.state.Open[outlived.Reservation], d.account()
	of.Idempotency, of.Fingerprint = "two", "f"
	p := domain.Posting{Account: account.ID, Budget: account.Budget, Limit: account.Limit, Held: account.Held - 1, Settled: account.Settled, Presumed: account.Presumed}
	then, again := p, keyed("two", 2)
	then.Held += 2
	anew := domain.UsageReserved{Request: again.Request, Amount: 2, ExpiresAt: d.now().Add(time.Minute), Postings: []domain.Posting{then}}
	for what, end := range map[string]domain.Event{
		"settled":  domain.UsageSettled{Request: of.Request, ReservedAt: long, Reserved: 1, Basis: domain.BasisProvider, Postings: []domain.Posting{p}},
		"released": domain.ReservationReleased{Request: of.Request, ReservedAt: long, Reserved: 1, Reason: domain.ReleasedNotSent, Postings: []domain.Posting{p}},
	} {
		d.loses(what+" in the turn that uses its key anew", d.follow(end, anew))
	}
	l, unlock := d.lock()
	defer unlock()
	s, key := domain.NewState(d.tenant), domain.AttemptKey{Idempotency: "two"}
	s.AdoptAttempt(domain.Attempt{AttemptKey: key, Reservation: outlived.Reservation, At: long, State: domain.AttemptHeld})
	if err := l.Attempt(d.t.Context(), &s, key); err != nil || s.Attempts[key].Reservation != newer.Reservation {
		d.t.Errorf("the key of a reservation that outlived it: %+v, %v", s.Attempts[key], err)
	}
}

func rolling(t *testing.T, b *bench) {
	t.Helper()
	d := b.empty(t)
	d.locked(domain.CreateTenant{Name: "ACME", Actor: "test"})
	d.locked(domain.DefineBudget{
		ID: "day", Period: domain.Rolling, Span: domain.Span{Duration: domain.Length(24 * time.Hour)}, Limit: 100,
		AlertsAt: []domain.Threshold{50_000}, Source: domain.SourceAdmin, Actor: "test",
	})
	d.locked(reserve(10))
	d.loads("a rolling account without parts")
	first := d.open()
	d.fast(domain.SettlePresumed{Reservation: first.Reservation})
	d.loads("a rolling account with a part")
	if a := d.account(); len(a.Buckets) != 1 || a.Buckets[0].Settled != 10 || len(a.Crossed) != 1 {
		t.Fatalf("the account is %+v", a)
	}
	for what, spoil := range map[string]func(*domain.Account){
		"parts that are less than the sum":    func(a *domain.Account) { a.Buckets[0].Settled-- },
		"parts that are presumed differently": func(a *domain.Account) { a.Buckets[0].Presumed-- },
		"no parts":                            func(a *domain.Account) { a.Buckets = nil },
	} {
		a, _ := d.decide(d.now(), reserve(1))
		a.Rolling[0].Buckets = slices.Clone(a.Rolling[0].Buckets)
		spoil(&a.Rolling[0])
		if _, err := d.write(a); !lanes.RefusedForGood(err) {
			t.Errorf("%s: %v; want a refusal for good", what, err)
		}
	}
	d.unchanged("after wrong parts")
	// All of it leaves the window.
	account := d.account()
	slid := domain.WindowSlid{
		Account: account.ID, Budget: account.Budget, Aged: 10, Oldest: account.Buckets[0].Number + 1,
		Postings: []domain.Posting{{Account: account.ID, Budget: account.Budget, Limit: account.Limit}},
	}
	a := d.follow(slid)
	after := domain.Evolve(d.state.Clone(), a.Records[0])
	a.Rolling = []domain.Account{*after.Accounts[account.ID]}
	d.wins(a)
	d.moved(a, after)
	d.loads("after a slide, which takes thresholds away too")
	d.locked(domain.Settle{Reservation: first.Reservation, Charged: 1, Basis: domain.BasisProvider}) // too late to count
	d.loads("after late evidence for what has left")
}

func adoption(t *testing.T, b *bench) {
	t.Helper()
	d := b.desk(t)
	open, presumed, gone := d.open().Reservation, reserve(5), reserve(6)
	d.fast(presumed, gone)
	d.fast(domain.SettlePresumed{Reservation: presumed.Reservation}, domain.Settle{Reservation: gone.Reservation, Charged: 6, Basis: domain.BasisProvider})
	d.state.ForgetClosed()
	d.locked(domain.DefineBudget{
		ID: "year", Period: domain.Yearly, Limit: 1000, AlertsAt: []domain.Threshold{1000}, Source: domain.SourceAdmin, Actor: "test",
	})
	d.loads("a budget that came later")
	year := d.state.Accounts[d.state.Current["year"]]
	if year == nil || year.Held != 10 || year.Settled != 11 || year.Presumed != 5 || len(year.Crossed) != 1 {
		t.Fatalf("the new budget begins with %+v", year)
	}
	if p, _ := d.presumption(presumed.Reservation); len(p.Accounts) != 2 {
		t.Errorf("what was presumed counts in %v", p.Accounts)
	}
	d.locked(domain.Settle{Reservation: presumed.Reservation, Charged: 1, Basis: domain.BasisProvider})
	d.fast(domain.Settle{Reservation: open, Charged: 2, Basis: domain.BasisProvider})
	d.loads("what was adopted is closed")
	for id, a := range d.state.Accounts {
		if a.Held != 0 || a.Settled != 9 || a.Presumed != 0 {
			t.Errorf("account %d: %+v", id, a)
		}
	}
}

func past(t *testing.T, b *bench) {
	t.Helper()
	d := b.desk(t)
	d.locked(domain.IssueKey{ID: "key", Hash: uuid.NewString(), Actor: "test"})
	id := d.open().Reservation
	tagged, other := reserve(5), reserve(6)
	tagged.Tags, tagged.KeyID, other.Model = map[string]string{"team": "a"}, "key", "n"
	d.fast(tagged, other)
	d.fast(domain.Settle{Reservation: tagged.Reservation, Charged: 5, Basis: domain.BasisProvider}, domain.SettlePresumed{Reservation: other.Reservation})
	d.fast(domain.Release{Reservation: id, Reason: domain.ReleasedNotSent})
	d.state.ForgetClosed()
	d.locked(domain.Adjust{Delta: -2, Reason: "r", Reservation: "", Idempotency: "a"})
	now := d.now()
	whole := domain.Window{Start: now.Add(-time.Hour), End: now.Add(time.Hour)}
	for _, c := range []struct {
		scope  domain.Scope
		window domain.Window
		want   domain.Amount
	}{
		{domain.Scope{}, whole, 9},
		{domain.Scope{APIKey: "key"}, whole, 5},
		{domain.Scope{APIKey: "none"}, whole, 0},
		{domain.Scope{Model: "n"}, whole, 6},
		{domain.Scope{Model: "m"}, whole, 5},
		{domain.Scope{Tag: "team"}, whole, 5},
		{domain.Scope{Tag: "team=a"}, whole, 5},
		{domain.Scope{Tag: "team=b"}, whole, 0},
		{domain.Scope{}, domain.Window{Start: now.Add(-time.Hour), End: now.Add(-time.Minute)}, 0},
	} {
		for _, length := range []domain.Length{0, domain.Length(time.Hour)} {
			l, unlock := d.lock()
			s := d.state.Clone()
			answer, err := l.Past(t.Context(), &s, domain.Past{Scope: c.scope, Window: c.window, Duration: length})
			unlock()
			var got domain.Amount
			for _, part := range answer.Spent {
				got += part.Settled
			}
			if err != nil || got != c.want {
				t.Errorf("%s in %s: %d, %v; want %d", c.scope, c.window, got, err, c.want)
			}
			for r, told := range map[domain.ReservationID]bool{other.Reservation: c.window.Contains(now) && c.scope.Matches(other.Request), id: false} {
				if _, ok := s.Presumed[r]; ok != told {
					t.Errorf("%s in %s: presumption %t", c.scope, c.window, ok)
				}
			}
		}
	}
}

func closed(t *testing.T, b *bench) {
	t.Helper()
	d := b.desk(t)
	open := d.open().Reservation
	settled, presumed, released := reserve(5), reserve(6), reserve(7)
	d.fast(settled, presumed, released)
	d.fast(domain.Settle{Reservation: settled.Reservation, Charged: 3, Basis: domain.BasisProvider}, domain.SettlePresumed{Reservation: presumed.Reservation},
		domain.Release{Reservation: released.Reservation, Reason: domain.ReleasedNotSent})
	d.state.ForgetClosed()
	asked := func(id domain.ReservationID) (isClosed, isPresumed bool) {
		t.Helper()
		l, unlock := d.lock()
		defer unlock()
		d.state.ForgetClosed()
		if err := l.Closed(t.Context(), &d.state, id); err != nil {
			t.Fatalf("closed %s: %v", id, err)
		}
		r, isClosed := d.state.Closed[id]
		if isClosed && (r.Reservation != id || len(r.Accounts) != 1 || r.At.IsZero()) {
			t.Errorf("closed: %+v", r)
		}
		_, isPresumed = d.state.Presumed[id]
		return isClosed, isPresumed
	}
	for _, c := range []struct {
		id                     domain.ReservationID
		wantClosed, wantPresum bool
	}{
		{settled.Reservation, true, false},
		{presumed.Reservation, false, true},
		{released.Reservation, false, true},
		{open, false, false},
		{reserve(1).Reservation, false, false},
		{"x", false, false},
	} {
		if is, presumption := asked(c.id); is != c.wantClosed || presumption != c.wantPresum {
			t.Errorf("%s is closed %t, presumed %t; want %t, %t", c.id, is, presumption, c.wantClosed, c.wantPresum)
		}
	}
	for i, id := range []domain.ReservationID{settled.Reservation, presumed.Reservation} {
		asked(id)
		d.locked(domain.Adjust{Delta: 1, Reason: "r", Reservation: id, Idempotency: string(rune('a' + i))})
		d.state.ForgetClosed()
		if is, presumption := asked(id); !is || presumption {
			t.Errorf("after an adjustment %s is closed %t, presumed %t", id, is, presumption)
		}
	}
	d.loads("after adjustments")
	if a := d.account(); a.Settled != 11 || a.Presumed != 0 {
		t.Errorf("the account is %+v", a)
	}
}

func definitions(t *testing.T, b *bench) {
	t.Helper()
	d := b.desk(t)
	d.locked(domain.IssueKey{ID: "key", Hash: uuid.NewString(), Tags: map[string]string{"a": "b"}, RequiredTags: []string{"team"}, Models: []string{"m"}, Actor: "test"})
	d.locked(domain.SuspendKey{ID: "key", Actor: "test"})
	d.locked(domain.RotateKey{ID: "key", Hash: uuid.NewString(), Prefix: "p", Grace: time.Hour, Actor: "test"})
	for _, c := range []domain.DefineBudget{
		{ID: "rolling", Period: domain.Rolling, Span: domain.Span{Duration: domain.Length(time.Hour)}, Scope: domain.Scope{APIKey: "key"}},
		{ID: "custom", Period: domain.Custom, Span: domain.Span{StartDate: "2020-01-01", EndDate: "2090-01-01"}, Scope: domain.Scope{Model: "m"}},
		{ID: "anchored", Period: domain.Monthly, Span: domain.Span{AnchorDay: 31}, Scope: domain.Scope{Tag: "team=a"}},
		{ID: "week", Period: domain.Weekly, Span: domain.Span{WeekStart: "sunday"}},
	} {
		c.Limit, c.Source, c.Actor = 100, domain.SourceAdmin, "test"
		d.locked(c)
		d.loads("defined " + string(c.ID))
	}
	d.locked(domain.RaiseBudget{ID: "week", By: 50, Until: d.now().Add(time.Hour), Actor: "test"})
	d.locked(domain.RaiseBudget{ID: "week", By: 5, Actor: "test"})
	d.loads("raised")
	d.locked(domain.ResumeKey{ID: "key", Actor: "test"})
	d.locked(domain.RetireBudget{ID: "month", Actor: "test"})
	d.loads("retired")
	l, unlock := d.lock()
	defer unlock()
	again := domain.DefineBudget{ID: "month", Period: domain.Quarterly, Limit: 100, Source: domain.SourceAdmin, Actor: "test"}
	a, after := d.decideUnder(l, l.Head().Sample.At, again)
	if _, err := l.Append(t.Context(), a, after); !lanes.RefusedForGood(err) {
		t.Errorf("a budget with the id of one that had windows: %v; want a refusal for good", err)
	}
}

func thresholds(t *testing.T, b *bench) {
	t.Helper()
	d := b.empty(t)
	d.locked(domain.CreateTenant{Name: "ACME", Actor: "test"})
	d.locked(domain.DefineBudget{
		ID: "month", Period: domain.Monthly, Limit: 100, AlertsAt: []domain.Threshold{100_000, 200_000, 500_000}, Source: domain.SourceAdmin, Actor: "test",
	})
	r := reserve(10)
	d.fast(r, domain.Settle{Reservation: r.Reservation, Charged: 10, Basis: domain.BasisProvider}) // opened, posted to and crossed at once
	d.loads("one threshold")
	r = reserve(15)
	d.fast(r)
	d.fast(domain.Settle{Reservation: r.Reservation, Charged: 15, Basis: domain.BasisProvider})
	d.loads("two thresholds")
	d.locked(domain.DefineBudget{
		Period: domain.Monthly, Limit: 50, AlertsAt: []domain.Threshold{100_000, 200_000, 500_000}, Source: domain.SourceAdmin, Actor: "test",
	})
	d.loads("the limit falls")
	if a := d.account(); len(a.Crossed) != 3 {
		t.Errorf("crossed %v", a.Crossed)
	}
}
