-- A refresh: how it is done, what it finds, and what is remembered of it.
--
-- What each refresh calls is PL/pgSQL, which keeps its plans (plain SQL would be planned anew each
-- time), and as few statements as can be: a refresh of a small view takes half a millisecond.

create function tinydevcrm._begin_refresh(matview tinydevcrm.matviews)
    returns tinydevcrm._refresh
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_refresh tinydevcrm._refresh;
begin
    -- An advisory lock, so that the registry's row can be read and changed meanwhile.
    if not pg_try_advisory_xact_lock(tinydevcrm._lock_key('matviews', (matview).id)) then
        return null;
    end if;

    -- The registry is read again: another refresh may have ended since the caller looked.
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
           end as plain_reason,
           registered.notify_when,
           registered.ignored_columns,
           coalesce(
               registered.last_told_at + registered.notify_interval > clock_timestamp(),
               false) as is_quiet,
           registered.has_baseline,
           carried.columns,
           carried.column_names,
           settings.event_row_limit as row_limit,
           settings.event_byte_limit as byte_limit
      into v_refresh.plain_reason,
           v_refresh.notify_when,
           v_refresh.ignored_columns,
           v_refresh.is_quiet,
           v_refresh.has_baseline,
           v_refresh.columns,
           v_refresh.column_names,
           v_refresh.row_limit,
           v_refresh.byte_limit
      from tinydevcrm.matviews as registered
      join pg_class
        on pg_class.oid = registered.relation
     cross join tinydevcrm.settings
     cross join lateral (
         -- to_jsonb() would call a cast to json that the owner of a type has made, with the rights
         -- of whoever refreshes. So what is not built in goes by its output function.
         select string_agg(
                    case
                        when atttypid >= 16384 then format(
                            'case num_nulls(%1$I) when 0 then format(%2$L, %1$I) end as %1$I',
                            attname, '%s')
                        else quote_ident(attname)
                    end,
                    ', ' order by attnum) as columns,
                array_agg(attname::text order by attnum) as column_names
           from pg_attribute
          where attrelid = pg_class.oid
            and attnum > 0
            and not attisdropped
     ) as carried
     where registered.id = (matview).id;

    v_refresh.method := case
        when v_refresh.plain_reason is null then 'concurrently'
        else 'plain'
    end;
    -- What comes while it is to be quiet is left for the first refresh after that.
    v_refresh.compares :=
        v_refresh.notify_when in ('changed', 'rows_added') and not v_refresh.is_quiet;
    return v_refresh;
end
$$;

comment on function tinydevcrm._begin_refresh(tinydevcrm.matviews) is
    'Takes the right to refresh a materialized view until the transaction ends, and says how: '
    'concurrently, so that readers do not wait, when it is populated and has a unique index on '
    'plain columns without a where clause; plain otherwise, with the reason. Null when another '
    'session has the right.';

create function tinydevcrm._read_rows(relation regclass, refresh tinydevcrm._refresh)
    returns tinydevcrm._refresh
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set synchronize_seqscans = off
as $$
declare
    v_refresh tinydevcrm._refresh := refresh;
begin
    execute format(
        'select (select count(*) from %2$s),
                (select jsonb_agg(to_jsonb(carried.*))
                   from (select %1$s from %2$s limit $1) as carried)',
        v_refresh.columns, _read_rows.relation)
       into v_refresh.row_count, v_refresh.rows
      using case when v_refresh.notify_when = 'rows_added' then 0 else v_refresh.row_limit end;

    if octet_length(v_refresh.rows::text) > v_refresh.byte_limit then
        v_refresh.rows := tinydevcrm._cut_rows(v_refresh.rows, v_refresh.byte_limit);
    end if;
    return v_refresh;
exception
    -- A value that jsonb cannot hold, such as a json text with \u0000, is no fault of the refresh.
    when program_limit_exceeded or untranslatable_character or invalid_text_representation then
        execute format('select count(*) from %s', _read_rows.relation)
           into v_refresh.row_count;
        v_refresh.rows := null;
        return v_refresh;
end
$$;

comment on function tinydevcrm._read_rows(regclass, tinydevcrm._refresh) is
    'Adds to a refresh the number of rows, and the first of them as an array of objects within the '
    'limits; none when one of them cannot be jsonb, or when its event carries added rows.';

