-- What the page shows of a user's own tables, and does with them, and what its search finds.

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

create function tinydevcrm._search(part text, row_limit integer)
    returns table (kind text, key text, relation regclass, note text)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select 'view',
           found.key,
           (found.matview).relation,
           (found.matview).status
      from tinydevcrm._find_matviews('', _search.part, _search.row_limit) as found
     where found.is_listed
    union all
    select 'table',
           found.key,
           found.relation,
           found.source
      from tinydevcrm._list_tables(_search.part, row_limit => _search.row_limit) as found
    union all
    select 'subscription',
           listed.name,
           null,
           listed.target
      from (
        select subscriptions.name,
               coalesce(tinydevcrm._show_url(webhooks.url, webhooks.format), 'worker')
                   as target
          from tinydevcrm.subscriptions
          left join tinydevcrm.webhooks
            on webhooks.subscription_id = subscriptions.id
         where subscriptions.owner = quote_ident(current_user)::regrole
           and position(lower(_search.part) in lower(subscriptions.name)) > 0
         order by subscriptions.name
         limit _search.row_limit
      ) as listed
    union all
    select 'source',
           listed.name,
           null,
           listed.state
      from (
        select sources.name,
               tinydevcrm._source_state(sources) as state
          from tinydevcrm.sources
         where sources.owner = quote_ident(current_user)::regrole
           and position(lower(_search.part) in lower(sources.name)) > 0
         order by sources.name
         limit _search.row_limit
      ) as listed
$$;

comment on function tinydevcrm._search(text, integer) is
    'The views that you may see and your tables, subscriptions and sources whose names contain a part: up to '
    'row_limit of each kind. note is the state, the file, or the URL as lists show it.';

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

create function tinydevcrm._list_cascaded(relation regclass)
    returns table (classid oid, objid oid, objsubid integer)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with recursive dropped (classid, objid, objsubid, is_cascaded) as (
        select 'pg_class'::regclass::oid,
               _list_cascaded.relation::oid,
               0,
               false
         union
        select step.*
          from dropped
         cross join lateral (
             select pg_depend.classid,
                    pg_depend.objid,
                    pg_depend.objsubid,
                    pg_depend.deptype = 'n' as is_cascaded
               from pg_depend
              where pg_depend.refclassid = dropped.classid
                and pg_depend.refobjid = dropped.objid
                and (dropped.objsubid = 0 or pg_depend.refobjsubid = dropped.objsubid)
             union all
             -- With a part goes the whole, such as a view with the rule that is its query.
             select pg_depend.refclassid,
                    pg_depend.refobjid,
                    pg_depend.refobjsubid,
                    true
               from pg_depend
              where pg_depend.classid = dropped.classid
                and pg_depend.objid = dropped.objid
                and pg_depend.deptype = 'i'
         ) as step
    )
    select dropped.classid,
           dropped.objid,
           dropped.objsubid
      from dropped
     where (dropped.classid, dropped.objid) <> ('pg_class'::regclass, _list_cascaded.relation::oid)
     group by dropped.classid, dropped.objid, dropped.objsubid
    having bool_and(dropped.is_cascaded)
$$;

comment on function tinydevcrm._list_cascaded(regclass) is
    'What "drop … cascade" of a relation drops too, without the parts of these objects, which go '
    'with them anyway: addresses as in pg_depend.';

