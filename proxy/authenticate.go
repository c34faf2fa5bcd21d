package proxy

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/apikey"
)

// principal is who a request is made for.
type principal struct {
	tenant domain.TenantID
	key    domain.KeyID // empty without a key
	models []string
	pinned map[string]string
	// required are the names of tags that the request must have.
	required []string
	zone     domain.Zone
	limit    *int64
}

// authenticate finds the principal. Every bad key gets the same answer after the same work: its hash is
// looked up, whatever it looks like.
func (x *exchange) authenticate() error {
	secret, err := x.secret()
	if err != nil {
		return err
	}
	if secret == "" {
		return x.byTenantID()
	}
	c, err := x.credential(secret)
	if err != nil {
		return lookupFailed(err)
	}
	now := x.s.cfg.Now()
	if c.Suspended || (c.ExpiresAt != nil && !now.Before(*c.ExpiresAt)) || (c.RevokedAt != nil && !now.Before(*c.RevokedAt)) {
		return unauthorized(domain.ErrKeyUnusable)
	}
	for _, named := range x.r.Header.Values("X-Tenant-Id") {
		if named != "" && named != string(c.Tenant) {
			return &problem{
				status: http.StatusForbidden, code: "tenant_mismatch", message: "Tenant mismatch",
				detail: "X-Tenant-Id is not the tenant of the key; leave it out",
			}
		}
	}
	t, err := x.s.known.tenant(x.r.Context(), c.Tenant)
	if err != nil {
		return lookupFailed(err)
	}
	x.who = principal{
		tenant: c.Tenant, key: c.Key, models: c.Models, pinned: c.Tags, required: c.RequiredTags, zone: t.Zone, limit: t.RateLimit,
	}
	return nil
}

// credential looks a key up under its peppered hash and, where a pepper was introduced after keys were
// issued, under the plain one.
func (x *exchange) credential(secret string) (Credential, error) {
	c, err := x.s.known.credential(x.r.Context(), apikey.Hash(x.s.cfg.Pepper, secret))
	if errors.Is(err, domain.ErrKeyUnknown) && len(x.s.cfg.Pepper) > 0 {
		return x.s.known.credential(x.r.Context(), apikey.Hash(nil, secret))
	}
	return c, err
}

// lookupFailed is 401 for "there is none" and 503 for "nobody can say".
func lookupFailed(err error) error {
	if errors.Is(err, domain.ErrKeyUnknown) || errors.Is(err, domain.ErrTenantUnknown) || errors.Is(err, domain.ErrInvalid) {
		return unauthorized(err)
	}
	return unavailable(err)
}

// secret is the tenant key of the request, empty if it brings none and may go without.
func (x *exchange) secret() (string, error) {
	const longest = 512 // a key has 53 characters; what is longer is not worth hashing
	h := x.r.Header
	direct := h.Values("X-Api-Key")
	bearer := ""
	if authorization := h.Values("Authorization"); len(authorization) == 1 {
		scheme, token, _ := strings.Cut(authorization[0], " ")
		if strings.EqualFold(scheme, "Bearer") {
			bearer = strings.TrimSpace(token)
		}
	} else if len(authorization) > 1 {
		return "", unauthorized(errors.New("several Authorization headers"))
	}
	if x.s.cfg.AuthOptional && !strings.HasPrefix(bearer, apikey.Scheme) {
		bearer = "" // somebody's upstream key, which is not ours to use
	}
	switch {
	case len(direct) > 1, len(direct) == 1 && bearer != "" && direct[0] != bearer:
		return "", unauthorized(errors.New("several keys"))
	case len(direct) == 1:
		bearer = direct[0]
	}
	if len(bearer) > longest {
		return "", unauthorized(errors.New("oversized key"))
	}
	if len(direct) == 1 && bearer == "" {
		return "", unauthorized(errors.New("empty key"))
	}
	return bearer, nil
}

// byTenantID accepts X-Tenant-Id alone, where that is allowed.
func (x *exchange) byTenantID() error {
	named := x.r.Header.Values("X-Tenant-Id")
	if !x.s.cfg.AuthOptional || len(named) != 1 {
		return unauthorized(errors.New("no key"))
	}
	id, err := domain.ParseTenantID(named[0])
	if err != nil {
		return unauthorized(err)
	}
	t, err := x.s.known.tenant(x.r.Context(), id)
	if errors.Is(err, domain.ErrTenantUnknown) {
		t, err = x.adopt(x.r.Context(), id)
	}
	if err != nil {
		return lookupFailed(err)
	}
	if t.EverKeyed && id != x.s.cfg.Demo {
		return unauthorized(errors.New("the tenant has keys"))
	}
	x.who = principal{tenant: id, zone: t.Zone, limit: t.RateLimit}
	return nil
}

func (x *exchange) adopt(ctx context.Context, id domain.TenantID) (Tenant, error) {
	if err := x.s.Directory.Adopt(ctx, id); err != nil {
		return Tenant{}, err
	}
	x.s.known.forget(id)
	return x.s.known.tenant(ctx, id)
}

// mayUse tells whether the key is allowed a model.
func (p principal) mayUse(model string) bool {
	return len(p.models) == 0 || slices.Contains(p.models, model)
}
