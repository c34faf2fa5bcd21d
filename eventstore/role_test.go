package eventstore_test

import (
	"context"
	"errors"
	neturl "net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// appRole makes the role of docs/operations.md, under a name of its own, and gives a URL for it.
func appRole(t *testing.T, url string) string {
	t.Helper()
	guide, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```sql\n(create role .*?)```").FindSubmatch(guide)
	if block == nil {
		t.Fatal("docs/operations.md has no role")
	}
	name := "app_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	sql := strings.NewReplacer("budgetguard_app", name, "'…'", "'secret'").Replace(string(block[1]))
	pool := openPool(t, url)
	if _, err := pool.Exec(within(t), sql); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		owner, err := pgx.Connect(ctx, url)
		if err == nil {
			_, err = owner.Exec(ctx, `drop owned by `+name+`; drop role `+name)
		}
		if err := errors.Join(err, owner.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
	address, err := neturl.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	address.User = neturl.UserPassword(name, "secret")
	return address.String()
}

func TestTheRoleOfTheGuideMayDoAllThatServeAndWorkerDo(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	app := appRole(t, url)
	l, store, owner := openLedger(t, app), openStore(t, app), openPool(t, url)
	tenant := domain.TenantID("a")
	define := func(id domain.BudgetID, p domain.Period) domain.DefineBudget {
		return domain.DefineBudget{ID: id, Period: p, Limit: 1000, Source: domain.SourceAdmin, Actor: "admin", AlertsAt: []domain.Threshold{10_000}}
	}
	rolling := define("roll", domain.Rolling)
	rolling.Span.Duration = domain.Length(time.Hour)
	settled, released, presumed := reserve(10), reserve(20), reserve(30)
	settled.Idempotency, settled.KeyID = "once", "key"
	for _, c := range []domain.Command{
		domain.CreateTenant{Name: "a", Actor: "admin"},
		define("day", domain.Daily), define("month", domain.Monthly), rolling,
		domain.IssueKey{ID: "key", Hash: "h", Actor: "admin"},
		domain.RotateKey{ID: "key", Hash: "i", Actor: "admin"},
		settled,
		domain.Extend{Reservation: settled.Reservation, Add: 1, TTL: time.Hour},
		settle(settled.Reservation, 10),
		released,
		domain.Release{Reservation: released.Reservation, Reason: domain.ReleasedNotSent},
		presumed,
		domain.SettlePresumed{Reservation: presumed.Reservation, Reason: "cut"},
		settle(presumed.Reservation, 5),
		domain.RaiseBudget{ID: "month", By: 5, Actor: "admin"},
		domain.Age{},
		domain.RetireBudget{ID: "day", Actor: "admin"},
		define("week", domain.Weekly),
		domain.Adjust{Delta: 1, Reason: "x", Idempotency: "i", Actor: "admin"},
	} {
		do(t, l, tenant, c)
	}
	verified(t, app)
	for _, sql := range []string{
		`update attempt set at = at - interval '8 days'`, `update presumption set opened_ts = opened_ts - interval '8 days'`,
		`update account set win_start = win_start - interval '100 days', win_end = win_end - interval '100 days' where period = 'daily'`,
	} {
		if _, err := owner.Exec(within(t), sql); err != nil {
			t.Fatal(err)
		}
	}
	if got := tidy(t, store); got != (eventstore.Tidied{Attempts: 2, Presumptions: 1, Accounts: 1}) {
		t.Errorf("tidied %+v", got)
	}
	do(t, l, tenant, domain.Adjust{Reservation: settled.Reservation, Delta: 1, Reason: "x", Idempotency: "j", Actor: "admin"})
	if _, err := store.Aging(within(t), 10); err != nil {
		t.Error(err)
	}
	for _, sql := range []string{`update event set body = body`, `delete from event`, `truncate event`, `drop table event`} {
		if _, err := store.Pool().Exec(within(t), sql); err == nil || !strings.Contains(err.Error(), "permission denied") && !strings.Contains(err.Error(), "must be owner") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}
