-- What the page lists of views, and shows of one.

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

revoke execute on function
    tinydevcrm._matview_key(text, name[]),
    tinydevcrm._read_names(text),
    tinydevcrm._describe_view(text[], name[]),
    tinydevcrm._find_matviews(
        text, text, integer, name[], text, text, boolean, integer)
from public;

grant execute on function
    tinydevcrm._matview_key(text, name[]),
    tinydevcrm._read_names(text),
    tinydevcrm._describe_view(text[], name[]),
    tinydevcrm._find_matviews(
        text, text, integer, name[], text, text, boolean, integer)
to tinydevcrm_user;
