-- The events of stretches of streams: versions after $2 and up to $3 of tenant $1, stretch by stretch. The
-- limit leaves the planner no choice but the key, whatever it believes about the size of a tenant.
select e.tenant_id, e.version, e.ts, e.type, e.schema_version, e.body
from unnest($1::text[], $2::bigint[], $3::bigint[]) with ordinality r (tenant, after, upto, n)
cross join lateral (
    select x.tenant_id, x.version, x.ts, x.type, x.schema_version, x.body
    from event x
    where x.tenant_id = r.tenant and x.version > r.after and x.version <= r.upto
    order by x.version
    limit r.upto - r.after) e
order by r.n, e.version
