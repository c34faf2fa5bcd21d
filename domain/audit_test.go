package domain_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

// audit is the naive model of the laws: it sees recorded events only, keeps a list of reservations and of
// adjustments, and adds everything up anew after each event.
type audit struct {
	version     int64
	time        time.Time
	decided     time.Time // of the first event of the decision
	zone        Zone
	budgets     map[BudgetID]*auditedBudget // those that are not retired
	accounts    map[AccountID]*audited
	newest      map[BudgetID]AccountID
	holds       []*hold
	adjustments []*adjustment
	defined     map[BudgetID]bool      // in this decision, and its window not opened
	untold      map[AccountID]struct{} // what they spent, or may spend, changed in this decision
	keyed       bool                   // a key was issued once
	retired     retired                // the last budget that was
}

// retired is what a budget that takes the place of another one keeps of it.
type retired struct {
	version int64
	raises  []Raise
}

type auditedBudget struct {
	BudgetDefined
	since  int64 // version
	limit  Amount
	raises []Raise
	alerts []Threshold
}

type audited struct {
	id         AccountID
	budget     BudgetID
	scope      Scope
	window     Window
	limit, use Amount
	seed       Amount // spent before, by reservations that do not count here by themselves
	told       map[Threshold]bool

	// Of a rolling account: its length, the number of the oldest part that counts, and all that ever moved it.
	length  time.Duration
	oldest  int64
	entries []entry
}

// entry is a movement in a rolling account, or an end of ageing.
type entry struct {
	part              int64
	settled, presumed Amount
	slid              bool
}

type hold struct {
	Request
	at       time.Time
	version  int64
	amount   Amount
	charged  Amount
	state    holdState
	returned bool // it was released once
	accounts []AccountID
	expires  time.Time
	key      AttemptState // what its idempotency key stands for; an adjustment says nothing of that
}

type holdState int

const (
	holdOpen holdState = iota
	holdPresumed
	holdReleased
	holdClosed
)

type adjustment struct {
	UsageAdjusted
	of       Request
	counts   time.Time // the time that decides where it counts
	at       time.Time
	version  int64
	accounts []AccountID
}

func keyOf(s holdState) AttemptState {
	return map[holdState]AttemptState{holdOpen: AttemptHeld, holdPresumed: AttemptPresumed, holdClosed: AttemptSettled}[s]
}

func newAudit() *audit {
	return &audit{
		budgets: map[BudgetID]*auditedBudget{}, accounts: map[AccountID]*audited{}, newest: map[BudgetID]AccountID{},
		defined: map[BudgetID]bool{}, untold: map[AccountID]struct{}{},
	}
}

// watch tells which law the events of one decision break, if any.
func (a *audit) watch(decision []Recorded) error {
	for i, r := range decision {
		if i == 0 {
			a.decided = r.Time
		}
		if err := a.see(r); err != nil {
			return err
		}
	}
	for id := range a.defined {
		if want := a.past(a.budgets[id], a.time, a.version); want.settled != 0 || len(want.adopted) > 0 {
			return fmt.Errorf("budget %s begins with %+v, and its window was not opened", id, want)
		}
	}
	clear(a.defined)
	return a.toldAll()
}

// see tells which law a recorded event breaks, if any.
func (a *audit) see(r Recorded) error {
	if r.Version != a.version+1 || !r.Time.After(a.time) || r.Time.Location() != time.UTC || !r.Time.Truncate(time.Microsecond).Equal(r.Time) {
		return fmt.Errorf("version %d at %s after version %d at %s", r.Version, r.Time, a.version, a.time)
	}
	a.version, a.time = r.Version, r.Time
	switch e := r.Event.(type) { //nolint:gochecksumtype // the others change nothing that the laws speak of
	case TenantCreated:
		a.zone = e.Zone
	case TenantChanged:
		a.zone = e.Zone
	case APIKeyIssued:
		a.keyed = true
	case BudgetDefined:
		return a.define(e)
	case BudgetChanged:
		return a.changed(e)
	case BudgetRetired:
		if b := a.budgets[e.Budget]; b != nil {
			a.retired = retired{version: a.version, raises: b.raises}
		}
		delete(a.budgets, e.Budget)
		delete(a.defined, e.Budget)
	case WindowOpened:
		return a.opened(e)
	case WindowSlid:
		return a.slid(e)
	case BudgetThresholdCrossed:
		return a.crossed(e)
	}
	return a.see2(r)
}

