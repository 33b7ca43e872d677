-- Each refresh writes one row, the record of what happened. The notification is only a wake-up.

create table tinydevcrm.matview_refresh_events (
    id            bigint generated always as identity,
    owner         regrole not null,
    matview_id    bigint,
    matview       text not null,
    schedule_id   bigint,
    outcome       text not null,
    is_notified       boolean not null,
    method        text,
    plain_reason  text,
    row_count     bigint,
    added_count   bigint,
    removed_count bigint,
    columns       text[],
    rows          jsonb,
    is_cut        boolean not null default false,
    error_code    text,
    error_message text,
    started_at    timestamptz not null,
    duration      interval not null,

    constraint matview_refresh_events_pkey primary key (id),
    constraint matview_refresh_events_matview_fkey foreign key (matview_id)
        references tinydevcrm.matviews (id) on delete set null,
    constraint matview_refresh_events_outcome_known check (
        outcome in ('refreshed', 'recovered', 'failed', 'skipped')
    ),
    constraint matview_refresh_events_method_known check (method in ('plain', 'concurrently')),
    constraint matview_refresh_events_error_of_failure check (
        (outcome = 'failed') = (error_code is not null)
    ),
    constraint matview_refresh_events_rows_are_array check (jsonb_typeof(rows) = 'array'),
    constraint matview_refresh_events_rows_short check (
        octet_length(rows::text) <= 2097152 and jsonb_array_length(rows) <= 1000
    ),
    constraint matview_refresh_events_columns_short check (
        octet_length(columns::text) <= 1000000 and cardinality(columns) <= 1600
    ),
    constraint matview_refresh_events_texts_short check (
        octet_length(plain_reason) <= 10000
        and octet_length(error_code) <= 5
        and octet_length(error_message) <= 10000
    ),
    constraint matview_refresh_events_counts_not_negative check (
        row_count >= 0 and added_count >= 0 and removed_count >= 0
    ),
    constraint matview_refresh_events_duration_range check (
        duration between interval '0' and interval '7 days'
    ),
    constraint matview_refresh_events_row_count_of_success check (
        (outcome in ('refreshed', 'recovered')) = (row_count is not null)
    )
);

comment on table tinydevcrm.matview_refresh_events is
    'What happened at each refresh of a watched materialized view. The transaction of the refresh '
    'writes its row.';
comment on column tinydevcrm.matview_refresh_events.id is
    'Number of the event. It is assigned before the commit, so do not read events with "id > last '
    'seen", which misses those that commit late. Use a subscription.';
comment on column tinydevcrm.matview_refresh_events.owner is
    'Owner of the materialized view.';
comment on column tinydevcrm.matview_refresh_events.matview_id is
    'The registration; null when it has been removed.';
comment on column tinydevcrm.matview_refresh_events.matview is
    'Name of the materialized view at that time, with its schema, quoted if needed.';
comment on column tinydevcrm.matview_refresh_events.schedule_id is
    'The schedule that refreshed it; null for a refresh on request.';
comment on column tinydevcrm.matview_refresh_events.outcome is
    'refreshed: it succeeded; recovered: it succeeded after a failure; failed: it failed and the '
    'old rows stay; skipped: another refresh of the view was running.';
comment on column tinydevcrm.matview_refresh_events.is_notified is
    'Whether the event notifies, which means that it goes to the subscriptions. The rule in '
    'tinydevcrm.matviews.notify_when decides that.';
comment on column tinydevcrm.matview_refresh_events.method is
    'How it was refreshed: plain or concurrently; null when it was skipped.';
comment on column tinydevcrm.matview_refresh_events.plain_reason is
    'Why refreshes of a view with a key are plain from now on. Only the event of the first such '
    'refresh has it, and that event notifies.';
comment on column tinydevcrm.matview_refresh_events.row_count is
    'Rows in the materialized view after the refresh; null unless it succeeded.';
comment on column tinydevcrm.matview_refresh_events.added_count is
    'Number of rows that were not there before, with copies, by the rules changed and rows_added: '
    'see tinydevcrm.matviews.notify_when. Null when nothing was compared.';
