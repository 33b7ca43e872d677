-- What the result of a query depends on. Postgres keeps the query of a view as a tree. The tree
-- names the relations that the query reads and the functions that it calls by their numbers.
--
-- The functions are PL/pgSQL, which keeps its plans: one command on a table may analyze many views.

create table tinydevcrm.stable_functions (
    name           text not null,
    argument_count integer,

    constraint stable_functions_name_unique unique (name)
);

comment on table tinydevcrm.stable_functions is
    'Functions of Postgres that are declared stable only because they depend on settings such as '
    'TimeZone, or on the text of values. Their result does not depend on the time, on tables or on '
    'the session''s role, so a view that calls them can be tracked. From pg_proc of Postgres 12 to '
    '18.';
comment on column tinydevcrm.stable_functions.name is
    'Name of the function in pg_catalog.';
comment on column tinydevcrm.stable_functions.argument_count is
    'The row is for the function with this number of arguments; null for any number.';

insert into tinydevcrm.stable_functions (name)
select unnest(array[
    'anyarray_out', 'anytextcat', 'array_in', 'array_out', 'array_to_json', 'array_to_string',
    'cash_in', 'cash_out', 'concat', 'concat_ws', 'convert', 'convert_from', 'convert_to', 'date',
    'date_cmp_timestamptz', 'date_eq_timestamptz', 'date_ge_timestamptz', 'date_gt_timestamptz',
    'date_le_timestamptz', 'date_lt_timestamptz', 'date_ne_timestamptz', 'date_out', 'date_part',
    'date_trunc', 'domain_in', 'enum_in', 'enum_out', 'extract', 'format', 'generate_series',
    'getdatabaseencoding', 'in_range', 'interval_in', 'interval_out', 'interval_pl_timestamptz',
    'json_agg', 'json_agg_strict', 'json_agg_transfn', 'json_build_array', 'json_build_object',
    'json_object_agg', 'json_object_agg_strict', 'json_object_agg_unique',
    'json_object_agg_unique_strict', 'json_populate_record', 'json_populate_recordset',
    'json_to_record', 'json_to_recordset', 'json_to_tsvector', 'jsonb_agg', 'jsonb_agg_strict',
    'jsonb_build_array', 'jsonb_build_object', 'jsonb_object_agg', 'jsonb_object_agg_strict',
    'jsonb_object_agg_unique', 'jsonb_object_agg_unique_strict', 'jsonb_path_exists_tz',
    'jsonb_path_match_tz', 'jsonb_path_query_array_tz', 'jsonb_path_query_first_tz',
    'jsonb_path_query_tz', 'jsonb_populate_record', 'jsonb_populate_recordset', 'jsonb_to_record',
    'jsonb_to_recordset', 'jsonb_to_tsvector', 'length', 'make_timestamptz', 'money',
    'multirange_in', 'multirange_out', 'numeric', 'oidvectortypes', 'overlaps',
    'phraseto_tsquery', 'plainto_tsquery', 'quote_literal', 'quote_nullable', 'range_in',
    'range_out', 'record_in', 'record_out', 'row_to_json', 'textanycat', 'time', 'timestamp',
    'timestamp_cmp_timestamptz', 'timestamp_eq_timestamptz', 'timestamp_ge_timestamptz',
    'timestamp_gt_timestamptz', 'timestamp_le_timestamptz', 'timestamp_lt_timestamptz',
    'timestamp_ne_timestamptz', 'timestamp_out', 'timestamptz', 'timestamptz_cmp_date',
    'timestamptz_cmp_timestamp', 'timestamptz_eq_date', 'timestamptz_eq_timestamp',
    'timestamptz_ge_date', 'timestamptz_ge_timestamp', 'timestamptz_gt_date',
    'timestamptz_gt_timestamp', 'timestamptz_le_date', 'timestamptz_le_timestamp',
    'timestamptz_lt_date', 'timestamptz_lt_timestamp', 'timestamptz_mi_interval',
    'timestamptz_ne_date', 'timestamptz_ne_timestamp', 'timestamptz_out',
    'timestamptz_pl_interval', 'timetz', 'timezone', 'to_char', 'to_date', 'to_json', 'to_jsonb',
    'to_number', 'to_timestamp', 'to_tsquery', 'to_tsvector', 'websearch_to_tsquery', 'xml',
    'xml_in', 'xml_is_well_formed', 'xml_out'
]);

