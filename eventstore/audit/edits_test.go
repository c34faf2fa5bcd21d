package audit_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/eventstore/audit"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// edited is one edit behind the back of the gateways, and what verify must say about it.
type edited struct {
	sql  string
	law  audit.Law
	says string
}

// projected fills the usage rows as the projector does, and publishes all.
const projected = `
	insert into usage_row
	select tenant_id, version, coalesce((body::jsonb->>'reservedAt')::timestamptz, ts), ts,
		case type when 'usage.settled' then 'settled' when 'reservation.expired' then 'expired'
			when 'usage.settled_late' then 'late' else 'adjusted' end,
		coalesce(body::jsonb->>'route', ''), coalesce(body::jsonb->>'model', ''), nullif(body::jsonb->>'apiKeyId', ''),
		nullif(body::jsonb->>'reservationId', '')::uuid,
		((coalesce(body::jsonb->>'deltaUsd', body::jsonb->>'chargedUsd'))::numeric * 1000000000)::bigint,
		case when type in ('usage.settled', 'reservation.expired')
			then ((body::jsonb->>'reservedUsd')::numeric * 1000000000)::bigint else 0 end,
		coalesce((body::jsonb->'usage'->>'promptTokens')::bigint, 0),
		coalesce((body::jsonb->'usage'->>'completionTokens')::bigint, 0), coalesce(body::jsonb->'tags', '{}')
	from event where type in ('usage.settled', 'reservation.expired', 'usage.settled_late', 'usage.adjusted');
	insert into projection_cursor select 'usage', tenant_id, version from tenant_head;
	delete from outbox`

// TestEachEditIsFoundAndNamed makes each edit on a copy of a lively ledger. Those of the role of the gateways need no
// more than its rights; the others are the owner's, who has no key to sign with.
func TestEachEditIsFoundAndNamed(t *testing.T) {
	t.Parallel()
	origin := testenv.Database(t)
	lively(t, origin)
	func() {
		pool := openPool(t, origin)
		exec(t, pool, projected)
		opts := audit.Options{UsageCursor: "usage", Quiet: true}
		if report := verify(t, pool, opts); report.Total != 0 {
			t.Fatalf("before: %v", report.Violations)
		}
		pool.Close()
	}()

	// A structure as %+v prints it, and times in microseconds.
	goWords := regexp.MustCompile(`\{[A-Z]\w*:|map\[|<nil>|\d{16}`)
	for i, e := range append(append(editsOfRows(), editsBesideTheEvents()...), append(editsOfEvents(), editsOfGuards()...)...) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			url := testenv.Copy(t, origin)
			pool := openPool(t, url)
			if _, err := pool.Exec(t.Context(), e.sql); err != nil {
				t.Fatalf("%s: %v", e.sql, err)
			}
			report := verify(t, openPool(t, url), audit.Options{UsageCursor: "usage"})
			for _, v := range report.Violations {
				if goWords.MatchString(v.Detail) {
					t.Errorf("these are Go's words: %s", v.Detail)
				}
				if v.Law == e.law && strings.Contains(v.Detail, e.says) {
					return
				}
			}
			t.Errorf("%s: want %s: %q; found %v", e.sql, e.law, e.says, report.Violations)
		})
	}
}

