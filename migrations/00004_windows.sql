-- +goose Up

-- Windows beyond the calendar, narrower budgets, raises, thresholds, idempotency keys, and a home for
-- accounts that nothing changes any more.

-- What a threshold or a rolling window has to remember of an account. buckets are triples (number, settled,
-- presumed), oldest first; buckets before the oldest are gone. slides_at is when the first one leaves.
alter table account
    add column crossed       bigint[] not null default '{}',
    add column duration_min  bigint   not null default 0,
    add column oldest_bucket bigint   not null default 0,
    add column buckets       bigint[],
    add column slides_at     timestamptz;

-- Whether the buckets of a rolling account, if it is one, sum up to its balance. In plpgsql and strict: every
-- statement that writes accounts prepares its checks anew, so they are short, and a function in SQL would be parsed
-- each time.
-- +goose StatementBegin
create function buckets_sum_to(buckets bigint[], settled bigint, presumed bigint) returns boolean
language plpgsql immutable strict parallel safe as $$
begin
    return (select coalesce(sum(buckets[i]), 0) = settled and coalesce(sum(buckets[i + 1]), 0) = presumed
            from generate_series(2, cardinality(buckets), 3) i);
end $$;
-- +goose StatementEnd
alter table account add constraint account_buckets check (buckets_sum_to(buckets, settled, presumed));
alter table account add constraint account_rolls check ((duration_min = 0) = (buckets is null));
create index account_slides on account (slides_at) where slides_at is not null;
create index account_ended on account (win_end);

-- Accounts whose window ended long ago. They come back when late evidence needs them.
create table account_archive (like account including defaults including constraints, primary key (tenant_id, account_id));

alter table budget
    add column span      jsonb not null default '{}',
    add column win_start timestamptz,
    add column win_end   timestamptz,
    add column raises    jsonb not null default '[]',
    add column lowers_at timestamptz; -- when the first raise ends
create index budget_lowers on budget (lowers_at) where lowers_at is not null;

alter table api_key
    add column required_tags text[] not null default '{}',
    add column suspended boolean not null default false,
    add column old_hash  text,
    add column old_until timestamptz;
create index api_key_old on api_key (old_hash) where old_hash is not null;

-- Given back, because nothing seemed to be billed: kept for a week, should it have been.
alter table presumption add column released boolean not null default false;
create index presumption_opened on presumption (opened_ts);

-- What an idempotency key was used for. key is a digest of its scope and the key itself.
create table attempt (
    tenant_id      text        not null,
    key            bytea       not null check (octet_length(key) = 32),
    fingerprint    text        not null,
    reservation_id text        not null, -- empty for an adjustment of no reservation
    version        bigint      not null,
    at             timestamptz not null,
    state          text        not null check (state in ('held', 'settled', 'presumed', 'adjusted')),
    charged        bigint      not null,
    primary key (tenant_id, key)
);
create index attempt_at on attempt using brin (at);

-- Adjustments find the charges of a reservation. Ids are UUIDs of version 7, so they rise with time.
create index usage_row_reservation on usage_row using brin (reservation_id) with (pages_per_range = 16);

-- How long an idempotency key means the same request: domain.AttemptLife.
create function attempt_life() returns interval language sql immutable parallel safe as $$ select interval '7 days' $$;

drop function ledger_append;

