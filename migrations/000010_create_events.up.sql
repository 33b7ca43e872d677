-- One row a refresh is the record of what happened; the notification is only a wake-up.

create table tinydevcrm.matview_refresh_events (
    id            bigint generated always as identity,
    owner         regrole not null,
    matview_id    bigint,
    matview       text not null,
    schedule_id   bigint,
    outcome       text not null,
    is_told       boolean not null,
    method        text,
    plain_reason  text,
    row_count     bigint,
    rows          jsonb,
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
    constraint matview_refresh_events_row_count_of_success check (
        (outcome in ('refreshed', 'recovered')) = (row_count is not null)
    )
);

comment on table tinydevcrm.matview_refresh_events is
    'What happened at each refresh of a watched materialized view: one row each, written by the '
    'refresh''s own transaction.';
comment on column tinydevcrm.matview_refresh_events.id is
    'Number of the event. Handed out before commit: do not read events with "id > last seen", '
    'which skips those that commit late; use a subscription.';
comment on column tinydevcrm.matview_refresh_events.owner is
    'Owner of the materialized view.';
comment on column tinydevcrm.matview_refresh_events.matview_id is
    'The registration; null when it has been removed since.';
comment on column tinydevcrm.matview_refresh_events.matview is
    'Name of the materialized view at the time, with its schema, quoted where needed.';
comment on column tinydevcrm.matview_refresh_events.schedule_id is
    'The schedule that refreshed it; null for a refresh on request.';
comment on column tinydevcrm.matview_refresh_events.outcome is
    'refreshed: it succeeded; recovered: it succeeded after a failure; failed: it failed and the '
    'old rows stay; skipped: another refresh of it was under way.';
comment on column tinydevcrm.matview_refresh_events.is_told is
    'Whether it was worth telling, by the rule in tinydevcrm.matviews.notify_when: such an event '
    'goes to every subscription.';
comment on column tinydevcrm.matview_refresh_events.method is
    'How it was refreshed: plain or concurrently; null when it was skipped.';
comment on column tinydevcrm.matview_refresh_events.plain_reason is
    'Why it was refreshed plainly from now on, though it has a key: told when that begins.';
comment on column tinydevcrm.matview_refresh_events.row_count is
    'Rows in the materialized view after the refresh; null unless it succeeded.';
comment on column tinydevcrm.matview_refresh_events.rows is
    'The first of those rows, in no order, as an array of objects; at most '
    'tinydevcrm.settings.event_row_limit of them and event_byte_limit bytes. Null unless the '
    'event is told and has rows.';
comment on column tinydevcrm.matview_refresh_events.error_code is
    'SQLSTATE of the failure.';
comment on column tinydevcrm.matview_refresh_events.error_message is
    'Message of the failure.';
comment on column tinydevcrm.matview_refresh_events.started_at is
    'When the refresh began.';
comment on column tinydevcrm.matview_refresh_events.duration is
    'How long it took, counting the rows included.';

create index matview_refresh_events_matview_idx
    on tinydevcrm.matview_refresh_events (matview_id, id);

-- The latest told events, however many others there are.
create index matview_refresh_events_told_idx
    on tinydevcrm.matview_refresh_events (id)
 where is_told;

create index matview_refresh_events_started_at_idx
    on tinydevcrm.matview_refresh_events using brin (started_at);

alter table tinydevcrm.matview_refresh_events enable row level security;

create policy matview_refresh_events_owner on tinydevcrm.matview_refresh_events
    to tinydevcrm_user
    using (pg_has_role(owner, 'usage'))
    with check (
        exists (
            select
              from tinydevcrm.matviews
             where matviews.id = matview_refresh_events.matview_id
               and matviews.owner = matview_refresh_events.owner
               and matviews.relation::text = matview_refresh_events.matview
        )
    );

grant select, insert on tinydevcrm.matview_refresh_events to tinydevcrm_user;


