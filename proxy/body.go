package proxy

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// DefaultMaxInFlight is what the bodies of all requests may take in memory together, in bytes.
const DefaultMaxInFlight = 256 << 20

const (
	// copies is how often a body lies in memory: as it came, in what the parser keeps of it, and as it is
	// sent. While it grows, the smaller buffer that it is copied from takes the place of the later ones.
	copies = 3
	// firstBuffer is where reading begins: what a Content-Length announces may never come.
	firstBuffer = 4 << 10
	// shares is the inverse of the part of the room that one tenant may take.
	shares = 2
)

// bodies bounds what the bodies of all requests take in memory together.
type bodies struct {
	most  int64 // of all, in bytes
	share int64 // of one tenant

	mu   sync.Mutex
	used int64
	by   map[domain.TenantID]int64
}

// newBodies makes room for at least one body of the largest size, whatever most says.
func newBodies(most, largest int64) *bodies {
	one := copies * (largest + 1)
	most = max(most, one)
	return &bodies{most: most, share: max(most/shares, one), by: map[domain.TenantID]int64{}}
}

// take claims n bytes for a tenant; false where there is no room.
func (b *bodies) take(tenant domain.TenantID, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.most || b.by[tenant]+n > b.share {
		return false
	}
	b.used += n
	b.by[tenant] += n
	return true
}

// give returns n bytes of a tenant.
func (b *bodies) give(tenant domain.TenantID, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	b.by[tenant] -= n
	if b.by[tenant] <= 0 {
		delete(b.by, tenant)
	}
}

// take claims room for a buffer of the given size instead of the one before.
func (x *exchange) take(size int64) error {
	more := copies*size - x.room
	if !x.s.bodies.take(x.who.tenant, more) {
		return overloaded()
	}
	x.room += more
	return nil
}

// giveRoom returns what the request's body took. It is called when the request is over.
func (x *exchange) giveRoom() {
	if x.room > 0 {
		x.s.bodies.give(x.who.tenant, x.room)
		x.room = 0
	}
}

// overloaded refuses a body for which there is no room now. Nothing was held and nothing forwarded, so the
// client may try again.
func overloaded() *problem {
	return &problem{
		status: http.StatusServiceUnavailable, code: "overloaded", message: "Overloaded",
		detail:     "the bodies of other requests take all the memory there is for them; send it again in a moment",
		retryAfter: time.Second,
	}
}

// takeIn reads the body to its end. Room is claimed as bytes come, not as they are announced.
func (x *exchange) takeIn() ([]byte, error) {
	from := http.MaxBytesReader(x.w, x.r.Body, x.s.cfg.MaxBody)
	size := min(firstBuffer, x.s.cfg.MaxBody+1)
	if err := x.take(size); err != nil {
		return nil, err
	}
	body := make([]byte, 0, size)
	for {
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			return body, nil
		}
		if err != nil {
			return nil, err
		}
		if len(body) < cap(body) {
			continue
		}

		// One byte more than the largest body lets the reader find its end.
		size = min(2*size, x.s.cfg.MaxBody+1)
		if err := x.take(size); err != nil {
			return nil, err
		}
		body = append(make([]byte, 0, size), body...)
	}
}
