package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/apikey"
)

const (
	// actor is who the events of this API name.
	actor domain.Actor = "admin"

	// A page of tenants reads the state of each: the default answers at once, the most within a second.
	defaultTenants = 50
	maxTenants     = 200

	// maxNameBytes is what the domain accepts as a name, and so as an id that becomes one.
	maxNameBytes = 200
)

// createTenant begins a stream and defines the budgets of the body and, for periods it does not name,
// those of the environment.
func (s *Server) createTenant(ctx context.Context, c *call) (answer, error) {
	create := domain.CreateTenant{RateLimitPerMin: c.body.whole("rateLimitPerMin"), Actor: actor}
	if name := c.body.text("name", maxNameBytes); name != nil && *name != "" {
		create.Name = *name
	} else {
		c.body.want("name", "want a name of 1 to %d bytes", maxNameBytes)
	}
	if zone := readZone(c.body); zone != nil {
		create.Zone = *zone
	}
	c.tenant = readTenantID(c.body, create.Name)
	var budgets []domain.DefineBudget
	if elements, ok := c.body.objects("budgets"); ok {
		budgets = readBudgets(elements, true)
	}
	if err := c.body.problem(); err != nil {
		return answer{}, err
	}
	c.state = domain.NewState(c.tenant)
	commands, err := s.identified(withDefaults(budgets, s.deps.Defaults(c.tenant)))
	if err != nil {
		return answer{}, err
	}
	if err := try(c, func(int) string { return "" }, create); err != nil {
		return answer{}, err
	}
	if err := try(c, nthBudget, commands...); err != nil {
		return answer{}, err
	}
	// One command, so that a tenant never exists without its budgets: it would not be limited.
	if err := s.do(ctx, c.tenant, append([]domain.Command{create}, commands...)); err != nil {
		return answer{}, err
	}
	view, err := s.view(ctx, c)
	return answer{status: http.StatusCreated, body: view, location: "/admin/tenant/" + string(c.tenant)}, err
}

// do carries out commands, all or none.
func (s *Server) do(ctx context.Context, tenant domain.TenantID, commands []domain.Command) error {
	_, err := s.deps.Ledger.Do(ctx, tenant, domain.All{Commands: commands})
	return err
}

// try executes commands on the call's state, which it evolves, and names the one that would be refused
// by pointer, so that nothing is written of a body that is wrong in one place.
func try(c *call, pointer func(i int) string, commands ...domain.Command) error {
	for i, command := range commands {
		state, err := tried(c.state, command, c.now)
		if err != nil {
			return inBody(problemOf(err), pointer(i))
		}
		c.state = state
	}
	return nil
}

// inBody is a refusal of what a body has at a pointer: every field that it names is below that. Without a
// pointer it is left as it is.
func inBody(p *problem, at string) *problem {
	if at == "" || p.code != codeInvalid {
		return p
	}
	const detail = "The body has fields that are not acceptable."
	if len(p.violations) == 0 {
		return invalidRequest(detail, violation{Pointer: at, Detail: p.detail})
	}
	below := make([]violation, 0, len(p.violations))
	for _, v := range p.violations {
		v.Pointer = at + strings.TrimPrefix(v.Pointer, "#")
		below = append(below, v)
	}
	return invalidRequest(detail, below...)
}

// tried is the state after a command. What a new budget's window has cost already is not known here and does
// not decide whether the budget may be.
func tried(s domain.State, c domain.Command, now time.Time) (domain.State, error) {
	next, _, err := domain.Execute(s, c, now)
	if asked := (*domain.PastNeededError)(nil); errors.As(err, &asked) {
		next, _, err = domain.Execute(s, domain.Informed{Command: c, Past: []domain.Past{asked.Past}}, now)
	}
	return next, err
}

func readZone(body fields) *domain.Zone {
	name := body.text("timezone", maxNameBytes)
	if name == nil {
		return nil
	}
	zone, err := domain.ParseZone(*name)
	if err != nil {
		body.refuse("timezone", "%s", reason(err))
		return nil
	}
	return &zone
}

