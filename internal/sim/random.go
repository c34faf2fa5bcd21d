package sim

import (
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// random is a seeded generator (splitmix64). The same seed gives the same numbers on every machine and with
// every version of Go.
type random struct{ state uint64 }

func (r *random) next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

// below is a number in [0, n).
func (r *random) below(n int) int {
	return int(r.next() % uint64(n)) //nolint:gosec // n is small and positive
}

// between is a duration in [least, most).
func (r *random) between(least, most time.Duration) time.Duration {
	return least + time.Duration(r.below(int(most-least)))
}

// chance is true once in n times; never for 0.
func (r *random) chance(n int) bool { return n > 0 && r.below(n) == 0 }

// id is a UUID.
func (r *random) id() string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], r.next())
	binary.BigEndian.PutUint64(id[8:], r.next())
	return id.String()
}

// pick is one of a list that is not empty.
func pick[T any](r *random, list []T) T { return list[r.below(len(list))] }
