-- A refresh: how it is done, what it finds, and what is remembered of it.
--
-- What each refresh calls is PL/pgSQL, which keeps its plans (plain SQL would be planned anew each
-- time), and as few statements as can be: a refresh of a small view takes half a millisecond.

create function tinydevcrm._begin_refresh(
    matview          tinydevcrm.matviews,
    out method       text,
    out plain_reason text,
    out columns      text,
    out row_limit    integer,
    out byte_limit   integer
)
    returns record
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- An advisory lock, so that the registry's row can be read and changed meanwhile.
    if not pg_try_advisory_xact_lock(hashtextextended('tinydevcrm.matviews', (matview).id)) then
        return;
    end if;

    select case
               when not relation.relispopulated then 'it had not been filled yet'
               when not exists (
                   select
                     from pg_index
                    where indrelid = relation.oid
                      and indisunique
                      and indisvalid
                      and indimmediate
                      and indpred is null
                      and indexprs is null
               ) then 'it has no unique index on plain columns'
           end,
           -- to_jsonb() would call a cast to json that the owner of a type has made, with the
           -- rights of whoever refreshes. So what is not built in goes by its output function.
           (
               select string_agg(
                          case
                              when atttypid >= 16384 then format(
                                  'case num_nulls(%1$I) when 0 then format(%2$L, %1$I) end as %1$I',
                                  attname, '%s')
                              else quote_ident(attname)
                          end,
                          ', ' order by attnum)
                 from pg_attribute
                where attrelid = relation.oid
                  and attnum > 0
                  and not attisdropped
           ),
           settings.event_row_limit,
           settings.event_byte_limit
      into _begin_refresh.plain_reason,
           _begin_refresh.columns,
           _begin_refresh.row_limit,
           _begin_refresh.byte_limit
      from pg_class as relation
     cross join tinydevcrm.settings
     where relation.oid = (matview).relation;

    _begin_refresh.method := case
        when _begin_refresh.plain_reason is null then 'concurrently'
        else 'plain'
    end;
end
$$;

comment on function tinydevcrm._begin_refresh(tinydevcrm.matviews) is
    'Takes the right to refresh a materialized view until the transaction ends, and says how: '
    'concurrently, so that readers do not wait, when it is populated and has a unique index on '
    'plain columns without a where clause; plain otherwise, with the reason. Also the columns as '
    'an event carries them, and its limits. All null when another session has the right.';

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

create function tinydevcrm._read_rows(
    relation      regclass,
    columns       text,
    row_limit     integer,
    byte_limit    integer,
    out row_count bigint,
    out rows      jsonb
)
    returns record
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    execute format(
        'select (select count(*) from %2$s),
                (select jsonb_agg(to_jsonb(first_rows))
                   from (select %1$s from %2$s limit $1) as first_rows)',
        _read_rows.columns, _read_rows.relation)
       into _read_rows.row_count, _read_rows.rows
      using _read_rows.row_limit;

    if octet_length(_read_rows.rows::text) > _read_rows.byte_limit then
        select jsonb_agg(carried.value order by carried.number)
          into _read_rows.rows
          from (
            select value,
                   number,
                   sum(octet_length(value::text)) over (order by number) as byte_count
              from jsonb_array_elements(_read_rows.rows) with ordinality as rows (value, number)
          ) as carried
         where carried.byte_count <= _read_rows.byte_limit;
    end if;
exception
    -- A value that jsonb cannot hold, such as a json text with \u0000, is no fault of the refresh.
    when program_limit_exceeded or untranslatable_character or invalid_text_representation then
        execute format('select count(*), null::jsonb from %s', _read_rows.relation)
           into _read_rows.row_count, _read_rows.rows;
end
$$;

comment on function tinydevcrm._read_rows(regclass, text, integer, integer) is
    'Number of rows of a materialized view, and the first of them as an array of objects, as many '
    'as fit the limits; none when one of them cannot be jsonb.';

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
    v_event tinydevcrm.matview_refresh_events;
