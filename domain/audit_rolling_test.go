package domain_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

// matches is the model's own reading of a scope.
func matches(s Scope, r Request) bool {
	if s.Tag == "" {
		return (s.APIKey == "" || s.APIKey == r.KeyID) && (s.Model == "" || s.Model == r.Model)
	}
	for name, value := range r.Tags {
		if s.Tag == name || s.Tag == name+"="+value {
			return true
		}
	}
	return false
}

// part numbers the parts of a rolling window, a sixtieth of its length each; all of another window is part 0.
func (account *audited) part(t time.Time) int64 {
	if account.length == 0 {
		return 0
	}
	width := account.length / 60
	part := t.Unix() / int64(width/time.Second)
	for account.begins(part).After(t) {
		part--
	}
	return part
}

func (account *audited) begins(part int64) time.Time {
	return time.Unix(part*int64(account.length/60/time.Second), 0).UTC()
}

func (account *audited) ends(part int64) time.Time { return account.begins(part + 1) }

// move counts a charge, or a correction of one, in the rolling accounts that still know its time.
func (a *audit) move(accounts []AccountID, at time.Time, settled, presumed Amount) {
	for _, id := range accounts {
		account := a.accounts[id]
		if part := account.part(at); account.length != 0 && part >= account.oldest && (settled != 0 || presumed != 0) {
			account.entries = append(account.entries, entry{part: part, settled: settled, presumed: presumed})
		}
	}
}

// parts adds up the movements of a rolling account by part, from the first one on. What an adjustment gives
// back beyond what its part had confirmed it takes from the parts before, the newest first.
func (a *audit) parts(account *audited) []Bucket {
	var parts []Bucket
	for _, e := range account.entries {
		i, found := slices.BinarySearchFunc(parts, e.part, func(b Bucket, number int64) int { return cmp.Compare(b.Number, number) })
		if e.slid {
			parts = parts[i:]
			continue
		}
		if !found {
			parts = slices.Insert(parts, i, Bucket{Number: e.part})
		}
		parts[i].Settled, parts[i].Presumed = parts[i].Settled+e.settled, parts[i].Presumed+e.presumed
		for ; i > 0 && parts[i].Settled < parts[i].Presumed; i-- {
			missing := parts[i].Presumed - parts[i].Settled
			parts[i].Settled, parts[i-1].Settled = parts[i].Settled+missing, parts[i-1].Settled-missing
		}
	}
	return slices.DeleteFunc(parts, func(b Bucket) bool { return b.Settled == 0 && b.Presumed == 0 })
}

func (a *audit) sameBuckets(account *audited, got []Bucket) error {
	var want []Bucket
	if account.length != 0 {
		want = a.parts(account)
	}
	for _, b := range want {
		if b.Settled < b.Presumed || b.Presumed < 0 {
			return fmt.Errorf("a negative part %+v of account %d", b, account.id)
		}
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("account %d counts %+v by part; want %+v", account.id, got, want)
	}
	return nil
}

// slid checks that all that left a rolling window, and no more, was taken out of its account.
func (a *audit) slid(e WindowSlid) error {
	account := a.accounts[e.Account]
	if account == nil || account.length == 0 || a.newest[e.Budget] != e.Account {
		return fmt.Errorf("slid: %+v of %+v", e, account)
	}
	aged := Amount(0)
	before := a.parts(account)
	oldest := account.part(a.decided.Add(-account.length))
	for _, b := range before {
		if b.Number < oldest {
			aged += b.Settled
		}
	}
	account.entries = append(account.entries, entry{part: oldest, slid: true})
	account.oldest = oldest
	if e.Oldest != oldest || e.Aged != aged || len(a.parts(account)) == len(before) {
		return fmt.Errorf("slid %s to %d; want %s to %d of %+v", e.Aged, e.Oldest, aged, oldest, before)
	}
	if err := a.posted([]AccountID{e.Account}, e.Postings, false); err != nil {
		return err
	}
	_, settled, _ := a.sums(e.Account)
	maps.DeleteFunc(account.told, func(t Threshold, _ bool) bool { return !reached(t, settled, account.limit) })
	return nil
}

