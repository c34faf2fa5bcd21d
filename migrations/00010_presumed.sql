-- +goose Up

-- What a row of the UsageLedger rests on, and how much of it no provider has confirmed, so that finance does
-- not read a presumption as a bill. presumed_nano is a difference like usd_nano: the sum over the rows of a
-- reservation is what is presumed of it now. Nothing here is guessed: the events say it.
alter table usage_row
    add column if not exists basis         text,
    add column if not exists presumed_nano bigint not null default 0;

update usage_row u
set basis = case u.kind when 'expired' then 'presumed' when 'adjusted' then 'operator' else e.body::jsonb ->> 'basis' end,
    presumed_nano = case
        when u.kind = 'expired' then u.usd_nano
        when u.kind = 'settled' and e.body::jsonb ->> 'basis' = 'presumed' then u.usd_nano
        when u.kind = 'late' and e.body::jsonb ->> 'basis' = 'presumed' then u.usd_nano
        when u.kind = 'late' then -((e.body::jsonb ->> 'wasChargedUsd')::numeric * 1000000000)::bigint
        else 0
    end
from event e
where e.tenant_id = u.tenant_id and e.version = u.version and e.ts = u.posted_at;

-- An adjustment that confirmed a charge ends what was presumed of its reservation by the rows before it.
update usage_row u
set presumed_nano = -coalesce((
    select sum(b.presumed_nano) from usage_row b
    where b.tenant_id = u.tenant_id and b.reservation_id = u.reservation_id and b.version < u.version
), 0)
from event e
where u.kind = 'adjusted' and e.tenant_id = u.tenant_id and e.version = u.version and e.ts = u.posted_at
  and e.body::jsonb -> 'confirmed' = 'true'::jsonb;

-- The columns that were there keep their places.
create or replace view "UsageLedger" as
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
       posted_at                                      as "postedAt",
       basis,
       trim_scale(presumed_nano::numeric * 0.000000001) as "presumedUsd"
from usage_row;