-- ledger_append moves data and decides nothing. Go decided on the state at (expected, prev, fence) of each
-- tenant; the first update takes, in one compare-and-set, the heads where that is still the state, and
-- everything after concerns only those. A tenant that moved, or whose idempotency key somebody has used
-- meanwhile, is missing in won; the others are written.
--
-- Balances are absolute. They are exact because the compare-and-set proves that nobody moved the stream in
-- between, and the CHECKs of account refuse an overspend whatever Go computed: cap rises above the limit
-- only for a posting marked forced and otherwise follows use down. A refusal aborts the whole call.
--
-- The arrays of each group run in parallel. Heads come sorted by tenant, so two calls lock in one order.
-- Every count that could differ is checked: a row that is not there is a bug, and nothing is written then.
--
-- A statement reads one array as rows and the others by their subscripts: unnest of several would make a tuple
-- store of 16 kB for each of them, and a call would need more memory than malloc keeps from one to the next.
-- A subscript costs the same at any place only in a generic plan, which the journal's sessions force: a custom one
-- has its arrays as constants, and walks through one of text to reach an element.
--
-- Nearly always every tenant won, and the arrays are written as they are. Otherwise they are first cut down
-- to the rows of the winners.
-- +goose StatementBegin
create function ledger_append(
    h_tenant text[], h_expected bigint[], h_prev bytea[], h_fence bigint[], h_version bigint[], h_hash bytea[], h_ts timestamptz[],
    o_tenant text[], o_account bigint[], o_budget text[], o_period text[], o_start timestamptz[], o_end timestamptz[],
    o_limit bigint[], o_held bigint[], o_settled bigint[], o_presumed bigint[],
    o_crossed text[], o_duration bigint[], o_oldest bigint[], o_buckets text[], o_slides timestamptz[],
    a_tenant text[], a_account bigint[], a_limit bigint[], a_held bigint[], a_settled bigint[], a_presumed bigint[],
    a_forced boolean[], a_version bigint[], a_crossed text[], a_rolls boolean[], a_oldest bigint[], a_buckets text[], a_slides timestamptz[],
    r_tenant text[], r_id uuid[], r_opened bigint[], r_ts timestamptz[], r_amount bigint[], r_from int[], r_to int[],
    r_expires timestamptz[], r_accounts bigint[],
    x_tenant text[], x_id uuid[], x_amount bigint[], x_expires timestamptz[],
    p_tenant text[], p_id uuid[], p_charged bigint[], p_released boolean[],
    c_tenant text[], c_id uuid[],
    l_tenant text[], l_id uuid[], l_charged bigint[],
    i_tenant text[], i_key bytea[], i_fingerprint text[], i_reservation text[], i_version bigint[], i_at timestamptz[],
    i_state text[], i_charged bigint[], i_fresh boolean[],
    e_tenant text[], e_version bigint[], e_ts timestamptz[], e_type text[], e_body text[], e_hash bytea[],
    max_skew interval,
    out won text[], out at timestamptz
) language plpgsql as $$
declare
    used text[] := '{}';
    n bigint;
    kept bigint;
    want bigint;
    earliest timestamptz;
    latest timestamptz;
    fewest bigint;
    most bigint;
    linked boolean;