// readTenantID is the id of the body, or one made from the name.
func readTenantID(body fields, name string) domain.TenantID {
	text := body.text("id", maxNameBytes)
	if text == nil {
		slug := domain.Slug(name)
		if slug == "" && name != "" {
			body.want("id", "the name has no letters or digits of ASCII to make an id from; send one")
		}
		return domain.TenantID(slug)
	}
	id, err := domain.ParseTenantID(*text)
	switch {
	case err != nil && strings.HasPrefix(*text, "_"):
		body.refuse("id", "ids that begin with '_' are reserved")
	case err != nil:
		body.refuse("id", "%s", reason(err))
	}
	return id
}

// listTenants pages by id.
func (s *Server) listTenants(ctx context.Context, c *call) (answer, error) {
	after, limit := c.query.cursor("cursor"), c.query.whole("limit", defaultTenants, 1, maxTenants)
	if err := c.query.problem(); err != nil {
		return answer{}, err
	}
	ids, err := s.deps.Reader.TenantIDs(ctx, after, int(limit)+1)
	if err != nil {
		return answer{}, reading("tenants", err)
	}
	page := struct {
		Tenants []tenantView `json:"tenants"`
		Next    *string      `json:"nextCursor"`
	}{Tenants: make([]tenantView, 0, limit)}
	if len(ids) > int(limit) {
		ids = ids[:limit]
		next := cursorAfter(ids[limit-1])
		page.Next = &next
	}
	for _, id := range ids {
		if strings.HasPrefix(string(id), "_") {
			continue // the installation's own stream is no tenant
		}
		state, err := s.deps.Reader.State(ctx, id)
		if err != nil {
			return answer{}, reading("tenant "+string(id), err)
		}
		page.Tenants = append(page.Tenants, viewTenant(state, c.now))
	}
	return ok(page), nil
}

func (s *Server) showTenant(_ context.Context, c *call) (answer, error) {
	return ok(viewTenant(c.state, c.now)), nil
}

func (s *Server) changeTenant(ctx context.Context, c *call) (answer, error) {
	change := domain.ChangeTenant{Name: c.body.text("name", maxNameBytes), Zone: readZone(c.body), Actor: actor}
	return s.apply(ctx, c, change)
}

func (s *Server) suspendTenant(ctx context.Context, c *call) (answer, error) {
	return s.apply(ctx, c, domain.SuspendTenant{Reason: c.body.textOrNone("reason"), Actor: actor})
}

func (s *Server) resumeTenant(ctx context.Context, c *call) (answer, error) {
	return s.apply(ctx, c, domain.ResumeTenant{Actor: actor})
}

// apply sends one command, if the body that it was read from is in order, and answers with the tenant.
func (s *Server) apply(ctx context.Context, c *call, command domain.Command) (answer, error) {
	if err := c.body.problem(); err != nil {
		return answer{}, err
	}
	if _, err := s.deps.Ledger.Do(ctx, c.tenant, command); err != nil {
		return answer{}, err
	}
	view, err := s.view(ctx, c)
	return ok(view), err
}

// view reads the tenant again, after a change.
func (s *Server) view(ctx context.Context, c *call) (tenantView, error) {
	state, err := s.deps.Reader.State(context.WithoutCancel(ctx), c.tenant)
	if err != nil {
		return tenantView{}, reading("tenant "+string(c.tenant), err)
	}
	return viewTenant(state, c.now), nil
}

// identified gives each budget without an id a new one, which only counts if the budget is new.
func (s *Server) identified(budgets []domain.DefineBudget) ([]domain.Command, error) {
	commands := make([]domain.Command, 0, len(budgets))
	for _, b := range budgets {
		if b.ID == "" {
			id, err := apikey.NewBudgetID(s.deps.Rand)
			if err != nil {
				return nil, err
			}
			b.ID = id
		}
		commands = append(commands, b)
	}
	return commands, nil
}
