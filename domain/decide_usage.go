package domain

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

func decideReserve(s State, c Reserve, now time.Time) ([]Event, error) {
	if err := checkReserve(&s, &c, now); err != nil {
		return nil, err
	}
	var events []Event
	postings := make([]Posting, 0, min(len(s.Budgets), maxAccounts))
	var refused *BudgetExceededError
	for i := range s.Budgets {
		b := &s.Budgets[i]
		if !b.Scope.whole() && !b.Scope.Matches(c.Request) {
			continue
		}
		account, due := s.due(b, now, s.Version+int64(len(events))+1)
		if account == nil {
			continue
		}
		events = append(events, due...)
		// What costs nothing fits always, also where an overrun or a cut has left less than nothing.
		room := account.Available()
		if c.Amount > 0 && room < c.Amount && (refused == nil || room < refused.room()) {
			refused = account.exceeded(b, c.Amount, now)
		}
		postings = append(postings, account.posting(move{held: c.Amount}))
	}
	if len(postings) > maxAccounts {
		return nil, invalid("the request counts in %d budgets; at most %d can apply to one", len(postings), maxAccounts)
	}
	if refused != nil {
		return nil, refused
	}
	return append(events, UsageReserved{
		Request: c.Request, Amount: c.Amount, ExpiresAt: now.Add(c.TTL).UTC().Truncate(time.Microsecond), Postings: postings,
	}), nil
}

// exceeded is the refusal of an amount that an account has no room for.
func (a *Account) exceeded(b *Budget, amount Amount, now time.Time) *BudgetExceededError {
	window := a.Window
	if a.rolls() {
		window = a.Duration.window(now, a)
	}
	for _, r := range b.Raises { // what has no room now has none before the limit next changes by itself
		if r.Until.After(now) && r.Until.Before(window.End) {
			window.End = r.Until
		}
	}
	return &BudgetExceededError{
		Budget: b.ID, Period: b.Period, Scope: b.Scope, Window: window,
		Limit: a.Limit, Settled: a.Settled, Held: a.Held, Presumed: a.Presumed, Requested: amount, At: now,
	}
}

// checkReserve takes its arguments by address because they are large.
func checkReserve(s *State, c *Reserve, now time.Time) error {
	switch {
	case s.Suspended:
		return ErrTenantSuspended
	case c.Reservation == "":
		return invalid("a reservation needs an id")
	case !c.encodable():
		return invalid("a reservation's texts must be UTF-8")
	case c.Amount < 0 || c.Amount > MaxAmount:
		return invalid("reservation of %s USD: want 0 to %s", c.Amount, MaxAmount)
	case c.TTL <= 0 || c.TTL > maxTTL:
		return invalid("reservation life of %s: want more than 0, at most %s", c.TTL, maxTTL)
	}
	_, open := s.Open[c.Reservation]
	if _, presumed := s.Presumed[c.Reservation]; open || presumed {
		return fmt.Errorf("%w: %s", ErrReservationExists, c.Reservation)
	}
	if c.Keyless && len(s.Keys) > 0 {
		return ErrKeyUnusable
	}
	if err := checkKey(s, &c.Request, now); err != nil || c.Idempotency == "" {
		return err
	}
	return s.retry(c.attemptKey(), c.Fingerprint, now)
}

// checkKey tells whether the request's key may reserve, and whether the request has the tags it must.
func checkKey(s *State, r *Request, now time.Time) error {
	if r.KeyID == "" {
		return nil
	}
	k, ok := s.Keys[r.KeyID]
	if !ok || !k.usable(now) {
		return ErrKeyUnusable
	}
	for name, value := range k.Tags {
		if r.Tags[name] != value {
			return invalid("tag %s is pinned to %s by the key", name, value)
		}
	}
	for _, name := range k.RequiredTags {
		if _, ok := r.Tags[name]; !ok {
			return invalid("the key requires the tag %s", name)
		}
	}
	return nil
}