// rolled tells whether more was spent in the time just passed than a rolling account counts. The truth is
// added up by reserve times over all requests that match, whenever the budget was defined. Only an adjustment of
// what was closed before counts where it was reserved alone.
func (a *audit) rolled(s State, now time.Time) error {
	for id, account := range a.accounts {
		b := a.budgets[account.budget]
		if account.length == 0 || a.newest[account.budget] != id || b == nil || s.Accounts[id] == nil {
			continue
		}
		for _, t := range []time.Time{now, now.Add(account.length / 7), now.Add(account.length)} {
			inside := func(at time.Time) bool { return at.After(t.Add(-account.length)) && !at.After(t) }
			spent, held := Amount(0), Amount(0)
			for _, h := range a.holds {
				switch {
				case !matches(account.scope, h.Request):
				case h.state == holdOpen:
					held += h.amount
				case inside(h.at):
					spent += h.charged
				}
			}
			for _, c := range a.adjustments {
				if inside(c.counts) && matches(account.scope, c.of) && (c.version < b.since || slices.Contains(c.accounts, id)) {
					spent += c.Delta
				}
			}
			for _, b := range s.Balances(t) {
				if b.Account == id && (b.Settled < spent || b.Held != held) {
					return fmt.Errorf("at %s %+v; but in the %s before %s was spent, and %s is held", t, b, account.length, spent, held)
				}
			}
		}
	}
	return nil
}

// crossed checks that a threshold is told of when it is reached, and not twice.
func (a *audit) crossed(e BudgetThresholdCrossed) error {
	account, b := a.accounts[e.Account], a.budgets[e.Budget]
	if account == nil || b == nil || account.budget != e.Budget || !slices.Contains(b.alerts, e.Threshold) || account.told[e.Threshold] {
		return fmt.Errorf("%+v of %+v in %+v", e, b, account)
	}
	_, settled, _ := a.sums(e.Account)
	if e.Use != settled || e.Limit != account.limit || !reached(e.Threshold, settled, account.limit) {
		return fmt.Errorf("%+v, but %s of %s was spent", e, settled, account.limit)
	}
	account.told[e.Threshold] = true
	return nil
}

// toldAll checks, after a decision, that no threshold was passed in silence.
func (a *audit) toldAll() error {
	for id := range a.untold {
		account := a.accounts[id]
		b, live := a.budgets[account.budget]
		if !live || len(b.alerts) == 0 {
			continue
		}
		_, settled, _ := a.sums(id)
		for _, t := range b.alerts {
			if reached(t, settled, account.limit) && !account.told[t] {
				return fmt.Errorf("%s of %s was spent in account %d, and %d ppm not told of", settled, account.limit, id, t)
			}
		}
	}
	clear(a.untold)
	return nil
}

func reached(t Threshold, settled, limit Amount) bool {
	if settled <= 0 {
		return false
	}
	share := new(big.Int).Mul(big.NewInt(int64(limit)), big.NewInt(int64(t)))
	return new(big.Int).Mul(big.NewInt(int64(settled)), big.NewInt(1_000_000)).Cmp(share) >= 0
}

// agrees tells where a state differs from what the events add up to.
func (a *audit) agrees(s State) error {
	needed := map[AccountID]bool{}
	for budget := range a.budgets {
		if id, ok := a.newest[budget]; ok {
			needed[id] = true
		}
	}
	open, presumed := 0, 0
	for _, h := range a.holds {
		r, isOpen := s.Open[h.Reservation]
		p, isPresumed := s.Presumed[h.Reservation]
		if isOpen != (h.state == holdOpen) || isPresumed != (h.state == holdPresumed || h.state == holdReleased) {
			return fmt.Errorf("reservation %+v: open %v, presumed %v", h, isOpen, isPresumed)
		}
		if isPresumed {
			r = p.Reservation
		}
		switch {
		case h.state == holdClosed:
			continue
		case r.Amount != h.amount || !r.ExpiresAt.Equal(h.expires) || !slices.Equal(r.Accounts, h.accounts) || p.Charged != h.charged || p.Released != (h.state == holdReleased):
			return fmt.Errorf("reservation %+v, presumption %+v; want %+v", r, p, h)
		case isOpen:
			open++
		default:
			presumed++
		}
		for _, id := range h.accounts {
			needed[id] = true
		}
	}
	if len(s.Open) != open || len(s.Presumed) != presumed || len(s.Closed) != 0 {
		return fmt.Errorf("%d open, %d presumed, %d closed; want %d, %d and none", len(s.Open), len(s.Presumed), len(s.Closed), open, presumed)
	}
	if err := a.agreesOnAttempts(s); err != nil {
		return err
	}
	return a.agreesOnAccounts(s, needed)
}

