-- What the page lists: the imported tables, the views with all that it shows of each, and what
-- needs attention.

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

create function tinydevcrm._matview_key(
    name    text,
    schemas name[] default current_schemas(true)
)
    returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
               (
                   select format('%I.%I', pg_namespace.nspname, pg_class.relname)
                     from tinydevcrm.matviews
                     join pg_class
                       on pg_class.oid = matviews.relation
                     join pg_namespace
                       on pg_namespace.oid = pg_class.relnamespace
                    where quote_ident(pg_class.relname) = _matview_key.name
                      and pg_class.oid = (
                          select namesakes.oid
                            from pg_class as namesakes
                            join pg_namespace as places
                              on places.oid = namesakes.relnamespace
                           where namesakes.relname = pg_class.relname
                             and places.nspname = any (_matview_key.schemas)
                           order by array_position(_matview_key.schemas, places.nspname)
                           limit 1
                      )
                    limit 1
               ),
               _matview_key.name)
$$;

comment on function tinydevcrm._matview_key(text, name[]) is
    'The name with schema, as in events, of the watched materialized view that psql would find by '
    'this name. A name without a schema is looked up in the schemas, as psql does. Any other name, '
    'also that of a view that was dropped, is returned unchanged.';

create function tinydevcrm._read_names(list text)
    returns text[]
    language sql
    immutable
    strict
    set search_path = pg_catalog, pg_temp
as $$
    select array(
               select coalesce(replace(name[1], '""', '"'), btrim(name[2]))
                 from regexp_matches(
                          _read_names.list, '"((?:[^"]|"")*)"|([^",]*[^", ][^",]*)', 'g') as name)
$$;

comment on function tinydevcrm._read_names(text) is
    'Names from a list as SQL writes them, separated by commas and quoted where needed; null for '
    'null.';

create function tinydevcrm._describe_view(
    names   text[],
    schemas name[] default current_schemas(true)
)
    returns table (
        relation      regclass,
        place         bigint,
        key           text,
        name          text,
        refreshed_at  timestamptz,
        failing_since timestamptz,
        version       text
    )
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select found.relation,
           found.place,
           format('%I.%I', pg_namespace.nspname, pg_class.relname),
           pg_class.relname::text,
           (
               select events.started_at
                 from tinydevcrm.matview_refresh_events as events
                where events.matview_id = matviews.id
                  and events.row_count is not null
                order by events.id desc
                limit 1
           ),
           matviews.failing_since,
           -- Each refresh, also one by hand, writes the row of pg_class.
           concat_ws(
               ' ', matviews.id, matviews.last_refreshed_at, pg_class.relfilenode, pg_class.xmin)
      from tinydevcrm._find_matview(_describe_view.names, _describe_view.schemas) as found
      join tinydevcrm.matviews
        on matviews.id = found.id
      join pg_class
        on pg_class.oid = found.relation
      join pg_namespace
        on pg_namespace.oid = pg_class.relnamespace
$$;

comment on function tinydevcrm._describe_view(text[], name[]) is
    'What the page of a view''s rows shows about the view, which is found as by '
    'tinydevcrm._find_matview(). refreshed_at is when the last successful refresh began; version '
    'changes with each refresh.';

