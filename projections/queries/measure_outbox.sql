-- The outbox is small unless the relay is down; then the oldest ten thousand rows say enough.
with o as (select id, tenants, after, upto from outbox order by id limit 10000)
select coalesce(sum(r.upto - r.after), 0)::bigint,
       count(distinct r.tenant),
       coalesce((select greatest(0, extract(epoch from clock_timestamp() - min(e.ts)) * 1000000)::bigint
                 from (select tenants[1] as tenant, after[1] as after from o order by id limit 1) f
                 join event e on e.tenant_id = f.tenant and e.version = f.after + 1), 0)
from o cross join lateral unnest(o.tenants, o.after, o.upto) r (tenant, after, upto)