// agreesOnAttempts checks what idempotency keys stand for: the newest request of each that was not given back.
func (a *audit) agreesOnAttempts(s State) error {
	for _, h := range a.holds {
		if h.Idempotency == "" || a.later(h) {
			continue
		}
		got, ok := s.Attempts[AttemptKey{KeyID: h.KeyID, Idempotency: h.Idempotency}]
		if h.key == "" {
			if ok && got.Reservation == h.Reservation {
				return fmt.Errorf("released, and its key stands for %+v", got)
			}
			continue
		}
		if !ok || got.Reservation != h.Reservation || got.State != h.key || got.Fingerprint != h.Fingerprint || !got.At.Equal(h.at) || got.Charged != h.charged || got.Version != h.version {
			return fmt.Errorf("attempt %+v, %v; want %+v", got, ok, h)
		}
	}
	for _, c := range a.adjustments {
		got, ok := s.Attempts[AttemptKey{Idempotency: c.Idempotency, Adjustment: true}]
		if !ok || got.State != AttemptAdjusted || (got.Version == c.version) != (got.Charged == c.Delta && got.At.Equal(c.at)) {
			return fmt.Errorf("attempt %+v, %v; want the adjustment %+v", got, ok, c)
		}
	}
	return nil
}

// later tells whether the key of a hold was used by a later one.
func (a *audit) later(h *hold) bool {
	i := slices.Index(a.holds, h)
	return slices.ContainsFunc(a.holds[i+1:], func(o *hold) bool { return o.KeyID == h.KeyID && o.Idempotency == h.Idempotency })
}

func (a *audit) agreesOnAccounts(s State, needed map[AccountID]bool) error {
	if len(s.Accounts) != len(needed) || len(s.Budgets) != len(a.budgets) || len(s.Current) > len(a.budgets) {
		return fmt.Errorf("accounts %v, budgets %v, current %v; want accounts %v of %v", slices.Sorted(maps.Keys(s.Accounts)), s.Budgets, s.Current, needed, a.budgets)
	}
	for id := range needed {
		got, ok := s.Accounts[id]
		if !ok {
			return fmt.Errorf("account %d is missing", id)
		}
		want := a.accounts[id]
		held, settled, presumed := a.sums(id)
		if got.Held != held || got.Settled != settled || got.Presumed != presumed || got.Limit != want.limit || got.Window != want.window {
			return fmt.Errorf("account %+v; want %s+%s, %s presumed, of %+v", *got, settled, held, presumed, *want)
		}
		if got.Cap != max(got.Limit, got.Use()) || got.Available() != got.Limit-held-settled {
			return fmt.Errorf("account %+v: the cap is the limit, or use where that is forced above it", *got)
		}
		if err := a.sameBuckets(want, got.Buckets); err != nil {
			return err
		}
		if len(got.Crossed) != len(want.told) || slices.ContainsFunc(got.Crossed, func(t Threshold) bool { return !want.told[t] }) {
			return fmt.Errorf("account %d told of %v; want %v", id, got.Crossed, want.told)
		}
	}
	if !slices.IsSortedFunc(s.Budgets, func(x, y Budget) int { return cmp.Compare(x.ID, y.ID) }) {
		return fmt.Errorf("budgets are not sorted: %v", s.Budgets)
	}
	for _, b := range s.Budgets {
		if want := a.budgets[b.ID]; want == nil || b.Limit != want.limit || !slices.Equal(b.Raises, want.raises) || b.Scope != want.Scope || !slices.Equal(b.AlertsAt, want.alerts) {
			return fmt.Errorf("budget %+v; want %+v", b, want)
		}
	}
	return nil
}

// The slow search for windows: what the wall clock showed is read every quarter of an hour.

// furthest is the latest that the wall clock has shown by an instant, written as if it were UTC.
func furthest(t time.Time, zone *time.Location) time.Time {
	const quarter = 15 * time.Minute
	latest := wallOf(t, zone)
	if zone == time.UTC {
		return latest
	}
	for u := t.Truncate(quarter); t.Sub(u) < 26*time.Hour; u = u.Add(-quarter) { // no clock was ever set back by more
		if w := wallOf(u, zone); w.After(latest) {
			latest = w
		}
	}
	return latest
}