begin
    -- What is used by now is seen; what comes to be used moves the tenant's version, and so loses below.
    if cardinality(i_tenant) > 0 then
        select coalesce(array_agg(distinct x.tenant), '{}') into used
        from unnest(i_tenant, i_key, i_at, i_fresh) x (tenant, key, used_at, fresh)
        join attempt t on t.tenant_id = x.tenant and t.key = x.key
        where x.fresh and t.at >= x.used_at - attempt_life();
    end if;

    with moved as (
        update tenant_head h set version = h_version[x.i], last_hash = h_hash[x.i], last_ts = h_ts[x.i]
        from unnest(h_tenant) with ordinality x (tenant, i)
        where h.tenant_id = x.tenant and h.version = h_expected[x.i] and h.last_hash = h_prev[x.i] and h.fence = h_fence[x.i]
            and not (x.tenant = any (used))
        returning h.tenant_id, h_ts[x.i] as ts, h_version[x.i] - h_expected[x.i] as events)
    select coalesce(array_agg(tenant_id), '{}'), clock_timestamp(), min(ts), max(ts), min(events), max(events), sum(events)
    into won, at, earliest, latest, fewest, most, want from moved;
    if cardinality(won) = 0 then
        return;
    end if;
    -- A window is chosen by the time of the event, so no gateway's clock may choose it alone.
    if latest > at + max_skew or earliest < at - max_skew then
        raise exception 'clock skew' using errcode = 'BG003';
    end if;

    -- Counts alone would let a version be there twice and the next one be missing. The events come tenant by
    -- tenant, in the order of the heads: from the expected version to the head's, whose last one the head names.
    if cardinality(won) = cardinality(h_tenant) and fewest = 1 and most = 1 then
        -- One event a head, the usual call: the events are the heads.
        linked := (e_tenant, e_version, e_hash, e_ts) is not distinct from (h_tenant, h_version, h_hash, h_ts);
    else
        linked := (e_tenant, e_version) is not distinct from (
                select (array_agg(x.tenant), array_agg(v)) from unnest(h_tenant, h_expected, h_version) x (tenant, expected, version)
                cross join lateral generate_series(x.expected + 1, x.version) v)
            and not exists (
                select from (select hash, ts, sum(version - expected) over (rows unbounded preceding) as upto
                             from unnest(h_expected, h_version, h_hash, h_ts) x (expected, version, hash, ts)) x
                where e_hash[x.upto] is distinct from x.hash or e_ts[x.upto] is distinct from x.ts);
    end if;
    if not linked then
        raise exception 'the events do not lead to the heads' using errcode = 'BG002';
    end if;

    if cardinality(won) < cardinality(h_tenant) then
        select coalesce(array_agg(x.tenant order by x.nth), '{}'), coalesce(array_agg(x.c1 order by x.nth), '{}'), coalesce(array_agg(x.c2 order by
            x.nth), '{}'), coalesce(array_agg(x.c3 order by x.nth), '{}'), coalesce(array_agg(x.c4 order by x.nth), '{}'), coalesce(array_agg(x.c5 order
            by x.nth), '{}'), coalesce(array_agg(x.c6 order by x.nth), '{}')
        into h_tenant, h_expected, h_prev, h_fence, h_version, h_hash, h_ts
        from unnest(h_tenant, h_expected, h_prev, h_fence, h_version, h_hash, h_ts) with ordinality x (tenant, c1, c2, c3, c4, c5, c6, nth)
        where x.tenant = any (won);
        select coalesce(array_agg(x.tenant order by x.nth), '{}'), coalesce(array_agg(x.c1 order by x.nth), '{}'), coalesce(array_agg(x.c2 order by
            x.nth), '{}'), coalesce(array_agg(x.c3 order by x.nth), '{}'), coalesce(array_agg(x.c4 order by x.nth), '{}'), coalesce(array_agg(x.c5 order
            by x.nth), '{}'), coalesce(array_agg(x.c6 order by x.nth), '{}'), coalesce(array_agg(x.c7 order by x.nth), '{}'), coalesce(array_agg(x.c8
            order by x.nth), '{}'), coalesce(array_agg(x.c9 order by x.nth), '{}'), coalesce(array_agg(x.c10 order by x.nth), '{}'),
            coalesce(array_agg(x.c11 order by x.nth), '{}'), coalesce(array_agg(x.c12 order by x.nth), '{}'), coalesce(array_agg(x.c13 order by x.nth),
            '{}'), coalesce(array_agg(x.c14 order by x.nth), '{}')
        into o_tenant, o_account, o_budget, o_period, o_start, o_end, o_limit, o_held, o_settled, o_presumed, o_crossed, o_duration, o_oldest,
            o_buckets, o_slides
        from unnest(o_tenant, o_account, o_budget, o_period, o_start, o_end, o_limit, o_held, o_settled, o_presumed, o_crossed, o_duration, o_oldest,
            o_buckets, o_slides) with ordinality x (tenant, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, nth)
        where x.tenant = any (won);
        select coalesce(array_agg(x.tenant order by x.nth), '{}'), coalesce(array_agg(x.c1 order by x.nth), '{}'), coalesce(array_agg(x.c2 order by
            x.nth), '{}'), coalesce(array_agg(x.c3 order by x.nth), '{}'), coalesce(array_agg(x.c4 order by x.nth), '{}'), coalesce(array_agg(x.c5 order
            by x.nth), '{}'), coalesce(array_agg(x.c6 order by x.nth), '{}'), coalesce(array_agg(x.c7 order by x.nth), '{}'), coalesce(array_agg(x.c8
            order by x.nth), '{}'), coalesce(array_agg(x.c9 order by x.nth), '{}'), coalesce(array_agg(x.c10 order by x.nth), '{}'),
            coalesce(array_agg(x.c11 order by x.nth), '{}'), coalesce(array_agg(x.c12 order by x.nth), '{}')
        into a_tenant, a_account, a_limit, a_held, a_settled, a_presumed, a_forced, a_version, a_crossed, a_rolls, a_oldest, a_buckets, a_slides
        from unnest(a_tenant, a_account, a_limit, a_held, a_settled, a_presumed, a_forced, a_version, a_crossed, a_rolls, a_oldest, a_buckets,
            a_slides) with ordinality x (tenant, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, nth)
        where x.tenant = any (won);
        select coalesce(array_agg(x.tenant order by x.nth), '{}'), coalesce(array_agg(x.c1 order by x.nth), '{}'), coalesce(array_agg(x.c2 order by
            x.nth), '{}'), coalesce(array_agg(x.c3 order by x.nth), '{}'), coalesce(array_agg(x.c4 order by x.nth), '{}'), coalesce(array_agg(x.c5 order
            by x.nth), '{}'), coalesce(array_agg(x.c6 order by x.nth), '{}'), coalesce(array_agg(x.c7 order by x.nth), '{}')
        into r_tenant, r_id, r_opened, r_ts, r_amount, r_from, r_to, r_expires
        from unnest(r_tenant, r_id, r_opened, r_ts, r_amount, r_from, r_to, r_expires) with ordinality x (tenant, c1, c2, c3, c4, c5, c6, c7, nth)
        where x.tenant = any (won);
        select coalesce(array_agg(x.tenant order by x.nth), '{}'), coalesce(array_agg(x.c1 order by x.nth), '{}'), coalesce(array_agg(x.c2 order by
            x.nth), '{}'), coalesce(array_agg(x.c3 order by x.nth), '{}')
        into x_tenant, x_id, x_amount, x_expires
        from unnest(x_tenant, x_id, x_amount, x_expires) with ordinality x (tenant, c1, c2, c3, nth)
        where x.tenant = any (won);
        select coalesce(array_agg(x.tenant order by x.nth), '{}'), coalesce(array_agg(x.c1 order by x.nth), '{}'), coalesce(array_agg(x.c2 order by
            x.nth), '{}'), coalesce(array_agg(x.c3 order by x.nth), '{}')
        into p_tenant, p_id, p_charged, p_released
        from unnest(p_tenant, p_id, p_charged, p_released) with ordinality x (tenant, c1, c2, c3, nth)
        where x.tenant = any (won);
        select coalesce(array_agg(x.tenant order by x.nth), '{}'), coalesce(array_agg(x.c1 order by x.nth), '{}')
        into c_tenant, c_id
        from unnest(c_tenant, c_id) with ordinality x (tenant, c1, nth)
        where x.tenant = any (won);
        select coalesce(array_agg(x.tenant order by x.nth), '{}'), coalesce(array_agg(x.c1 order by x.nth), '{}'), coalesce(array_agg(x.c2 order by
            x.nth), '{}')
        into l_tenant, l_id, l_charged
        from unnest(l_tenant, l_id, l_charged) with ordinality x (tenant, c1, c2, nth)
        where x.tenant = any (won);
        select coalesce(array_agg(x.tenant order by x.nth), '{}'), coalesce(array_agg(x.c1 order by x.nth), '{}'), coalesce(array_agg(x.c2 order by
            x.nth), '{}'), coalesce(array_agg(x.c3 order by x.nth), '{}'), coalesce(array_agg(x.c4 order by x.nth), '{}'), coalesce(array_agg(x.c5 order
            by x.nth), '{}'), coalesce(array_agg(x.c6 order by x.nth), '{}'), coalesce(array_agg(x.c7 order by x.nth), '{}'), coalesce(array_agg(x.c8
            order by x.nth), '{}')
        into i_tenant, i_key, i_fingerprint, i_reservation, i_version, i_at, i_state, i_charged, i_fresh
        from unnest(i_tenant, i_key, i_fingerprint, i_reservation, i_version, i_at, i_state, i_charged, i_fresh) with ordinality x (tenant, c1, c2,
            c3, c4, c5, c6, c7, c8, nth)
        where x.tenant = any (won);
        select coalesce(array_agg(x.tenant order by x.nth), '{}'), coalesce(array_agg(x.c1 order by x.nth), '{}'), coalesce(array_agg(x.c2 order by
            x.nth), '{}'), coalesce(array_agg(x.c3 order by x.nth), '{}'), coalesce(array_agg(x.c4 order by x.nth), '{}'), coalesce(array_agg(x.c5 order
            by x.nth), '{}')
        into e_tenant, e_version, e_ts, e_type, e_body, e_hash
        from unnest(e_tenant, e_version, e_ts, e_type, e_body, e_hash) with ordinality x (tenant, c1, c2, c3, c4, c5, nth)
        where x.tenant = any (won);
    end if;
    -- Only what the compare-and-set took may be written; nothing below asks.
    if not (o_tenant || a_tenant || r_tenant || x_tenant || p_tenant || c_tenant || l_tenant || i_tenant) <@ won then
        raise exception 'rows of a tenant without a head' using errcode = 'BG002';
    end if;

    if cardinality(o_tenant) > 0 then
        insert into account (tenant_id, account_id, budget_id, period, win_start, win_end, limit_nano, held, settled, presumed, cap, version,
                             crossed, duration_min, oldest_bucket, buckets, slides_at)
        select x.tenant, o_account[x.i], o_budget[x.i], o_period[x.i], o_start[x.i], o_end[x.i], o_limit[x.i], o_held[x.i], o_settled[x.i],
               o_presumed[x.i], greatest(o_limit[x.i], o_held[x.i] + o_settled[x.i]), o_account[x.i],
               coalesce(o_crossed[x.i]::bigint[], '{}'), o_duration[x.i], o_oldest[x.i], o_buckets[x.i]::bigint[], o_slides[x.i]
        from unnest(o_tenant) with ordinality x (tenant, i);
    end if;
    if cardinality(a_tenant) > 0 then
        update account a set limit_nano = a_limit[x.i], held = a_held[x.i], settled = a_settled[x.i], presumed = a_presumed[x.i],
            version = a_version[x.i],
            cap = greatest(a_limit[x.i], case when a_forced[x.i] then a_held[x.i] + a_settled[x.i] else least(a.cap, a_held[x.i] + a_settled[x.i]) end),
            -- Thresholds are added; a rolling account says them anew, since a slide can take some away.
            crossed = case when a_rolls[x.i] then a_crossed[x.i]::bigint[] when a_crossed[x.i] is null then a.crossed
                else a.crossed || a_crossed[x.i]::bigint[] end,
            oldest_bucket = a_oldest[x.i], buckets = a_buckets[x.i]::bigint[], slides_at = a_slides[x.i]
        from unnest(a_tenant) with ordinality x (tenant, i)
        where a.tenant_id = x.tenant and a.account_id = a_account[x.i] and a.version < a_version[x.i];
        get diagnostics n = row_count;
        if n <> cardinality(a_tenant) then
            raise exception 'account rows: % of %', n, cardinality(a_tenant) using errcode = 'BG002';
        end if;
    end if;
    if cardinality(r_tenant) > 0 then
        insert into hold (tenant_id, opened, opened_ts, reservation_id, amount, accounts, expires_at)
        select x.tenant, r_opened[x.i], r_ts[x.i], r_id[x.i], r_amount[x.i], coalesce(r_accounts[r_from[x.i] : r_to[x.i]], '{}'), r_expires[x.i]
        from unnest(r_tenant) with ordinality x (tenant, i);
    end if;
    if cardinality(x_tenant) > 0 then
        update hold d set amount = x_amount[x.i], expires_at = x_expires[x.i] from unnest(x_tenant) with ordinality x (tenant, i)
        where d.tenant_id = x.tenant and d.reservation_id = x_id[x.i];
        get diagnostics n = row_count;
        if n <> cardinality(x_tenant) then
            raise exception 'extended hold rows: % of %', n, cardinality(x_tenant) using errcode = 'BG002';
        end if;
    end if;
    if cardinality(p_tenant) > 0 then
        insert into presumption (tenant_id, reservation_id, opened, opened_ts, amount, charged, accounts, expires_at, released)
        select d.tenant_id, d.reservation_id, d.opened, d.opened_ts, d.amount, p_charged[x.i], d.accounts, d.expires_at, p_released[x.i]
        from unnest(p_tenant) with ordinality x (tenant, i)
        join hold d on d.tenant_id = x.tenant and d.reservation_id = p_id[x.i];
        get diagnostics n = row_count;
        if n <> cardinality(p_tenant) then
            raise exception 'presumption rows: % of %', n, cardinality(p_tenant) using errcode = 'BG002';
        end if;
    end if;
    if cardinality(c_tenant) > 0 then
        delete from hold d using unnest(c_tenant) with ordinality x (tenant, i)
        where d.tenant_id = x.tenant and d.reservation_id = c_id[x.i];
        get diagnostics n = row_count;
        if n <> cardinality(c_tenant) then
            raise exception 'hold rows: % of %', n, cardinality(c_tenant) using errcode = 'BG002';
        end if;
    end if;
    -- Late evidence ends a presumption; a correction that is itself presumed leaves it with another charge.
    if cardinality(l_tenant) > 0 then
        update presumption d set charged = x.charged, released = false from unnest(l_tenant, l_id, l_charged) x (tenant, id, charged)
        where d.tenant_id = x.tenant and d.reservation_id = x.id and x.charged is not null;
        get diagnostics kept = row_count;
        delete from presumption d using unnest(l_tenant, l_id, l_charged) x (tenant, id, charged)
        where d.tenant_id = x.tenant and d.reservation_id = x.id and x.charged is null;
        get diagnostics n = row_count;
        if n + kept <> cardinality(l_tenant) then
            raise exception 'presumption rows: % of %', n + kept, cardinality(l_tenant) using errcode = 'BG002';
        end if;
    end if;
    -- A key that was given back is forgotten; one that pays for another request by now is left alone.
    if cardinality(i_tenant) > 0 then
        delete from attempt t using unnest(i_tenant, i_key, i_reservation, i_state) x (tenant, key, reservation, state)
        where t.tenant_id = x.tenant and t.key = x.key and x.state = '' and t.reservation_id = x.reservation;
        insert into attempt (tenant_id, key, fingerprint, reservation_id, version, at, state, charged)
        select x.tenant, x.key, x.fingerprint, x.reservation, x.version, x.used_at, x.state, x.charged
        from unnest(i_tenant, i_key, i_fingerprint, i_reservation, i_version, i_at, i_state, i_charged, i_fresh)
            x (tenant, key, fingerprint, reservation, version, used_at, state, charged, fresh)
        where x.state <> ''
        on conflict (tenant_id, key) do update set fingerprint = excluded.fingerprint, reservation_id = excluded.reservation_id,
            version = greatest(excluded.version, case when attempt.reservation_id = excluded.reservation_id then attempt.version else 0 end),
            at = excluded.at, state = excluded.state, charged = excluded.charged
            where attempt.reservation_id = excluded.reservation_id or attempt.at < excluded.at - attempt_life();
    end if;

    insert into event (tenant_id, version, ts, type, body, hash)
    select x.tenant, e_version[x.i], e_ts[x.i], e_type[x.i], e_body[x.i], e_hash[x.i] from unnest(e_tenant) with ordinality x (tenant, i);
    get diagnostics n = row_count;
    if n <> want then
        raise exception 'events: % of %', n, want using errcode = 'BG002';
    end if;
    insert into outbox (tenants, after, upto) values (h_tenant, h_expected, h_version);
end $$;
-- +goose StatementEnd
