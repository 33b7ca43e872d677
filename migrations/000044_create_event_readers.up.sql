-- How events are read: as programs get them, who may see them, and the latest of them.

create function tinydevcrm._order_row_columns(event tinydevcrm.matview_refresh_events)
    returns json
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_numbers jsonb;
begin
    if (event).columns is null then
        return (event).rows::json;
    end if;

    -- Each row looks up its own keys. A join of all rows with all columns, which their owner
    -- writes, would cost rows times columns.
    select jsonb_object_agg(columns.name, columns.number)
      into v_numbers
      from unnest((event).columns) with ordinality as columns (name, number)
     where columns.name is not null;

    return coalesce(
        (
            select ('[' || string_agg(printed.row, ', ' order by rows.number) || ']')::json
              from jsonb_array_elements((event).rows) with ordinality as rows (value, number)
             cross join lateral (
                 select '{'
                        || coalesce(
                               string_agg(
                                   to_json(cells.key) || ': ' || cells.value::text,
                                   ', ' order by (v_numbers -> cells.key)::integer),
                               '')
                        || '}' as row
                   from jsonb_each(
                            case jsonb_typeof(rows.value)
                                when 'object' then rows.value
                                else '{}'
                            end) as cells
                  where v_numbers ? cells.key
             ) as printed
        ),
        (event).rows::json);
end
$$;

comment on function tinydevcrm._order_row_columns(tinydevcrm.matview_refresh_events) is
    'The rows of an event. The columns of each row are in the order of the materialized view.';

create function tinydevcrm._quote_numbers(document text)
    returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    -- By tokens instead of by levels: a document may be nested more deeply than the stack is. No
    -- JSON has the character 1 unescaped. It is left on both sides of each number, and twice behind
    -- each string.
    select replace(
               replace(
                   regexp_replace(
                       _quote_numbers.document,
                       '("(?:[^"\\]|\\.)*")|(-?[0-9][0-9.eE+-]*)',
                       e'\\1\x01\\2\x01',
                       'g'),
                   e'\x01\x01', ''),
               e'\x01', '"')
$$;

comment on function tinydevcrm._quote_numbers(text) is
    'A JSON document in which every number is a text with the same digits, at every level.';

create function tinydevcrm._print_numbers_as_text(event tinydevcrm.matview_refresh_events)
    returns tinydevcrm.matview_refresh_events
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select jsonb_populate_record(
               event,
               jsonb_build_object(
                   'rows', tinydevcrm._quote_numbers((event).rows::text)::jsonb,
                   'added_rows', tinydevcrm._quote_numbers((event).added_rows),
                   'removed_rows', tinydevcrm._quote_numbers((event).removed_rows),
                   'updated_rows', tinydevcrm._quote_numbers((event).updated_rows)))
$$;

comment on function tinydevcrm._print_numbers_as_text(tinydevcrm.matview_refresh_events) is
    'An event in whose rows, also the changed ones, every number is a text: see tinydevcrm.subscriptions.numbers_as_text.';

create function tinydevcrm.event_json(
    event           tinydevcrm.matview_refresh_events,
    numbers_as_text boolean default false
)
    returns json
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set plan_cache_mode = force_generic_plan
as $$
begin
    return (
        select json_build_object(
                   'id', (event).id,
                   'matview', (event).matview,
                   'outcome', (event).outcome,
                   'is_notified', (event).is_notified,
                   'suppressed_by', (event).suppressed_by,
                   'method', (event).method,
                   'plain_reason', (event).plain_reason,
                   'row_count', (event).row_count,
                   'added_count', (event).added_count,
                   'removed_count', (event).removed_count,
                   'updated_count', (event).updated_count,
                   'columns', (event).columns,
                   'rows',
                   case
                       when event_json.numbers_as_text then
                           tinydevcrm._quote_numbers(tinydevcrm._order_row_columns(event)::text)::json
                       else tinydevcrm._order_row_columns(event)
                   end,
                   'added', changes.added::json,
                   'removed', changes.removed::json,
                   'updated', changes.updated::json,
                   'is_cut', (event).is_cut,
                   'error_code', (event).error_code,
                   'error_message', (event).error_message,
                   'reason', (event).reason,
                   'schedule_id', (event).schedule_id,
                   'started_at', (event).started_at,
                   -- As a double, so that it has no zeros at its end: JavaScript prints 0.870 as 0.87,
                   -- and the page then takes it for a number that JavaScript cannot hold.
                   'duration_ms',
                   round(extract(epoch from (event).duration)::numeric * 1000, 3)::double precision)
          from (
            select (event).added_rows,
                   (event).removed_rows,
                   (event).updated_rows
             where not event_json.numbers_as_text
             union all
            select tinydevcrm._quote_numbers((event).added_rows),
                   tinydevcrm._quote_numbers((event).removed_rows),
                   tinydevcrm._quote_numbers((event).updated_rows)
             where event_json.numbers_as_text
          ) as changes (added, removed, updated)
    );