func wallOf(t time.Time, zone *time.Location) time.Time {
	_, offset := t.In(zone).Zone()
	return t.Add(time.Duration(offset) * time.Second)
}

// periodOf numbers the period of a budget that the wall clock has reached.
func periodOf(b *auditedBudget, wall time.Time) int64 {
	switch {
	case b.Period == Total:
		return 0
	case b.Period == Weekly && b.WeekStart != "":
		for !strings.EqualFold(wall.Weekday().String(), string(b.WeekStart)) {
			wall = wall.AddDate(0, 0, -1)
		}
		return floorDiv(wall.Unix(), 86400)
	case b.Period == Monthly && b.AnchorDay > 1:
		for !anchored(wall, b.AnchorDay) {
			wall = wall.AddDate(0, 0, -1)
		}
		return floorDiv(wall.Unix(), 86400)
	}
	return ordinal(b.Period, wall)
}

// anchored tells whether a month of an anchor begins on a day: the anchor's, or the last of a shorter month.
func anchored(wall time.Time, anchor int64) bool {
	return int64(wall.Day()) == anchor || (int64(wall.Day()) < anchor && wall.AddDate(0, 0, 1).Day() == 1)
}

// slowSame tells whether two instants are in one window of a budget.
func slowSame(b *auditedBudget, t, u time.Time, zone *time.Location) bool {
	return periodOf(b, furthest(t, zone)) == periodOf(b, furthest(u, zone))
}

// slowWindow checks the bounds of a window that was opened by a decision at an instant, after the window before.
func slowWindow(e WindowOpened, b *auditedBudget, before, decided time.Time, zone *time.Location) error {
	w := Window{Start: e.Start, End: e.End}
	total := Window{Start: at("1970-01-01"), End: at("9999-01-01")}
	wrong := func(why string) error {
		return fmt.Errorf("window %s..%s of %s at %s in %s: %s", e.Start, e.End, b.Period, decided, zone, why)
	}
	if !w.Contains(decided) || e.Start.Location() != time.UTC || e.End.Location() != time.UTC {
		return wrong("does not contain it")
	}
	switch b.Period { //nolint:exhaustive // the others follow the calendar
	case Total:
		if w != total {
			return wrong("is not all time")
		}
		return nil
	case Custom:
		if w.Start != b.Start || w.End != b.End {
			return wrong("is not that of its budget")
		}
		return nil
	case Rolling:
		account := audited{length: time.Duration(b.Duration)}
		if want := account.begins(account.part(decided.Add(-account.length))); w.Start != want || w.End != total.End {
			return wrong("does not begin with the oldest part that counts")
		}
		return nil
	}
	begins := func(t time.Time) bool { return !slowSame(b, t.Add(-time.Microsecond), t, zone) }
	switch {
	case w.Start.Before(before):
		return wrong("overlaps the one before")
	case !slowSame(b, w.Start, decided, zone) || !slowSame(b, w.End.Add(-time.Microsecond), decided, zone):
		return wrong("a new period begins inside")
	case !w.Start.Equal(before) && !begins(w.Start):
		return wrong("no period begins at its start")
	case !begins(w.End):
		return wrong("no period begins at its end")
	}
	return nil
}

// slowCustom checks the window that dates or instants were read as.
func slowCustom(e BudgetDefined, zone *time.Location) error {
	if e.Period != Custom {
		if !e.Start.IsZero() || !e.End.IsZero() || e.StartDate+e.EndDate != "" {
			return fmt.Errorf("%+v has dates", e)
		}
		return nil
	}
	bound := func(text string, days int) time.Time {
		if date, err := time.Parse(time.DateOnly, text); err == nil {
			date = date.AddDate(0, 0, days)
			t := date.Add(-26 * time.Hour)
			for wallOf(t, zone).Before(date) {
				t = t.Add(15 * time.Minute)
			}
			return t
		}
		instant, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return time.Time{}
		}
		return instant.UTC()
	}
	if start, end := bound(e.StartDate, 0), bound(e.EndDate, 1); !start.Equal(e.Start) || !end.Equal(e.End) || !start.Before(end) {
		return fmt.Errorf("%s..%s is %s..%s; want %s..%s", e.StartDate, e.EndDate, e.Start, e.End, start, end)
	}
	return nil
}
