package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	adminKeyHeader = "X-Admin-Key"

	// guessWindow and guessLimit are the ten failed attempts a minute: far more than typing errors make,
	// far fewer than guessing needs.
	guessWindow = time.Minute
	guessLimit  = 10
	// maxAddresses bounds the memory of attempts, about 5 MB when full. Above it some address is
	// forgotten early, which costs the limit nothing against an attacker who has that many.
	maxAddresses = 10_000
)

// authenticate lets the holder of the admin key pass.
func (s *Server) authenticate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if s.closed {
			return &problem{code: codeDisabled, detail: "No admin key is configured. Set ADMIN_API_KEY (at least 16 characters) and restart."}
		}
		digest := sha256.Sum256([]byte(c.Request().Header.Get(adminKeyHeader)))
		right := subtle.ConstantTimeCompare(digest[:], s.keyHash[:]) == 1
		address := networkOf(c.RealIP())
		verdict := s.guesses.judge(address, digest, right, s.deps.Now())
		if verdict.first {
			s.deps.Log.WarnContext(c.Request().Context(), "admin key attempts limited",
				slog.String("address", address), slog.Duration("for", verdict.wait))
		}
		switch {
		case verdict.wait > 0:
			return &problem{
				code: codeTooMany, retryAfter: verdict.wait,
				detail: fmt.Sprintf("More than %d attempts with a wrong admin key came from this address within a minute.", guessLimit),
			}
		case !right:
			return &problem{code: codeAdminKey, detail: "Send the admin key as " + adminKeyHeader + "."}
		}
		return next(c)
	}
}

// networkOf is who an address belongs to: an IPv4 address alone, an IPv6 one with its /64, which is the
// least that one customer gets.
func networkOf(ip string) string {
	address, err := netip.ParseAddr(ip)
	if err != nil {
		return "unknown"
	}
	address = address.Unmap().WithZone("")
	if address.Is4() {
		return address.String()
	}
	network, err := address.Prefix(64)
	if err != nil {
		return "unknown"
	}
	return network.String()
}

// guesses remembers failed attempts by address. It is safe for concurrent use.
type guesses struct {
	mu        sync.Mutex
	addresses map[string]*attempts
}

// attempts are the failures of one address within guessWindow of the first of them.
type attempts struct {
	until    time.Time
	failures int
	keys     [][sha256.Size]byte // the different wrong keys, at most guessLimit
	told     bool                // the log knows
}

// verdict says how long an address must wait, 0 for not at all. first marks the attempt that began it.
type verdict struct {
	wait  time.Duration
	first bool
}

func newGuesses() *guesses { return &guesses{addresses: map[string]*attempts{}} }

// judge counts an attempt. See the package's documentation for the rule.
func (g *guesses) judge(address string, digest [sha256.Size]byte, right bool, now time.Time) verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.addresses[address]
	if a != nil && !now.Before(a.until) {
		delete(g.addresses, address)
		a = nil
	}
	if a == nil {
		if right {
			return verdict{}
		}
		g.makeRoom(now)
		a = &attempts{until: now.Add(guessWindow)}
		g.addresses[address] = a
	}
	if len(a.keys) >= guessLimit || (!right && a.failures >= guessLimit) {
		first := !a.told
		a.told = true
		return verdict{wait: a.until.Sub(now), first: first}
	}
	if !right {
		a.failures++
		a.learn(digest)
	}
	return verdict{}
}

func (a *attempts) learn(digest [sha256.Size]byte) {
	for _, known := range a.keys {
		if known == digest {
			return
		}
	}
	if len(a.keys) < guessLimit {
		a.keys = append(a.keys, digest)
	}
}

// makeRoom forgets what is over when the map is full, and then any addresses until a tenth is free, so
// that the walk is seldom.
func (g *guesses) makeRoom(now time.Time) {
	if len(g.addresses) < maxAddresses {
		return
	}
	for address, a := range g.addresses {
		if !now.Before(a.until) {
			delete(g.addresses, address)
		}
	}
	for address := range g.addresses {
		if len(g.addresses) <= maxAddresses-maxAddresses/10 {
			return
		}
		delete(g.addresses, address)
	}
}
