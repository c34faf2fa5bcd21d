package journaltest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
)

// bench is a journal and the tenants made in it so far.
type bench struct {
	journal lanes.Journal
	tenants atomic.Int64
}

// desk writes to one tenant's stream, past every rule of Go if it must.
type desk struct {
	t      testing.TB
	j      lanes.Journal
	tenant domain.TenantID
	// state, hash and fence are those of the head.
	state domain.State
	hash  lanes.Hash
	fence int64
}

// empty is a desk whose tenant has no stream yet.
func (b *bench) empty(tb testing.TB) *desk {
	tb.Helper()
	tenant := domain.TenantID(fmt.Sprintf("journal-%d", b.tenants.Add(1)))
	return &desk{t: tb, j: b.journal, tenant: tenant, state: domain.NewState(tenant), hash: lanes.Genesis(tenant)}
}

// desk is one whose tenant has a monthly budget of 100, of which 10 are held.
func (b *bench) desk(tb testing.TB) *desk {
	tb.Helper()
	d := b.empty(tb)
	d.locked(domain.CreateTenant{Name: "ACME", Actor: "test"})
	d.locked(domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: 100, Source: domain.SourceAdmin, Actor: "test"})
	d.locked(reserve(10))
	return d
}

func reserve(amount domain.Amount) domain.Reserve {
	return domain.Reserve{
		Request: domain.Request{
			Reservation: domain.ReservationID(uuid.NewString()), Route: "/v1/chat/completions", Provider: "p", Model: "m", Prices: "t", Policy: "t", Gateway: "g",
			Estimate: domain.Estimate{PromptTokens: 1, CompletionTokens: 1, Basis: "t"},
		},
		Amount: amount, TTL: time.Minute,
	}
}

// open is the reservation that is open; there must be one.
func (d *desk) open() domain.Reservation {
	d.t.Helper()
	for _, r := range d.state.Open {
		return r
	}
	d.t.Fatal("no reservation is open")
	return domain.Reservation{}
}

// account is the only one.
func (d *desk) account() domain.Account {
	d.t.Helper()
	for _, a := range d.state.Accounts {
		return *a
	}
	d.t.Fatal("no account")
	return domain.Account{}
}

// lock takes the head's lock until the function it returns.
func (d *desk) lock() (lanes.Locked, func()) {
	d.t.Helper()
	l, err := d.j.Lock(d.t.Context(), d.tenant)
	if err != nil {
		d.t.Fatalf("lock: %v", err)
	}
	return l, func() { l.Rollback(d.t.Context()) }
}

// now is the journal's time.
func (d *desk) now() time.Time {
	d.t.Helper()
	l, unlock := d.lock()
	defer unlock()
	return l.Head().Sample.At.UTC().Truncate(time.Microsecond)
}

// decide is the append of commands, and the state after it.
func (d *desk) decide(at time.Time, commands ...domain.Command) (lanes.Append, domain.State) {
	d.t.Helper()
	return d.decideUnder(nil, at, commands...)
}

// decideUnder is decide, with the answers of a lock to what the decision asks.
func (d *desk) decideUnder(l lanes.Locked, at time.Time, commands ...domain.Command) (lanes.Append, domain.State) {
	d.t.Helper()
	a, s := d.head(), d.state.Clone()
	for _, c := range commands {
		next, records, err := domain.Execute(s, c, at)
		if needed := new(domain.PastNeededError); l != nil && errors.As(err, &needed) {
			answer, asked := l.Past(d.t.Context(), &s, needed.Past)
			if asked != nil {
				d.t.Fatalf("ask for the past: %v", asked)
			}
			next, records, err = domain.Execute(s, domain.Informed{Command: c, Past: []domain.Past{answer}}, at)
		}
		if err != nil {
			d.t.Fatalf("%T: %v", c, err)
		}
		s = next
		a.Records = append(a.Records, records...)
	}
	for _, account := range s.Accounts {
		if account.Duration != 0 {
			a.Rolling = append(a.Rolling, *account)
		}
	}
	d.link(&a)
	return a, s
}

