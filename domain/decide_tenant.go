package domain

import (
	"fmt"
	"time"
)

const (
	// maxGrace bounds how long a rotated key's old secret works.
	maxGrace = 30 * 24 * time.Hour
	// maxReason bounds what an operator says of a change, in bytes.
	maxReason = 1000
)

func decideCreate(s State, c CreateTenant) ([]Event, error) {
	if s.Exists() {
		return nil, ErrTenantExists
	}
	if err := checkName(c.Name); err != nil {
		return nil, err
	}
	if err := checkRateLimit(c.RateLimitPerMin); err != nil {
		return nil, err
	}
	return []Event{TenantCreated(c)}, nil
}

func decideChange(s State, c ChangeTenant) ([]Event, error) {
	e := TenantChanged{Name: s.Name, Zone: s.Zone, Actor: c.Actor}
	if c.Name != nil {
		e.Name = *c.Name
	}
	if c.Zone != nil {
		e.Zone = *c.Zone
	}
	if err := checkName(e.Name); err != nil {
		return nil, err
	}
	return unless(e.Name == s.Name && e.Zone.String() == s.Zone.String(), e)
}

func checkName(name string) error {
	if name == "" || len(name) > maxName || !storable(name) {
		return invalid("name: want 1 to %d bytes of UTF-8", maxName)
	}
	return nil
}

func checkRateLimit(perMin *int64) error {
	if perMin != nil && (*perMin < 0 || *perMin > MaxRateLimit) {
		return invalid("rateLimitPerMin: want 0 (none) to %d", MaxRateLimit)
	}
	return nil
}

func decideRateLimit(s State, c SetRateLimit) ([]Event, error) {
	if err := checkRateLimit(c.PerMin); err != nil {
		return nil, err
	}
	same := (c.PerMin == nil) == (s.RateLimit == nil) && (c.PerMin == nil || *c.PerMin == *s.RateLimit)
	return unless(same, RateLimitChanged{RateLimitPerMin: c.PerMin, Actor: c.Actor})
}

func decideIssueKey(s State, c IssueKey) ([]Event, error) {
	if c.ID == "" || c.Hash == "" {
		return nil, invalid("a key needs an id and a hash")
	}
	if _, taken := s.Keys[c.ID]; taken {
		return nil, invalid("key %.80q exists", c.ID)
	}
	if len(s.Keys) >= maxKeys {
		return nil, invalid("a tenant has at most %d keys; revoking does not make room, another tenant does", maxKeys)
	}
	if len(c.Name) > maxName || !storable(c.Name) {
		return nil, invalid("name: at most %d bytes of UTF-8", maxName)
	}
	if c.ExpiresAt != nil {
		expires := c.ExpiresAt.UTC().Truncate(time.Microsecond) // as every recorded time
		c.ExpiresAt = &expires
	}
	return []Event{APIKeyIssued{
		KeyID: c.ID, Name: c.Name, Prefix: c.Prefix, KeyHash: c.Hash,
		ExpiresAt: c.ExpiresAt, Models: c.Models, Tags: c.Tags, RequiredTags: c.RequiredTags, Actor: c.Actor,
	}}, nil
}

// decideKey decides what becomes of a key that was issued.
func decideKey(s State, c Command, now time.Time) ([]Event, error) {
	var id KeyID
	switch c := c.(type) { //nolint:gochecksumtype // the commands about a key
	case RevokeKey:
		id = c.ID
	case SuspendKey:
		id = c.ID
	case ResumeKey:
		id = c.ID
	case RotateKey:
		id = c.ID
	}
	k, ok := s.Keys[id]
	if !ok {
		return nil, fmt.Errorf("%w: %.80q", ErrKeyUnknown, id)
	}
	switch c := c.(type) { //nolint:gochecksumtype // the commands about a key
	case RevokeKey:
		return unless(k.RevokedAt != nil, APIKeyRevoked{KeyID: id, Actor: c.Actor})
	case SuspendKey:
		if !storable(c.Reason) || len(c.Reason) > maxReason {
			return nil, invalid("reason: want at most %d bytes of UTF-8", maxReason)
		}
		return unless(k.Suspended, APIKeySuspended{KeyID: id, Reason: c.Reason, Actor: c.Actor})
	case ResumeKey:
		return unless(!k.Suspended, APIKeyResumed{KeyID: id, Actor: c.Actor})
	case RotateKey:
		return decideRotate(k, c, now)
	}
	return nil, invalid("unknown command %T", c)
}

func decideRotate(k Key, c RotateKey, now time.Time) ([]Event, error) {
	switch {
	case k.RevokedAt != nil:
		return nil, fmt.Errorf("%w: %.80q is revoked", ErrKeyUnknown, c.ID)
	case c.Hash == "" || c.Hash == k.Hash || c.Hash == k.OldHash:
		return nil, invalid("a rotated key needs a new secret")
	case c.Grace < 0 || c.Grace > maxGrace:
		return nil, invalid("graceSeconds: want 0 to %d", int(maxGrace.Seconds()))
	}
	return []Event{APIKeyRotated{
		KeyID: c.ID, Prefix: c.Prefix, KeyHash: c.Hash, OldKeyHash: k.Hash,
		OldUntil: now.Add(c.Grace).UTC().Truncate(time.Microsecond), Actor: c.Actor,
	}}, nil
}
