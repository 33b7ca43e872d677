-- What a materialized view has besides its rows, as statements that give it to another one of the
-- same name: indexes, grants, comments, options.

create function tinydevcrm._list_index_settings(relation regclass)
    returns table (what text, statement text)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select format('index %s', pg_class.oid::regclass),
           concat_ws(
               '; ',
               pg_get_indexdef(pg_class.oid),
               (
                   select format(
                              'alter index %s set tablespace %I', pg_class.oid::regclass, spcname)
                     from pg_tablespace
                    where pg_tablespace.oid = pg_class.reltablespace
               ),
               (
                   select string_agg(
                              format(
                                  'alter index %s alter column %s set statistics %s',
                                  pg_class.oid::regclass, attnum, attstattarget),
                              '; ')
                     from pg_attribute
                    where attrelid = pg_class.oid
                      and attstattarget >= 0
               ),
               case
                   when pg_index.indisclustered then format(
                       'alter materialized view %s cluster on %I',
                       pg_index.indrelid::regclass, pg_class.relname)
               end,
               'comment on index ' || pg_class.oid::regclass || ' is '
                   || quote_literal(obj_description(pg_class.oid, 'pg_class')))
      from pg_index
      join pg_class
        on pg_class.oid = pg_index.indexrelid
     where pg_index.indrelid = _list_index_settings.relation
     union all
    select format('statistics %s', named.name),
           concat_ws(
               '; ',
               pg_get_statisticsobjdef(pg_statistic_ext.oid),
               'comment on statistics ' || named.name || ' is '
                   || quote_literal(obj_description(pg_statistic_ext.oid, 'pg_statistic_ext')))
      from pg_statistic_ext
     cross join lateral (
         select format('%s.%I', pg_statistic_ext.stxnamespace::regnamespace, stxname) as name
     ) as named
     where pg_statistic_ext.stxrelid = _list_index_settings.relation
$$;

comment on function tinydevcrm._list_index_settings(regclass) is
    'The indexes and extended statistics of a materialized view, each with the statements that '
    'create it: with tablespace, statistics targets, cluster mark and comment.';

create function tinydevcrm._list_grants(relation regclass)
    returns table (what text, statement text)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select format('privileges of %s', granted.grantee),
           format(
               'grant %s%s on table %s to %s%s',
               lower(granted.privilege_type),
               granted.columns,
               _list_grants.relation,
               granted.grantee,
               case when granted.is_grantable then ' with grant option' end)
      from (
        select acl.privilege_type,
               acl.is_grantable,
               access.columns,
               case acl.grantee when 0 then 'public' else acl.grantee::regrole::text end as grantee
          from (
            select null as columns,
                   relacl as acl
              from pg_class
             where pg_class.oid = _list_grants.relation
             union all
            select format(' (%I)', attname),
                   attacl
              from pg_attribute
             where attrelid = _list_grants.relation
               and not attisdropped
          ) as access
         cross join lateral aclexplode(access.acl) as acl
      ) as granted
$$;

comment on function tinydevcrm._list_grants(regclass) is
    'The grants on a materialized view and on its columns, with the statements that repeat them.';

create function tinydevcrm._list_column_settings(relation regclass)
    returns table (what text, statement text)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select format('column %I', attname),
           concat_ws(
               '; ',
               'comment on column ' || _list_column_settings.relation || '.' || quote_ident(attname)
                   || ' is ' || quote_literal(col_description(attrelid, attnum)),
               (
                   select string_agg(
                              format(
                                  'alter materialized view %s alter column %I %s',
                                  _list_column_settings.relation, attname, settings.setting),
                              '; ')
                     from (
                         values
                             (case when attstattarget >= 0 then
                                  format('set statistics %s', attstattarget) end),
                             (case when attstorage <> typstorage then
                                  'set storage ' || case attstorage
                                      when 'p' then 'plain'
                                      when 'm' then 'main'
                                      when 'e' then 'external'
                                      when 'x' then 'extended'
                                  end end),
                             -- The server may keep options of its own here.
                             ((
                                 select 'set (' || string_agg(options.option, ', ') || ')'
                                   from unnest(attoptions) as options (option)
                                  where options.option like 'n\_distinct%'
                             ))
                     ) as settings (setting)
                    where settings.setting is not null
               ))
      from pg_attribute
      join pg_type
        on pg_type.oid = atttypid
     where attrelid = _list_column_settings.relation
       and attnum > 0
       and not attisdropped