// head is an append without records.
func (d *desk) head() lanes.Append {
	return lanes.Append{Tenant: d.tenant, Expected: d.state.Version, Prev: d.hash, Fence: d.fence}
}

// follow is an append of events that nobody decided.
func (d *desk) follow(events ...domain.Event) lanes.Append {
	d.t.Helper()
	a, at := d.head(), d.now()
	for i, e := range events {
		a.Records = append(a.Records, domain.Recorded{
			Tenant: d.tenant, Version: a.Expected + int64(i) + 1, Time: at.Add(time.Duration(i) * time.Microsecond), Event: e,
		})
	}
	d.link(&a)
	return a
}

// link encodes and chains what is to be appended.
func (d *desk) link(a *lanes.Append) {
	d.t.Helper()
	hash := a.Prev
	for i := range a.Records {
		r := &a.Records[i]
		var err error
		if r.Body, err = domain.EncodeEvent(r.Event); err != nil {
			d.t.Fatal(err)
		}
		hash = lanes.Link(hash, *r, domain.SchemaVersion)
		r.Hash = hash
	}
}

// locked carries out a command under the lock.
func (d *desk) locked(c domain.Command) {
	d.t.Helper()
	l, unlock := d.lock()
	defer unlock()
	d.fence = l.Head().Fence
	a, after := d.decideUnder(l, l.Head().Sample.At, c)
	won, err := l.Append(d.t.Context(), a, after)
	if err != nil || !won {
		d.t.Fatalf("%T under the lock: won %t, %v", c, won, err)
	}
	if err := l.Commit(d.t.Context()); err != nil {
		d.t.Fatalf("%T: commit: %v", c, err)
	}
	d.moved(a, after)
}

// moved notes that an append was written.
func (d *desk) moved(a lanes.Append, after domain.State) {
	d.state, d.hash = after, a.Records[len(a.Records)-1].Hash
}

// write appends on the fast path.
func (d *desk) write(appends ...lanes.Append) ([]domain.TenantID, error) {
	won, _, err := d.j.Append(d.t.Context(), appends)
	return won, err
}

// wins appends and must win.
func (d *desk) wins(a lanes.Append) {
	d.t.Helper()
	if won, err := d.write(a); err != nil || len(won) != 1 || won[0] != d.tenant {
		d.t.Errorf("won %v, %v; want %s", won, err, d.tenant)
	}
}

// loses appends and must lose, which is no error.
func (d *desk) loses(what string, a lanes.Append) {
	d.t.Helper()
	if won, err := d.write(a); err != nil || len(won) != 0 {
		d.t.Errorf("%s: won %v, %v; want to lose", what, won, err)
	}
}

// unchanged fails the test unless the stream ends where the desk left it.
func (d *desk) unchanged(what string) {
	d.t.Helper()
	l, unlock := d.lock()
	defer unlock()
	if h := l.Head(); h.Version != d.state.Version || h.Hash != d.hash {
		d.t.Errorf("%s: the head is at version %d, want %d", what, h.Version, d.state.Version)
	}
	if tail, err := l.Tail(d.t.Context(), d.state.Version, 10); err != nil || len(tail) != 0 {
		d.t.Errorf("%s: %d events follow, %v", what, len(tail), err)
	}
}

// asText is a state as it can be compared: without what is closed, which a load does not bring.
func asText(tb testing.TB, s domain.State) string {
	tb.Helper()
	s = s.Clone()
	s.ForgetClosed()
	// Attempts have keys that JSON cannot have.
	text := struct {
		domain.State

		Attempts []domain.Attempt
	}{State: s}
	for _, a := range s.Attempts {
		text.Attempts = append(text.Attempts, a)
	}
	slices.SortFunc(text.Attempts, func(a, b domain.Attempt) int { return cmp.Compare(a.Version, b.Version) })
	whole, err := json.Marshal(text)
	if err != nil {
		tb.Fatal(err)
	}
	return string(whole)
}