begin
    -- The registry is read again: its rule may have changed since the caller looked. One that has
    -- been dropped leaves nothing to record it of.
    with remembered as (
        select matviews.*
          from tinydevcrm.matviews
         where matviews.id = (matview).id
           for update
    ),
    judged as (
        select remembered.*,
               case
                   when _record_refresh.method is null then 'skipped'
                   when _record_refresh.error_code is not null then 'failed'
                   when remembered.last_outcome = 'failed' then 'recovered'
                   else 'refreshed'
               end as outcome
          from remembered
    ),
    ruled as (
        select judged.*,
               -- A key that does not hold any more is told once.
               judged.key is not null
               and judged.plain_reason is null
               and judged.outcome = 'refreshed'
               and _record_refresh.plain_reason is not null as is_plain_now,
               tinydevcrm._is_worth_telling(
                   judged.notify_when,
                   judged.outcome,
                   judged.last_outcome,
                   _record_refresh.row_count) as is_told
          from judged
    ),
    kept as (
        update tinydevcrm.matviews
           set last_scheduled_at = case
                   when _record_refresh.schedule_id is null then matviews.last_scheduled_at
                   else _record_refresh.started_at
               end,
               last_outcome = case ruled.outcome
                   when 'skipped' then matviews.last_outcome
                   else ruled.outcome
               end,
               last_refreshed_at = case ruled.outcome
                   when 'skipped' then matviews.last_refreshed_at
                   else _record_refresh.started_at
               end,
               plain_reason = case
                   when ruled.outcome in ('skipped', 'failed') then matviews.plain_reason
                   else _record_refresh.plain_reason
               end,
               failing_since = case ruled.outcome
                   when 'skipped' then matviews.failing_since
                   when 'failed' then
                       coalesce(matviews.failing_since, _record_refresh.started_at)
               end
          from ruled
         where matviews.id = ruled.id
    )
    insert into tinydevcrm.matview_refresh_events (
               owner, matview_id, matview, schedule_id, outcome, is_told, method, plain_reason,
               row_count, rows, error_code, error_message, started_at, duration)
    select ruled.owner,
           ruled.id,
           ruled.relation::text,
           _record_refresh.schedule_id,
           ruled.outcome,
           ruled.is_told or ruled.is_plain_now,
           _record_refresh.method,
           case when ruled.is_plain_now then _record_refresh.plain_reason end,
           _record_refresh.row_count,
           case when ruled.is_told or ruled.is_plain_now then _record_refresh.rows end,
           _record_refresh.error_code,
           _record_refresh.error_message,
           _record_refresh.started_at,
           clock_timestamp() - _record_refresh.started_at
      from ruled
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
    v_plan       record;
    v_method     text;
    v_reason     text;
    v_found      record;
    v_code       text;
    v_message    text;
begin
    v_plan := tinydevcrm._begin_refresh(matview);
    v_method := v_plan.method;
    v_reason := v_plan.plain_reason;

    if v_method is not null then
        begin
            if v_method = 'plain' then
                execute pg_catalog.format('refresh materialized view %s', (matview).relation);
            else
                v_method := tinydevcrm._refresh_concurrently(matview);
            end if;

            if v_method = 'plain' and (matview).key is not null then
                v_reason := tinydevcrm._restore_key(matview);
            end if;

            v_found := tinydevcrm._read_rows(
                (matview).relation, v_plan.columns, v_plan.row_limit, v_plan.byte_limit);
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
        end;
    end if;

    if v_code is not null or v_method is null then
        return tinydevcrm._record_refresh(
            matview, schedule_id, v_started_at, v_method, v_reason, null, null, v_code, v_message);
    end if;

    return tinydevcrm._record_refresh(
        matview, schedule_id, v_started_at, v_method, v_reason, v_found.row_count, v_found.rows,
        null, null);
end
$$;

comment on function tinydevcrm._refresh_matview(tinydevcrm.matviews, bigint) is
    'Refreshes a materialized view and records how it went. Does not raise what the refresh '
    'raises.';

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
    tinydevcrm._begin_refresh(tinydevcrm.matviews),
    tinydevcrm._is_worth_telling(text, text, text, bigint),
    tinydevcrm._read_rows(regclass, text, integer, integer),
    tinydevcrm._record_refresh(
        tinydevcrm.matviews, bigint, timestamptz, text, text, bigint, jsonb, text, text),
    tinydevcrm._refresh_matview(tinydevcrm.matviews, bigint),
    tinydevcrm.refresh_matview(regclass)
from public;

grant execute on function
    tinydevcrm._begin_refresh(tinydevcrm.matviews),
    tinydevcrm._is_worth_telling(text, text, text, bigint),
    tinydevcrm._read_rows(regclass, text, integer, integer),
    tinydevcrm._record_refresh(
        tinydevcrm.matviews, bigint, timestamptz, text, text, bigint, jsonb, text, text),
    tinydevcrm._refresh_matview(tinydevcrm.matviews, bigint),
    tinydevcrm.refresh_matview(regclass)
to tinydevcrm_user;
