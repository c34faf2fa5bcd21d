-- A row without tags is in the group without a name.
select case when t.key is null then '' else t.key || '=' || t.value end as grp,
       count(*) filter (where kind in ('settled', 'expired')),
       coalesce(sum(prompt_tok), 0)::bigint, coalesce(sum(comp_tok), 0)::bigint, coalesce(sum(usd_nano), 0)::bigint as usd,
       coalesce(sum(presumed_nano), 0)::bigint
from usage_row
left join lateral jsonb_each_text(tags) t on true
where ($1 = '' or tenant_id = $1) and ($2::timestamptz is null or ts >= $2) and ($3::timestamptz is null or ts < $3)
group by grp
order by sum(usd_nano) desc, grp
limit $4