// see2 goes on with the events of reservations.
func (a *audit) see2(r Recorded) error {
	switch e := r.Event.(type) { //nolint:gochecksumtype // the others are in see
	case UsageReserved:
		return a.reserved(e)
	case ReservationExtended:
		return a.extended(e)
	case UsageSettled:
		if e.Overrun != max(0, e.Charged-e.Reserved) {
			return fmt.Errorf("charged %s of %s, overrun %s", e.Charged, e.Reserved, e.Overrun)
		}
		to := holdClosed
		if e.Basis == BasisPresumed {
			to = holdPresumed
		}
		return a.closed(e.Request, e.ReservedAt, to, e.Reserved, e.Charged, e.Postings)
	case ReservationReleased:
		return a.closed(e.Request, e.ReservedAt, holdReleased, e.Reserved, 0, e.Postings)
	case ReservationExpired:
		if h := a.find(e.Reservation); h != nil && a.time.Before(h.expires) && e.Reason != ReasonOrphaned {
			return fmt.Errorf("expired at %s, before %s", a.time, h.expires)
		}
		if e.Charged != 0 && e.Charged != e.Reserved {
			return fmt.Errorf("expired with %s of %s", e.Charged, e.Reserved)
		}
		return a.closed(e.Request, e.ReservedAt, holdPresumed, e.Reserved, e.Charged, e.Postings)
	case UsageSettledLate:
		return a.late(e)
	case UsageAdjusted:
		return a.adjusted(e)
	}
	return nil
}

func (a *audit) define(e BudgetDefined) error {
	for id, b := range a.budgets {
		if id == e.Budget || (b.Period == e.Period && b.Scope == e.Scope && b.Duration == e.Duration && b.StartDate == e.StartDate && b.EndDate == e.EndDate) {
			return fmt.Errorf("budget %s is there already as %s", e.Budget, id)
		}
	}
	if len(a.budgets) == 256 {
		return errors.New("a tenant has 256 budgets already")
	}
	if err := slowCustom(e, a.zone.Location()); err != nil {
		return err
	}
	a.budgets[e.Budget] = &auditedBudget{BudgetDefined: e, since: a.version, limit: e.Limit, alerts: e.AlertsAt}
	a.defined[e.Budget] = true
	return nil
}

func (a *audit) changed(e BudgetChanged) error {
	b := a.budgets[e.Budget]
	if b == nil || e.OldLimit != b.limit {
		return fmt.Errorf("the old limit of %s was not %s: %+v", e.Budget, e.OldLimit, b)
	}
	if err := a.raised(b, e); err != nil {
		return fmt.Errorf("%w: %+v after %+v at %s", err, e, b, a.decided)
	}
	b.limit, b.raises, b.alerts = e.Limit, e.Raises, e.AlertsAt
	account, ok := a.accounts[a.newest[e.Budget]]
	if open := ok && account.window.Contains(a.decided); open != (len(e.Postings) == 1) {
		return fmt.Errorf("window open: %v, postings: %d", open, len(e.Postings))
	} else if !open {
		return nil
	}
	account.limit = e.Limit
	a.untold[account.id] = struct{}{}
	if forced := account.use > e.Limit; forced != e.Postings[0].Forced {
		return fmt.Errorf("limit %s, use %s, forced %v", e.Limit, account.use, e.Postings[0].Forced)
	}
	return a.posted([]AccountID{a.newest[e.Budget]}, e.Postings, true)
}

// raised checks the raises of a limit: those that run stay, unless all are ended, those that are over go, and
// at most one is new. A budget that takes the place of another one in the same decision has all that run of
// that one.
func (a *audit) raised(b *auditedBudget, e BudgetChanged) error {
	running, ended := parted(b.raises, a.decided)
	added := len(e.Raises) - len(running)
	switch {
	case e.Limit < 0 || e.Limit > MaxAmount:
		return errors.New("no limit")
	case e.Reason == "raises_kept":
		kept, _ := parted(a.retired.raises, a.decided)
		if b.since != a.retired.version+1 || len(b.raises) != 0 || len(kept) == 0 || !slices.Equal(kept, e.Raises) {
			return fmt.Errorf("want the raises %v of the budget before", kept)
		}
		if e.Limit != b.limit+total(kept) {
			return fmt.Errorf("want a limit higher by %s", total(kept))
		}
		return nil
	case e.Reason == "raise_ended" && ended == 0 && len(e.Raises) == 0 && len(running) > 0: // before their time
		if e.Limit != b.limit-total(running) {
			return fmt.Errorf("raises of %s were ended", total(running))
		}
		return nil
	case e.Reason == "raise_ended":
		if ended == 0 || added != 0 || e.Limit != b.limit-ended {
			return fmt.Errorf("raises of %s ended", ended)
		}
	case ended != 0, added < 0, added > 1:
		return fmt.Errorf("%d raises are new, and raises of %s ended", added, ended)
	case added == 1 && e.Limit != b.limit+e.Raises[len(running)].By:
		return errors.New("the limit did not rise by its raise")
	}
	if !slices.Equal(running, e.Raises[:len(running)]) {
		return fmt.Errorf("want the raises that run: %v", running)
	}
	return nil
}