// editsOfRows are of the tables that move with the events.
func editsOfRows() []edited {
	const rows = audit.LawRows
	return []edited{
		{`update account set held = held - 1 where budget_id = 'day'`, rows, "of budget day"},
		{`update account set settled = settled - 1 where budget_id = 'month'`, rows, "settled is"},
		{`update account set presumed = 0 where budget_id = 'day'`, rows, "presumed is 0 USD"},
		{`update account set limit_nano = 900, cap = 900 where budget_id = 'month'`, rows, "limit is 0.0000009 USD"},
		{`update account set cap = cap + 1 where budget_id = 'hour'`, rows, "cap is"},
		{`update account set crossed = '{}' where budget_id = 'month'`, rows, "thresholds crossed is []"},
		{`update account set win_end = win_end + interval '1 day' where budget_id = 'day'`, rows, "end is"},
		{`update account set budget_id = 'x' where budget_id = 'day'`, rows, "budget is x"},
		{`delete from account where budget_id = 'hour'`, rows, "the row is missing"},
		{`insert into account_archive select * from account where budget_id = 'day'`, rows, "no event made this row"},
		{`insert into account select 'ghost', 1, 'b', period, win_start, win_end, 1, 0, 0, 0, 1, 1 from account limit 1`, rows, "no head"},
		{`update account set oldest_bucket = oldest_bucket + 1 where budget_id = 'roll'`, rows, "oldest part is"},
		{`update hold set amount = 1`, rows, "amount is 0.000000001 USD"},
		{`update hold set accounts = '{}'`, rows, "accounts is []"},
		{`update hold set expires_at = expires_at + interval '1 year'`, rows, "expires at is"},
		{`delete from hold`, rows, "hold of reservation"},
		{`insert into hold select tenant_id, gen_random_uuid(), opened, opened_ts, 1, '{}', now() from hold limit 1`, rows, "no event made"},
		{`update presumption set charged = 0 where charged > 0`, rows, "charged is 0 USD"},
		{`update presumption set released = true where not released`, rows, "given back is yes"},
		{`delete from presumption`, rows, "presumption of reservation"},
		{`update attempt set state = 'settled' where state = 'held'`, rows, "state is settled, the events say held"},
		{`update attempt set fingerprint = 'x'`, rows, "fingerprint is x"},
		{`delete from attempt`, rows, "idempotency key with digest"},
		{`insert into attempt select tenant_id, sha256('x'), '', '', 1, now(), 'held', 0 from tenant limit 1`, rows, "no event made"},
		{`update tenant set suspended = true`, rows, "suspended is yes"},
		{`update tenant set rate_limit = 1`, rows, "rate limit is 1"},
		{`update tenant set zone = 'Europe/Berlin'`, rows, "zone is Europe/Berlin"},
		{`update tenant set ever_keyed = false where tenant_id = 'acme'`, rows, "a key was issued once is no"},
		{`delete from tenant where tenant_id = 'other'`, rows, "tenant: the row is missing"},
		{`update api_key set revoked_at = null where key_id = 'gone'`, rows, "revoked at is never"},
		{`update api_key set key_hash = 'mine' where key_id = 'k'`, rows, "hash is mine"},
		{`update api_key set models = '{}' where key_id = 'k'`, rows, "models is"},
		{`delete from api_key where key_id = 'k'`, rows, "API key k: the row is missing"},
		{`insert into api_key select tenant_id, 'x', '', '', 'y', now(), null, null, '{}', '{}' from tenant where tenant_id = 'acme'`, rows, "API key x: no event"},
		{`update budget set limit_nano = 1000 where budget_id = 'day'`, rows, "budget day: limit is 0.000001 USD"},
		{`update budget set scope = '{"model": "none"}' where budget_id = 'day'`, rows, "scope is"},
		{`update budget set alerts_ppm = '{}'`, rows, "alerts is []"},
		{`update budget set opened = 0 where budget_id = 'day'`, rows, "newest account is 0"},
		{`delete from budget where budget_id = 'day'`, rows, "budget day: the row is missing"},
		{`update tenant_head set budgets = 1 where tenant_id = 'acme'`, rows, "budgets in force is 1"},
	}
}

// editsBesideTheEvents are of what follows the events, and of what names them.
func editsBesideTheEvents() []edited {
	const usage = audit.LawUsage
	return []edited{
		{`insert into usage_row select tenant_id, 0, ts, posted_at, kind, route, model, null, null, -1000000000000, 0, 0, 0, tags
			from usage_row limit 1`, usage, "a usage row of -1000 USD"},
		{`insert into usage_row select tenant_id, -7, ts, posted_at, kind, route, model, null, null, 1, 0, 0, 0, tags
			from usage_row limit 1`, usage, "no such event"},
		{`insert into usage_row select tenant_id, 100000, ts, posted_at, kind, route, model, null, null, -5, 0, 0, 0, tags
			from usage_row limit 1`, usage, "no such event"},
		{`insert into usage_row select 'ghost', 1, ts, posted_at, kind, route, model, null, null, -5, 0, 0, 0, tags
			from usage_row limit 1`, audit.LawRows, "rows of usage_row, and no head"},
		{`update usage_row set usd_nano = 0 where kind = 'settled'`, usage, "charge is 0 USD"},
		{`update usage_row set model = 'x'`, usage, "model is x"},
		{`update usage_row set tags = '{}'`, usage, "tags is"},
		{`delete from usage_row where kind = 'adjusted'`, usage, "the row is missing"},
		{`insert into usage_row select tenant_id, 1, ts, posted_at, kind, route, model, null, null, -5, 0, 0, 0, tags
			from usage_row limit 1`, usage, "no event made"},
		{`update projection_cursor set version = version + 1000 where tenant_id = 'acme'`, usage, "the cursor is at"},
		{`update projection_cursor set version = 1 where tenant_id = 'acme'`, usage, "no event made"},
		{`insert into projection_cursor values ('other', 'acme', 100000)`, usage, "the cursor other is at"},
		{`insert into projection_cursor values ('usage', 'ghost', 1)`, audit.LawRows, "rows of projection_cursor"},
		{`insert into outbox (tenants, after, upto) values ('{acme}', '{1000}', '{1001}')`, audit.LawOutbox, "the head is at"},
		{`insert into outbox (tenants, after, upto) values ('{ghost}', '{0}', '{1}')`, audit.LawOutbox, "the head is at 0"},
		{`insert into outbox (tenants, after, upto) values ('{acme}', '{3,4}', '{4}')`, audit.LawOutbox, "names versions"},
		{`insert into gateway_session (gateway, build, heartbeat_at) values ('gw', 'x', now() + interval '1 year')`, audit.LawRows, "in the future"},
	}
}

