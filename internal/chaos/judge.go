package main

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/mockupstream"
)

// maxShown bounds the violations that are printed of each kind; all are counted.
const maxShown = 10

// verdict is what the end looks like.
type verdict struct {
	violations []string
	count      int
	shown      map[string]int

	billedCalls                        int
	billed, charged, presumed          domain.Amount
	reserved, released, expired, late  int
	settledProvider, settledOtherwise  int
	events                             int64
	latest                             time.Duration // the longest that a hold outlived its time
	linearOperations, linearPartitions int
	linearUndecided                    int
	errors                             map[string]int // what the logs said, by message
}

func (v *verdict) violated(kind, format string, args ...any) {
	v.count++
	if v.shown == nil {
		v.shown = map[string]int{}
	}
	v.shown[kind]++
	if v.shown[kind] <= maxShown {
		v.violations = append(v.violations, kind+": "+fmt.Sprintf(format, args...))
	}
}

// reservation is the life of one, from its events.
type reservation struct {
	id       domain.ReservationID
	request  string
	tenant   domain.TenantID
	held     domain.Amount
	expires  time.Time
	charged  domain.Amount
	charges  []domain.Amount  // the first charge, and what late evidence made of it
	closed   domain.EventType // the last of its events; empty while it is open
	accounts []domain.AccountID
}

// books are all reservations by the call they were made for.
type books struct {
	byRequest map[string][]*reservation
	byID      map[domain.ReservationID]*reservation
}

// readBooks reads every event of every tenant.
func (v *verdict) readBooks(ctx context.Context, store *eventstore.Store, tenants []domain.TenantID) (*books, error) {
	const page = 2000
	b := &books{byRequest: map[string][]*reservation{}, byID: map[domain.ReservationID]*reservation{}}
	for _, t := range tenants {
		for after := int64(0); ; {
			records, err := store.Read(ctx, t, after, page)
			if err != nil {
				return nil, err
			}
			for _, r := range records {
				v.enter(b, r)
				after = r.Version
			}
			if len(records) < page {
				break
			}
		}
	}
	return b, nil
}

func (v *verdict) enter(b *books, r domain.Recorded) {
	v.events++
	closes := func(id domain.ReservationID, charged domain.Amount) {
		if found := b.byID[id]; found != nil {
			found.charged, found.closed = charged, domain.TypeOf(r.Event)
			found.charges = append(found.charges, charged)
			return
		}
		v.violated("books", "%s of %s closes a reservation that was never made", domain.TypeOf(r.Event), id)
	}
	switch e := r.Event.(type) { //nolint:gochecksumtype // the others are about no reservation
	case domain.UsageReserved:
		v.reserved++
		made := &reservation{id: e.Reservation, request: e.RequestID, tenant: r.Tenant, held: e.Amount, expires: e.ExpiresAt}
		for _, p := range e.Postings {
			made.accounts = append(made.accounts, p.Account)
		}
		b.byID[e.Reservation] = made
		b.byRequest[e.RequestID] = append(b.byRequest[e.RequestID], made)
	case domain.UsageSettled:
		if e.Basis == domain.BasisProvider {
			v.settledProvider++
		} else {
			v.settledOtherwise++
		}
		closes(e.Reservation, e.Charged)
	case domain.ReservationReleased:
		v.released++
		closes(e.Reservation, 0)
	case domain.ReservationExpired:
		v.expired++
		if made := b.byID[e.Reservation]; made != nil {
			v.latest = max(v.latest, r.Time.Sub(made.expires))
		}
		closes(e.Reservation, e.Charged)
	case domain.UsageSettledLate:
		v.late++
		closes(e.Reservation, e.Charged)
	}
}

// account names one window of one budget.
type account struct {
	tenant domain.TenantID
	id     domain.AccountID
}

// checkBill compares each line of the provider's bill with the reservation it was forwarded under.
func (v *verdict) checkBill(lines []billLine, b *books, began int64) map[account]domain.Amount {
	names := make(map[string]string, began)
	for n := range began {
		names[mockupstream.KeyID(name(n+1))] = name(n + 1)
	}
	byCall := map[string]domain.Amount{}
	count := map[string]int{}
	for _, l := range lines {
		v.billedCalls++
		v.billed += l.amount
		call, known := names[l.key]
		if !known {
			call = linearName(l.key, b)
		}
		byCall[call] += l.amount
		count[call]++
	}
	billed := map[account]domain.Amount{}
	for call, amount := range byCall {
		made := b.byRequest[call]
		var charged domain.Amount
		for _, r := range made {
			charged += r.charged
		}
		switch {
		case len(made) == 0:
			v.violated("forwarded without a hold", "%s is billed %s and has no reservation", call, amount)
			continue
		case count[call] > len(made):
			v.violated("forwarded twice", "%s is billed %d times and has %d reservations", call, count[call], len(made))
		case charged < amount:
			v.violated("billed above the charge", "%s is billed %s and was charged %s (%s)", call, amount, charged, made[0].closed)
		}
		for _, id := range made[0].accounts {
			billed[account{made[0].tenant, id}] += amount
		}
	}
	return billed
}