create function tinydevcrm._matview_refresh_events_notify()
    returns trigger
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify('matview_refresh_channel', new.id::text);
    return null;
end
$$;

comment on function tinydevcrm._matview_refresh_events_notify() is
    'Sends the id of a told event on matview_refresh_channel when the transaction commits.';

create trigger _900_notify
    after insert on tinydevcrm.matview_refresh_events
    for each row
    when (new.is_told)
    execute function tinydevcrm._matview_refresh_events_notify();

-- The functions that each refresh calls are PL/pgSQL, which keeps their plans: plain SQL would be
-- planned anew each time, and a refresh of a small view takes less than a millisecond.
create function tinydevcrm._refresh_method(
    relation         regclass,
    out method       text,
    out plain_reason text
)
    returns record
    language plpgsql
    stable
    strict
    set search_path = pg_catalog, pg_temp
as $$
begin
    select case
               when not pg_class.relispopulated then 'it had not been filled yet'
               when not exists (
                   select
                     from pg_index
                    where indrelid = pg_class.oid
                      and indisunique
                      and indisvalid
                      and indimmediate
                      and indpred is null
                      and indexprs is null
               ) then 'it has no unique index on plain columns'
           end
      into _refresh_method.plain_reason
      from pg_class
     where oid = _refresh_method.relation;

    _refresh_method.method := case
        when _refresh_method.plain_reason is null then 'concurrently'
        else 'plain'
    end;
end
$$;

comment on function tinydevcrm._refresh_method(regclass) is
    'concurrently, so that readers do not wait, when the materialized view is populated and has a '
    'unique index on plain columns without a where clause; plain otherwise, with the reason.';

create function tinydevcrm._is_worth_telling(
    notify_when  text,
    outcome      text,
    last_outcome text,
    row_count    bigint
)
    returns boolean
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return case _is_worth_telling.outcome
        when 'skipped' then false
        when 'failed' then _is_worth_telling.last_outcome is distinct from 'failed'
        when 'recovered' then true
        else case _is_worth_telling.notify_when
            when 'not_empty' then _is_worth_telling.row_count > 0
            when 'empty' then _is_worth_telling.row_count = 0
            when 'always' then true
            when 'never' then false
        end
    end;
end
$$;

comment on function tinydevcrm._is_worth_telling(text, text, text, bigint) is
    'The rule: whether an event of this outcome goes to the subscriptions.';

create function tinydevcrm._count_rows(relation regclass, out row_count bigint, out rows jsonb)
    returns record
    language plpgsql
    stable
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_columns  text;
    v_settings tinydevcrm.settings;
begin
    select settings.*
      into v_settings
      from tinydevcrm.settings;

    -- to_jsonb() would call a cast to json that the owner of a type has made, with the rights of
    -- whoever refreshes. So what is not built in goes by its output function, as text.
    select coalesce(
               string_agg(
                   case
                       when atttypid >= 16384 then
                           format(
                               'case num_nulls(%1$I) when 0 then format(%2$L, %1$I) end as %1$I',
                               attname, '%s')
                       else
                           format('%I', attname)
                   end,
                   ', ' order by attnum),
               '')
      into v_columns
      from pg_attribute
     where attrelid = _count_rows.relation
       and attnum > 0
       and not attisdropped;

    begin
        execute format(
            'select (select count(*) from %2$s),
                    (select jsonb_agg(to_jsonb(first_rows))
                       from (select %1$s from %2$s limit $1) as first_rows)',
            v_columns, _count_rows.relation)
           into _count_rows.row_count, _count_rows.rows
          using v_settings.event_row_limit;

        if octet_length(_count_rows.rows::text) > v_settings.event_byte_limit then
            select jsonb_agg(carried.value order by carried.number)
              into _count_rows.rows
              from (
                select value,
                       number,
                       sum(octet_length(value::text)) over (order by number) as byte_count
                  from jsonb_array_elements(_count_rows.rows) with ordinality as rows (value, number)
              ) as carried
             where carried.byte_count <= v_settings.event_byte_limit;
        end if;
    exception
        -- A value that jsonb cannot hold, such as a json text with \u0000, is no fault of the
        -- refresh.
        when program_limit_exceeded or untranslatable_character or invalid_text_representation then
            execute format('select count(*), null::jsonb from %s', _count_rows.relation)
               into _count_rows.row_count, _count_rows.rows;
    end;
