package domain

import (
	"slices"
	"time"
)

// Bucket is what was charged for reservations made in one part of a rolling window. Buckets of a length
// are numbered from 1970 on: number n covers [n·width, (n+1)·width).
type Bucket struct {
	// Number of the bucket: the reserve time divided by its width.
	Number   int64  `json:"bucket"`
	Settled  Amount `json:"spentUsd"`
	Presumed Amount `json:"presumedUsd"`
}

// BucketWidth is the duration of a bucket. Lengths are whole minutes, so it is whole seconds.
func (l Length) BucketWidth() time.Duration { return time.Duration(l) / buckets }

// bucketOf is the number of the bucket that holds an instant.
func (l Length) bucketOf(at time.Time) int64 {
	return floorDiv(at.UnixMicro(), l.BucketWidth().Microseconds())
}

// oldest is the first bucket that still counts at an instant: its end has not left the window (at-l, at].
func (l Length) oldest(at time.Time) int64 { return l.bucketOf(at.Add(-time.Duration(l))) }

// begins is the first instant of a bucket.
func (l Length) begins(bucket int64) time.Time {
	return time.UnixMicro(bucket * l.BucketWidth().Microseconds()).UTC()
}

// leaves is when a bucket stops to count: its end is then one length ago.
func (l Length) leaves(bucket int64) time.Time {
	return l.begins(bucket + 1).Add(time.Duration(l))
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// rolls tells whether the account is of a rolling budget.
func (a *Account) rolls() bool { return a.Duration != 0 }

// counts tells whether what was reserved at an instant still counts in the account.
func (a *Account) counts(at time.Time) bool { return !a.rolls() || a.Duration.bucketOf(at) >= a.Oldest }

// aged is what a rolling account loses by an instant: the sums of the buckets that left its window.
func (a *Account) aged(at time.Time) (settled, presumed Amount, oldest int64) {
	oldest = a.Duration.oldest(at)
	for _, b := range a.Buckets {
		if b.Number < oldest {
			settled, presumed = settled+b.Settled, presumed+b.Presumed
		}
	}
	return settled, presumed, oldest
}

// SlidesAt is when the oldest part of a rolling account leaves its window; zero where there is none.
func (a Account) SlidesAt() time.Time {
	if len(a.Buckets) == 0 {
		return time.Time{}
	}
	return a.Duration.leaves(a.Buckets[0].Number)
}

// slide is the account at an instant and the event that makes it so, if anything left the window.
func (a Account) slide(at time.Time) (Account, []Event) {
	if len(a.Buckets) == 0 {
		return a, nil
	}
	settled, presumed, oldest := a.aged(at)
	if a.Buckets[0].Number >= oldest {
		return a, nil
	}
	a.Settled, a.Presumed = a.Settled-settled, a.Presumed-presumed
	a.dropBuckets(oldest)
	a.rearm()
	return a, []Event{WindowSlid{
		Account: a.ID, Budget: a.Budget, Aged: settled, Oldest: oldest, Postings: []Posting{a.posting(move{})},
	}}
}

// confirmed is what was spent by evidence, and can be given back at an instant: in a rolling account that of
// its bucket and of older ones. Newer ones would be short of it when it has left the window.
func (a *Account) confirmed(at time.Time) Amount {
	if !a.rolls() {
		return a.Settled - a.Presumed
	}
	sum, last := Amount(0), a.Duration.bucketOf(at)
	for _, b := range a.Buckets {
		if b.Number <= last {
			sum += b.Settled - b.Presumed
		}
	}
	return sum
}

// bucket adds to the bucket of an instant. What is given back beyond the bucket's own comes from those before,
// the newest first. The buckets are never changed in place: clones share them.
func (a *Account) bucket(at time.Time, settled, presumed Amount) {
	if settled == 0 && presumed == 0 {
		return
	}
	number := a.Duration.bucketOf(at)
	kept := make([]Bucket, 0, len(a.Buckets)+1)
	added := false
	for _, b := range a.Buckets {
		if !added && b.Number >= number {
			added = true
			if b.Number > number {
				kept = append(kept, Bucket{Number: number, Settled: settled, Presumed: presumed})
			} else {
				b.Settled, b.Presumed = b.Settled+settled, b.Presumed+presumed
			}
		}
		kept = append(kept, b)
	}
	if !added {
		kept = append(kept, Bucket{Number: number, Settled: settled, Presumed: presumed})
	}
	for i := len(kept) - 1; i > 0; i-- {
		if missing := kept[i].Presumed - kept[i].Settled; missing > 0 {
			kept[i].Settled, kept[i-1].Settled = kept[i].Settled+missing, kept[i-1].Settled-missing
		}
	}
	a.Buckets = slices.DeleteFunc(kept, func(b Bucket) bool { return b.Settled == 0 && b.Presumed == 0 })
	if len(a.Buckets) == 0 {
		a.Buckets = nil
	}
}

// dropBuckets forgets the buckets before one.
func (a *Account) dropBuckets(oldest int64) {
	a.Oldest = oldest
	i := slices.IndexFunc(a.Buckets, func(b Bucket) bool { return b.Number >= oldest })
	if i < 0 {
		a.Buckets = nil
		return
	}
	a.Buckets = a.Buckets[i:]
}

// window is what people see of a rolling window: the time just passed, until the next part leaves it.
func (l Length) window(at time.Time, a *Account) Window {
	w := Window{Start: at.Add(-time.Duration(l)), End: l.begins(l.bucketOf(at) + 1)}
	if a == nil {
		return w
	}
	for _, b := range a.Buckets {
		if leaves := l.leaves(b.Number); leaves.After(at) {
			w.End = leaves
			return w
		}
	}
	return w
}