end
$$;

comment on function tinydevcrm.event_json(tinydevcrm.matview_refresh_events, boolean) is
    'An event as programs get it, by webhook, by the page''s routes and by its stream: on one '
    'line, with the columns of its rows in the order of the materialized view, and with added, '
    'removed and updated: its added_rows, removed_rows and updated_rows. With '
    'numbers_as_text the numbers in all these rows are texts, for readers that would round them, as '
    'JavaScript does beyond 2^53.';

create function tinydevcrm._may_see(owner regrole)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return _may_see.owner = quote_ident(current_user)::regrole
        or current_setting('is_superuser') = 'off'
           and (
               pg_has_role(_may_see.owner, 'usage')
               or pg_has_role('tinydevcrm_admin', 'usage')
           );
end
$$;

comment on function tinydevcrm._may_see(regrole) is
    'Whether the page and tinydevcrm.overview show the registrations of this owner. They show them '
    'to the owner, to members of the owner, and to administrators. To a superuser, who has the '
    'rights of all roles, they show only the superuser''s own.';

create function tinydevcrm._may_read(reader text, owner regrole)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when _may_read.reader is null then tinydevcrm._may_see(_may_read.owner)
        else exists (
            select
              from pg_roles
             where rolname = _may_read.reader
               and rolcanlogin
               and (oid = _may_read.owner
                    or not rolsuper and pg_has_role(oid, _may_read.owner, 'usage'))
        )
    end;
end
$$;

comment on function tinydevcrm._may_read(text, regrole) is
    'Whether a user who has logged in to the page may see the events of this owner. A null user '
    'stands for the session''s own role: see tinydevcrm._may_see().';

create function tinydevcrm._list_latest_events(
    reader    text,
    after_id  bigint,
    row_limit integer,
    matview   text default null,
    outcome   text default null,
    before_id bigint default null
)
    returns setof tinydevcrm.matview_refresh_events
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    -- Each set of filters has an index of its own: one plan for all of them would read the whole
    -- log.
    set plan_cache_mode = force_custom_plan
as $$
begin
    -- For each owner, from the end of that owner's part of an index. "Between" keeps Postgres from
    -- reading the whole log in the order of ids for an owner who has no events.
    return query
        select (latest.event).*
          from pg_roles
         cross join lateral (
             select events
               from tinydevcrm.matview_refresh_events as events
              where events.is_notified
                and events.owner between pg_roles.oid and pg_roles.oid
                and events.id > _list_latest_events.after_id
                and (
                    _list_latest_events.before_id is null
                    or events.id < _list_latest_events.before_id
                )
                and (
                    _list_latest_events.matview is null
                    or events.matview = _list_latest_events.matview
                )
                and (
                    _list_latest_events.outcome is null
                    or events.outcome = _list_latest_events.outcome
                )
              order by events.owner desc,
                       events.id desc
              limit _list_latest_events.row_limit
         ) as latest (event)
         where tinydevcrm._may_read(_list_latest_events.reader, pg_roles.oid)
         order by (latest.event).id desc
         limit _list_latest_events.row_limit;
end
$$;

comment on function tinydevcrm._list_latest_events(text, bigint, integer, text, text, bigint) is
    'The last events that notify and that a reader may see, newest first: see _may_read(). Their '
    'ids are greater than after_id and less than before_id. matview is the name at that time, with '
    'its schema: so a dropped view is found too, and a renamed one has events under each name. '
    'outcome limits them to one outcome. A null filter is ignored.';