create function tinydevcrm._find_matviews(
    asked         text,
    part          text,
    row_limit     integer,
    schemas       name[] default current_schemas(true),
    state         text default null,
    sort          text default null,
    is_descending boolean default false,
    row_offset    integer default 0
)
    returns table (
        id              bigint,
        key             text,
        matview         tinydevcrm.matview_status,
        is_asked        boolean,
        is_listed       boolean,
        is_own          boolean,
        is_paused       boolean,
        notify_interval text,
        notify_after    integer,
        ignored_columns text,
        origins         text[]
    )
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    -- In two steps, so that the status is computed only for those that are shown.
    with named as (
        select matviews.id,
               matviews.relation,
               matviews.failing_since is not null or matviews.late_noted_at is not null
                   as is_failing,
               pg_namespace.nspname || '.' || pg_class.relname as name,
               matviews.last_refreshed_at,
               format('%I.%I', pg_namespace.nspname, pg_class.relname) = (
                   select tinydevcrm._matview_key(_find_matviews.asked, _find_matviews.schemas)
               ) as is_asked,
               position(
                   lower(_find_matviews.part)
                   in lower(pg_namespace.nspname || '.' || pg_class.relname)) > 0
                   and case
                           when _find_matviews.state is null then true
                           else _find_matviews.state = tinydevcrm._matview_state(
                               matviews,
                               matviews.id in (
                                   select late.matview_id
                                     from tinydevcrm._list_late_matviews() as late
                               ))
                       end as is_listed
          from tinydevcrm.matviews
          join pg_class
            on pg_class.oid = matviews.relation
          join pg_namespace
            on pg_namespace.oid = pg_class.relnamespace
         where matviews.owner = any (
                   array(
                       select pg_roles.oid
                         from pg_roles
                        where tinydevcrm._may_see(pg_roles.oid)
                   ))
    ),
    listed as (
        select named.id,
               named.relation,
               named.is_asked,
               row_number() over (
                   order by case
                                when sort = 'name' and not is_descending then named.name
                            end,
                            case when sort = 'name' and is_descending then named.name end desc,
                            case when sort = 'refreshed' and not is_descending
                                 then named.last_refreshed_at end,
                            case when sort = 'refreshed' and is_descending
                                 then named.last_refreshed_at end desc nulls last,
                            named.is_failing desc,
                            named.id desc) as place
          from named
         where named.is_listed
         order by place
         limit _find_matviews.row_limit
        offset _find_matviews.row_offset
    ),
    shown as (
        select listed.*
          from listed
        union all
        select named.id,
               named.relation,
               named.is_asked,
               null
          from named
         where named.is_asked
           and named.id not in (select listed.id from listed)
    )
    select matviews.id,
           format('%I.%I', pg_namespace.nspname, pg_class.relname),
           matview_status,
           shown.is_asked,
           shown.place is not null,
           tinydevcrm._is_session_of(pg_class.relowner),
           matviews.is_paused,
           coalesce(nullif(matviews.notify_interval, '0')::text, ''),
           matviews.notify_after,
           array_to_string(
               array(
                   select quote_ident(ignored.name)
                     from unnest(matviews.ignored_columns) as ignored (name)
               ),
               ', '),
           coalesce(embeds.origins, '{}')
      from shown
      join tinydevcrm.matviews
        on matviews.id = shown.id
      join tinydevcrm.matview_status
        on matview_status.relation = shown.relation
       -- Goes into the view, which would be read whole otherwise.
       and matview_status.relation = any (array(select shown.relation from shown))
      join pg_class
        on pg_class.oid = shown.relation
      join pg_namespace
        on pg_namespace.oid = pg_class.relnamespace
      left join tinydevcrm.embeds
        on embeds.matview_id = shown.id
       and embeds.owner = pg_class.relowner
     order by shown.place
$$;

comment on function tinydevcrm._find_matviews(
    text, text, integer, name[], text, text, boolean, integer
) is
    'The views whose names contain a part, of one state if one is given: sorted by name or '
    'refreshed (the last refresh), or else failing and late ones first and then the newest. '
    'The view asked for comes last when it is not among them. Each has its status and what the '
    'page can change. Names are as in tinydevcrm._matview_key(); ignored_columns is a list as SQL '
    'writes names.';

