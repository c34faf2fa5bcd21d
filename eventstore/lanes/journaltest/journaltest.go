package journaltest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

// Exercise runs the suite on a journal that is empty. open makes it; the suite closes it.
func Exercise(t *testing.T, open func(testing.TB) lanes.Journal) {
	t.Helper()
	b := &bench{journal: open(t)}
	t.Cleanup(b.journal.Close)
	for _, c := range []struct {
		name string
		test func(*testing.T, *bench)
	}{
		{"an append wins where the head is as expected", appendWins},
		{"an append loses where the head moved", appendLoses},
		{"a tenant that lost leaves the others alone", mixed},
		{"what Go must not decide is refused for good", refused},
		{"force alone raises the cap", forced},
		{"a time far from the journal's is denied", skewed},
		{"presumptions come and go", presumptions},
		{"the lock reads what is there", lockReads},
		{"a rollback leaves nothing", rollback},
		{"the lock keeps others out", lockExcludes},
		{"a fence makes what was decided before it lose", fence},
		{"a fence comes before a head", fenceFirst},
		{"a hold is extended", extensions},
		{"what was released can still cost", releases},
		{"an idempotency key is used once", attempts},
		{"an idempotency key outlives what it paid for by a week", attemptLife},
		{"a rolling account has parts", rolling},
		{"a budget that comes later counts what was before", adoption},
		{"the past is told by scope and window", past},
		{"what is closed is told", closed},
		{"definitions are kept", definitions},
		{"thresholds are remembered", thresholds},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, b) })
	}
}

func appendWins(t *testing.T, b *bench) {
	t.Helper()
	d := b.desk(t)
	a, after := d.decide(d.now(), reserve(5), reserve(6))
	d.wins(a)
	d.moved(a, after)
	d.unchanged("after two reservations")
	d.loses("the same again", a)
}

func appendLoses(t *testing.T, b *bench) {
	t.Helper()
	d := b.desk(t)
	for name, spoil := range map[string]func(*lanes.Append){
		"an older version": func(a *lanes.Append) { a.Expected-- },
		"a newer version":  func(a *lanes.Append) { a.Expected++ },
		"another hash":     func(a *lanes.Append) { a.Prev[31] ^= 1 },
		"an older fence":   func(a *lanes.Append) { a.Fence-- },
		"a newer fence":    func(a *lanes.Append) { a.Fence++ },
	} {
		a, _ := d.decide(d.now(), reserve(5))
		spoil(&a)
		d.loses(name, a)
	}
	d.unchanged("after conflicts")
	none := b.empty(t)
	a, _ := none.decide(d.now(), domain.CreateTenant{Name: "x", Actor: "test"})
	none.loses("a tenant without a head, which only the locked path makes", a)
}

func mixed(t *testing.T, b *bench) {
	t.Helper()
	stale, good := b.desk(t), b.desk(t)
	old, _ := stale.decide(stale.now(), reserve(5))
	stale.locked(reserve(1))
	a, after := good.decide(good.now(), reserve(5))
	won, err := good.write(old, a)
	if err != nil || !slices.Equal(won, []domain.TenantID{good.tenant}) {
		t.Fatalf("won %v, %v; want %s alone", won, err, good.tenant)
	}
	good.moved(a, after)
	good.unchanged("the one that won")
	stale.unchanged("the one that lost")
}

// refused asks each time alone, where every tenant wins, and beside one that loses.
func refused(t *testing.T, b *bench) {
	t.Helper()
	d, stale := b.desk(t), b.desk(t)
	losing, _ := stale.decide(stale.now(), reserve(5))
	stale.locked(reserve(1))
	for name, c := range wrongs(d) {
		if _, err := d.write(c()); !lanes.RefusedForGood(err) || lanes.OutcomeUnknown(err) {
			t.Errorf("%s: %v; want a refusal for good", name, err)
		}
		if _, err := d.write(losing, c()); !lanes.RefusedForGood(err) {
			t.Errorf("%s, beside a tenant that loses: %v; want a refusal for good", name, err)
		}
		a := c()
		l, unlock := d.lock()
		if _, err := l.Append(t.Context(), a, d.state); !lanes.RefusedForGood(err) {
			t.Errorf("%s, under the lock: %v; want a refusal for good", name, err)
		}
		unlock()
		d.unchanged(name)
	}
}

