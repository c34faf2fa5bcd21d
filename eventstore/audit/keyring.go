package audit

import (
	"crypto/sha256"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
)

// digest stands for an idempotency key and its scope, as in the table attempt.
type digest [sha256.Size]byte

// keyring knows what idempotency keys stand for. Those older than their life are forgotten here too, so
// that memory is bounded by a week of requests that carry one.
type keyring struct {
	taken map[digest]taking
	order []taking
}

// taking is the request that has a key.
type taking struct {
	key     digest
	version int64
	domain.Attempt
}

func newKeyring() keyring { return keyring{taken: map[digest]taking{}} }

// see follows the idempotency key of an event: it pays for one request that is not released.
func (k *keyring) see(f *fold, r domain.Recorded) {
	a, ok := domain.AttemptAfter(r)
	if !ok {
		return
	}
	key := digest(eventstore.AttemptDigest(a.AttemptKey))
	before, used := k.taken[key]
	over := func(at time.Time) bool { return r.Time.Sub(at) > domain.AttemptLife }
	switch takes := a.State == domain.AttemptHeld || a.State == domain.AttemptAdjusted; {
	case takes:
		if used && r.Time.Sub(before.At) <= domain.AttemptLife {
			f.violated(r.Version, LawIdempotency, "the key %.80q pays for version %d already", a.Idempotency, before.version)
		}
		k.put(taking{key: key, version: r.Version, Attempt: a})
	case over(a.At) && (!used || before.Reservation != a.Reservation): // late news means nothing
		if used && over(before.At) { // which of two old rows is kept depends on housekeeping
			delete(k.taken, key)
		}
	case used && before.Reservation != a.Reservation: // it pays for another request by now
	case a.State == "":
		delete(k.taken, key)
	default:
		a.Version = before.Version
		k.put(taking{key: key, version: before.version, Attempt: a})
	}
}

func (k *keyring) put(t taking) {
	for len(k.order) > 0 && t.At.Sub(k.order[0].At) > domain.AttemptLife {
		if oldest := k.order[0]; k.taken[oldest.key].Reservation == oldest.Reservation {
			delete(k.taken, oldest.key)
		}
		k.order = k.order[1:]
	}
	k.taken[t.key] = t
	k.order = append(k.order, t)
}
