package proxy

import (
	"context"
	"log/slog"
	"net/url"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// Config says how a Server behaves. See the environment's documentation for the meaning of each.
type Config struct {
	// Upstream is the provider's base URL, /v1 included. UpstreamKey is used where a request brings none.
	Upstream    *url.URL
	UpstreamKey string
	// Gateway names this process in events.
	Gateway string
	// AuthOptional accepts a tenant id without a key, for tenants that never had one and for Demo.
	AuthOptional bool
	Demo         domain.TenantID
	// Pepper keys the hash of tenant keys; empty means a plain SHA-256.
	Pepper []byte
	// RateLimit is the default per tenant and minute, 0 for none.
	RateLimit int64
	// ServiceTier is what an absent or "auto" service tier is priced at; domain.TierAuto is the dearest.
	ServiceTier domain.Tier
	// Errors chooses the dialect of errors.
	Errors Dialect
	// Origins are those whose pages may call from a browser, as ParseOrigins reads them; empty for none.
	Origins []string
	// MaxBody bounds a request's body in bytes.
	MaxBody int64
	// MaxInFlight bounds what the bodies of all requests take in memory together, their copies included,
	// and half of it what those of one tenant take; 0 is DefaultMaxInFlight. One body of MaxBody always fits.
	MaxInFlight int64
	// BodyTimeout bounds how long a client may take to send it; 0 is DefaultBodyTimeout.
	BodyTimeout time.Duration
	// ReservationTTL is the life of a hold.
	ReservationTTL time.Duration
	// UpstreamTimeout bounds a call to the provider, DrainTimeout reading on after the client has gone.
	UpstreamTimeout, DrainTimeout time.Duration

	// KeepAlive is after how much silence of the provider a stream gets a comment that keeps its connection
	// alive; 0 sends none.
	KeepAlive time.Duration

	// Authenticated, where it is set, hears the context of each request whose caller has proved to be a
	// tenant: what bounds connections keeps those.
	Authenticated func(context.Context)

	Now    func() time.Time
	Logger *slog.Logger
}

// DefaultBodyTimeout is what the largest body of the default limit takes at one megabit a second.
const DefaultBodyTimeout = 5 * time.Minute

// Dialect is the form of error bodies.
type Dialect string

// The dialects. DialectAuto answers openai where the request has an Authorization header.
const (
	DialectAuto   Dialect = "auto"
	DialectPlain  Dialect = "plain"
	DialectOpenAI Dialect = "openai"
)