-- With one argument it compares with the current date.
insert into tinydevcrm.stable_functions (name, argument_count)
values ('age', 2);

alter table tinydevcrm.stable_functions enable row level security;

create policy stable_functions_read on tinydevcrm.stable_functions
    for select
    to tinydevcrm_user
    using (true);

grant select on tinydevcrm.stable_functions to tinydevcrm_user;

create function tinydevcrm._list_reads(relation regclass)
    returns table (oid oid, kind "char")
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- A name that contains ":relid 5" does no harm: in the tree, blanks in names are escaped.
    return query
    with recursive reads (oid, kind, is_above) as (
        select pg_class.oid,
               pg_class.relkind,
               false
          from pg_class
         where pg_class.oid = _list_reads.relation
         union
        select pg_class.oid,
               pg_class.relkind,
               next.is_above
          from reads
         cross join lateral (
             select named.match[1]::oid as oid,
                    false as is_above
               from pg_rewrite
              cross join lateral regexp_matches(
                        pg_rewrite.ev_action::text, ':relid (\d+)', 'g') as named (match)
              where pg_rewrite.ev_class = reads.oid
                and pg_rewrite.ev_type = '1'
                -- Another materialized view keeps its rows until it is refreshed.
                and (reads.kind = 'v' or reads.oid = _list_reads.relation)
              union all
             select pg_inherits.inhrelid,
                    false
               from pg_inherits
              where pg_inherits.inhparent = reads.oid
                and not reads.is_above
              union all
             -- A command that names the partitioned table fires only the triggers of that table.
             select pg_inherits.inhparent,
                    true
               from pg_inherits
              where pg_inherits.inhrelid = reads.oid
         ) as next
          join pg_class
            on pg_class.oid = next.oid
    )
    select distinct
           reads.oid,
           reads.kind
      from reads
     where reads.oid <> _list_reads.relation;
end
$$;

comment on function tinydevcrm._list_reads(regclass) is
    'The relations that a refresh of a materialized view reads, with their pg_class.relkind: '
    'tables with their partitions and children, the tables that these are parts of, views and what '
    'these read, and materialized views, but not what those read.';

create function tinydevcrm._find_call_reason(relation regclass, reads oid[] default null)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_reads  constant oid[] := coalesce(
        _find_call_reason.reads,
        array(select listed.oid from tinydevcrm._list_reads(_find_call_reason.relation) as listed));
    v_reason text;
begin
    with trees as (
        select pg_rewrite.ev_action::text as tree
          from (
            select _find_call_reason.relation::oid as oid
             union all
            select pg_class.oid
              from pg_class
             where pg_class.oid = any (v_reads)
               and pg_class.relkind = 'v'
          ) as queries
          join pg_rewrite
            on pg_rewrite.ev_class = queries.oid
           and pg_rewrite.ev_type = '1'
    ),
    called as (
        select distinct named.match[1]::oid as oid
          from trees
         cross join lateral regexp_matches(
                   trees.tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) (\d+)', 'g'
               ) as named (match)
    ),
    -- An aggregate that a user has created is as volatile as the functions that it is made of.
    called_within as (
        select called.oid
          from called
         union
        select parts.oid
          from called
          join pg_aggregate
            on pg_aggregate.aggfnoid = called.oid
         cross join lateral (
             values (pg_aggregate.aggtransfn::oid), (pg_aggregate.aggfinalfn::oid)
         ) as parts (oid)
         where called.oid >= 16384
           and parts.oid <> 0
    ),
    reasons as (
        select 1 as rank,
               format(
                   'it calls %s, %s',
                   pg_proc.oid::regprocedure,
                   case
                       when pg_proc.oid >= 16384 and pg_proc.provolatile = 's' then
                           'which is stable and may read anything'
                       when pg_proc.oid >= 16384 then 'which is volatile'
                       else 'whose result can change by itself'
                   end) as reason
          from called_within
          join pg_proc
            on pg_proc.oid = called_within.oid
         where pg_proc.provolatile = 'v'
            or pg_proc.provolatile = 's'
               and not (
                   pg_proc.oid < 16384
                   and exists (
                       select
                         from tinydevcrm.stable_functions
                        where stable_functions.name = pg_proc.proname::text
                          and coalesce(stable_functions.argument_count, pg_proc.pronargs)
                              = pg_proc.pronargs
                   )
               )
         union all
        select 2,
               'it uses current_date, current_user or the like'
          from trees
         where trees.tree like '%{SQLVALUEFUNCTION %'
         union all
        select 3,
               'it reads a random sample (tablesample)'
          from trees
         where trees.tree like '%{TABLESAMPLECLAUSE %'
    )
    select reasons.reason
      into v_reason
      from reasons
     order by reasons.rank,
              reasons.reason
     limit 1;

    return v_reason;
