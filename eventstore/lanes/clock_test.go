package lanes

import (
	"testing"
	"time"
)

func TestTheSampleOfTheShortestRoundTripIsKeptUntilItIsTooOld(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_000_000, 0)
	now := start
	c := &clock{now: func() time.Time { return now }}
	for _, sample := range []struct {
		what               string
		sent               time.Duration // since start
		trip, ahead, known time.Duration
	}{
		{"the first counts, however slow", 0, time.Second, 5 * time.Second, 5 * time.Second},
		{"a faster one counts", time.Second, 100 * time.Millisecond, 7 * time.Second, 7 * time.Second},
		{"a slower one does not", 2 * time.Second, 101 * time.Millisecond, 9 * time.Second, 7 * time.Second},
		{"one as fast does", 3 * time.Second, 100 * time.Millisecond, 8 * time.Second, 8 * time.Second},
		{"a slower one before the 30 s are over does not", 33*time.Second - time.Microsecond, 100*time.Millisecond + time.Nanosecond, 9 * time.Second, 8 * time.Second},
		{"a slower one after 30 s does", 33*time.Second - 100*time.Nanosecond, 100*time.Millisecond + 100*time.Nanosecond, 11 * time.Second, 11 * time.Second},
		{"and the 30 s begin anew", 34 * time.Second, 201 * time.Millisecond, 12 * time.Second, 11 * time.Second},
	} {
		sent := start.Add(sample.sent)
		// The database read its clock in the middle of the round trip.
		c.observe(Sample{At: sent.Add(sample.trip / 2).Add(sample.ahead), Sent: sent, Received: sent.Add(sample.trip)})
		now = now.Add(time.Second)
		if got := c.database().Sub(now); got != sample.known {
			t.Errorf("%s: the database is taken to be %s ahead, want %s", sample.what, got, sample.known)
		}
	}
}