create function tinydevcrm._list_dropped_with(relation regclass)
    returns table (
        kind               text,
        relation           regclass,
        constraint_name    text,
        key                text,
        subscription_count bigint
    )
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case
               when matviews.id is not null then 'watched view'
               when built_on.kind = 'm' then 'materialized view'
               else 'view'
           end,
           built_on.relation,
           null,
           case
               when matviews.id is not null
                   then format('%I.%I', pg_namespace.nspname, pg_class.relname)
           end,
           (
               select count(*)
                 from tinydevcrm.subscriptions
                where subscriptions.matview_id = matviews.id
           )
      from unnest(tinydevcrm._list_built_on(_list_dropped_with.relation)) as built_on
      join pg_class
        on pg_class.oid = built_on.relation
      join pg_namespace
        on pg_namespace.oid = pg_class.relnamespace
      left join tinydevcrm.matviews
        on matviews.relation = built_on.relation
    union all
    select case when pg_constraint.conname is not null then 'foreign key' else identified.type end,
           coalesce(
               pg_constraint.conrelid::regclass,
               case
                   when others.classid = 'pg_class'::regclass and others.objsubid = 0
                       then others.objid
               end),
           case
               when pg_constraint.conname is not null then pg_constraint.conname::text
               when others.classid <> 'pg_class'::regclass or others.objsubid > 0
                   then identified.identity
           end,
           null,
           0
      from tinydevcrm._list_cascaded(_list_dropped_with.relation) as others
     cross join pg_identify_object(others.classid, others.objid, others.objsubid) as identified
      left join pg_constraint
        on others.classid = 'pg_constraint'::regclass
       and pg_constraint.oid = others.objid
       and pg_constraint.contype = 'f'
     where (others.classid, others.objid) <> all (
               select 'pg_class'::regclass, built_on.relation::oid
                 from unnest(
                          tinydevcrm._list_built_on(_list_dropped_with.relation)) as built_on
           )
$$;

comment on function tinydevcrm._list_dropped_with(regclass) is
    'What is dropped together with a table: the views that read it, directly or through others, '
    'the foreign keys that refer to it, and all else that "drop … cascade" drops, such as tables that '
    'inherit from it. constraint_name is the name of a foreign key, or of what is no relation. key '
    'is the name with schema of a watched materialized view, as in events; null for what is not '
    'watched.';

create function tinydevcrm._rename_table(relation regclass, name text)
    returns text
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_oid constant oid := _rename_table.relation;
begin
    perform tinydevcrm._check_session_of(_rename_table.relation);
    perform tinydevcrm._check_table_name(_rename_table.name);
    execute format('alter table %s rename to %I', _rename_table.relation, _rename_table.name);

    return (
        select format('%I.%I', pg_namespace.nspname, pg_class.relname)
          from pg_class
          join pg_namespace
            on pg_namespace.oid = pg_class.relnamespace
         where pg_class.oid = v_oid
    );
end
$$;

comment on function tinydevcrm._rename_table(regclass, text) is
    'Renames a table and returns its new name with schema. Views go on reading it. Raises TD007 '
    'for a name that no table can have, 42501 when the session has not logged in as the owner, '
    '42P07 when there is a relation of that name.';

create function tinydevcrm._drop_table(relation regclass, with_dependents boolean)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matviews oid[];
begin
    perform tinydevcrm._check_session_of(_drop_table.relation);
    v_matviews := array(
        select others.objid
          from tinydevcrm._list_cascaded(_drop_table.relation) as others
         where others.classid = 'pg_class'::regclass
    );
    execute format(
        'drop table %s%s',
        _drop_table.relation,
        case when _drop_table.with_dependents then ' cascade' else '' end);
    perform tinydevcrm._follow_own_drop(dropped.oid)
       from unnest(v_matviews) as dropped (oid);
end
$$;

comment on function tinydevcrm._drop_table(regclass, boolean) is
    'Drops a table, with what tinydevcrm._list_dropped_with() lists if that is wanted. Raises 42501 '
    'when the session has not logged in as the owner, 2BP01 when something depends on the table.';

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
    tinydevcrm._search(text, integer),
    tinydevcrm._describe_table(text[], name[]),
    tinydevcrm._list_cascaded(regclass),
    tinydevcrm._list_dropped_with(regclass),
    tinydevcrm._rename_table(regclass, text),
    tinydevcrm._drop_table(regclass, boolean),
    tinydevcrm._list_imports(text, bigint, integer, integer)
from public;

grant execute on function
    tinydevcrm._size_of(regclass),
    tinydevcrm._list_tables(text, text, boolean, integer, integer),
    tinydevcrm._search(text, integer),
    tinydevcrm._describe_table(text[], name[]),
    tinydevcrm._list_cascaded(regclass),
    tinydevcrm._list_dropped_with(regclass),
    tinydevcrm._rename_table(regclass, text),
    tinydevcrm._drop_table(regclass, boolean),
    tinydevcrm._list_imports(text, bigint, integer, integer)
to tinydevcrm_user;