end
$$;

comment on function tinydevcrm._find_call_reason(regclass, oid[]) is
    'Why the result of a materialized view may change although no table does: it calls a function '
    'that is volatile, or stable and not in tinydevcrm.stable_functions, or uses the clock. Null '
    'when it does not. An immutable function is trusted. So is a text that is cast to a date or '
    'time, although it may be "today". reads is what tinydevcrm._list_reads() has found, if it has.';

create function tinydevcrm._find_read_reason(relation regclass, reads oid[] default null)
    returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_reads  constant oid[] := coalesce(
        _find_read_reason.reads,
        array(select listed.oid from tinydevcrm._list_reads(_find_read_reason.relation) as listed));
    v_reason text;
begin
    select case
               when pg_class.oid < 16384 then format('it reads the catalog %s', pg_class.oid::regclass)
               when pg_class.relkind = 'f' then
                   format('it reads the foreign table %s', pg_class.oid::regclass)
               when pg_class.relkind = 'S' then
                   format('it reads the sequence %s', pg_class.oid::regclass)
               when pg_class.relowner <> own.relowner then
                   format(
                       'it reads %s, which belongs to %s',
                       pg_class.oid::regclass,
                       pg_class.relowner::regrole)
               when pg_class.relkind not in ('r', 'p') then null
               when pg_class.relpersistence = 'u' then
                   format('it reads the unlogged table %s, which a crash empties', pg_class.oid::regclass)
               when pg_class.relrowsecurity then
                   format('it reads %s, which has row-level security', pg_class.oid::regclass)
               when exists (
                   select
                     from pg_subscription_rel
                    where pg_subscription_rel.srrelid = pg_class.oid
               ) then
                   format('it reads %s, which logical replication fills', pg_class.oid::regclass)
           end
      into v_reason
      from unnest(v_reads) as read (oid)
      join pg_class
        on pg_class.oid = read.oid
      join pg_class as own
        on own.oid = _find_read_reason.relation
     order by 1 nulls last
     limit 1;

    return v_reason;
end
$$;

comment on function tinydevcrm._find_read_reason(regclass, oid[]) is
    'Which relation that a materialized view reads cannot be tracked, and why: a foreign table, a '
    'catalog, a sequence, one of another owner, an unlogged table, one with row-level security, '
    'one that logical replication fills. Null when there is none. reads is as in '
    'tinydevcrm._find_call_reason().';

revoke execute on function
    tinydevcrm._list_reads(regclass),
    tinydevcrm._find_call_reason(regclass, oid[]),
    tinydevcrm._find_read_reason(regclass, oid[])
from public;

grant execute on function
    tinydevcrm._list_reads(regclass),
    tinydevcrm._find_call_reason(regclass, oid[]),
    tinydevcrm._find_read_reason(regclass, oid[])
to tinydevcrm_user;
