select coalesce(greatest(0, extract(epoch from clock_timestamp() - min(e.ts)) * 1000000), 0)::bigint
from unnest($1::text[], $2::bigint[]) n (tenant, version)
join event e on e.tenant_id = n.tenant and e.version = n.version
