-- +goose Up

-- The last version of each tenant that a projection in Postgres applied; moved with its rows.
create table projection_cursor (
    name      text   not null,
    tenant_id text   not null,
    version   bigint not null,
    primary key (name, tenant_id)
) with (fillfactor = 50);

-- One immutable row per event that moves money. Written by the usage projector only; can be dropped and
-- rebuilt from the events. Amounts are nano-dollars; the view shows exact dollars.
create table usage_row (
    tenant_id      text        not null,
    version        bigint      not null,
    ts             timestamptz not null, -- the reserve time: the window the row counts in
    posted_at      timestamptz not null, -- the event's own time
    kind           text        not null check (kind in ('settled', 'expired', 'late', 'adjusted')),
    route          text        not null,
    model          text        not null,
    api_key_id     text,
    reservation_id uuid,
    usd_nano       bigint      not null,
    reserved_nano  bigint      not null,
    prompt_tok     bigint      not null,
    comp_tok       bigint      not null,
    tags           jsonb       not null,
    primary key (tenant_id, version)
);
create index usage_row_ts on usage_row (tenant_id, ts);

create view "UsageLedger" as
select tenant_id || ':' || version                    as id,
       ts,
       tenant_id                                      as tenant,
       route,
       trim_scale(usd_nano::numeric * 0.000000001)    as usd,
       prompt_tok                                     as "promptTok",
       comp_tok                                       as "compTok",
       model,
       api_key_id                                     as "apiKeyId",
       reservation_id                                 as "reservationId",
       trim_scale(reserved_nano::numeric * 0.000000001) as "reservedUsd",
       kind,
       tags,
       posted_at                                      as "postedAt"
from usage_row;
