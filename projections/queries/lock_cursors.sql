-- In the order of the tenants, so that two projectors never wait for each other.
select tenant_id, version
from projection_cursor
where name = $1 and tenant_id = any ($2)
order by tenant_id
for no key update