end
$$;

comment on function tinydevcrm._count_rows(regclass) is
    'Number of rows of a materialized view, and the first of them as an array of objects, as many '
    'as tinydevcrm.settings lets an event carry; none when one of them cannot be jsonb.';

create function tinydevcrm._lock_matview(matview_id bigint)
    returns boolean
    language plpgsql
    volatile
    strict
    set search_path = pg_catalog, pg_temp
as $$
begin
    return pg_try_advisory_xact_lock(
        hashtextextended('tinydevcrm.matviews', _lock_matview.matview_id));
end
$$;

comment on function tinydevcrm._lock_matview(bigint) is
    'Takes the right to refresh a materialized view until the transaction ends; false when '
    'another session has it. An advisory lock, so that the registry''s row can be read and '
    'changed meanwhile.';

create function tinydevcrm._record_refresh(
    matview       tinydevcrm.matviews,
    schedule_id   bigint,
    started_at    timestamptz,
    method        text,
    plain_reason  text,
    row_count     bigint,
    rows          jsonb,
    error_code    text,
    error_message text
)
    returns tinydevcrm.matview_refresh_events
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    -- Read again: another refresh may have ended since the caller looked.
    v_matview tinydevcrm.matviews;
    v_outcome text;
    v_is_told boolean;
    v_reason  text;
    v_event   tinydevcrm.matview_refresh_events;
begin
    select matviews.*
      into v_matview
      from tinydevcrm.matviews
     where matviews.id = (matview).id
       for update;

    -- Dropped meanwhile: there is nothing left to record it of.
    if not found then
        return null;
    end if;

    v_outcome := case
                  when method is null then 'skipped'
                  when error_code is not null then 'failed'
                  when v_matview.last_outcome = 'failed' then 'recovered'
                  else 'refreshed'
              end;
    v_is_told := tinydevcrm._is_worth_telling(
        v_matview.notify_when, v_outcome, v_matview.last_outcome, row_count);

    -- A key that does not hold any more is told once.
    if v_matview.key is not null and v_matview.plain_reason is null and v_outcome = 'refreshed' then
        v_reason := _record_refresh.plain_reason;
        v_is_told := v_is_told or v_reason is not null;
    end if;

    update tinydevcrm.matviews
       set last_scheduled_at = case
                                   when _record_refresh.schedule_id is null then
                                       matviews.last_scheduled_at
                                   else _record_refresh.started_at
                               end,
           last_outcome = case v_outcome
                              when 'skipped' then matviews.last_outcome
                              else v_outcome
                          end,
           last_refreshed_at = case v_outcome
                                   when 'skipped' then matviews.last_refreshed_at
                                   else _record_refresh.started_at
                               end,
           plain_reason = case
                              when v_outcome in ('skipped', 'failed') then matviews.plain_reason
                              else _record_refresh.plain_reason
                          end,
           failing_since = case v_outcome
                               when 'skipped' then matviews.failing_since
                               when 'failed' then
                                   coalesce(matviews.failing_since, _record_refresh.started_at)
                           end
     where matviews.id = v_matview.id;

    insert into tinydevcrm.matview_refresh_events (
               owner, matview_id, matview, schedule_id, outcome, is_told, method, plain_reason,
               row_count, rows, error_code, error_message, started_at, duration)
    values (
               (matview).owner, v_matview.id, (matview).relation::text, _record_refresh.schedule_id,
               v_outcome, v_is_told, _record_refresh.method, v_reason, _record_refresh.row_count,
               case when v_is_told then _record_refresh.rows end,
               _record_refresh.error_code, _record_refresh.error_message,
               _record_refresh.started_at, clock_timestamp() - _record_refresh.started_at)
    returning matview_refresh_events.*
         into v_event;

    return v_event;
