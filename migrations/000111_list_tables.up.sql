-- What the page lists of tables and imports, and shows of one.

create view tinydevcrm.imported_tables
    with (security_barrier)
as
select pg_class.oid::regclass as relation,
       pg_class.relowner::regrole as owner,
       newest.schema_name,
       newest.table_name,
       newest.id as import_id,
       newest.source,
       newest.mode,
       newest.key,
       newest.distribute_by,
       newest.distribution,
       newest.dialect,
       newest.row_count,
       newest.problem_count,
       newest.notices,
       newest.finished_at
  from (
    select distinct on (imports.schema_name, imports.table_name)
           imports.*
      from tinydevcrm.imports
     where imports.finished_at is not null
       and (
           pg_has_role(imports.owner, 'usage')
           or pg_has_role('tinydevcrm_admin', 'usage')
       )
     order by imports.schema_name, imports.table_name, imports.id desc
  ) as newest
  join pg_catalog.pg_namespace
    on pg_namespace.nspname = newest.schema_name
  join pg_catalog.pg_class
    on pg_class.relnamespace = pg_namespace.oid
   and pg_class.relname = newest.table_name
   and pg_class.relkind in ('r', 'p');

comment on view tinydevcrm.imported_tables is
    'The tables that imports have created and that still exist, each with the newest import into '
    'it that you may see.';
comment on column tinydevcrm.imported_tables.relation is
    'The table.';
comment on column tinydevcrm.imported_tables.owner is
    'Its owner now.';
comment on column tinydevcrm.imported_tables.schema_name is
    'Name of its schema.';
comment on column tinydevcrm.imported_tables.table_name is
    'Its name without the schema.';
comment on column tinydevcrm.imported_tables.import_id is
    'The newest import: tinydevcrm.imports.id.';
comment on column tinydevcrm.imported_tables.source is
    'The file of that import.';
comment on column tinydevcrm.imported_tables.mode is
    'Its mode.';
comment on column tinydevcrm.imported_tables.key is
    'Its key, when it was an upsert.';
comment on column tinydevcrm.imported_tables.distribute_by is
    'The column by which it was to distribute the table across the workers of Citus.';
comment on column tinydevcrm.imported_tables.distribution is
    'How the table is distributed; null when it is not.';
comment on column tinydevcrm.imported_tables.dialect is
    'How the file was written.';
comment on column tinydevcrm.imported_tables.row_count is
    'Rows that it added.';
comment on column tinydevcrm.imported_tables.problem_count is
    'Lines of the file that were repaired: see tinydevcrm.import_problems.';
comment on column tinydevcrm.imported_tables.notices is
    'What it did not do although its user may expect it.';
comment on column tinydevcrm.imported_tables.finished_at is
    'When it finished.';

create function tinydevcrm._size_of(relation regclass)
    returns bigint
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select pg_total_relation_size(_size_of.relation)
     where not exists (
               select
                 from pg_locks
                where pg_locks.locktype = 'relation'
                  and pg_locks.relation = _size_of.relation
                  and pg_locks.database = (
                      select oid
                        from pg_database
                       where datname = current_database()
                  )
                  and pg_locks.mode = 'AccessExclusiveLock'
                  and pg_locks.pid <> pg_backend_pid()
           )
$$;

comment on function tinydevcrm._size_of(regclass) is
    'The bytes of a table with its indexes; null while another session has locked it against '
    'readers, or waits to do so, as for an import that replaces its rows: the size would wait.';

create function tinydevcrm._list_tables(
    part          text,
    sort          text default null,
    is_descending boolean default false,
    row_limit     integer default null,
    row_offset    integer default 0
)
    returns table (
        key           text,
        relation      regclass,
        row_estimate  bigint,
        byte_count    bigint,
        matview_count bigint,
        source        text,
        finished_at   timestamptz
    )
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with own as (
        select pg_class.oid,
               pg_namespace.nspname,
               pg_class.relname,
               -- Before the first ANALYZE it is -1, or 0 before PostgreSQL 14.
               nullif(greatest(pg_class.reltuples, 0), 0)::bigint as row_estimate
          from pg_class
          join pg_namespace
            on pg_namespace.oid = pg_class.relnamespace
         where pg_class.relkind in ('r', 'p')
           and not pg_class.relispartition
           and pg_class.relpersistence <> 't'
           and pg_namespace.nspname not in (
               'tinydevcrm', 'cron', 'pg_catalog', 'information_schema')
           and (pg_namespace.nspname, pg_class.relname) <> ('public', 'schema_migrations')
           and tinydevcrm._is_session_of(pg_class.relowner)
           and not exists (
               select
                 from pg_depend
                where pg_depend.classid = 'pg_class'::regclass
                  and pg_depend.objid = pg_class.oid
                  and pg_depend.deptype = 'e'
           )
           and position(
                   lower(_list_tables.part)
                   in lower(pg_namespace.nspname || '.' || pg_class.relname)) > 0
    ),
    described as (
        select format('%I.%I', own.nspname, own.relname) as key,
               own.oid::regclass as relation,
               own.nspname || '.' || own.relname as name,
               own.row_estimate,
               own.oid,
               (
                   select count(*)
                     from tinydevcrm.matview_sources
                    where matview_sources.relation = own.oid
               ) as matview_count,
               newest.source,
               newest.finished_at,
               newest.id
          from own
          left join lateral (
              select imports.id,
                     imports.source,
                     imports.finished_at
                from tinydevcrm.imports
               where imports.relation = own.oid
                 and imports.finished_at is not null
               order by imports.id desc
               limit 1
          ) as newest
            on true
    )
    select described.key,
           described.relation,
           described.row_estimate,
           tinydevcrm._size_of(described.oid),
           described.matview_count,
           described.source,
           described.finished_at
      from described
     order by case
                  when _list_tables.sort = 'name' and not is_descending then described.name
              end,
              case
                  when _list_tables.sort = 'name' and is_descending then described.name
              end desc,
              case _list_tables.sort
                  when 'rows' then described.row_estimate
                  when 'views' then described.matview_count
              end * case when is_descending then -1 else 1 end nulls last,
              described.id desc nulls last,
              described.oid desc
     limit _list_tables.row_limit
    offset _list_tables.row_offset
