-- Finds what depends on a definition, and whether a definition on which a view depends has changed.

create function tinydevcrm._list_dependents(class_ids oid[], object_ids oid[])
    returns setof oid
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with recursive dependents (classid, objid) as (
        select named.classid,
               named.objid
          from unnest(_list_dependents.class_ids, _list_dependents.object_ids)
                   as named (classid, objid)
         union
        select next.classid,
               next.objid
          from dependents
         cross join lateral (
             select pg_depend.classid,
                    pg_depend.objid
               from pg_depend
              where pg_depend.refclassid = dependents.classid
                and pg_depend.refobjid = dependents.objid
                and dependents.classid <> 'pg_class'::regclass
                and pg_depend.classid in (
                    'pg_class'::regclass, 'pg_type'::regclass, 'pg_proc'::regclass,
                    'pg_operator'::regclass, 'pg_rewrite'::regclass, 'pg_ts_config'::regclass)
              union all
             -- A composite type does not depend on its columns: these depend on it.
             select 'pg_type'::regclass,
                    pg_class.reltype
               from pg_class
              where dependents.classid = 'pg_class'::regclass
                and pg_class.oid = dependents.objid
                and pg_class.relkind = 'c'
         ) as next
    )
    select case dependents.classid
               when 'pg_class'::regclass then dependents.objid
               else pg_rewrite.ev_class
           end
      from dependents
      left join pg_rewrite
        on dependents.classid = 'pg_rewrite'::regclass
       and pg_rewrite.oid = dependents.objid
     where dependents.classid in ('pg_class'::regclass, 'pg_rewrite'::regclass);
end
$$;

comment on function tinydevcrm._list_dependents(oid[], oid[]) is
    'The tables with a column of these types, and the views and materialized views that name these '
    'types, functions or text search configurations; also through operators, aggregates, domains, '
    'arrays and the like. Not what a function names only in a body that is a text.';

create function tinydevcrm._find_fingerprint(relation regclass)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with recursive parts (classid, objid) as (
        select 'pg_class'::regclass::oid,
               _find_fingerprint.relation::oid
         union
        select next.classid,
               next.objid
          from parts
         cross join lateral (
             -- What the query of a view or a rule names.
             select pg_depend.refclassid,
                    pg_depend.refobjid
               from pg_rewrite
               join pg_depend
                 on pg_depend.classid = 'pg_rewrite'::regclass
                and pg_depend.objid = pg_rewrite.oid
              where parts.classid = 'pg_class'::regclass
                and pg_rewrite.ev_class = parts.objid
              union all
             select 'pg_class'::regclass,
                    pg_inherits.inhrelid
               from pg_inherits
              where parts.classid = 'pg_class'::regclass
                and pg_inherits.inhparent = parts.objid
              union all
             select 'pg_type'::regclass,
                    pg_attribute.atttypid
               from pg_attribute
              where parts.classid = 'pg_class'::regclass
                and pg_attribute.attrelid = parts.objid
              union all
             select pg_depend.refclassid,
                    pg_depend.refobjid
               from pg_depend
              where parts.classid <> 'pg_class'::regclass
                and pg_depend.classid = parts.classid
                and pg_depend.objid = parts.objid
         ) as next (classid, objid)
         -- What the server itself has does not change.
         where next.objid >= 16384
    )
    -- A row of a catalog that changes gets another xmin, and in the same transaction another ctid.
    -- Those of a table also change with what changes no definition.
    select md5(string_agg(rows.what, ',' order by rows.what))
      from (
        select concat_ws(
                   ' ', 'r', pg_class.oid, pg_class.relnamespace, pg_class.relname,
                   pg_class.relrowsecurity, pg_class.relpersistence)
          from parts
          join pg_class on parts.classid = 'pg_class'::regclass and pg_class.oid = parts.objid
         union all
        select concat_ws(
                   ' ', 'c', pg_attribute.attrelid, pg_attribute.attnum, pg_attribute.xmin,
                   pg_attribute.ctid)
          from parts
          join pg_attribute
            on parts.classid = 'pg_class'::regclass
           and pg_attribute.attrelid = parts.objid
           and pg_attribute.attnum > 0
         union all
        select concat_ws(' ', 'q', pg_rewrite.oid, pg_rewrite.xmin, pg_rewrite.ctid)
          from parts
          join pg_rewrite
            on parts.classid = 'pg_class'::regclass
           and pg_rewrite.ev_class = parts.objid
         union all
        select concat_ws(' ', 'n', pg_namespace.oid, pg_namespace.nspname)
          from pg_namespace
         where pg_namespace.oid in (
                   select parts.objid
                     from parts
                    where parts.classid = 'pg_namespace'::regclass
                    union all
                   select pg_class.relnamespace
                     from parts
                     join pg_class
                       on parts.classid = 'pg_class'::regclass
                      and pg_class.oid = parts.objid
               )
         union all
        select concat_ws(' ', 'f', pg_proc.oid, pg_proc.xmin, pg_proc.ctid)
          from parts
          join pg_proc on parts.classid = 'pg_proc'::regclass and pg_proc.oid = parts.objid
         union all
        select concat_ws(' ', 't', pg_type.oid, pg_type.xmin, pg_type.ctid)
          from parts
          join pg_type on parts.classid = 'pg_type'::regclass and pg_type.oid = parts.objid
         union all
        select concat_ws(' ', 'e', pg_enum.oid, pg_enum.xmin, pg_enum.ctid)
          from parts
          join pg_enum on parts.classid = 'pg_type'::regclass and pg_enum.enumtypid = parts.objid
         union all
        select concat_ws(' ', 'o', pg_operator.oid, pg_operator.xmin, pg_operator.ctid)
          from parts
          join pg_operator
            on parts.classid = 'pg_operator'::regclass
           and pg_operator.oid = parts.objid
         union all
        select concat_ws(
                   ' ', 's', map.mapcfg, map.maptokentype, map.mapseqno, map.mapdict, map.xmin,
                   map.ctid)
          from parts
          join pg_ts_config_map as map
            on parts.classid = 'pg_ts_config'::regclass
           and map.mapcfg = parts.objid
         union all
        select concat_ws(' ', 'd', pg_ts_dict.oid, pg_ts_dict.xmin, pg_ts_dict.ctid)
          from parts
          join pg_ts_dict
            on parts.classid = 'pg_ts_dict'::regclass
           and pg_ts_dict.oid = parts.objid
      ) as rows (what)
$$;

comment on function tinydevcrm._find_fingerprint(regclass) is
    'A hash of the definitions on which the rows of a materialized view depend: of relations, '
    'columns, rules, partitions, functions, types, operators and text search configurations. It '
    'changes when one of them does, and when the database is restored from a dump.';

revoke execute on function
    tinydevcrm._list_dependents(oid[], oid[]),
    tinydevcrm._find_fingerprint(regclass)
from public;