$$;

comment on function tinydevcrm._list_column_settings(regclass) is
    'What is set for the columns of a materialized view, with the statements that set it again: '
    'comments, statistics targets, storage, options. No statement where nothing is set.';

create function tinydevcrm._list_settings(relation regclass)
    returns table (what text, statement text)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select 'comment',
           format(
               'comment on materialized view %s is %L', _list_settings.relation, described.comment)
      from obj_description(_list_settings.relation, 'pg_class') as described (comment)
     where described.comment is not null
     union all
    select grants.what,
           grants.statement
      from tinydevcrm._list_grants(_list_settings.relation) as grants
     union all
    select columns.what,
           columns.statement
      from tinydevcrm._list_column_settings(_list_settings.relation) as columns
     where columns.statement <> ''
     union all
    select indexes.what,
           indexes.statement
      from tinydevcrm._list_index_settings(_list_settings.relation) as indexes
$$;

comment on function tinydevcrm._list_settings(regclass) is
    'What a materialized view has besides rows, and the statements that give it to another one of '
    'the same name.';

create function tinydevcrm._plan_copy(relation regclass, out name text, out statement text)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select copy.name,
           format(
               'create materialized view %s using %I%s tablespace %I as ',
               copy.name,
               pg_am.amname,
               (
                   select ' with (' || string_agg(options.option, ', ') || ')'
                     from (
                       select unnest(pg_class.reloptions) as option
                        union all
                       select 'toast.' || unnest(toast.reloptions)
                         from pg_class as toast
                        where toast.oid = pg_class.reltoastrelid
                     ) as options
               ),
               pg_tablespace.spcname)
      from pg_class
      join pg_namespace
        on pg_namespace.oid = pg_class.relnamespace
     cross join lateral (
         select format(
                    '%I.%I',
                    nspname,
                    tinydevcrm._find_unused_name('_after_' || relname, nspname)) as name
     ) as copy
      join pg_am
        on pg_am.oid = pg_class.relam
      join pg_database
        on pg_database.datname = current_database()
      join pg_tablespace
        on pg_tablespace.oid = coalesce(
               nullif(pg_class.reltablespace, 0), pg_database.dattablespace)
     where pg_class.oid = _plan_copy.relation
$$;

comment on function tinydevcrm._plan_copy(regclass) is
    'A free name, with its schema, for another materialized view beside one, and the statement up '
    'to the query that creates it, with the same access method, options and tablespace.';

create function tinydevcrm._apply_settings(
    what       text[],
    statements text[],
    out kept   text[],
    out lost   text[]
)
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_setting record;
begin
    for v_setting in
        select settings.what,
               settings.statement
          from unnest(_apply_settings.what, _apply_settings.statements) with ordinality
                   as settings (what, statement, place)
         order by settings.place
    loop
        begin
            execute v_setting.statement;
            kept := kept || v_setting.what;
        exception
            when syntax_error_or_access_rule_violation or unique_violation or feature_not_supported
                 or program_limit_exceeded or invalid_parameter_value
            then
                lost := lost || format('%s is gone: %s', v_setting.what, sqlerrm);
        end;
    end loop;
end
$$;

comment on function tinydevcrm._apply_settings(text[], text[]) is
    'Runs statements that give a materialized view its indexes, grants and the like. Returns what '
    'it has now, and what it cannot have, each with the reason.';

revoke execute on function
    tinydevcrm._list_index_settings(regclass),
    tinydevcrm._list_grants(regclass),
    tinydevcrm._list_column_settings(regclass),
    tinydevcrm._list_settings(regclass),
    tinydevcrm._plan_copy(regclass),
    tinydevcrm._apply_settings(text[], text[])
from public;

grant execute on function
    tinydevcrm._list_index_settings(regclass),
    tinydevcrm._list_grants(regclass),
    tinydevcrm._list_column_settings(regclass),
    tinydevcrm._list_settings(regclass),
    tinydevcrm._plan_copy(regclass),
    tinydevcrm._apply_settings(text[], text[])
to tinydevcrm_user;
