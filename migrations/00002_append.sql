-- +goose Up

-- ledger_append moves data and decides nothing. Go decided on the state at (expected, prev, fence) of each
-- tenant; the first statement takes, in one compare-and-set, the heads where that is still the state, and
-- everything after concerns only those. A tenant that moved is missing in won; the others are written.
--
-- Balances are absolute. They are exact because the compare-and-set proves that nobody moved the stream in
-- between, and the CHECKs of account refuse an overspend whatever Go computed: cap rises above the limit
-- only for a posting marked forced and otherwise follows use down. A refusal aborts the whole call.
--
-- The arrays of each group run in parallel. Heads come sorted by tenant, so two calls lock in one order.
-- Every count that could differ is checked: a row that is not there is a bug, and nothing is written then.
--
-- Nearly always every tenant won. Then the arrays are written as they are: a count is their length, and no
-- row has to be looked up among the winners. Otherwise the same statements run on the winners' rows alone.
-- The two halves must refuse the same; guard_test.go asks both.
-- +goose StatementBegin
create function ledger_append(
    h_tenant text[], h_expected bigint[], h_prev bytea[], h_fence bigint[], h_version bigint[], h_hash bytea[], h_ts timestamptz[],
    o_tenant text[], o_account bigint[], o_budget text[], o_period text[], o_start timestamptz[], o_end timestamptz[],
    o_limit bigint[], o_held bigint[], o_settled bigint[], o_presumed bigint[],
    a_tenant text[], a_account bigint[], a_limit bigint[], a_held bigint[], a_settled bigint[], a_presumed bigint[],
    a_forced boolean[], a_version bigint[],
    r_tenant text[], r_id uuid[], r_opened bigint[], r_ts timestamptz[], r_amount bigint[], r_from int[], r_to int[],
    r_expires timestamptz[], r_accounts bigint[],
    p_tenant text[], p_id uuid[], p_charged bigint[],
    c_tenant text[], c_id uuid[],
    l_tenant text[], l_id uuid[], l_charged bigint[],
    e_tenant text[], e_version bigint[], e_ts timestamptz[], e_type text[], e_body text[], e_hash bytea[],
    max_skew interval,
    out won text[], out at timestamptz
) language plpgsql as $$
declare
    n bigint;
    kept bigint;
    want bigint;
    earliest timestamptz;
    latest timestamptz;
    fewest bigint;
    most bigint;
    linked boolean;