create function tinydevcrm._record_refresh(
    matview     tinydevcrm.matviews,
    schedule_id bigint,
    started_at  timestamptz,
    refresh     tinydevcrm._refresh
)
    returns tinydevcrm.matview_refresh_events
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_event tinydevcrm.matview_refresh_events;
begin
    -- The registry once more, for a skip too. A registration that has been dropped leaves nothing
    -- to record it of.
    with remembered as (
        select matviews.*,
               matviews as registered
          from tinydevcrm.matviews
         where matviews.id = (matview).id
    ),
    judged as (
        select remembered.*,
               case
                   when (refresh).method is null then 'skipped'
                   when (refresh).error_code is not null then 'failed'
                   when remembered.last_outcome = 'failed' then 'recovered'
                   else 'refreshed'
               end as outcome
          from remembered
    ),
    ruled as (
        select judged.*,
               tinydevcrm._is_worth_telling(judged.registered, refresh, judged.outcome) as is_told,
               -- A key that does not hold any more is told once.
               judged.key is not null
               and judged.plain_reason is null
               and judged.outcome = 'refreshed'
               and (refresh).plain_reason is not null as is_plain_now
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
               last_told_at = case
                   when ruled.is_told and ruled.outcome in ('refreshed', 'recovered') then
                       _record_refresh.started_at
                   else matviews.last_told_at
               end,
               -- Rows that come while it is to be quiet are news until they are told.
               last_row_count = case
                   when (refresh).row_count is null
                        or (refresh).is_quiet and (refresh).row_count > 0 then
                       matviews.last_row_count
                   else (refresh).row_count
               end,
               has_baseline = matviews.has_baseline
                   or ruled.outcome in ('refreshed', 'recovered')
                      and (refresh).compares
                      and (refresh).notify_when = matviews.notify_when
                      and (refresh).ignored_columns = matviews.ignored_columns,
               plain_reason = case
                   when ruled.outcome in ('skipped', 'failed') then matviews.plain_reason
                   else (refresh).plain_reason
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
               row_count, added_count, removed_count, columns, rows, is_cut,
               error_code, error_message, started_at, duration)
    select ruled.owner,
           ruled.id,
           ruled.relation::text,
           _record_refresh.schedule_id,
           ruled.outcome,
           ruled.is_told or ruled.is_plain_now,
           (refresh).method,
           case when ruled.is_plain_now then (refresh).plain_reason end,
           (refresh).row_count,
           (refresh).added_count,
           (refresh).removed_count,
           case
               when (ruled.is_told or ruled.is_plain_now) and (refresh).rows is not null then
                   (refresh).column_names
           end,
           case when ruled.is_told or ruled.is_plain_now then (refresh).rows end,
           (ruled.is_told or ruled.is_plain_now)
           and coalesce(jsonb_array_length((refresh).rows), 0) < coalesce(
               case
                   when (refresh).notify_when = 'rows_added' then (refresh).added_count
                   else (refresh).row_count
               end,
               0),
           (refresh).error_code,
           (refresh).error_message,
           _record_refresh.started_at,
           clock_timestamp() - _record_refresh.started_at
      from ruled
    returning matview_refresh_events.*
         into v_event;

    return v_event;
end
$$;

comment on function tinydevcrm._record_refresh(
    tinydevcrm.matviews, bigint, timestamptz, tinydevcrm._refresh
) is
    'Writes the event of a refresh and the registry''s memory of it; a null refresh is a skip, and '
    'a registration that is gone leaves nothing, and null. The only writer of '
    'tinydevcrm.matview_refresh_events.';

-- Runs the view's query, whose functions may count on the caller's search_path: none of its own,
-- and names of its own all qualified.
--
-- The setting is one of Citus, and nothing where Citus is not. As it is there, Citus takes the view
-- itself for a local table to join with, and a worker that is away then ends the whole transaction,
-- with the event of the failure.
create function tinydevcrm._refresh_matview(
    matview     tinydevcrm.matviews,
    schedule_id bigint default null
)
    returns tinydevcrm.matview_refresh_events
    language plpgsql
    volatile
    set citus.local_table_join_policy = 'never'
as $$
#variable_conflict use_variable
declare
    v_started_at timestamptz := pg_catalog.clock_timestamp();
    v_refresh    tinydevcrm._refresh := tinydevcrm._begin_refresh(matview);
    v_begun      tinydevcrm._refresh := v_refresh;
begin
    if v_refresh.method is null then
        return tinydevcrm._record_refresh(matview, schedule_id, v_started_at, null);
    end if;

    begin
        if v_refresh.method = 'plain' then
            execute pg_catalog.format('refresh materialized view %s', (matview).relation);
        else
            v_refresh.method := tinydevcrm._refresh_concurrently(matview);
        end if;

        if v_refresh.method = 'plain' and (matview).key is not null then
            v_refresh.plain_reason := tinydevcrm._restore_key(matview);
        end if;

        v_refresh := tinydevcrm._read_rows((matview).relation, v_refresh);

        if v_refresh.compares then
            v_refresh := tinydevcrm._compare_rows(matview, v_refresh);
        end if;
    exception
        -- Nothing is hidden: whatever stopped the refresh is what the event reports. A cancel is
        -- not among "others", and is how a statement timeout shows; who cancels a refresh of their
        -- own knows.
        when query_canceled or others then
            if sqlstate = '57014' and schedule_id is null then
                raise;
            end if;
            v_refresh := v_begun;
            get stacked diagnostics
                v_refresh.error_code    = returned_sqlstate,
                v_refresh.error_message = message_text;
    end;

    return tinydevcrm._record_refresh(matview, schedule_id, v_started_at, v_refresh);
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
    tinydevcrm._read_rows(regclass, tinydevcrm._refresh),
    tinydevcrm._record_refresh(
        tinydevcrm.matviews, bigint, timestamptz, tinydevcrm._refresh),
    tinydevcrm._refresh_matview(tinydevcrm.matviews, bigint),
    tinydevcrm.refresh_matview(regclass)
from public;

grant execute on function
    tinydevcrm._begin_refresh(tinydevcrm.matviews),
    tinydevcrm._read_rows(regclass, tinydevcrm._refresh),
    tinydevcrm._record_refresh(
        tinydevcrm.matviews, bigint, timestamptz, tinydevcrm._refresh),
    tinydevcrm._refresh_matview(tinydevcrm.matviews, bigint),
    tinydevcrm.refresh_matview(regclass)
to tinydevcrm_user;
