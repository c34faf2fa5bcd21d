package eventstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
	"github.com/budgetguard/budgetguard/eventstore/audit"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

func TestVerifyNamesTheEventThatWasChanged(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"a byte of a body":     `update event set body = replace(body, '"gpt-4"', '"gpt-5"') where tenant_id = $T and version = 5`,
		"a byte of a hash":     `update event set hash = set_byte(hash, 7, get_byte(hash, 7) # 1) where tenant_id = $T and version = 5`,
		"a time":               `update event set ts = ts + interval '1 microsecond' where tenant_id = $T and version = 5`,
		"a type":               `update event set type = 'reservation.released' where tenant_id = $T and version = 5`,
		"a schema version":     `update event set schema_version = 2 where tenant_id = $T and version = 5`,
		"a body cut short":     `update event set body = left(body, 40) where tenant_id = $T and version = 5`,
		"two events exchanged": `update event set version = 11 - version where tenant_id = $T and version in (5, 6)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.Database(t)
			l := openLedger(t, url)
			tenant, other := fresh(t, l, 1000), fresh(t, l, 1000)
			for range 5 {
				do(t, l, tenant, reserve(1))
				do(t, l, other, reserve(1))
			}
			verified(t, url)
			execAs(t, url, strings.ReplaceAll(sql, "$T", "'"+string(tenant)+"'"))
			report, err := audit.Verify(within(t), openPool(t, url), audit.Options{})
			if err != nil || report.Total == 0 {
				t.Fatalf("%+v, %v", report, err)
			}
			if first := report.Violations[0]; first.Tenant != tenant || first.Version != 5 {
				t.Errorf("the first violation is %s", first)
			}
			for _, v := range report.Violations {
				if v.Tenant != tenant {
					t.Error(v)
				}
			}
			if !errors.Is(report.Err(), eventstore.ErrTampered) {
				t.Error(report.Err())
			}
		})
	}
}

func TestTenantWhoseStreamWasChangedFailsClosed(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"the head's hash":        `update tenant_head set last_hash = sha256('x') where tenant_id = $T`,
		"the head's version":     `update tenant_head set version = version + 1 where tenant_id = $T`,
		"the head is far ahead":  `update tenant_head set version = version + 9 where tenant_id = $T`,
		"the last event's body":  `update event set body = replace(body, '"gpt-4"', '"gpt-5"') where tenant_id = $T and version = 6`,
		"the last event's hash":  `update event set hash = sha256('x') where tenant_id = $T and version = 6`,
		"the last event is gone": `delete from event where tenant_id = $T and version = 6`,
		"the head is set back": `update tenant_head h set version = 5, last_hash = e.hash, last_ts = e.ts from event e
			where h.tenant_id = $T and e.tenant_id = $T and e.version = 5`,
		"an event too many": `insert into event select tenant_id, 7, ts, type, schema_version, body, hash from event where tenant_id = $T and version = 6`,
	} {
		for _, warm := range []bool{true, false} {
			if warm && strings.HasPrefix(name, "the last event's") {
				continue // a cached state never reads it again; Verify does
			}
			t.Run(fmt.Sprint(name, " warm=", warm), func(t *testing.T) {
				t.Parallel()
				url := testenv.Database(t)
				l := openLedger(t, url)
				tenant, other := fresh(t, l, 1000), fresh(t, l, 1000)
				for range 3 {
					do(t, l, tenant, reserve(1))
				}
				execAs(t, url, strings.ReplaceAll(sql, "$T", "'"+string(tenant)+"'"))
				if !warm {
					l = openLedger(t, url)
				} else if strings.HasPrefix(sql, "insert") || strings.HasPrefix(sql, "delete") {
					do(t, l, other, reserve(1))
					return // the head is as it was: only a reader of events can tell
				}
				for range 3 { // every time anew, not only the first
					if _, err := l.Do(within(t), tenant, reserve(1)); !errors.Is(err, eventstore.ErrTampered) || !errors.Is(err, eventstore.ErrRefusedByDatabase) {
						t.Errorf("the caller got %v", err)
					}
				}
				do(t, l, other, reserve(1))
			})
		}
	}
}

func TestStreamThatWentBackFailsClosed(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := openLedger(t, url)
	tenant := fresh(t, l, 1000)
	for range 3 {
		do(t, l, tenant, reserve(1))
	}
	// What a failover to a standby that lagged leaves: all consistent, and the end is missing.
	name := "'" + string(tenant) + "'"
	execAs(t, url,
		`delete from event where tenant_id = `+name+` and version > 4`,
		`delete from hold where tenant_id = `+name+` and opened > 4`,
		`delete from outbox where upto[1] > 4`,
		`update tenant_head h set version = 4, last_hash = e.hash, last_ts = e.ts from event e where h.tenant_id = `+name+` and e.tenant_id = h.tenant_id and e.version = 4`,
		`update account set held = 1, version = 4 where tenant_id = `+name)
	verified(t, url)
	for range 2 {
		if _, err := l.Do(within(t), tenant, reserve(1)); !errors.Is(err, eventstore.ErrTampered) {
			t.Errorf("the caller got %v", err)
		}
	}
}

func TestOnlyTheCommandThatTheDatabaseRefusesFails(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l, s := openLedger(t, url), openStore(t, url)
	tenant := fresh(t, l, 1000)
	bad, good := reserve(1), reserve(2)
	do(t, l, tenant, bad)
	do(t, l, tenant, good)
	execAs(t, url, `delete from hold where tenant_id = '`+string(tenant)+`' and reservation_id = '`+string(bad.Reservation)+`'`)
	errs := together(t, l, url, tenant, reserve(3), settle(bad.Reservation, 1), settle(good.Reservation, 2), reserve(4))
	for i, err := range errs {
		if i == 1 {
			if !errors.Is(err, eventstore.ErrRefusedByDatabase) && !errors.Is(err, domain.ErrReservationUnknown) {
				t.Errorf("the bad one: %v", err)
			}
			continue
		}
		if err != nil {
			t.Errorf("command %d: %v", i, err)
		}
	}
	eventually(t, "everything is done", func() bool { return l.Waiting() == 0 })
	if _, _, settled := history(readAll(t, s, tenant), good.Reservation); settled != 1 {
		t.Errorf("settled %d times", settled)
	}
	// The tenant goes on as before.
	for range 3 {
		do(t, l, tenant, reserve(1))
	}
}

func TestOnlyTheCommandThatCannotBeStoredFails(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	l := openLedger(t, url)
	tenant := fresh(t, l, 1000)
	r := reserve(1)
	do(t, l, tenant, r)
	errs := together(t, l, url, tenant,
		settle(r.Reservation, 1),
		domain.IssueKey{ID: "k", Prefix: "a\x00b", Hash: "h:" + string(tenant)}, // text of Postgres has no NUL
		settle("no-uuid", 1),
		reserve(2))
	if errs[0] != nil || !errors.Is(errs[1], eventstore.ErrRefusedByDatabase) || !errors.Is(errs[2], domain.ErrReservationUnknown) || errs[3] != nil {
		t.Errorf("%q", errs)
	}
	verified(t, url)
}
