insert into usage_row (tenant_id, version, ts, posted_at, kind, route, model, api_key_id, reservation_id,
                       usd_nano, reserved_nano, prompt_tok, comp_tok, tags, basis, presumed_nano)
select x.tenant, x.version, x.ts, x.posted_at, x.kind, x.route, x.model, nullif(x.api_key, ''), nullif(x.reservation, '')::uuid,
       x.usd, x.reserved, x.prompt, x.comp, x.tags::jsonb, x.basis, x.presumed
from unnest($1::text[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::text[],
            $15::text[], $16::bigint[])
    x (tenant, version, ts, posted_at, kind, route, model, api_key, reservation, usd, reserved, prompt, comp, tags, basis, presumed)