create function tinydevcrm._list_events_by_id(
    reader    text,
    ids       bigint[],
    matview   text default null,
    outcome   text default null,
    notified_only boolean default false
)
    returns setof tinydevcrm.matview_refresh_events
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        select events.*
          from tinydevcrm.matview_refresh_events as events
         where events.id = any (_list_events_by_id.ids)
           and (events.is_notified or not _list_events_by_id.notified_only)
           and (_list_events_by_id.matview is null or events.matview = _list_events_by_id.matview)
           and (_list_events_by_id.outcome is null or events.outcome = _list_events_by_id.outcome)
           and tinydevcrm._may_read(_list_events_by_id.reader, events.owner)
         order by events.id desc;
end
$$;

comment on function tinydevcrm._list_events_by_id(text, bigint[], text, text, boolean) is
    'The events with these ids that a reader may see, newest first: see _may_read(). It has the '
    'filters of _list_latest_events(), and on request it leaves out events that do not notify.';

create function tinydevcrm._list_recent_refreshes(matview_ids bigint[], row_limit integer)
    returns table (
        matview_id  bigint,
        event_id    bigint,
        outcome     text,
        row_count   bigint,
        duration_ms double precision,
        started_at  timestamptz,
        value       double precision
    )
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select recent.matview_id,
           recent.id,
           recent.outcome,
           recent.row_count,
           round(extract(epoch from recent.duration)::numeric * 1000, 3)::double precision,
           recent.started_at,
           recent.value
      from unnest(_list_recent_refreshes.matview_ids) as ids (id)
     cross join lateral (
         select events.matview_id,
                events.id,
                events.outcome,
                events.row_count,
                events.duration,
                events.started_at,
                (
                    select case when count(*) = 1 then min(cells.value::text::double precision) end
                      from jsonb_each(
                               case
                                   when events.row_count = 1
                                    and jsonb_typeof(events.rows -> 0) = 'object' then events.rows -> 0
                                   else '{}'
                               end) as cells
                     where jsonb_typeof(cells.value) = 'number'
                ) as value
           from tinydevcrm.matview_refresh_events as events
          where events.matview_id = ids.id
            and events.outcome in ('refreshed', 'recovered', 'failed')
          order by events.id desc
          limit _list_recent_refreshes.row_limit
     ) as recent
     order by recent.matview_id,
              recent.id
$$;

comment on function tinydevcrm._list_recent_refreshes(bigint[], integer) is
    'The last refreshes of each of these materialized views, up to row_limit per view, without '
    'skipped ones, oldest first. duration_ms is in milliseconds. value is the only number of the '
    'only row, when the event carries it.';

revoke execute on function
    tinydevcrm._order_row_columns(tinydevcrm.matview_refresh_events),
    tinydevcrm._quote_numbers(text),
    tinydevcrm._print_numbers_as_text(tinydevcrm.matview_refresh_events),
    tinydevcrm.event_json(tinydevcrm.matview_refresh_events, boolean),
    tinydevcrm._may_see(regrole),
    tinydevcrm._may_read(text, regrole),
    tinydevcrm._list_latest_events(text, bigint, integer, text, text, bigint),
    tinydevcrm._list_events_by_id(text, bigint[], text, text, boolean),
    tinydevcrm._list_recent_refreshes(bigint[], integer)
from public;

grant execute on function
    tinydevcrm._order_row_columns(tinydevcrm.matview_refresh_events),
    tinydevcrm._quote_numbers(text),
    tinydevcrm._print_numbers_as_text(tinydevcrm.matview_refresh_events),
    tinydevcrm.event_json(tinydevcrm.matview_refresh_events, boolean),
    tinydevcrm._may_see(regrole),
    tinydevcrm._may_read(text, regrole),
    tinydevcrm._list_latest_events(text, bigint, integer, text, text, bigint),
    tinydevcrm._list_events_by_id(text, bigint[], text, text, boolean),
    tinydevcrm._list_recent_refreshes(bigint[], integer)
to tinydevcrm_user;