// wrongs are appends that a bug of Go might make.
func wrongs(d *desk) map[string]func() lanes.Append {
	held := func(held domain.Amount) domain.UsageReserved {
		a, r := d.account(), reserve(held-10)
		return domain.UsageReserved{
			Request: r.Request, Amount: max(0, r.Amount), ExpiresAt: d.now().Add(time.Minute),
			Postings: []domain.Posting{{Account: a.ID, Budget: a.Budget, Limit: a.Limit, Held: held}},
		}
	}
	release := func(id domain.ReservationID) domain.ReservationReleased {
		of, a := d.open(), d.account()
		of.Reservation = id
		return domain.ReservationReleased{
			Request: of.Request, ReservedAt: of.At, Reserved: 10, Reason: "x",
			Postings: []domain.Posting{{Account: a.ID, Budget: a.Budget, Limit: a.Limit}},
		}
	}
	return map[string]func() lanes.Append{
		"an overspend":                     func() lanes.Append { return d.follow(held(101)) },
		"an overspend in two steps":        func() lanes.Append { return d.follow(held(60), held(101)) },
		"a balance below zero":             func() lanes.Append { return d.follow(held(-1)) },
		"closing a hold that is not there": func() lanes.Append { return d.follow(release(reserve(1).Reservation)) },
		"closing a hold twice": func() lanes.Append {
			return d.follow(release(d.open().Reservation), release(d.open().Reservation))
		},
		"opening a hold twice": func() lanes.Append {
			e := held(20)
			e.Reservation = d.open().Reservation
			return d.follow(e)
		},
		"an account that is not there": func() lanes.Append {
			e := held(20)
			e.Postings[0].Account = 99
			return d.follow(e)
		},
		"more presumed than settled": func() lanes.Append {
			e := held(20)
			e.Postings[0].Presumed = 1
			return d.follow(e)
		},
		"a gap": func() lanes.Append {
			a := d.follow(held(20), held(30), held(40))
			a.Records = slices.Delete(a.Records, 1, 2)
			return a
		},
		"a version twice": func() lanes.Append {
			a := d.follow(held(20), held(30), held(40))
			a.Records[1].Version--
			return a
		},
		"late evidence for what was not presumed": func() lanes.Append {
			of, a := d.open(), d.account()
			return d.follow(domain.UsageSettledLate{
				Request: of.Request, ReservedAt: of.At, Basis: domain.BasisProvider,
				Postings: []domain.Posting{{Account: a.ID, Budget: a.Budget, Limit: a.Limit, Held: 10}},
			})
		},
		"a window that is there already": func() lanes.Append {
			a := d.account()
			return d.follow(domain.WindowOpened{
				Account: domain.AccountID(d.state.Version + 1), Budget: a.Budget, Period: a.Period,
				Start: a.Window.Start, End: a.Window.End, Limit: a.Limit,
			})
		},
		"a reservation that is no UUID": func() lanes.Append {
			e := held(20)
			e.Reservation = "x"
			return d.follow(e)
		},
	}
}

func forced(t *testing.T, b *bench) {
	t.Helper()
	d := b.desk(t)
	first := d.open()
	d.locked(domain.Settle{Reservation: first.Reservation, Charged: 120, Basis: domain.BasisProvider}) // an overrun
	top := func(want domain.Amount) {
		t.Helper()
		l, unlock := d.lock()
		defer unlock()
		s, _, err := l.Load(t.Context(), lanes.Mark{})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range s.Accounts {
			if a.Cap != want {
				t.Errorf("cap %d, want %d", a.Cap, want)
			}
		}
	}
	top(120)
	d.locked(domain.DefineBudget{ID: "x", Period: domain.Monthly, Limit: 300, Source: domain.SourceAdmin})
	top(300)
	r := reserve(100)
	d.locked(r)
	d.locked(domain.DefineBudget{ID: "x", Period: domain.Monthly, Limit: 50, Source: domain.SourceAdmin}) // a cut below use
	top(220)
	d.locked(domain.Release{Reservation: r.Reservation, Reason: domain.ReleasedNotSent})
	top(120)
}

func skewed(t *testing.T, b *bench) {
	t.Helper()
	d := b.desk(t)
	for _, off := range []time.Duration{time.Minute, -time.Minute} {
		a := d.head()
		decided, _ := d.decide(d.now().Add(time.Minute), reserve(5))
		a.Records = decided.Records
		for i := range a.Records {
			a.Records[i].Time = d.now().Add(off)
		}
		d.link(&a)
		_, err := d.write(a)
		if !errors.Is(err, lanes.ErrDenied) || lanes.RefusedForGood(err) || lanes.OutcomeUnknown(err) {
			t.Errorf("off by %s: %v; want a denial that may pass", off, err)
		}
	}
	d.unchanged("after times that are off")
}

func presumptions(t *testing.T, b *bench) {
	t.Helper()
	d := b.desk(t)
	first := d.open()
	id := first.Reservation
	found := func(want domain.Amount, is bool) {
		t.Helper()
		d.state.ForgetPresumption(id)
		l, unlock := d.lock()
		defer unlock()
		if err := l.Presumption(t.Context(), &d.state, id); err != nil {
			t.Fatal(err)
		}
		if p, ok := d.state.Presumed[id]; ok != is || p.Charged != want {
			t.Errorf("presumed %t, %d; want %t, %d", ok, p.Charged, is, want)
		}
	}
	found(0, false)
	d.locked(domain.SettlePresumed{Reservation: id, Reason: "broken"})
	found(10, true)
	still := domain.Settle{Reservation: id, Charged: 7, Basis: domain.BasisPresumed}
	d.locked(still)
	found(7, true)
	a, after := d.decide(d.now(), domain.Settle{Reservation: id, Charged: 3, Basis: domain.BasisProvider})
	d.wins(a)
	d.moved(a, after)
	found(0, false)
	// Reserved, presumed and corrected in one append.
	r := reserve(5)
	a, after = d.decide(d.now(), r, domain.SettlePresumed{Reservation: r.Reservation}, domain.Settle{Reservation: r.Reservation, Charged: 2, Basis: domain.BasisProvider})
	d.wins(a)
	d.moved(a, after)
	d.unchanged("in one append")
}

