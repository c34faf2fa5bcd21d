package eventstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/lanes"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

func TestATenantWhoseTablesCannotBeReadIsNotLoaded(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := newStepped(t, url)
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	l.all(tenant, domain.DefineBudget{ID: "month", Period: domain.Monthly, Limit: 100, Source: domain.SourceAdmin, Actor: "admin"})
	l.all(tenant, reserve(1))
	head := lanes.Head{Version: scalar(t, l.store.Pool(), `select version from tenant_head`)}
	for name, c := range map[string]struct {
		sql  string
		want string
	}{
		"as it is":                 {`select`, ""},
		"a zone that there is not": {`update tenant set zone = 'Nowhere'`, "Nowhere"},
		"a span of another kind":   {`update budget set span = '[]'`, "domain.Span"},
		"a scope of another kind":  {`update budget set scope = '[]'`, "domain.Scope"},
		"raises of another kind":   {`update budget set raises = '{}'`, "domain.Raise"},
		"a hold of no reservation": {`update hold set (opened, opened_ts) = (select version, ts from event where version = 1)`, `unknown field "name"`},
		"a body that is cut":       {`update event set body = left(body, 20) where version = (select opened from hold)`, "unexpected EOF"},
	} {
		tx, err := l.store.Pool().Begin(within(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, sql := range []string{`set session_replication_role = replica`, c.sql} {
			if _, err := tx.Exec(within(t), sql); err != nil {
				t.Fatal(name, err)
			}
		}
		_, _, err = eventstore.OnTransaction(tx, tenant, head).Load(within(t), lanes.Mark{})
		if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
		if err := tx.Rollback(within(t)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAStreamMustHoldWhatWasSeenCommitted(t *testing.T) {
	t.Parallel()
	d := newDesk(t, testenv.Database(t))
	head := lanes.Head{Version: d.head.Expected, Hash: d.head.Prev}
	another := head.Hash
	another[7] ^= 1
	tx, err := d.pool.Begin(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		seen lanes.Mark
		want error
	}{
		"nothing":             {lanes.Mark{}, nil},
		"the head":            {lanes.Mark{Version: head.Version, Hash: head.Hash}, nil},
		"another event":       {lanes.Mark{Version: head.Version, Hash: another}, eventstore.ErrTampered},
		"one that is missing": {lanes.Mark{Version: head.Version + 1, Hash: head.Hash}, eventstore.ErrTampered},
	} {
		if _, _, err := eventstore.OnTransaction(tx, d.tenant, head).Load(within(t), c.seen); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := tx.Rollback(within(t)); err != nil {
		t.Fatal(err)
	}
}

func TestARecordWhoseReservationHasNoUUIDIsUndecidable(t *testing.T) {
	t.Parallel()
	r := domain.Request{Reservation: "r"}
	for _, e := range []domain.Event{
		domain.UsageReserved{Request: r},
		domain.ReservationExtended{Request: r},
		domain.UsageSettled{Request: r},
		domain.ReservationReleased{Request: r},
		domain.ReservationExpired{Request: r},
		domain.UsageSettledLate{Request: r},
		domain.UsageAdjusted{Reservation: "r", Confirmed: true},
	} {
		a := eventstore.Append{Tenant: "t", Records: []domain.Recorded{{Tenant: "t", Version: 1, Event: e}}}
		if _, _, err := eventstore.Write(t.Context(), nil, a); !errors.Is(err, lanes.ErrUndecidable) {
			t.Errorf("%T: %v", e, err)
		}
	}
}

// deaf is a connection that only listens.
type deaf struct {
	pgx.Tx
	heard *[]any
}

var errDeaf = errors.New("it only listens")

// QueryRow implements pgx.Tx.
func (d deaf) QueryRow(_ context.Context, _ string, args ...any) pgx.Row {
	*d.heard = args
	return d
}

// Scan implements pgx.Row.
func (deaf) Scan(...any) error { return errDeaf }

func TestHeadsAreLockedInOneOrder(t *testing.T) {
	t.Parallel()
	var appends []eventstore.Append
	for _, tenant := range []domain.TenantID{"c", "a", "b"} {
		appends = append(appends, eventstore.Append{
			Tenant: tenant, Records: []domain.Recorded{{Tenant: tenant, Version: 1, Time: time.Now(), Event: domain.TenantSuspended{}}},
		})
	}
	var heard []any
	if _, _, err := eventstore.Write(t.Context(), deaf{heard: &heard}, appends...); !errors.Is(err, errDeaf) {
		t.Fatal(err)
	}
	if got := strings.Join(heard[0].([]string), ""); got != "abc" {
		t.Errorf("the order is %s", got)
	}
}

func TestAKeyThatIsRecalledIsThatOfItsLastRequest(t *testing.T) {
	t.Parallel()
	l := newStepped(t, testenv.Database(t))
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	r := reserve(10)
	r.Idempotency, r.Fingerprint = "once", "f"
	l.all(tenant, r)
	key, _ := domain.AttemptKeyOf(r)
	tx, err := l.store.Pool().Begin(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		known time.Duration // when, after now
		want  domain.ReservationID
	}{"an older one is known": {-time.Hour, r.Reservation}, "a newer one is known": {time.Hour, "known"}} {
		s := domain.NewState(tenant)
		s.Attempts[key] = domain.Attempt{AttemptKey: key, Reservation: "known", At: wall().Add(c.known)}
		if err := eventstore.OnTransaction(tx, tenant, lanes.Head{}).Attempt(within(t), &s, key); err != nil || s.Attempts[key].Reservation != c.want {
			t.Errorf("%s: %s, %v", name, s.Attempts[key].Reservation, err)
		}
	}
	if err := tx.Rollback(within(t)); err != nil {
		t.Fatal(err)
	}
}

func TestThePastIsReadToItsEndHoweverFarTheProjectionIsBehind(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := newStepped(t, url)
	tenant := domain.TenantID("t-" + uuid.NewString()[:8])
	l.all(tenant, domain.CreateTenant{Name: "ACME", Actor: "admin"})
	r := reserve(10)
	l.all(tenant, r)
	l.all(tenant, settle(r.Reservation, 7))
	execAs(t, url, `insert into event select tenant_id, version + n, ts, type, schema_version, body, hash from event, generate_series(1, 4500) n
		where type = 'usage.settled' and tenant_id = '`+string(tenant)+`'`)
	tx, err := l.store.Pool().Begin(within(t))
	if err != nil {
		t.Fatal(err)
	}
	s := domain.NewState(tenant)
	s.Version = 4503
	window := domain.Window{Start: wall().Add(-time.Hour), End: wall().Add(time.Hour)}
	past, err := eventstore.OnTransaction(tx, tenant, lanes.Head{}).Past(within(t), &s, domain.Past{Window: window})
	if err != nil || len(past.Spent) != 1 || past.Spent[0].Settled != 7*4501 {
		t.Errorf("%+v, %v", past.Spent, err)
	}
	if err := tx.Rollback(within(t)); err != nil {
		t.Fatal(err)
	}
}