// editsOfEvents need the owner, who switches the triggers off.
func editsOfEvents() []edited {
	const off = `set session_replication_role = replica; `
	return []edited{
		{off + `update event set body = replace(body, '"gpt-4"', '"gpt-5"') where type = 'usage.settled'`, audit.LawChain, "its hash is"},
		{off + `update event set ts = ts + interval '1 microsecond' where version = 9`, audit.LawChain, "its hash is"},
		{off + `update event set type = 'reservation.released' where type = 'usage.settled'`, audit.LawChain, "cannot be read"},
		{off + `delete from event where version = 9`, audit.LawDense, "follows version 8"},
		{off + `delete from event where version > 20`, audit.LawDense, "the last event at 20"},
		{off + `insert into event select 'ghost', 1, ts, type, 1, body, hash from event where version = 1 limit 1`, audit.LawDense, "no head"},
		{off + `insert into event select tenant_id, version + 1, ts + interval '1 second', type, 1, body, hash
			from event where tenant_id = 'acme' order by version desc limit 1`, audit.LawDense, "the head is at version"},
		{`update tenant_head set version = version - 1 where tenant_id = 'acme'`, audit.LawDense, "the head is at version"},
		{`update tenant_head set last_hash = sha256('x')`, audit.LawChain, "the head's hash"},
		{`update tenant_head set last_ts = last_ts + interval '1 hour'`, audit.LawDense, "the head's time"},
		{`delete from tenant_head where tenant_id = 'acme'`, audit.LawDense, "no head"},
	}
}

// editsOfGuards take away, switch off or replace what keeps the tables.
func editsOfGuards() []edited {
	const guards = audit.LawGuards
	return []edited{
		{`drop trigger event_no_change on event`, guards, "table event: trigger event_no_change is missing"},
		{`drop trigger event_no_truncate on event`, guards, "trigger event_no_truncate is missing"},
		{`drop trigger event_no_truncate on event_default`, guards, "partition event_default of event: trigger event_no_truncate is missing"},
		{`alter table event disable trigger event_no_change`, guards, "trigger event_no_change is switched off"},
		{`alter table event_default disable trigger all`, guards, "is switched off"},
		{`drop trigger account_opened on account`, guards, "trigger account_opened is missing"},
		{`drop trigger budget_retired on budget`, guards, "trigger budget_retired is missing"},
		{`create trigger cheap before insert or update on account for each row execute function event_append_only()`, guards, "trigger cheap is not of the migrations"},
		{`alter table account drop constraint account_no_overspend`, guards, "constraint account_no_overspend is missing"},
		{
			`alter table account drop constraint account_no_overspend; alter table account add constraint account_no_overspend check (true)`, guards,
			"constraint account_no_overspend is not what the migrations made",
		},
		{
			`alter table account drop constraint account_cap; alter table account add constraint account_cap check (cap >= limit_nano) not valid`, guards,
			"constraint account_cap is not what",
		},
		{`alter table api_key drop constraint api_key_key_hash_key`, guards, "api_key_key_hash_key is missing"},
		{`alter table account alter column crossed drop default`, guards, "column crossed is not what"},
		{`alter table account alter column held drop not null`, guards, "column held is not what"},
		{`create or replace view "UsageLedger" as select tenant_id || ':' || version as id, ts, tenant_id as tenant, route, 0::numeric as usd,
			prompt_tok as "promptTok", comp_tok as "compTok", model, api_key_id as "apiKeyId", reservation_id as "reservationId",
			0::numeric as "reservedUsd", kind, tags, posted_at as "postedAt", basis, 0::numeric as "presumedUsd" from usage_row`, guards, "view UsageLedger: definition is not what"},
		{
			`create or replace function event_append_only() returns trigger language plpgsql as $$ begin return new; end $$`, guards,
			"function event_append_only is not what",
		},
		{`create or replace function buckets_sum_to(buckets bigint[], settled bigint, presumed bigint) returns boolean
			language plpgsql immutable strict parallel safe as $$ begin return true; end $$`, guards, "function buckets_sum_to is not what"},
		{`do $$ declare d text; begin
			select pg_get_functiondef(oid) into d from pg_proc where proname = 'ledger_append';
			execute replace(d, 'get diagnostics n = row_count', 'n := cardinality(a_tenant)'); end $$`, guards, "function ledger_append is not what"},
		{`alter function ledger_append security definer`, guards, "function ledger_append runs with"},
		{`create rule hush as on update to account do instead nothing`, guards, "rule hush is not of the migrations"},
		{`alter table hold enable row level security`, guards, "row level security"},
		{`grant update on event to public`, guards, "role public may update"},
		{`drop view "UsageLedger"`, guards, "view UsageLedger is missing"},
	}
}