// parted returns the raises that run at an instant, and the sum of those that ended.
func parted(raises []Raise, now time.Time) (running []Raise, ended Amount) {
	for _, r := range raises {
		if r.Until.After(now) {
			running = append(running, r)
		} else {
			ended += r.By
		}
	}
	return running, ended
}

func total(raises []Raise) Amount {
	sum := Amount(0)
	for _, r := range raises {
		sum += r.By
	}
	return sum
}

// opened checks the bounds of a window, and what a new budget counts of the past.
func (a *audit) opened(e WindowOpened) error {
	b := a.budgets[e.Budget]
	if b == nil || int64(e.Account) != a.version || e.Limit != b.limit || e.Zone.String() != a.zone.String() || e.Period != b.Period || e.Duration != b.Duration {
		return fmt.Errorf("account %+v of %+v", e, b)
	}
	before, ok := a.accounts[a.newest[e.Budget]]
	if !ok {
		before = &audited{}
	}
	if err := slowWindow(e, b, before.window.End, a.decided, a.zone.Location()); err != nil {
		return err
	}
	account := &audited{
		id: e.Account, budget: e.Budget, scope: b.Scope, window: Window{Start: e.Start, End: e.End}, limit: e.Limit,
		told: map[Threshold]bool{}, length: time.Duration(e.Duration),
	}
	if account.length != 0 {
		account.oldest = account.part(e.Start)
	}
	var want past
	if a.defined[e.Budget] {
		want = a.past(b, a.decided, a.version)
		delete(a.defined, e.Budget)
	} else if err := a.unspent(account); err != nil {
		return err
	}
	a.accounts[e.Account], a.newest[e.Budget] = account, e.Account
	account.seed = want.settled - want.presumed
	for part, sum := range want.parts {
		account.entries = append(account.entries, entry{part: part, settled: sum.Settled, presumed: sum.Presumed})
	}
	for _, id := range want.adopted {
		h := a.find(id)
		h.accounts = append(h.accounts, e.Account)
	}
	account.use = e.Held + e.Settled
	a.untold[account.id] = struct{}{}
	if e.Held != want.held || e.Settled != want.settled || e.Presumed != want.presumed || !slices.Equal(e.Adopted, want.adopted) {
		return fmt.Errorf("%s begins with %s(%s?)+%s and %v; want %+v", e.Budget, e.Settled, e.Presumed, e.Held, e.Adopted, want)
	}
	return a.sameBuckets(account, e.Buckets)
}

// unspent checks that nothing was reserved or adjusted in a window that opens later than its budget was defined.
func (a *audit) unspent(account *audited) error {
	for _, h := range a.holds {
		if h.state != holdReleased && matches(account.scope, h.Request) && account.window.Contains(h.at) {
			return fmt.Errorf("the window of %s from %s opens with nothing, and has %+v", account.budget, account.window.Start, h)
		}
	}
	for _, c := range a.adjustments {
		if matches(account.scope, c.of) && account.window.Contains(c.counts) {
			return fmt.Errorf("the window of %s from %s opens with nothing, and has %+v", account.budget, account.window.Start, c)
		}
	}
	return nil
}

// past is what a new budget counts from the beginning.
type past struct {
	held, settled, presumed Amount
	parts                   map[int64]Bucket // of a rolling budget
	adopted                 []ReservationID
}