end
$$;

comment on function tinydevcrm._record_refresh(
    tinydevcrm.matviews, bigint, timestamptz, text, text, bigint, jsonb, text, text
) is
    'Writes the event of a refresh and the registry''s memory of it; a null method is a skip, and '
    'a registration that is gone leaves nothing, and null. The only writer of '
    'tinydevcrm.matview_refresh_events.';

-- Runs the view's query, whose functions may count on the caller's search_path: none of its own,
-- and names of its own all qualified.
create function tinydevcrm._refresh_matview(
    matview     tinydevcrm.matviews,
    schedule_id bigint default null
)
    returns tinydevcrm.matview_refresh_events
    language plpgsql
    volatile
as $$
#variable_conflict use_variable
declare
    v_started_at timestamptz := pg_catalog.clock_timestamp();
    v_method     text;
    v_reason     text;
    v_row_count  bigint;
    v_rows       jsonb;
    v_code       text;
    v_message    text;
begin
    if tinydevcrm._lock_matview((matview).id) then
        begin
            v_method := 'plain';
            select chosen.method,
                   chosen.plain_reason
              into v_method, v_reason
              from tinydevcrm._refresh_method((matview).relation) as chosen;

            if v_method = 'plain' then
                execute pg_catalog.format('refresh materialized view %s', (matview).relation);
            else
                v_method := tinydevcrm._refresh_concurrently(matview);
            end if;

            if v_method = 'plain' and (matview).key is not null then
                v_reason := tinydevcrm._restore_key(matview);
            end if;

            select counted.row_count,
                   counted.rows
              into v_row_count, v_rows
              from tinydevcrm._count_rows((matview).relation) as counted;
        exception
            -- Nothing is hidden: whatever stopped the refresh is what the event reports. A cancel
            -- is not among "others", and is how a statement timeout shows; who cancels a refresh of
            -- their own knows.
            when query_canceled or others then
                if sqlstate = '57014' and schedule_id is null then
                    raise;
                end if;
                get stacked diagnostics
                    v_code    = returned_sqlstate,
                    v_message = message_text;
                v_row_count := null;
                v_rows := null;
        end;
    end if;

    return tinydevcrm._record_refresh(
        matview, schedule_id, v_started_at, v_method, v_reason, v_row_count, v_rows, v_code,
        v_message);
end
$$;

comment on function tinydevcrm._refresh_matview(tinydevcrm.matviews, bigint) is
    'Refreshes a materialized view and records how it went. Does not raise what the refresh '
    'raises.';

create function tinydevcrm._key_index(matview tinydevcrm.matviews)
    returns regclass
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select indexrelid::regclass
      from pg_index
     where indrelid = (matview).relation
       and indisunique
       and indpred is null
       and indexprs is null
       and (
           select array_agg(attname::text order by number)
             from unnest(indkey::smallint[]) with ordinality as columns (attnum, number)
             join pg_attribute
               on attrelid = indrelid
              and pg_attribute.attnum = columns.attnum
       ) = (matview).key
     limit 1
$$;

comment on function tinydevcrm._key_index(tinydevcrm.matviews) is
    'The unique index on the key of a materialized view; null when there is none.';

create function tinydevcrm._drop_key_index(matview tinydevcrm.matviews)
    returns boolean
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_index constant regclass := tinydevcrm._key_index(matview);
begin
    if v_index is null then
        return false;
    end if;

    execute format('drop index %s', v_index);
    return true;
end
$$;

