package domain

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Past is what a new budget's window had cost before the budget was: a question, and with Spent its answer.
// Only a store can answer it, since a state does not remember what is closed.
type Past struct {
	Scope  Scope
	Window Window
	// Duration is that of a rolling budget, whose spend is asked for by bucket; else all is bucket 0.
	Duration Length
	// Spent are the charges of closed reservations made in the window, by bucket, oldest first.
	Spent []Bucket
}

// PastNeededError says that a command cannot be decided before somebody has told what a window had cost.
// A store answers with Informed, after it has adopted every presumption of the scope that was reserved in the window
// and not given back, or more than MaxAdopted of them.
type PastNeededError struct{ Past Past }

// MaxAdopted bounds how many reservations a new budget takes over, and so the size of its event and of what is read
// for it.
const MaxAdopted = 10_000

// Error implements error.
func (e *PastNeededError) Error() string {
	return fmt.Sprintf("what the window from %s had cost is not known: a bug of the store, not an input", e.Past.Window.Start.Format(time.RFC3339))
}

// Add counts what a recorded event charged, if it belongs to the question.
func (p *Past) Add(r Recorded) {
	of, at, amount := charge(r)
	if amount == 0 || !p.Window.Contains(at) || !p.Scope.Matches(of) {
		return
	}
	p.Count(p.bucketOf(at), amount)
}

// Count adds a sum to a bucket of the answer.
func (p *Past) Count(bucket int64, amount Amount) { p.bucket(bucket).Settled += amount }

// bucket is that of a number, which it adds where there is none.
func (p *Past) bucket(number int64) *Bucket {
	i, ok := slices.BinarySearchFunc(p.Spent, number, func(b Bucket, number int64) int { return cmp.Compare(b.Number, number) })
	if !ok {
		p.Spent = slices.Insert(p.Spent, i, Bucket{Number: number})
	}
	return &p.Spent[i]
}

func (p *Past) bucketOf(at time.Time) int64 {
	if p.Duration == 0 {
		return 0
	}
	return p.Duration.bucketOf(at)
}

// answers tells whether p is about what q asks.
func (p *Past) answers(q Past) bool {
	return p.Scope == q.Scope && p.Window == q.Window && p.Duration == q.Duration
}

// charge is what an event adds to what was spent, for which request, made when.
func charge(r Recorded) (of Request, at time.Time, amount Amount) {
	switch e := r.Event.(type) { //nolint:gochecksumtype // the others charge nothing
	case UsageSettled:
		return e.Request, e.ReservedAt, e.Charged
	case ReservationExpired:
		return e.Request, e.ReservedAt, e.Charged
	case UsageSettledLate:
		return e.Request, e.ReservedAt, e.Delta
	case UsageAdjusted:
		return e.request(), e.at(r.Time), e.Delta
	}
	return Request{}, time.Time{}, 0
}

// ClosedBy is the reservation that an event charged, as far as an adjustment asks. Of several such events the last
// knows all accounts it counts in.
func ClosedBy(r Recorded) (Reservation, bool) {
	of, at, _ := charge(r)
	if of.Reservation == "" {
		return Reservation{}, false
	}
	closed := Reservation{Request: of, At: at, Version: r.Version}
	for _, p := range Postings(r.Event) {
		closed.Accounts = append(closed.Accounts, p.Account)
	}
	return closed, true
}

// seed fills the event that opens a window with what the window had cost and held already. Where more was
// given back than spent, since no budget was there to refuse it, it begins at nothing.
func (s State) seed(e *WindowOpened, past Past) error {
	past.Spent = slices.Clone(past.Spent)
	for _, id := range sortedIDs(s.Open) {
		if r := s.Open[id]; past.Scope.Matches(r.Request) && (past.Duration != 0 || past.Window.Contains(r.At)) {
			if len(r.Accounts) >= maxAccounts {
				return invalid("reservation %s counts in %d budgets already; try again when it is closed", id, len(r.Accounts))
			}
			e.Held, e.Adopted = e.Held+r.Amount, append(e.Adopted, id)
		}
	}
	for _, id := range sortedIDs(s.Presumed) {
		if p := s.Presumed[id]; !p.Released && past.Scope.Matches(p.Request) && past.Window.Contains(p.At) {
			past.bucket(past.bucketOf(p.At)).Presumed += p.Charged
			e.Adopted = append(e.Adopted, id)
		}
	}
	if len(e.Adopted) > MaxAdopted {
		return invalid("its window from %s has more than %d reservations that are open or charged by presumption; a budget cannot take over so many",
			e.Start.Format(time.RFC3339), MaxAdopted)
	}
	for _, b := range past.Spent {
		b.Settled = max(b.Settled, b.Presumed)
		e.Settled, e.Presumed = e.Settled+b.Settled, e.Presumed+b.Presumed
		if past.Duration != 0 && b.Settled != 0 {
			e.Buckets = append(e.Buckets, b)
		}
	}
	if e.Settled > maxBalance || e.Held > maxBalance {
		return fmt.Errorf("%w: the window from %s had cost %s", ErrAmount, e.Start.Format(time.RFC3339), e.Settled)
	}
	return nil
}

func sortedIDs[V any](m map[ReservationID]V) []ReservationID {
	ids := make([]ReservationID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