// past adds up what was reserved at a time that the window of the budget has, before a version.
func (a *audit) past(b *auditedBudget, now time.Time, version int64) past {
	sums, p := map[int64]Bucket{}, past{parts: map[int64]Bucket{}}
	account := audited{length: time.Duration(b.Duration)}
	inside := func(t time.Time) bool { return a.inside(b, t, now) }
	add := func(t time.Time, settled, presumed Amount) {
		part := account.part(t)
		sum := sums[part]
		sums[part] = Bucket{Number: part, Settled: sum.Settled + settled, Presumed: sum.Presumed + presumed}
	}
	for _, h := range a.holds {
		if !matches(b.Scope, h.Request) {
			continue
		}
		switch in := inside(h.at); {
		case h.state == holdOpen && (in || account.length != 0):
			p.held += h.amount
			p.adopted = append(p.adopted, h.Reservation)
		case !in || h.state == holdOpen:
		case h.state == holdPresumed:
			add(h.at, h.charged, h.charged)
			p.adopted = append(p.adopted, h.Reservation)
		case h.state == holdReleased: // costs nothing, and what comes to be known of it is posted to later budgets too
		default:
			add(h.at, h.charged, 0)
		}
	}
	for _, c := range a.adjustments {
		if matches(b.Scope, c.of) && inside(c.counts) && c.version < version {
			add(c.counts, c.Delta, 0)
		}
	}
	for part, sum := range sums {
		sum.Settled = max(sum.Settled, sum.Presumed) // more was given back than was spent
		p.settled, p.presumed = p.settled+sum.Settled, p.presumed+sum.Presumed
		if account.length != 0 && sum.Settled != 0 {
			p.parts[part] = sum
		}
	}
	// The open ones first, each by their ids.
	slices.SortFunc(p.adopted, func(x, y ReservationID) int {
		open := func(id ReservationID) int { return map[bool]int{true: 0, false: 1}[a.find(id).state == holdOpen] }
		return cmp.Or(open(x)-open(y), cmp.Compare(x, y))
	})
	return p
}

func (a *audit) reserved(e UsageReserved) error {
	if a.find(e.Reservation) != nil {
		return fmt.Errorf("reservation %s exists", e.Reservation)
	}
	if err := a.firstOfItsKey(e.Request); err != nil {
		return err
	}
	accounts, err := a.matching(func(s Scope) bool { return matches(s, e.Request) })
	if err != nil {
		return err
	}
	if len(accounts) > 16 {
		return fmt.Errorf("reserved on %d accounts", len(accounts))
	}
	a.holds = append(a.holds, &hold{Request: e.Request, at: a.time, version: a.version, amount: e.Amount, accounts: accounts, expires: e.ExpiresAt, key: AttemptHeld})
	return a.promised(accounts, e.Postings, e.Amount > 0)
}

// tenantWide are the accounts of now that an adjustment of no reservation counts in.
func (a *audit) tenantWide() ([]AccountID, error) {
	return a.matching(func(s Scope) bool { return s == Scope{} })
}

// matching are the accounts of now of the budgets that match, in the order of their ids.
func (a *audit) matching(match func(Scope) bool) ([]AccountID, error) {
	var accounts []AccountID
	for _, id := range slices.Sorted(maps.Keys(a.budgets)) {
		b := a.budgets[id]
		if !match(b.Scope) || (b.Period == Custom && !(Window{Start: b.Start, End: b.End}).Contains(a.time)) {
			continue
		}
		account, ok := a.accounts[a.newest[id]]
		if !ok || !account.window.Contains(a.time) {
			return nil, fmt.Errorf("posted at %s, outside the window of %s", a.time, id)
		}
		if err := a.presentDay(b, account); err != nil {
			return nil, err
		}
		accounts = append(accounts, account.id)
	}
	return accounts, nil
}

// promised checks postings that hold more: there was room for it, by the sums and by the time just passed.
func (a *audit) promised(accounts []AccountID, postings []Posting, more bool) error {
	for _, p := range postings {
		if p.Forced || (more && p.Settled+p.Held > p.Limit) {
			return fmt.Errorf("a hold left %s+%s of %s, forced %v", p.Settled, p.Held, p.Limit, p.Forced)
		}
	}
	return a.posted(accounts, postings, false)
}

// presentDay tells whether time has changed something in an account that was not recorded before it is used.
func (a *audit) presentDay(b *auditedBudget, account *audited) error {
	for _, r := range b.raises {
		if !r.Until.After(a.decided) {
			return fmt.Errorf("the limit of %s is %s, with a raise that ended at %s", b.Budget, b.limit, r.Until)
		}
	}
	if account.limit != b.limit {
		return fmt.Errorf("account %d has the limit %s, its budget %s", account.id, account.limit, b.limit)
	}
	for _, part := range a.parts(account) {
		if account.ends(part.Number).Before(a.decided.Add(-account.length)) || account.ends(part.Number).Equal(a.decided.Add(-account.length)) {
			return fmt.Errorf("account %d counts %+v, which left at %s", account.id, part, account.ends(part.Number).Add(account.length))
		}
	}
	return nil
}

