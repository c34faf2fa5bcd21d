package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/apikey"
)

// issuedView is the one answer that shows a secret.
type issuedView struct {
	ID        domain.KeyID      `json:"id"`
	Key       string            `json:"key"`
	Prefix    string            `json:"prefix"`
	Name      string            `json:"name"`
	CreatedAt time.Time         `json:"createdAt"`
	ExpiresAt *time.Time        `json:"expiresAt"`
	Models    []string          `json:"models"`
	Tags      map[string]string `json:"tags"`
}

// issueKey makes a secret, records its hash and shows it this once.
func (s *Server) issueKey(ctx context.Context, c *call) (answer, error) {
	issue := domain.IssueKey{
		ExpiresAt: c.body.instant("expiresAt"), Models: c.body.models("models"), Tags: c.body.tags("tags"), Actor: actor,
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
	shown := viewKey(domain.Key{CreatedAt: events[0].Time, ExpiresAt: issue.ExpiresAt, Models: issue.Models, Tags: issue.Tags})
	return answer{status: http.StatusCreated, body: issuedView{
		ID: issue.ID, Key: key.Secret(), Prefix: issue.Prefix, Name: issue.Name,
		CreatedAt: shown.CreatedAt, ExpiresAt: shown.ExpiresAt, Models: shown.Models, Tags: shown.Tags,
	}}, nil
}

func (s *Server) revokeKey(ctx context.Context, c *call) (answer, error) {
	_, err := s.deps.Ledger.Do(ctx, c.tenant, domain.RevokeKey{ID: domain.KeyID(c.param("keyId")), Actor: actor})
	return answer{}, err
}