begin
    with moved as (
        update tenant_head h set version = x.version, last_hash = x.hash, last_ts = x.ts
        from unnest(h_tenant, h_expected, h_prev, h_fence, h_version, h_hash, h_ts) x (tenant, expected, prev, fence, version, hash, ts)
        where h.tenant_id = x.tenant and h.version = x.expected and h.last_hash = x.prev and h.fence = x.fence
        returning h.tenant_id, x.ts, x.version - x.expected as events)
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

    if cardinality(won) = cardinality(h_tenant) then
        -- Only what the compare-and-set took may be written, and here nothing below asks.
        if not (o_tenant || a_tenant || r_tenant || p_tenant || c_tenant || l_tenant) <@ won then
            raise exception 'rows of a tenant without a head' using errcode = 'BG002';
        end if;

        if cardinality(o_tenant) > 0 then
            insert into account (tenant_id, account_id, budget_id, period, win_start, win_end, limit_nano, held, settled, presumed, cap, version)
            select x.tenant, x.account, x.budget, x.period, x.win_start, x.win_end, x.lim, x.held, x.settled, x.presumed,
                   greatest(x.lim, x.held + x.settled), x.account
            from unnest(o_tenant, o_account, o_budget, o_period, o_start, o_end, o_limit, o_held, o_settled, o_presumed)
                x (tenant, account, budget, period, win_start, win_end, lim, held, settled, presumed);
        end if;
        if cardinality(a_tenant) > 0 then
            update account a set limit_nano = x.lim, held = x.held, settled = x.settled, presumed = x.presumed, version = x.version,
                cap = greatest(x.lim, case when x.forced then x.held + x.settled else least(a.cap, x.held + x.settled) end)
            from unnest(a_tenant, a_account, a_limit, a_held, a_settled, a_presumed, a_forced, a_version)
                x (tenant, account, lim, held, settled, presumed, forced, version)
            where a.tenant_id = x.tenant and a.account_id = x.account and a.version < x.version;
            get diagnostics n = row_count;
            if n <> cardinality(a_tenant) then
                raise exception 'account rows: % of %', n, cardinality(a_tenant) using errcode = 'BG002';
            end if;
        end if;
        if cardinality(r_tenant) > 0 then
            insert into hold (tenant_id, opened, opened_ts, reservation_id, amount, accounts, expires_at)
            select x.tenant, x.opened, x.ts, x.id, x.amount, coalesce(r_accounts[x.lo : x.hi], '{}'), x.expires
            from unnest(r_tenant, r_id, r_opened, r_ts, r_amount, r_from, r_to, r_expires) x (tenant, id, opened, ts, amount, lo, hi, expires);
        end if;
        if cardinality(p_tenant) > 0 then
            insert into presumption (tenant_id, reservation_id, opened, opened_ts, amount, charged, accounts, expires_at)
            select d.tenant_id, d.reservation_id, d.opened, d.opened_ts, d.amount, x.charged, d.accounts, d.expires_at
            from unnest(p_tenant, p_id, p_charged) x (tenant, id, charged)
            join hold d on d.tenant_id = x.tenant and d.reservation_id = x.id;
            get diagnostics n = row_count;
            if n <> cardinality(p_tenant) then
                raise exception 'presumption rows: % of %', n, cardinality(p_tenant) using errcode = 'BG002';
            end if;
        end if;
        if cardinality(c_tenant) > 0 then
            delete from hold d using unnest(c_tenant, c_id) x (tenant, id)
            where d.tenant_id = x.tenant and d.reservation_id = x.id;
            get diagnostics n = row_count;
            if n <> cardinality(c_tenant) then
                raise exception 'hold rows: % of %', n, cardinality(c_tenant) using errcode = 'BG002';
            end if;
        end if;
        -- Late evidence ends a presumption; a correction that is itself presumed leaves it with another charge.
        if cardinality(l_tenant) > 0 then
            update presumption d set charged = x.charged from unnest(l_tenant, l_id, l_charged) x (tenant, id, charged)
            where d.tenant_id = x.tenant and d.reservation_id = x.id and x.charged is not null;
            get diagnostics kept = row_count;
            delete from presumption d using unnest(l_tenant, l_id, l_charged) x (tenant, id, charged)
            where d.tenant_id = x.tenant and d.reservation_id = x.id and x.charged is null;
            get diagnostics n = row_count;
            if n + kept <> cardinality(l_tenant) then
                raise exception 'presumption rows: % of %', n + kept, cardinality(l_tenant) using errcode = 'BG002';
            end if;
        end if;

        insert into event (tenant_id, version, ts, type, body, hash)
        select x.tenant, x.version, x.ts, x.type, x.body, x.hash
        from unnest(e_tenant, e_version, e_ts, e_type, e_body, e_hash) x (tenant, version, ts, type, body, hash);
        get diagnostics n = row_count;
        if n <> want then
            raise exception 'events: % of %', n, want using errcode = 'BG002';
        end if;
        insert into outbox (tenants, after, upto) values (h_tenant, h_expected, h_version);
        return;
    end if;

    -- Some lost: of every group, the rows of the winners.
    if cardinality(o_tenant) > 0 then
        insert into account (tenant_id, account_id, budget_id, period, win_start, win_end, limit_nano, held, settled, presumed, cap, version)
        select x.tenant, x.account, x.budget, x.period, x.win_start, x.win_end, x.lim, x.held, x.settled, x.presumed,
               greatest(x.lim, x.held + x.settled), x.account
        from unnest(o_tenant, o_account, o_budget, o_period, o_start, o_end, o_limit, o_held, o_settled, o_presumed)
            x (tenant, account, budget, period, win_start, win_end, lim, held, settled, presumed)
        where x.tenant = any (won);
    end if;

    if cardinality(a_tenant) > 0 then
        update account a set limit_nano = x.lim, held = x.held, settled = x.settled, presumed = x.presumed, version = x.version,
            cap = greatest(x.lim, case when x.forced then x.held + x.settled else least(a.cap, x.held + x.settled) end)
        from unnest(a_tenant, a_account, a_limit, a_held, a_settled, a_presumed, a_forced, a_version)
            x (tenant, account, lim, held, settled, presumed, forced, version)
        where a.tenant_id = x.tenant and a.account_id = x.account and a.version < x.version and x.tenant = any (won);
        get diagnostics n = row_count;
        select count(*) into want from unnest(a_tenant) t where t = any (won);
        if n <> want then
            raise exception 'account rows: % of %', n, want using errcode = 'BG002';
        end if;
    end if;

    if cardinality(r_tenant) > 0 then
        insert into hold (tenant_id, opened, opened_ts, reservation_id, amount, accounts, expires_at)
        select x.tenant, x.opened, x.ts, x.id, x.amount, coalesce(r_accounts[x.lo : x.hi], '{}'), x.expires
        from unnest(r_tenant, r_id, r_opened, r_ts, r_amount, r_from, r_to, r_expires) x (tenant, id, opened, ts, amount, lo, hi, expires)
        where x.tenant = any (won);
    end if;
    if cardinality(p_tenant) > 0 then
        insert into presumption (tenant_id, reservation_id, opened, opened_ts, amount, charged, accounts, expires_at)
        select d.tenant_id, d.reservation_id, d.opened, d.opened_ts, d.amount, x.charged, d.accounts, d.expires_at
        from unnest(p_tenant, p_id, p_charged) x (tenant, id, charged)
        join hold d on d.tenant_id = x.tenant and d.reservation_id = x.id
        where x.tenant = any (won);
        get diagnostics n = row_count;
        select count(*) into want from unnest(p_tenant) t where t = any (won);
        if n <> want then
            raise exception 'presumption rows: % of %', n, want using errcode = 'BG002';
        end if;
    end if;
    if cardinality(c_tenant) > 0 then
        delete from hold d using unnest(c_tenant, c_id) x (tenant, id)
        where d.tenant_id = x.tenant and d.reservation_id = x.id and x.tenant = any (won);
        get diagnostics n = row_count;
        select count(*) into want from unnest(c_tenant) t where t = any (won);
        if n <> want then
            raise exception 'hold rows: % of %', n, want using errcode = 'BG002';
        end if;
    end if;
    -- Late evidence ends a presumption; a correction that is itself presumed leaves it with another charge.
    if cardinality(l_tenant) > 0 then
        update presumption d set charged = x.charged from unnest(l_tenant, l_id, l_charged) x (tenant, id, charged)
        where d.tenant_id = x.tenant and d.reservation_id = x.id and x.tenant = any (won) and x.charged is not null;
        get diagnostics kept = row_count;
        delete from presumption d using unnest(l_tenant, l_id, l_charged) x (tenant, id, charged)
        where d.tenant_id = x.tenant and d.reservation_id = x.id and x.tenant = any (won) and x.charged is null;
        get diagnostics n = row_count;
        select count(*) into want from unnest(l_tenant) t where t = any (won);
        if n + kept <> want then
            raise exception 'presumption rows: % of %', n + kept, want using errcode = 'BG002';
        end if;
    end if;

    insert into event (tenant_id, version, ts, type, body, hash)
    select x.tenant, x.version, x.ts, x.type, x.body, x.hash
    from unnest(e_tenant, e_version, e_ts, e_type, e_body, e_hash) x (tenant, version, ts, type, body, hash)
    where x.tenant = any (won);
    get diagnostics n = row_count;
    select sum(x.version - x.expected) into want from unnest(h_tenant, h_expected, h_version) x (tenant, expected, version) where x.tenant = any (won);
    if n <> want then
        raise exception 'events: % of %', n, want using errcode = 'BG002';
    end if;
    insert into outbox (tenants, after, upto)
    select array_agg(x.tenant), array_agg(x.expected), array_agg(x.version)
    from unnest(h_tenant, h_expected, h_version) x (tenant, expected, version) where x.tenant = any (won);
end $$;
-- +goose StatementEnd