comment on column tinydevcrm.matview_refresh_events.removed_count is
    'Number of rows that were there before and are gone. Null when nothing was compared.';
comment on column tinydevcrm.matview_refresh_events.columns is
    'The columns of its rows, in the order of the materialized view, because jsonb does not keep '
    'that order. Null when it carries no rows.';
comment on column tinydevcrm.matview_refresh_events.rows is
    'Rows as an array of objects, in no order; by the rule rows_added only those that were not '
    'there before. At most tinydevcrm.settings.event_row_limit rows and event_byte_limit bytes. '
    'Null when the event does not notify or has no rows.';
comment on column tinydevcrm.matview_refresh_events.is_cut is
    'Whether there are more rows than the event carries.';
comment on column tinydevcrm.matview_refresh_events.error_code is
    'SQLSTATE of the failure.';
comment on column tinydevcrm.matview_refresh_events.error_message is
    'Message of the failure. Of one over 10,000 bytes, the first 2,500 characters.';
comment on column tinydevcrm.matview_refresh_events.started_at is
    'When the refresh began.';
comment on column tinydevcrm.matview_refresh_events.duration is
    'How long it took, including the time to count the rows; at most 7 days.';

create index matview_refresh_events_matview_idx
    on tinydevcrm.matview_refresh_events (matview_id, id);

-- For the latest events of a user that notify, however many others there are.
create index matview_refresh_events_notified_idx
    on tinydevcrm.matview_refresh_events (owner, id)
 where is_notified;

-- For those of one materialized view, and for those with an outcome other than refreshed.
create index matview_refresh_events_notified_matview_idx
    on tinydevcrm.matview_refresh_events (owner, matview, id)
 where is_notified;

create index matview_refresh_events_notified_outcome_idx
    on tinydevcrm.matview_refresh_events (owner, id)
 where is_notified and outcome <> 'refreshed';

create index matview_refresh_events_started_at_idx
    on tinydevcrm.matview_refresh_events using brin (started_at);

alter table tinydevcrm.matview_refresh_events enable row level security;

create policy matview_refresh_events_owner on tinydevcrm.matview_refresh_events
    for select
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'));

-- A trigger fills the owner in from the registration: see
-- tinydevcrm._matview_refresh_events_fill_in().
create policy matview_refresh_events_owner_insert on tinydevcrm.matview_refresh_events
    for insert
    to tinydevcrm_user
    with check (pg_has_role(owner, 'usage') and not tinydevcrm._is_group(owner));

grant select,
      insert (
          matview_id, schedule_id, outcome, is_notified, method, plain_reason, row_count,
          added_count, removed_count, columns, rows, is_cut, error_code, error_message, duration)
   on tinydevcrm.matview_refresh_events to tinydevcrm_user;

create function tinydevcrm._matview_refresh_events_fill_in()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews;
begin
    select matviews.*
      into v_matview
      from tinydevcrm.matviews
     where matviews.id = new.matview_id;

    -- Only the owner of these tables can have set the values.
    new.owner := coalesce(new.owner, v_matview.owner);
    new.matview := coalesce(new.matview, v_matview.relation::text);
    new.started_at := coalesce(new.started_at, clock_timestamp() - new.duration);
    return new;
end
$$;

comment on function tinydevcrm._matview_refresh_events_fill_in() is
    'Sets what users do not write of an event: owner and name, from the registration, and the '
    'start, from the duration.';

create trigger _100_fill_in
    before insert on tinydevcrm.matview_refresh_events
    for each row
    execute function tinydevcrm._matview_refresh_events_fill_in();

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