// decideExtend holds more on the accounts of a reservation, whose windows may have ended since.
func decideExtend(s State, c Extend, now time.Time) ([]Event, error) {
	r, ok := s.Open[c.Reservation]
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: %s", ErrReservationUnknown, c.Reservation)
	case c.Add < 0 || c.Add > MaxAmount || r.Amount+c.Add > MaxAmount:
		return nil, invalid("extension by %s USD: want 0 or more, and at most %s in all", c.Add, MaxAmount)
	case c.TTL < 0 || c.TTL > maxTTL:
		return nil, invalid("reservation life of %s: want 0 to %s", c.TTL, maxTTL)
	}
	expires := now.Add(c.TTL).UTC().Truncate(time.Microsecond)
	if expires.Before(r.ExpiresAt) {
		expires = r.ExpiresAt
	}
	if c.Add == 0 && expires.Equal(r.ExpiresAt) {
		return nil, nil
	}
	var events []Event
	postings := make([]Posting, 0, len(r.Accounts))
	for _, id := range r.Accounts {
		account, due, err := s.present(id, now)
		if err != nil {
			return nil, err
		}
		events = append(events, due...)
		if c.Add > 0 && account.Available() < c.Add {
			b, live := s.budget(account.Budget)
			if !live {
				b = Budget{ID: account.Budget, Period: account.Period}
			}
			return nil, account.exceeded(&b, c.Add, now)
		}
		postings = append(postings, account.posting(move{held: c.Add}))
	}
	return append(events, ReservationExtended{
		Request: r.Request, ReservedAt: r.At, Added: c.Add, Amount: r.Amount + c.Add, ExpiresAt: expires, Postings: postings,
	}), nil
}

// present is an account that is there already, with what time alone has changed in it. It is not for changing.
func (s *State) present(id AccountID, now time.Time) (*Account, []Event, error) {
	account, ok := s.Accounts[id]
	if !ok {
		return nil, nil, s.notLoaded(id)
	}
	b, live := s.budget(account.Budget)
	if !live || s.Current[b.ID] != id || !account.Window.Contains(now) {
		return account, nil, nil
	}
	_, account, events := s.aged(&b, now)
	return account, events, nil
}

// encodable tells whether the texts of a request survive JSON as they are. Those of a closing command are
// repaired instead (validText): a charge is never refused for the bytes of its reason.
func (r Request) encodable() bool {
	for _, text := range []string{
		string(r.Reservation), r.RequestID, r.Route, r.Provider, r.Model, string(r.Tier), string(r.KeyID),
		r.Estimate.Basis, r.Prices, r.Policy, r.Idempotency, r.Fingerprint, r.Gateway,
	} {
		if !storable(text) {
			return false
		}
	}
	for name, value := range r.Tags {
		if !storable(name) || !storable(value) {
			return false
		}
	}
	return true
}

// storable tells whether text survives JSON and Postgres, which has no NUL, as it is.
func storable(text string) bool { return utf8.ValidString(text) && !strings.ContainsRune(text, 0) }

// validText is text as it will be stored.
func validText(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

func decideSettle(s State, c Settle) ([]Event, error) {
	if c.Charged < 0 || c.Charged > MaxAmount {
		return nil, invalid("charge of %s USD: want 0 to %s", c.Charged, MaxAmount)
	}
	if p, ok := s.Presumed[c.Reservation]; ok {
		return settleLate(s, p, c)
	}
	r, ok := s.Open[c.Reservation]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrReservationUnknown, c.Reservation)
	}
	postings, err := s.postings(r.Accounts, r.At, move{held: -r.Amount, settled: c.Charged, presumed: c.presumed()})
	if err != nil {
		return nil, err
	}
	return s.told([]Event{UsageSettled{
		Request: r.Request, ReservedAt: r.At, Reserved: r.Amount, Charged: c.Charged, Overrun: max(0, c.Charged-r.Amount),
		Basis: c.Basis, Usage: c.Usage, AnsweredModel: validText(c.AnsweredModel), AnsweredTier: c.AnsweredTier, Reason: validText(c.Reason),
		Postings: postings,
	}}, postings), nil
}

// presumed is the part of the charge that rests on no evidence: all of it or nothing.
func (c Settle) presumed() Amount {
	if c.Basis == BasisPresumed {
		return c.Charged
	}
	return 0
}

