-- The compare-and-set: the cursors are locked, so each moves or the caller has a bug.
update projection_cursor c
set version = x.upto
from unnest($2::text[], $3::bigint[], $4::bigint[]) x (tenant, after, upto)
where c.name = $1 and c.tenant_id = x.tenant and c.version = x.after
