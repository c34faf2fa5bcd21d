package projections

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
)

const (
	// ageBatch is how many tenants one round ages; the others have their turn in the next.
	ageBatch = 500
	// ageAtOnce is how many at once; the ledger puts them into few transactions.
	ageAtOnce = 16
)

// Timely is what time alone changes in the ledger.
type Timely interface {
	// Aging lists tenants whose balances or limits time has changed, by the database's clock.
	Aging(ctx context.Context, limit int) ([]domain.TenantID, error)
	// Tidy takes away what nobody asks for any more.
	Tidy(ctx context.Context) (eventstore.Tidied, error)
}

// Ager records what time alone has changed, so that readers of an idle tenant see it: spend that left a rolling
// window, raises that ended. Once an hour it tidies up. Any number may run: whoever comes second finds it done.
type Ager struct {
	cfg    Config
	store  Timely
	ledger Ledger
}

// NewAger makes an ager. It does not use Redis.
func NewAger(cfg Config, store Timely, ledger Ledger) *Ager {
	return &Ager{cfg: cfg.withDefaults(), store: store, ledger: ledger}
}

// Run works until ctx is done.
func (a *Ager) Run(ctx context.Context) error {
	var both sync.WaitGroup
	both.Go(func() { a.repeat(ctx, "ager", a.cfg.Age, a.age) })
	both.Go(func() { a.repeat(ctx, "housekeeping", a.cfg.Tidy, a.tidy) })
	both.Wait()
	return nil
}

func (a *Ager) repeat(ctx context.Context, what string, every time.Duration, do func(context.Context) error) {
	outage := outage{log: a.cfg.Logger, what: what}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		outage.note(ctx, do(ctx))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// age sends domain.Age to the tenants that are due. One that cannot be aged does not keep the others from it.
func (a *Ager) age(ctx context.Context) error {
	tenants, err := a.store.Aging(ctx, ageBatch)
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(ageAtOnce)
	for _, tenant := range tenants {
		group.Go(func() error {
			bounded, cancel := context.WithTimeout(ctx, reapWithin)
			defer cancel()
			_, err := a.ledger.Do(bounded, tenant, domain.Age{})
			if errors.Is(err, domain.ErrTenantUnknown) {
				return nil
			}
			return wrap(err, "age "+string(tenant))
		})
	}
	return group.Wait()
}

func (a *Ager) tidy(ctx context.Context) error {
	tidied, err := a.store.Tidy(ctx)
	if tidied != (eventstore.Tidied{}) {
		a.cfg.Logger.InfoContext(ctx, "housekeeping", slog.Int64("idempotency_keys", tidied.Attempts),
			slog.Int64("releases", tidied.Presumptions), slog.Int64("accounts_archived", tidied.Accounts))
	}
	return err
}