create function tinydevcrm._list_troubled(row_limit integer)
    returns table (
        kind     text,
        key      text,
        relation regclass,
        state    text,
        reason   text,
        since    timestamptz
    )
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with seen as (
        select pg_roles.oid
          from pg_roles
         where tinydevcrm._may_see(pg_roles.oid)
    ),
    troubled as (
        select judged.relation,
               judged.state
          from (
            select ordered.relation,
                   tinydevcrm._matview_state(ordered.matview, ordered.is_late) as state
              from (
                select matviews.relation,
                       matviews as matview,
                       late.matview_id is not null as is_late
                  from tinydevcrm.matviews
                  left join tinydevcrm._list_late_matviews() as late
                    on late.matview_id = matviews.id
                 where matviews.owner = any (array(select seen.oid from seen))
                 -- So the states of the others are computed only when there is room for them.
                 order by matviews.last_outcome = 'failed' desc nulls last,
                          late.matview_id is not null desc,
                          matviews.relation
              ) as ordered
             -- Keeps the state, here and below, from being computed for each use.
            offset 0
          ) as judged
         where tinydevcrm._needs_attention(judged.state)
            or judged.state = 'not populated'
         limit _list_troubled.row_limit
    ),
    subscribed as (
        select subscriptions.name,
               tinydevcrm._subscription_state(subscriptions) as state
          from tinydevcrm.subscriptions
         where subscriptions.owner = quote_ident(current_user)::regrole
        offset 0
    ),
    named as (
        select subscribed.*
          from subscribed
         where tinydevcrm._needs_attention(subscribed.state)
         order by subscribed.name
         limit _list_troubled.row_limit
    )
    select listed.*
      from (
        select 'view' as kind,
               format('%I.%I', pg_namespace.nspname, pg_class.relname) as key,
               troubled.relation,
               troubled.state,
               coalesce(
                   case troubled.state
                       when 'failing' then matview_status.error_message
                       when 'late' then matview_status.late_reason
                       when 'reads renamed table' then 'it ' || matview_status.renamed_read
                       when 'silent' then 'its tables have not changed for '
                                          || matview_status.notify_deadline
                       else 'it has no rows before its first refresh'
                   end,
                   ''),
               case troubled.state
                   when 'failing' then matview_status.failing_since
                   when 'late' then matview_status.late_since
                   when 'silent' then matview_status.last_changed_at
               end as since
          from troubled
          join tinydevcrm.matview_status
            on matview_status.relation = troubled.relation
           -- Goes into the view, which would be read whole otherwise.
           and matview_status.relation = any (array(select troubled.relation from troubled))
          join pg_class
            on pg_class.oid = troubled.relation
          join pg_namespace
            on pg_namespace.oid = pg_class.relnamespace
        union all
        select 'subscription',
               named.name,
               null,
               named.state,
               coalesce(subscription_status.last_error, subscription_status.pause_reason, ''),
               subscription_status.oldest_pending_at
          from named
          join tinydevcrm.subscription_status
            on subscription_status.subscription = named.name
           and subscription_status.subscription = any (array(select named.name from named))
           and subscription_status.owner = quote_ident(current_user)::regrole
        union all
        (
            select 'source',
                   source_status.name,
                   null,
                   source_status.status,
                   case source_status.status
                       when 'failing' then
                           coalesce(split_part(source_status.error_message, e'\n', 1), '')
                       when 'late' then
                           'nothing has fetched it, or nothing has imported what was fetched'
                       else 'nothing new has come for ' || source_status.notify_deadline
                   end,
                   case source_status.status
                       when 'failing' then source_status.failing_since
                       when 'silent' then source_status.imported_at
                   end
              from tinydevcrm.source_status
             where source_status.owner = quote_ident(current_user)::regrole
               and source_status.is_troubled
             order by source_status.name
             limit _list_troubled.row_limit
        )
      ) as listed
     order by array_position('{failing,late}', listed.state) nulls last,
              listed.since,
              listed.key
$$;

comment on function tinydevcrm._list_troubled(integer) is
    'The views that you may see and your subscriptions and sources that need attention, with the '
    'reason and since when: up to row_limit of each kind, failing and late ones first.';

revoke execute on function
    tinydevcrm._matview_key(text, name[]),
    tinydevcrm._read_names(text),
    tinydevcrm._describe_view(text[], name[]),
    tinydevcrm._find_matviews(
        text, text, integer, name[], text, text, boolean, integer),
    tinydevcrm._list_troubled(integer)
from public;

grant execute on function
    tinydevcrm._matview_key(text, name[]),
    tinydevcrm._read_names(text),
    tinydevcrm._describe_view(text[], name[]),
    tinydevcrm._find_matviews(
        text, text, integer, name[], text, text, boolean, integer),
    tinydevcrm._list_troubled(integer)
to tinydevcrm_user;
grant select on tinydevcrm.imported_tables to tinydevcrm_user;