func lockReads(t *testing.T, b *bench) {
	t.Helper()
	d := b.desk(t)
	l, unlock := d.lock()
	defer unlock()
	state, hash, err := l.Load(t.Context(), lanes.Mark{Version: d.state.Version, Hash: d.hash})
	if err != nil || hash != d.hash {
		t.Fatalf("load: %v, hash %x, want %x", err, hash, d.hash)
	}
	if got, want := asText(t, state), asText(t, d.state); got != want {
		t.Errorf("loaded\n%s\nwant\n%s", got, want)
	}
	tail, err := l.Tail(t.Context(), 1, 2)
	if err != nil || len(tail) != 2 || tail[0].Version != 2 || tail[1].Version != 3 {
		t.Fatalf("the tail after version 1: %+v, %v", tail, err)
	}
	if tail[1].Hash != lanes.Link(tail[0].Hash, tail[1], domain.SchemaVersion) {
		t.Error("what was read does not link")
	}
	for _, seen := range []lanes.Mark{{Version: d.state.Version + 1}, {Version: 1}} {
		if _, _, err := l.Load(t.Context(), seen); !errors.Is(err, lanes.ErrTampered) {
			t.Errorf("version %d was seen with another hash: %v; want ErrTampered", seen.Version, err)
		}
	}
}

func rollback(t *testing.T, b *bench) {
	t.Helper()
	d := b.desk(t)
	at := d.now()
	l, unlock := d.lock()
	a, after := d.decide(at, reserve(5))
	if won, err := l.Append(t.Context(), a, after); err != nil || !won {
		t.Fatalf("won %t, %v", won, err)
	}
	unlock()
	d.unchanged("after a rollback")
	d.wins(a) // as if nothing had been
	d.moved(a, after)
	l, unlock = d.lock()
	defer unlock()
	stale := d.head()
	stale.Expected, stale.Records = stale.Expected-1, a.Records
	if won, err := l.Append(t.Context(), stale, after); err != nil || won {
		t.Errorf("a stale append under the lock: won %t, %v", won, err)
	}
}

func lockExcludes(t *testing.T, b *bench) {
	t.Helper()
	d := b.desk(t)
	a, _ := d.decide(d.now(), reserve(5))
	l, unlock := d.lock()
	defer unlock()
	written := make(chan []domain.TenantID, 1)
	go func() {
		won, _ := d.write(a) // waits for the lock, and finds that the head moved
		written <- won
	}()
	own, after := d.decide(l.Head().Sample.At, reserve(6))
	if won, err := l.Append(t.Context(), own, after); err != nil || !won {
		t.Fatalf("won %t, %v", won, err)
	}
	if err := l.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.moved(own, after)
	if won := <-written; len(won) != 0 {
		t.Error("both were written")
	}
	d.unchanged("after the two")
}

func fence(t *testing.T, b *bench) {
	t.Helper()
	d := b.desk(t)
	late, after := d.decide(d.now(), reserve(5))
	if committed, err := d.j.Fence(t.Context(), d.tenant, late.Records[0]); err != nil || committed {
		t.Fatalf("committed %t, %v; it was never written", committed, err)
	}
	d.loses("the late original", late)
	late.Fence++
	d.wins(late)
	d.moved(late, after)
	other := late.Records[0]
	other.Hash[0] ^= 1
	for record, want := range map[*domain.Recorded]bool{&late.Records[0]: true, &other: false} {
		if committed, err := d.j.Fence(t.Context(), d.tenant, *record); err != nil || committed != want {
			t.Errorf("committed %t, %v; want %t", committed, err, want)
		}
	}
	d.unchanged("after fences")
	l, unlock := d.lock()
	defer unlock()
	if f := l.Head().Fence; f != 3 {
		t.Errorf("fence %d after three", f)
	}
}

func fenceFirst(t *testing.T, b *bench) {
	t.Helper()
	d := b.empty(t)
	l, unlock := d.lock()
	if h := l.Head(); h.Version != 0 || h.Fence != 0 || h.Hash != lanes.Genesis(d.tenant) {
		t.Errorf("the head of nothing is %+v", h)
	}
	first, after := d.decide(l.Head().Sample.At, domain.CreateTenant{Name: "x", Actor: "test"})
	unlock()
	if committed, err := d.j.Fence(t.Context(), d.tenant, first.Records[0]); err != nil || committed {
		t.Fatalf("committed %t, %v", committed, err)
	}
	d.loses("the first event, outside the lock", first)
	l, unlock = d.lock()
	defer unlock()
	if won, err := l.Append(t.Context(), first, after); err != nil || !won {
		t.Fatalf("won %t, %v", won, err)
	}
	if err := l.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.moved(first, after)
	d.unchanged("after the first event")
}