// settleLate replaces a presumed charge by what evidence says; the windows are those of the reservation. What was
// given back there was proof for: a presumption does not outweigh it, and no budget that came later took it over.
func settleLate(s State, p Presumption, c Settle) ([]Event, error) {
	accounts := p.Accounts
	switch {
	case c.Basis == BasisPresumed && (p.Released || c.Charged == p.Charged), p.Released && c.Charged == 0:
		return nil, nil // nothing new
	case p.Released:
		accounts = s.counting(p.Reservation)
	}
	delta := c.Charged - p.Charged // both are within ±MaxAmount
	postings, err := s.postings(accounts, p.At, move{settled: delta, presumed: c.presumed() - p.Charged})
	if err != nil {
		return nil, err
	}
	return s.told([]Event{UsageSettledLate{
		Request: p.Request, ReservedAt: p.At, WasCharged: p.Charged, Charged: c.Charged, Delta: delta,
		Basis: c.Basis, Usage: c.Usage, AnsweredModel: validText(c.AnsweredModel), AnsweredTier: c.AnsweredTier,
		Reason: validText(c.Reason), Postings: postings,
	}}, postings), nil
}

func decideSettlePresumed(s State, c SettlePresumed) ([]Event, error) {
	if p, ok := s.Presumed[c.Reservation]; ok {
		return settleLate(s, p, Settle{Reservation: c.Reservation, Charged: p.Amount, Basis: BasisPresumed, Reason: c.Reason})
	}
	r, ok := s.Open[c.Reservation]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrReservationUnknown, c.Reservation)
	}
	return decideSettle(s, Settle{Reservation: c.Reservation, Charged: r.Amount, Basis: BasisPresumed, Reason: c.Reason})
}

// provesNothingBilled tells whether a reason to release is one of those that leave no doubt.
func provesNothingBilled(reason string) bool {
	switch reason {
	case ReleasedNeverDispatched, ReleasedNotSent, ReleasedClientGone:
		return true
	}
	status, ok := strings.CutPrefix(reason, ReleasedStatus)
	return ok && len(status) == 3 && allDigits(status)
}

func decideRelease(s State, c Release) ([]Event, error) {
	if !provesNothingBilled(c.Reason) {
		return nil, invalid("a release needs proof that nothing was billed; %.80q is none", c.Reason)
	}
	if p, ok := s.Presumed[c.Reservation]; ok {
		return settleLate(s, p, Settle{Reservation: c.Reservation, Basis: BasisProvider, Reason: c.Reason})
	}
	r, ok := s.Open[c.Reservation]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrReservationUnknown, c.Reservation)
	}
	postings, err := s.postings(r.Accounts, r.At, move{held: -r.Amount})
	if err != nil {
		return nil, err
	}
	return []Event{ReservationReleased{
		Request: r.Request, ReservedAt: r.At, Reserved: r.Amount, Reason: validText(c.Reason), Postings: postings,
	}}, nil
}

func decideExpire(s State, c Expire, now time.Time) ([]Event, error) {
	r, ok := s.Open[c.Reservation]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrReservationUnknown, c.Reservation)
	}
	if now.Before(r.ExpiresAt) && (!c.Orphaned || c.Free) {
		return nil, invalid("reservation %s lives until %s", c.Reservation, r.ExpiresAt)
	}
	charged, reason := r.Amount, ""
	if c.Free {
		charged = 0
	}
	if c.Orphaned {
		reason = ReasonOrphaned
	}
	postings, err := s.postings(r.Accounts, r.At, move{held: -r.Amount, settled: charged, presumed: charged})
	if err != nil {
		return nil, err
	}
	return s.told([]Event{ReservationExpired{
		Request: r.Request, ReservedAt: r.At, Reserved: r.Amount, Charged: charged, Reason: reason, Postings: postings,
	}}, postings), nil
}

// decideAdjust corrects what was spent in the windows of a closed reservation, or in those of now.
func decideAdjust(s State, c Adjust, now time.Time) ([]Event, error) {
	switch {
	case c.Idempotency == "" || !storable(c.Idempotency):
		return nil, invalid("an adjustment needs an idempotency key of UTF-8")
	case c.Reason == "" || len(c.Reason) > maxReason || !storable(c.Reason):
		return nil, invalid("reason: want 1 to %d bytes of UTF-8", maxReason)
	case c.Delta == 0 || c.Delta < -MaxAmount || c.Delta > MaxAmount:
		return nil, invalid("usd: want a difference other than 0, at most %s", MaxAmount)
	}
	if err := s.retry(c.attemptKey(), c.fingerprint(), now); err != nil {
		return nil, err
	}
	e := UsageAdjusted{Reservation: c.Reservation, Delta: c.Delta, Reason: c.Reason, Idempotency: c.Idempotency, Actor: c.Actor}
	if c.Reservation == "" {
		return adjustNow(s, e, now)
	}
	if _, open := s.Open[c.Reservation]; open {
		return nil, invalid("reservation %s is still open", c.Reservation)
	}
	r, ok := s.Closed[c.Reservation]
	m := move{settled: c.Delta}
	if p, presumed := s.Presumed[c.Reservation]; presumed {
		r, ok = p.Reservation, true
		m.presumed = -p.Charged
		e.Confirmed = true
		e.WasPresumed = p.Charged
	}
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrReservationUnknown, c.Reservation)
	}
	e.ReservedAt, e.Route, e.Model, e.KeyID, e.Tags = r.At, r.Route, r.Model, r.KeyID, r.Tags
	var err error
	if e.Postings, err = s.postings(s.counting(r), r.At, m); err != nil {
		return nil, err
	}
	return s.adjusted(nil, e, r.At)
}

