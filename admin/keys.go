package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/apikey"
)

// issuedView is one of the two answers that show a secret.
type issuedView struct {
	ID        domain.KeyID      `json:"id"`
	Key       string            `json:"key"`
	Prefix    string            `json:"prefix"`
	Name      string            `json:"name"`
	CreatedAt time.Time         `json:"createdAt"`
	ExpiresAt *time.Time        `json:"expiresAt"`
	Models    []string          `json:"models"`
	Tags      map[string]string `json:"tags"`
	Required  []string          `json:"requiredTags"`
	// OldUntil is how long the secret before works; null for a key that is new.
	OldUntil *time.Time `json:"oldUntil"`
}

func issued(k domain.Key, secret string) issuedView {
	shown := viewKey(k)
	return issuedView{
		ID: shown.ID, Key: secret, Prefix: shown.Prefix, Name: shown.Name, CreatedAt: shown.CreatedAt, ExpiresAt: shown.ExpiresAt,
		Models: shown.Models, Tags: shown.Tags, Required: shown.Required, OldUntil: shown.OldUntil,
	}
}

// issueKey makes a secret, records its hash and shows it this once.
func (s *Server) issueKey(ctx context.Context, c *call) (answer, error) {
	issue := domain.IssueKey{
		ExpiresAt: c.body.instant("expiresAt"), Models: c.body.models("models"), Tags: c.body.tags("tags"),
		RequiredTags: c.body.names("requiredTags"), Actor: actor,
	}
	if name := c.body.text("name", maxNameBytes); name != nil {
		issue.Name = *name
	}
	if issue.ExpiresAt != nil && !issue.ExpiresAt.After(c.now) {
		c.body.refuse("expiresAt", "want a time in the future")
	}
	if err := c.body.problem(); err != nil {
		return answer{}, err
	}
	key, err := apikey.New(s.deps.Rand)
	if err != nil {
		return answer{}, err
	}
	if issue.ID, err = apikey.NewKeyID(s.deps.Rand); err != nil {
		return answer{}, err
	}
	issue.Prefix, issue.Hash = key.Prefix(), apikey.Hash(s.pepper, key.Secret())
	events, err := s.deps.Ledger.Do(ctx, c.tenant, issue)
	if err != nil {
		return answer{}, err
	}
	if len(events) == 0 {
		return answer{}, fmt.Errorf("issue key %s: the ledger recorded nothing", issue.ID)
	}
	return answer{status: http.StatusCreated, body: issued(domain.Key{
		ID: issue.ID, Prefix: issue.Prefix, Name: issue.Name, CreatedAt: events[0].Time, ExpiresAt: issue.ExpiresAt,
		Models: issue.Models, Tags: issue.Tags, RequiredTags: issue.RequiredTags,
	}, key.Secret())}, nil
}

// maxGrace is the longest grace of a rotation, in seconds: thirty days.
const maxGrace = 30 * 24 * 60 * 60

// rotateKey gives a key a new secret and shows it this once. The old one works until the grace ends.
func (s *Server) rotateKey(ctx context.Context, c *call) (answer, error) {
	rotate := domain.RotateKey{ID: domain.KeyID(c.param("keyId")), Actor: actor}
	if grace := c.body.whole("graceSeconds"); grace != nil {
		if *grace < 0 || *grace > maxGrace {
			c.body.refuse("graceSeconds", "want 0 (the old secret ends at once) to %d seconds", maxGrace)
		}
		rotate.Grace = time.Duration(min(*grace, maxGrace)) * time.Second
	}
	if err := c.body.problem(); err != nil {
		return answer{}, err
	}
	key, err := apikey.New(s.deps.Rand)
	if err != nil {
		return answer{}, err
	}
	rotate.Prefix, rotate.Hash = key.Prefix(), apikey.Hash(s.pepper, key.Secret())
	if _, err := s.deps.Ledger.Do(ctx, c.tenant, rotate); err != nil {
		return answer{}, err
	}
	k, err := s.key(ctx, c, rotate.ID)
	return ok(issued(k, key.Secret())), err
}

func (s *Server) suspendKey(ctx context.Context, c *call) (answer, error) {
	return s.applyToKey(ctx, c, domain.SuspendKey{ID: domain.KeyID(c.param("keyId")), Reason: c.body.textOrNone("reason"), Actor: actor})
}

func (s *Server) resumeKey(ctx context.Context, c *call) (answer, error) {
	return s.applyToKey(ctx, c, domain.ResumeKey{ID: domain.KeyID(c.param("keyId")), Actor: actor})
}

// applyToKey sends one command, if the body that it was read from is in order, and answers with the key.
func (s *Server) applyToKey(ctx context.Context, c *call, command domain.Command) (answer, error) {
	if err := c.body.problem(); err != nil {
		return answer{}, err
	}
	if _, err := s.deps.Ledger.Do(ctx, c.tenant, command); err != nil {
		return answer{}, err
	}
	k, err := s.key(ctx, c, domain.KeyID(c.param("keyId")))
	return ok(viewKey(k)), err
}

// key reads a key again, after a change.
func (s *Server) key(ctx context.Context, c *call, id domain.KeyID) (domain.Key, error) {
	state, err := s.deps.Reader.State(context.WithoutCancel(ctx), c.tenant)
	if err != nil {
		return domain.Key{}, reading("tenant "+string(c.tenant), err)
	}
	return state.Keys[id], nil
}

func (s *Server) revokeKey(ctx context.Context, c *call) (answer, error) {
	_, err := s.deps.Ledger.Do(ctx, c.tenant, domain.RevokeKey{ID: domain.KeyID(c.param("keyId")), Actor: actor})
	return answer{}, err
}
