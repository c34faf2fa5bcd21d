-- At most $3 events after the cursor $1 of each tenant $2. The cursors were locked by the statement before.
select e.tenant_id, e.version, e.ts, e.type, e.schema_version, e.body
from projection_cursor c
cross join lateral (
    select x.tenant_id, x.version, x.ts, x.type, x.schema_version, x.body
    from event x
    where x.tenant_id = c.tenant_id and x.version > c.version
    order by x.version
    limit $3) e
where c.name = $1 and c.tenant_id = any ($2)
order by c.tenant_id, e.version
