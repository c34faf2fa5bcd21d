-- What the migrations add up to, one line a thing: relations, columns, constraints, indexes, triggers and
-- functions of the public schema. Partitions of event and goose's own table are left out.
with relations as (
    select c.oid, c.relname as name, c.relkind as kind, c.reloptions as options
    from pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition and c.relname not like 'goose%')
select line from (
    select 1 as part, name || ' ' as place, format('%s %s %s', case kind when 'v' then 'view' when 'p' then 'partitioned table' else 'table' end,
        name, coalesce(array_to_string(options, ', '), '')) as line
    from relations
    union all
    select 1, format('%s 1 %s', r.name, to_char(a.attnum, 'FM000')), format('    %s %s%s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
        case when a.attnotnull then ' not null' else '' end,
        case when a.attidentity <> '' then ' identity' else '' end,
        coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), ''))
    from relations r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum
    union all
    select 1, format('%s 2 %s', r.name, k.conname), format('    constraint %s: %s', k.conname, pg_get_constraintdef(k.oid))
    from relations r join pg_constraint k on k.conrelid = r.oid and k.contype <> 'n' -- which Postgres 18 lists
    union all
    select 1, format('%s 3 %s', r.name, i.indexrelid::regclass), '    ' || pg_get_indexdef(i.indexrelid)
    from relations r join pg_index i on i.indrelid = r.oid
    union all
    select 1, format('%s 4 %s', r.name, t.tgname), '    ' || pg_get_triggerdef(t.oid)
    from relations r join pg_trigger t on t.tgrelid = r.oid and not t.tgisinternal
    union all
    select 1, format('%s 5', r.name), '    ' || regexp_replace(regexp_replace(pg_get_viewdef(r.oid), '\s+', ' ', 'g'), '\musage_row\.', '', 'g') -- Postgres 16 stopped naming the table
    from relations r where r.kind = 'v'
    union all
    select 2, p.oid::regprocedure::text, format('function %s returns %s md5 %s', p.proname, pg_get_function_result(p.oid), md5(regexp_replace(p.prosrc, '\s+', ' ', 'g')))
    from pg_proc p where p.pronamespace = 'public'::regnamespace) x
order by part, place collate "C"