func (a *audit) extended(e ReservationExtended) error {
	h := a.find(e.Reservation)
	if h == nil || h.state != holdOpen || !h.at.Equal(e.ReservedAt) || e.Added < 0 || e.Amount != h.amount+e.Added || e.ExpiresAt.Before(h.expires) {
		return fmt.Errorf("%+v extends %+v", e, h)
	}
	for _, id := range h.accounts {
		account := a.accounts[id]
		if b, live := a.budgets[account.budget]; live && a.newest[account.budget] == id && account.window.Contains(a.decided) {
			if err := a.presentDay(b, account); err != nil {
				return err
			}
		}
	}
	h.amount, h.expires = e.Amount, e.ExpiresAt
	return a.promised(h.accounts, e.Postings, e.Added > 0)
}

// closed is the end of a hold.
func (a *audit) closed(of Request, at time.Time, to holdState, reserved, charged Amount, postings []Posting) error {
	h := a.find(of.Reservation)
	if h == nil || h.state != holdOpen || h.amount != reserved || !h.at.Equal(at) || h.Model != of.Model {
		return fmt.Errorf("closed %s with %s: %+v", of.Reservation, reserved, h)
	}
	h.charged, h.state, h.returned, h.key = charged, to, to == holdReleased, keyOf(to)
	presumed := Amount(0)
	if to == holdPresumed {
		presumed = charged
	}
	a.move(h.accounts, h.at, charged, presumed)
	if to != holdReleased {
		a.spent(h.accounts)
	}
	return a.posted(h.accounts, postings, false)
}

func (a *audit) late(e UsageSettledLate) error {
	h := a.find(e.Reservation)
	if h == nil || (h.state != holdPresumed && h.state != holdReleased) || h.charged != e.WasCharged || e.Delta != e.Charged-e.WasCharged || !h.at.Equal(e.ReservedAt) {
		return fmt.Errorf("late: %+v for %+v", e, h)
	}
	was, accounts := Amount(0), h.accounts
	switch {
	case h.state == holdPresumed:
		was = h.charged
	case e.Basis == BasisPresumed:
		return fmt.Errorf("presumed against proof: %+v", e)
	default:
		accounts = append(slices.Clone(h.accounts), a.laterAccounts(h)...)
	}
	h.charged, h.state, h.accounts = e.Charged, holdClosed, accounts
	presumed := -was
	if e.Basis == BasisPresumed {
		h.state, presumed = holdPresumed, e.Charged-was
	}
	if h.key = keyOf(h.state); e.Charged == 0 && slices.Contains([]string{ReleasedNeverDispatched, ReleasedNotSent, ReleasedStatus + "429"}, e.Reason) {
		h.key, h.returned = "", true
	}
	a.move(h.accounts, h.at, e.Delta, presumed)
	a.spent(h.accounts)
	return a.posted(h.accounts, e.Postings, false)
}

func (a *audit) adjusted(e UsageAdjusted) error {
	for _, c := range a.adjustments {
		if c.Idempotency == e.Idempotency && a.decided.Sub(c.at) <= AttemptLife {
			return fmt.Errorf("adjusted twice by %s", e.Idempotency)
		}
	}
	c := &adjustment{UsageAdjusted: e, counts: a.time, at: a.time, version: a.version}
	presumed := Amount(0)
	if e.Reservation == "" {
		var err error
		if c.accounts, err = a.tenantWide(); err != nil {
			return err
		}
	} else {
		h := a.find(e.Reservation)
		if h == nil || h.state == holdOpen || !h.at.Equal(e.ReservedAt) || h.Model != e.Model || h.KeyID != e.KeyID || !maps.Equal(h.Tags, e.Tags) {
			return fmt.Errorf("adjusted: %+v for %+v", e, h)
		}
		if h.state == holdPresumed {
			presumed = -h.charged
		}
		h.state = holdClosed
		c.of, c.counts, c.accounts = h.Request, h.at, append(slices.Clone(h.accounts), a.laterAccounts(h)...)
	}
	a.adjustments = append(a.adjustments, c)
	a.move(c.accounts, c.counts, e.Delta, presumed)
	a.spent(c.accounts)
	return a.posted(c.accounts, e.Postings, false)
}

