-- The events of stretches of streams: versions after $2 and up to $3 of tenant $1, stretch by stretch.
select e.tenant_id, e.version, e.ts, e.type, e.schema_version, e.body
from unnest($1::text[], $2::bigint[], $3::bigint[]) with ordinality r (tenant, after, upto, n)
join event e on e.tenant_id = r.tenant and e.version > r.after and e.version <= r.upto
order by r.n, e.version