create function tinydevcrm.event_json(event tinydevcrm.matview_refresh_events)
    returns json
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select json_build_object(
               'id', (event).id,
               'matview', (event).matview,
               'outcome', (event).outcome,
               'is_notified', (event).is_notified,
               'method', (event).method,
               'plain_reason', (event).plain_reason,
               'row_count', (event).row_count,
               'added_count', (event).added_count,
               'removed_count', (event).removed_count,
               'columns', (event).columns,
               'rows', tinydevcrm._order_row_columns(event),
               'is_cut', (event).is_cut,
               'error_code', (event).error_code,
               'error_message', (event).error_message,
               'schedule_id', (event).schedule_id,
               'started_at', (event).started_at,
               -- As a double, so that it has no zeros at its end: JavaScript prints 0.870 as 0.87,
               -- and the page then takes it for a number that JavaScript cannot hold.
               'duration_ms',
               round(extract(epoch from (event).duration)::numeric * 1000, 3)::double precision)
$$;

comment on function tinydevcrm.event_json(tinydevcrm.matview_refresh_events) is
    'An event as programs get it, by webhook, by the page''s routes and by its stream: on one '
    'line, with the columns of its rows in the order of the materialized view.';

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
        started_at  timestamptz
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
           recent.started_at
      from unnest(_list_recent_refreshes.matview_ids) as ids (id)
     cross join lateral (
         select events.matview_id,
                events.id,
                events.outcome,
                events.row_count,
                events.duration,
                events.started_at
           from tinydevcrm.matview_refresh_events as events
          where events.matview_id = ids.id
            and events.outcome <> 'skipped'
          order by events.id desc
          limit _list_recent_refreshes.row_limit
     ) as recent
     order by recent.matview_id,
              recent.id
$$;

comment on function tinydevcrm._list_recent_refreshes(bigint[], integer) is
    'The last refreshes of each of these materialized views, up to row_limit per view, without '
    'skipped ones, oldest first. duration_ms is in milliseconds.';

revoke execute on function
    tinydevcrm._order_row_columns(tinydevcrm.matview_refresh_events),
    tinydevcrm.event_json(tinydevcrm.matview_refresh_events),
    tinydevcrm._may_see(regrole),
    tinydevcrm._may_read(text, regrole),
    tinydevcrm._list_latest_events(text, bigint, integer, text, text, bigint),
    tinydevcrm._list_events_by_id(text, bigint[], text, text, boolean),
    tinydevcrm._list_recent_refreshes(bigint[], integer)
from public;

grant execute on function
    tinydevcrm._order_row_columns(tinydevcrm.matview_refresh_events),
    tinydevcrm.event_json(tinydevcrm.matview_refresh_events),
    tinydevcrm._may_see(regrole),
    tinydevcrm._may_read(text, regrole),
    tinydevcrm._list_latest_events(text, bigint, integer, text, text, bigint),
    tinydevcrm._list_events_by_id(text, bigint[], text, text, boolean),
    tinydevcrm._list_recent_refreshes(bigint[], integer)
to tinydevcrm_user;

create function tinydevcrm._notify(event_id bigint)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- A session that listens in an open transaction can fill the queue, and each transaction that
    -- notifies would then fail at its commit.
    if pg_notification_queue_usage() < 0.5 then
        perform pg_notify('matview_refresh_channel', _notify.event_id::text);
    end if;
end
$$;

comment on function tinydevcrm._notify(bigint) is
    'Sends the id of an event, or 0 when there may be several, on matview_refresh_channel when the '
    'transaction commits, unless Postgres'' queue of notifications is half full. The notification '
    'is only a wake-up: the event is not lost without it.';

create function tinydevcrm._matview_refresh_events_notify()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._notify(new.id);
    return null;
end
$$;

comment on function tinydevcrm._matview_refresh_events_notify() is
    'Sends the id of an event that notifies: see tinydevcrm._notify().';

create trigger _900_notify
    after insert on tinydevcrm.matview_refresh_events
    for each row
    when (new.is_notified)
    execute function tinydevcrm._matview_refresh_events_notify();

revoke execute on function
    tinydevcrm._matview_refresh_events_fill_in(),
    tinydevcrm._matview_refresh_events_notify(),
    tinydevcrm._notify(bigint)
from public;

grant execute on function tinydevcrm._notify(bigint) to tinydevcrm_user;