comment on function tinydevcrm._drop_key_index(tinydevcrm.matviews) is
    'Takes the index on a key away that rows of the same key are in the way of, so that the '
    'materialized view can be refreshed plainly; false when there is none.';

-- As _refresh_matview(): no search_path of its own.
create function tinydevcrm._refresh_concurrently(matview tinydevcrm.matviews)
    returns text
    language plpgsql
    volatile
as $$
begin
    execute pg_catalog.format(
        'refresh materialized view concurrently %s', (matview).relation);
    return 'concurrently';
exception
    when unique_violation or cardinality_violation then
        if not tinydevcrm._drop_key_index(matview) then
            raise;
        end if;
        execute pg_catalog.format('refresh materialized view %s', (matview).relation);
        return 'plain';
end
$$;

comment on function tinydevcrm._refresh_concurrently(tinydevcrm.matviews) is
    'Refreshes a materialized view concurrently, or plainly when rows of the same key are in the '
    'way; returns which.';

create function tinydevcrm._restore_key(matview tinydevcrm.matviews)
    returns text
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_detail text;
begin
    if tinydevcrm._key_index(matview) is null then
        execute tinydevcrm._key_index_statement((matview).relation, (matview).key);
    end if;

    return 'it had no index on its key, or had not been filled, until now';
exception
    when unique_violation then
        get stacked diagnostics v_detail = pg_exception_detail;
        return format('its key does not tell its rows apart: %s', v_detail);
end
$$;

comment on function tinydevcrm._restore_key(tinydevcrm.matviews) is
    'After a plain refresh makes the index on the key again, if the rows allow it, so that the '
    'next refresh is concurrent; returns why this one was not.';

-- As _refresh_matview(): no search_path of its own.
create function tinydevcrm.refresh_matview(relation regclass)
    returns tinydevcrm.matview_refresh_events
    language plpgsql
    volatile
as $$
begin
    return tinydevcrm._refresh_matview(tinydevcrm._watched_matview(refresh_matview.relation));
end
$$;

comment on function tinydevcrm.refresh_matview(regclass) is
    'Refreshes a watched materialized view now and returns the event. A failure is such an event '
    'too, of outcome failed, and does not raise. Raises TD001 when it is not watched.';

revoke execute on function
    tinydevcrm._matview_refresh_events_notify(),
    tinydevcrm._refresh_method(regclass),
    tinydevcrm._is_worth_telling(text, text, text, bigint),
    tinydevcrm._count_rows(regclass),
    tinydevcrm._lock_matview(bigint),
    tinydevcrm._record_refresh(
        tinydevcrm.matviews, bigint, timestamptz, text, text, bigint, jsonb, text, text),
    tinydevcrm._key_index(tinydevcrm.matviews),
    tinydevcrm._drop_key_index(tinydevcrm.matviews),
    tinydevcrm._refresh_concurrently(tinydevcrm.matviews),
    tinydevcrm._restore_key(tinydevcrm.matviews),
    tinydevcrm._refresh_matview(tinydevcrm.matviews, bigint),
    tinydevcrm.refresh_matview(regclass)
from public;

grant execute on function
    tinydevcrm._refresh_method(regclass),
    tinydevcrm._is_worth_telling(text, text, text, bigint),
    tinydevcrm._count_rows(regclass),
    tinydevcrm._lock_matview(bigint),
    tinydevcrm._record_refresh(
        tinydevcrm.matviews, bigint, timestamptz, text, text, bigint, jsonb, text, text),
    tinydevcrm._key_index(tinydevcrm.matviews),
    tinydevcrm._drop_key_index(tinydevcrm.matviews),
    tinydevcrm._refresh_concurrently(tinydevcrm.matviews),
    tinydevcrm._restore_key(tinydevcrm.matviews),
    tinydevcrm._refresh_matview(tinydevcrm.matviews, bigint),
    tinydevcrm.refresh_matview(regclass)
to tinydevcrm_user;
