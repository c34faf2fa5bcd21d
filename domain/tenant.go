package domain

import (
	"fmt"
	"strings"
	"time"
)

// TenantID is a slug: [a-z0-9][a-z0-9._-]{0,62}. It names the tenant's stream for life.
type TenantID string

// SystemTenant is the stream of what concerns the whole installation. Ids with a leading underscore are
// reserved, so nobody can create it from outside.
const SystemTenant TenantID = "_system"

const (
	maxTenantID = 63
	maxName     = 200
)

// ParseTenantID accepts a slug; anything else, reserved names included, is ErrInvalid.
func ParseTenantID(s string) (TenantID, error) {
	if s == "" || len(s) > maxTenantID || !isSlugStart(s[0]) {
		return "", invalid("tenant id %.80q: want 1 to %d characters of a-z, 0-9, '.', '_', '-', starting with a letter or digit", s, maxTenantID)
	}
	for i := range len(s) {
		if !isSlugStart(s[i]) && s[i] != '.' && s[i] != '_' && s[i] != '-' {
			return "", invalid("tenant id %.80q has a character outside a-z, 0-9, '.', '_', '-'", s)
		}
	}
	return TenantID(s), nil
}

func isSlugStart(c byte) bool { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') }

// Slug makes a tenant id from a name: lower case, every run of other characters one hyphen. It is empty
// where nothing is left.
func Slug(name string) string {
	var b strings.Builder
	for _, c := range []byte(strings.ToLower(name)) {
		switch {
		case isSlugStart(c):
			b.WriteByte(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() == maxTenantID {
			break
		}
	}
	return strings.TrimRight(b.String(), "-")
}

// Zone is an IANA time zone name and what it stands for. The zero Zone is UTC. The rules are those of the
// machine's database or, where it has none, of the one embedded in the binary (time/tzdata). Machines may
// differ in them: that is why window.opened records the bounds, and the first to open a window decides.
type Zone struct {
	name     string
	location *time.Location
}

// ParseZone accepts an IANA name; empty is UTC, "Local" and unknown names are ErrInvalid.
func ParseZone(name string) (Zone, error) {
	if name == "" || name == "UTC" {
		return Zone{}, nil // one value for one zone, so that a decoded event equals the one that was encoded
	}
	location, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return Zone{}, invalid("time zone %.80q is not an IANA name such as Europe/Berlin", name)
	}
	return Zone{name: name, location: location}, nil
}

// String is the IANA name, "UTC" for the zero Zone.
func (z Zone) String() string {
	if z.name == "" {
		return "UTC"
	}
	return z.name
}

// Location is the zone's rules.
func (z Zone) Location() *time.Location {
	if z.location == nil {
		return time.UTC
	}
	return z.location
}

// MarshalText writes the IANA name.
func (z Zone) MarshalText() ([]byte, error) { return []byte(z.String()), nil }

// UnmarshalText reads an IANA name. See ParseZone.
func (z *Zone) UnmarshalText(text []byte) error {
	parsed, err := ParseZone(string(text))
	if err != nil {
		return fmt.Errorf("read zone: %w", err)
	}
	*z = parsed
	return nil
}

// KeyID names an API key of a tenant. It is no secret.
type KeyID string

// Key is an API key as the stream knows it: the secret itself is never recorded, only its keyed hash.
type Key struct {
	ID        KeyID
	Name      string
	Prefix    string
	Hash      string
	CreatedAt time.Time
	ExpiresAt *time.Time
	RevokedAt *time.Time
	Models    []string
	Tags      map[string]string
	// RequiredTags must come with each request.
	RequiredTags []string
	Suspended    bool
	// OldHash is the secret before the last rotation, good until OldUntil.
	OldHash  string
	OldUntil *time.Time
}

// usable tells whether the key may reserve at an instant.
func (k Key) usable(at time.Time) bool {
	return !k.Suspended && (k.RevokedAt == nil || at.Before(*k.RevokedAt)) && (k.ExpiresAt == nil || at.Before(*k.ExpiresAt))
}
