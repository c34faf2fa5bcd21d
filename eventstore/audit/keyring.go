package audit

import (
	"crypto/sha256"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// keyLife is how long an idempotency key means the same request. Older ones are forgotten here too, so
// that memory is bounded by a week of requests that carry one.
const keyLife = 7 * 24 * time.Hour

// digest stands for an idempotency key of an API key; the zero digest for none. 16 bytes of SHA-256 are
// more than chance can collide.
type digest [16]byte

// keyring knows which idempotency keys have a reservation that was not released.
type keyring struct {
	taken map[digest]int64 // the version that took it
	order []taking
}

type taking struct {
	key     digest
	version int64
	at      time.Time
}

func newKeyring() keyring { return keyring{taken: map[digest]int64{}} }

// take gives the key of a request to its reservation.
func (k *keyring) take(f *fold, r domain.Recorded, of domain.Request) digest {
	if of.Idempotency == "" {
		return digest{}
	}
	for len(k.order) > 0 && r.Time.Sub(k.order[0].at) > keyLife {
		if oldest := k.order[0]; k.taken[oldest.key] == oldest.version {
			delete(k.taken, oldest.key)
		}
		k.order = k.order[1:]
	}
	sum := sha256.Sum256([]byte(string(of.KeyID) + "\x00" + of.Idempotency))
	key := digest(sum[:16])
	if version, ok := k.taken[key]; ok {
		f.violated(r.Version, LawIdempotency, "the key %.80q pays for version %d already", of.Idempotency, version)
	}
	k.taken[key] = r.Version
	k.order = append(k.order, taking{key: key, version: r.Version, at: r.Time})
	return key
}

// free gives a key back with the reservation that was released.
func (k *keyring) free(key digest) { delete(k.taken, key) }