// inside tells whether a time is in the window that a budget has at an instant.
func (a *audit) inside(b *auditedBudget, t, now time.Time) bool {
	account := audited{length: time.Duration(b.Duration)}
	switch {
	case b.Period == Custom:
		window := Window{Start: b.Start, End: b.End}
		return window.Contains(now) && window.Contains(t)
	case account.length != 0:
		return account.part(t) >= account.part(now.Add(-account.length))
	default:
		return slowSame(b, t, now, a.zone.Location())
	}
}

// laterAccounts are those of budgets that came after a reservation, and began with its charge.
func (a *audit) laterAccounts(h *hold) []AccountID {
	var accounts []AccountID
	for _, id := range slices.Sorted(maps.Keys(a.budgets)) {
		account, ok := a.accounts[a.newest[id]]
		if !ok && a.budgets[id].Scope.Matches(h.Request) && a.inside(a.budgets[id], h.at, a.decided) {
			accounts = append(accounts, 0) // its window should have been opened
		}
		if ok && int64(account.id) > h.version && account.window.Contains(h.at) && a.budgets[id].Scope.Matches(h.Request) && !slices.Contains(h.accounts, account.id) {
			accounts = append(accounts, account.id)
		}
	}
	return accounts
}

func (a *audit) find(id ReservationID) *hold {
	for _, h := range a.holds {
		if h.Reservation == id {
			return h
		}
	}
	return nil
}

// spent notes that thresholds of these accounts may be reached now.
func (a *audit) spent(accounts []AccountID) {
	for _, id := range accounts {
		a.untold[id] = struct{}{}
	}
}

// posted checks that postings are to these accounts, carry the sums over all reservations, and leave use
// above the limit only where they are forced or do not raise it.
func (a *audit) posted(accounts []AccountID, postings []Posting, limitMoved bool) error {
	if !slices.EqualFunc(accounts, postings, func(id AccountID, p Posting) bool { return p.Account == id }) {
		return fmt.Errorf("postings %+v; want accounts %v", postings, accounts)
	}
	for _, p := range postings {
		account := a.accounts[p.Account]
		held, settled, presumed := a.sums(p.Account)
		if p.Held != held || p.Settled != settled || p.Presumed != presumed || p.Limit != account.limit || p.Budget != account.budget {
			return fmt.Errorf("posting %+v; want %s+%s, %s presumed, of %s in %s", p, settled, held, presumed, account.limit, account.budget)
		}
		use := held + settled
		if held < 0 || presumed < 0 || settled < presumed {
			return fmt.Errorf("a negative balance: %+v", p)
		}
		if use > p.Limit && !p.Forced && use > account.use {
			return fmt.Errorf("use rose from %s to %s above %s without being forced", account.use, use, p.Limit)
		}
		if p.Forced && (use <= p.Limit || (use <= account.use && !limitMoved)) {
			return fmt.Errorf("forced without need: %+v after %s", p, account.use)
		}
		account.use = use
	}
	return nil
}

// sums adds up what counts in an account.
func (a *audit) sums(id AccountID) (held, settled, presumed Amount) {
	account := a.accounts[id]
	if account.length == 0 {
		settled = account.seed
	}
	for _, h := range a.holds {
		switch {
		case !slices.Contains(h.accounts, id):
		case h.state == holdOpen:
			held += h.amount
		case account.length != 0:
		case h.state == holdPresumed:
			settled, presumed = settled+h.charged, presumed+h.charged
		default:
			settled += h.charged
		}
	}
	if account.length == 0 {
		for _, c := range a.adjustments {
			if slices.Contains(c.accounts, id) {
				settled += c.Delta
			}
		}
		// What was seeded as presumed counts by its reservation; what was adjusted there too.
		return held, settled, presumed
	}
	for _, part := range a.parts(account) {
		settled, presumed = settled+part.Settled, presumed+part.Presumed
	}
	return held, settled, presumed
}

// firstOfItsKey tells whether an idempotency key pays for a second request.
func (a *audit) firstOfItsKey(r Request) error {
	if r.Idempotency == "" {
		return nil
	}
	for _, h := range a.holds {
		if h.KeyID == r.KeyID && h.Idempotency == r.Idempotency && !h.returned && a.decided.Sub(h.at) <= AttemptLife {
			return fmt.Errorf("idempotency key %s of %s is used again by %s", r.Idempotency, h.Reservation, r.Reservation)
		}
	}
	return nil
}
