-- $4 names the grouping, $5 the zone. An hour is named in UTC, whose names sort and never repeat when
-- clocks are set back.
select case $4::text
           when 'model' then model
           when 'route' then route
           when 'apiKey' then coalesce(api_key_id, '')
           when 'day' then to_char(ts at time zone $5::text, 'YYYY-MM-DD')
           when 'hour' then to_char(date_trunc('hour', ts, $5::text) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
       end as grp,
       count(*) filter (where kind in ('settled', 'expired')),
       coalesce(sum(prompt_tok), 0)::bigint, coalesce(sum(comp_tok), 0)::bigint, coalesce(sum(usd_nano), 0)::bigint as usd,
       coalesce(sum(presumed_nano), 0)::bigint
from usage_row
where ($1 = '' or tenant_id = $1) and ($2::timestamptz is null or ts >= $2) and ($3::timestamptz is null or ts < $3)
group by grp
order by case when $4::text in ('day', 'hour') then 0 else sum(usd_nano) end desc, grp
limit $6