// counting are the accounts in which a closed reservation counts: those it was posted to, and those of
// budgets that came later and began with what their window had spent.
func (s *State) counting(r Reservation) []AccountID {
	accounts := slices.Clip(r.Accounts)
	for i := range s.Budgets {
		b := &s.Budgets[i]
		a, open := s.Accounts[s.Current[b.ID]]
		if open && int64(a.ID) > r.Version && a.Window.Contains(r.At) && b.Scope.Matches(r.Request) && !slices.Contains(accounts, a.ID) {
			accounts = append(accounts, a.ID)
		}
	}
	return accounts
}

// adjustNow adjusts the windows of now of every budget of the whole tenant.
func adjustNow(s State, e UsageAdjusted, now time.Time) ([]Event, error) {
	var events []Event
	accounts := map[AccountID]*Account{}
	var ids []AccountID
	for i := range s.Budgets {
		if !s.Budgets[i].Scope.whole() {
			continue
		}
		account, due := s.due(&s.Budgets[i], now, s.Version+int64(len(events))+1)
		if account != nil {
			events = append(events, due...)
			accounts[account.ID], ids = account, append(ids, account.ID)
		}
	}
	if len(ids) > maxAccounts {
		return nil, invalid("the adjustment counts in %d budgets; at most %d can apply to one", len(ids), maxAccounts)
	}
	s.Accounts = accounts
	var err error
	if e.Postings, err = s.postings(ids, now, move{settled: e.Delta}); err != nil {
		return nil, err
	}
	return s.adjusted(events, e, now)
}

// adjusted adds an adjustment, which counts at an instant, and what it crosses. It may not take more than was
// confirmed.
func (s State) adjusted(events []Event, e UsageAdjusted, at time.Time) ([]Event, error) {
	for _, p := range e.Postings {
		a := s.Accounts[p.Account]
		if a.confirmed(at)+(p.Settled-a.Settled)-(p.Presumed-a.Presumed) < 0 {
			return nil, invalid("usd: budget %s has no %s USD of confirmed spend in that window to take back", p.Budget, -e.Delta)
		}
	}
	return s.told(append(events, e), e.Postings), nil
}

// maxBalance bounds held and settled of one account, so that limit, held and settled can be added and
// subtracted in any order within an int64.
const maxBalance = 4 * MaxAmount

// move is what an event adds to each account it touches.
type move struct{ held, settled, presumed Amount }

// postings are the balances that result from a move on each account, checked for overflow. One that
// leaves use above the limit is forced: closing a reservation records the truth and is never refused.
// What a rolling account counted of the time at which the reservation was made may have left it.
func (s *State) postings(accounts []AccountID, at time.Time, whole move) ([]Posting, error) {
	postings := make([]Posting, len(accounts))
	for i, id := range accounts {
		a, ok := s.Accounts[id]
		if !ok {
			return nil, s.notLoaded(id)
		}
		m := whole
		if !a.counts(at) {
			m.settled, m.presumed = 0, 0
		}
		held, errHeld := a.Held.Plus(m.held)
		settled, errSettled := a.Settled.Plus(m.settled)
		if errHeld != nil || errSettled != nil || held > maxBalance || settled > maxBalance {
			return nil, fmt.Errorf("%w: account %d of tenant %s overflows", ErrAmount, id, s.Tenant)
		}
		postings[i] = a.posting(m)
		postings[i].Forced = settled+held > a.Limit && m.settled > -m.held
	}
	return postings, nil
}

func (s *State) notLoaded(id AccountID) error {
	return fmt.Errorf("account %d of tenant %s is not loaded: a bug, not an input", id, s.Tenant)
}