$$;

comment on function tinydevcrm._list_tables(text, text, boolean, integer, integer) is
    'The tables of the role that has logged in, whose names contain a part: sorted by name, rows '
    'or views, or else by their newest import. row_estimate is that of the last ANALYZE, null '
    'before it; byte_count is null for a locked table; matview_count is how many watched materialized views read the table.';

create function tinydevcrm._describe_table(
    names   text[],
    schemas name[] default current_schemas(true)
)
    returns table (
        relation     regclass,
        place        bigint,
        key          text,
        name         text,
        byte_count   bigint,
        description  text,
        distribution text
    )
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select pg_class.oid::regclass,
           asked.place,
           format('%I.%I', pg_namespace.nspname, pg_class.relname),
           pg_class.relname::text,
           tinydevcrm._size_of(pg_class.oid),
           obj_description(pg_class.oid, 'pg_class'),
           tinydevcrm._find_distribution(pg_class.oid)
      from unnest(_describe_table.names) with ordinality as asked (name, place)
      join pg_class
        on pg_class.relkind in ('r', 'p')
      join pg_namespace
        on pg_namespace.oid = pg_class.relnamespace
     where (
           asked.name in (
               format('%I.%I', pg_namespace.nspname, pg_class.relname),
               pg_namespace.nspname || '.' || pg_class.relname)
           or pg_namespace.nspname = any (_describe_table.schemas)
           and asked.name in (quote_ident(pg_class.relname), pg_class.relname::text)
       )
       and pg_namespace.nspname not in (
               'tinydevcrm', 'cron', 'pg_catalog', 'information_schema')
       and tinydevcrm._is_session_of(pg_class.relowner)
     order by asked.place,
              array_position(_describe_table.schemas, pg_namespace.nspname)
     limit 1
$$;

comment on function tinydevcrm._describe_table(text[], name[]) is
    'The first table of these names that the role that has logged in owns, and the place of that '
    'name in the list. A name is schema.name, or one that is looked up in the schemas, as psql '
    'does; quoted or not.';

create function tinydevcrm._list_imports(
    part       text,
    import_id  bigint default null,
    row_limit  integer default null,
    row_offset integer default 0
)
    returns table (
        key         text,
        relation    regclass,
        imported    tinydevcrm.imports,
        source_name text
    )
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when tinydevcrm._is_session_of(pg_class.relowner)
                   then format('%I.%I', pg_namespace.nspname, pg_class.relname)
           end,
           pg_class.oid::regclass,
           imports,
           (
               select sources.name
                 from tinydevcrm.source_runs
                 join tinydevcrm.sources
                   on sources.id = source_runs.source_id
                where source_runs.import_number = imports.id
           )
      from tinydevcrm.imports
      left join pg_class
        on pg_class.oid = imports.relation
      left join pg_namespace
        on pg_namespace.oid = pg_class.relnamespace
     where imports.finished_at is not null
       and (_list_imports.import_id is null or imports.id = _list_imports.import_id)
       and position(
               lower(_list_imports.part)
               in lower(concat_ws(
                   ' ', imports.source, imports.schema_name || '.' || imports.table_name,
                   pg_class.relname))) > 0
     order by imports.id desc
     limit _list_imports.row_limit
    offset _list_imports.row_offset
$$;

comment on function tinydevcrm._list_imports(text, bigint, integer, integer) is
    'The imports, newest first, whose file or table has a part in its name; or one of them. key is '
    'the table''s present name with its schema, quoted where needed; null when it is gone or the '
    'session has not logged in as its owner. relation is null when it is gone. source_name is the '
    'source that fetched the file; null for an upload.';

revoke execute on function
    tinydevcrm._size_of(regclass),
    tinydevcrm._list_tables(text, text, boolean, integer, integer),
    tinydevcrm._describe_table(text[], name[]),
    tinydevcrm._list_imports(text, bigint, integer, integer)
from public;

grant execute on function
    tinydevcrm._size_of(regclass),
    tinydevcrm._list_tables(text, text, boolean, integer, integer),
    tinydevcrm._describe_table(text[], name[]),
    tinydevcrm._list_imports(text, bigint, integer, integer)
to tinydevcrm_user;
grant select on tinydevcrm.imported_tables to tinydevcrm_user;
