-- The ledger: one stream of events per tenant, and beside it, moved in the same transaction, the balances
-- that refuse an overspend, the reservations that are open and the outbox.

-- +goose Up

-- The head of a stream. Its row is the only lock: an append is a compare-and-set on version and hash.
-- fence is raised when the outcome of an append is unknown, so that a late original can never land.
create table tenant_head (
    tenant_id text primary key,
    version   bigint not null,
    last_ts   timestamptz not null,
    last_hash bytea not null check (octet_length(last_hash) = 32),
    fence     bigint not null default 0
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- The record. body is the exact bytes that hash covers: text, never jsonb, which would rewrite them.
-- (tenant_id, version) is unique because only a compare-and-set on the head can insert.
create table event (
    tenant_id      text        not null,
    version        bigint      not null check (version > 0),
    ts             timestamptz not null,
    type           text        not null,
    schema_version smallint    not null default 1,
    body           text        not null,
    hash           bytea       not null check (octet_length(hash) = 32),
    primary key (tenant_id, version, ts)
) partition by range (ts);
create index event_ts on event using brin (ts);

-- +goose StatementBegin
create function event_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'event is append-only: % is refused', tg_op using errcode = 'BG001';
end $$;
-- +goose StatementEnd
create trigger event_no_change before update or delete on event for each row execute function event_append_only();
create trigger event_no_truncate before truncate on event for each statement execute function event_append_only();

-- A partition gets the row trigger from its parent, but truncate triggers are not inherited.
-- +goose StatementBegin
create function event_partition(name text, bounds text) returns void language plpgsql as $$
begin
    execute format('create table if not exists %I partition of event %s', name, bounds);
    execute format('create or replace trigger event_no_truncate before truncate on %I for each statement execute function event_append_only()', name);
end $$;
-- +goose StatementEnd

-- Makes the partitions of a month and the ones after it, where they are missing. Months that already
-- have rows in the default partition stay there: nothing is moved.
-- +goose StatementBegin
create function event_partitions_ahead(from_ts timestamptz, months int) returns int language plpgsql as $$
declare
    first_day date := date_trunc('month', from_ts at time zone 'UTC')::date;
    lower_day date;
    upper_day date;
    name text;
    made int := 0;
begin
    for i in 0..months loop
        lower_day := first_day + make_interval(months => i);
        upper_day := first_day + make_interval(months => i + 1);
        name := 'event_' || to_char(lower_day, 'YYYY_MM');
        continue when to_regclass(name) is not null;
        continue when exists (select from event_default where ts >= lower_day::timestamp at time zone 'UTC' and ts < upper_day::timestamp at time zone 'UTC');
        perform event_partition(name, format('for values from (%L) to (%L)',
            to_char(lower_day, 'YYYY-MM-DD') || ' 00:00:00+00', to_char(upper_day, 'YYYY-MM-DD') || ' 00:00:00+00'));
        made := made + 1;
    end loop;
    return made;
end $$;
-- +goose StatementEnd
select event_partition('event_default', 'default');
select event_partitions_ahead(now(), 3);

-- The balance of one budget in one window. account_id is the version of its window.opened event.
-- cap is what use may reach: the limit, or more only through a forced posting.
create table account (
    tenant_id  text        not null,
    account_id bigint      not null,
    budget_id  text        not null,
    period     text        not null,
    win_start  timestamptz not null,
    win_end    timestamptz not null,
    limit_nano bigint      not null check (limit_nano >= 0),
    held       bigint      not null check (held >= 0),
    settled    bigint      not null check (settled >= 0),
    presumed   bigint      not null check (presumed >= 0 and presumed <= settled),
    cap        bigint      not null,
    version    bigint      not null,
    primary key (tenant_id, account_id),
    unique (tenant_id, budget_id, win_start),
    constraint account_window check (win_start < win_end),
    constraint account_no_overspend check (held + settled <= cap),
    constraint account_cap check (cap >= limit_nano)
) with (fillfactor = 50);

-- Open reservations only: a row is inserted by a reserve and deleted when the reservation closes.
create table hold (
    tenant_id      text        not null,
    reservation_id uuid        not null,
    opened         bigint      not null, -- version of the usage.reserved event, and its time
    opened_ts      timestamptz not null,
    amount         bigint      not null check (amount >= 0),
    accounts       bigint[]    not null,
    expires_at     timestamptz not null,
    primary key (tenant_id, reservation_id)
) with (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0);
create index hold_due on hold (expires_at);

-- Closed reservations whose charge no provider has confirmed. Late evidence deletes the row.
create table presumption (
    tenant_id      text        not null,
    reservation_id uuid        not null,
    opened         bigint      not null,
    opened_ts      timestamptz not null,
    amount         bigint      not null,
    charged        bigint      not null,
    accounts       bigint[]    not null,
    expires_at     timestamptz not null,
    primary key (tenant_id, reservation_id)
);

-- What still has to be published: one row a transaction, deleted by the relay.
create table outbox (
    id         bigint generated always as identity primary key,
    tenants    text[]   not null,
    after      bigint[] not null, -- versions after these
    upto       bigint[] not null  -- and up to these
) with (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

-- Definitions, as the stream's administrative events left them.
create table tenant (
    tenant_id  text        primary key,
    name       text        not null,
    zone       text        not null,
    rate_limit bigint,
    suspended  boolean     not null,
    ever_keyed boolean     not null, -- a key was issued once: the tenant id alone is no credential any more
    created_at timestamptz not null,
    version    bigint      not null
);
create table api_key (
    tenant_id  text        not null,
    key_id     text        not null,
    name       text        not null,
    prefix     text        not null,
    key_hash   text        not null unique,
    created_at timestamptz not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    models     text[]      not null,
    tags       jsonb       not null,
    primary key (tenant_id, key_id)
);
create table budget (
    tenant_id  text     not null,
    budget_id  text     not null,
    period     text     not null,
    scope      jsonb    not null,
    limit_nano bigint   not null,
    alerts_ppm bigint[] not null,
    source     text     not null,
    primary key (tenant_id, budget_id)
);
