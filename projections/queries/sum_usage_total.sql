select '',
       count(*) filter (where kind in ('settled', 'expired')),
       coalesce(sum(prompt_tok), 0)::bigint, coalesce(sum(comp_tok), 0)::bigint, coalesce(sum(usd_nano), 0)::bigint,
       coalesce(sum(presumed_nano), 0)::bigint
from usage_row
where ($1 = '' or tenant_id = $1) and ($2::timestamptz is null or ts >= $2) and ($3::timestamptz is null or ts < $3)