// linearName finds the call of a key among those that are not numbered.
func linearName(key string, b *books) string {
	for request := range b.byRequest {
		if mockupstream.KeyID(request) == key {
			return request
		}
	}
	return "key " + key
}

// checkCalls compares what the clients were told with the books and the bill.
func (v *verdict) checkCalls(calls map[int64]call, lines []billLine, b *books) {
	billed := map[string]bool{}
	for _, l := range lines {
		billed[l.key] = true
	}
	for number, c := range calls {
		id := name(number)
		switch {
		case c.code != "" && c.code != "upstream_unreachable" && c.code != "upstream_timeout" && billed[mockupstream.KeyID(id)]:
			v.violated("refused and forwarded", "%s was answered %d %s and is billed", id, c.status, c.code)
		case c.code == "budget_exceeded" && len(b.byRequest[id]) > 0:
			v.violated("refused and held", "%s was answered 402 and has a reservation", id)
		case c.code == "internal":
			v.violated("internal error", "%s was answered 500 internal", id)
		}
		if c.reservation == "" {
			continue
		}
		made := b.byID[domain.ReservationID(c.reservation)]
		switch {
		case made == nil:
			v.violated("acknowledged and lost", "%s was told of reservation %s, which is not in the ledger", id, c.reservation)
		case made.request != id:
			v.violated("acknowledged and mixed up", "%s was told of reservation %s, which belongs to %s", id, c.reservation, made.request)
		case c.status == http.StatusOK && c.whole && !billed[mockupstream.KeyID(id)]:
			v.violated("answered and not billed", "%s has its answer, and the bill does not know it", id)
		case c.costUSD != "":
			if told, err := domain.ParseAmount(c.costUSD); err != nil || told > made.charged {
				v.violated("told more than charged", "%s was told a cost of %s and was charged %s (%s)", id, c.costUSD, made.charged, made.closed)
			}
		}
	}
}

// checkAccounts looks at every window: use within its limit, and the provider's bill within what was charged.
func (v *verdict) checkAccounts(ctx context.Context, s *stage, billed map[account]domain.Amount) error {
	rows, err := s.pool.Query(ctx, `select tenant_id, account_id, budget_id, period, limit_nano, held, settled, presumed from account order by 1, 2`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var a account
		var budget, period string
		var limit, held, settled, presumed domain.Amount
		if err := rows.Scan(&a.tenant, &a.id, &budget, &period, &limit, &held, &settled, &presumed); err != nil {
			return err
		}
		if period == "monthly" || period == "yearly" { // each tenant has a budget of one of them
			v.charged += settled
			v.presumed += presumed
		}
		if held+settled > limit {
			v.violated("overspent", "%s %s: charged %s and held %s of %s", a.tenant, period, settled, held, limit)
		}
		if billed[a] > settled {
			v.violated("window billed above its charges", "%s %s: billed %s, charged %s", a.tenant, period, billed[a], settled)
		}
	}
	return rows.Err()
}

// verify runs the product's own audit on what is left.
func (s *stage) verify(ctx context.Context, v *verdict) {
	cmd := exec.CommandContext(ctx, s.binary, "ledger", "verify", "--quiet") //nolint:gosec // the binary we built
	cmd.Env = []string{"DATABASE_URL=" + s.postgres.URL()}
	if out, err := cmd.CombinedOutput(); err != nil {
		v.violated("ledger verify", "%v\n%s", err, out)
	}
}

// judge looks at everything once the system is at rest.
func (s *stage) judge(ctx context.Context, v *verdict, l *load, seen []*watched) error {
	store, err := eventstore.OpenStore(ctx, s.postgres.URL())
	if err != nil {
		return err
	}
	defer store.Close()
	tenants, err := store.TenantIDs(ctx, "", 1000)
	if err != nil {
		return err
	}
	b, err := v.readBooks(ctx, store, tenants)
	if err != nil {
		return err
	}
	lines, err := s.readBill()
	if err != nil {
		return err
	}
	total, err := s.billTotal(ctx)
	if err != nil {
		return err
	}
	billed := v.checkBill(lines, b, l.began.Load())
	if total != v.billed {
		v.violated("bill", "the provider says %s, its journal %s", total, v.billed)
	}
	v.checkCalls(l.calls, lines, b)
	if err := v.checkAccounts(ctx, s, billed); err != nil {
		return err
	}
	v.checkLinear(seen, b)
	s.verify(ctx, v)
	for _, p := range s.programs() {
		for _, surprise := range p.surprises {
			v.violated("ended by itself", "%s", surprise)
		}
		s.readLog(v, p)
	}
	return nil
}
