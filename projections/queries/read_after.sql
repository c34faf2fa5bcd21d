-- At most $3 events after version $2 of each tenant $1.
select e.tenant_id, e.version, e.ts, e.type, e.schema_version, e.body
from unnest($1::text[], $2::bigint[]) with ordinality r (tenant, after, n)
cross join lateral (
    select x.tenant_id, x.version, x.ts, x.type, x.schema_version, x.body
    from event x
    where x.tenant_id = r.tenant and x.version > r.after
    order by x.version
    limit $3) e
order by r.n, e.version
