-- What a refresh leaves: its event, and what the registry remembers of it.

create function tinydevcrm._matview_refresh_events_remember()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if new.outcome = 'dropped' then
        return null;
    end if;

    if new.outcome = 'late' then
        update tinydevcrm.matviews
           set late_noted_at = new.started_at
         where matviews.id = new.matview_id;
        return null;
    end if;

    if new.outcome = 'skipped' then
        update tinydevcrm.matviews
           set last_scheduled_at = new.started_at
         where matviews.id = new.matview_id
           and new.schedule_id is not null;
        return null;
    end if;

    update tinydevcrm.matviews
       set last_scheduled_at = case
               when new.schedule_id is null then matviews.last_scheduled_at
               else new.started_at
           end,
           last_outcome = new.outcome,
           last_refreshed_at = new.started_at,
           late_noted_at = null,
           last_notified_at = case
               when new.is_notified and new.outcome <> 'failed' then new.started_at
               else matviews.last_notified_at
           end,
           failing_since = case new.outcome
               when 'failed' then coalesce(matviews.failing_since, new.started_at)
           end
     where matviews.id = new.matview_id;

    delete
      from tinydevcrm.refresh_requests
     where refresh_requests.matview_id = new.matview_id;

    return null;
end
$$;

comment on function tinydevcrm._matview_refresh_events_remember() is
    'Writes outcomes and times of an event into the registry. Security definer: users write '
    'neither. As a trigger it runs only for an event that row-level security has let through, and '
    'writes only the registration that the event names.';

create trigger _500_remember
    after insert on tinydevcrm.matview_refresh_events
    for each row
    execute function tinydevcrm._matview_refresh_events_remember();

create function tinydevcrm._cut_text(text text)
    returns text
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when octet_length(_cut_text.text) <= 10000 then _cut_text.text
        else left(_cut_text.text, 2500)
    end;
end
$$;

comment on function tinydevcrm._cut_text(text) is
    'A text of up to 10,000 bytes as it is, or the first 2,500 characters of a longer one.';

create function tinydevcrm._remember_refresh(
    matview tinydevcrm.matviews,
    refresh tinydevcrm._refresh
)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_known tinydevcrm.matviews := matview;
begin
    -- Rows that come within the notify_interval stay new until a refresh notifies of them.
    if not (refresh).is_quiet or (refresh).row_count = 0 then
        v_known.last_row_count := (refresh).row_count;
    end if;

    v_known.has_baseline := (matview).has_baseline
        or (refresh).compares
           and (refresh).notify_when = (matview).notify_when
           and (refresh).ignored_columns = (matview).ignored_columns;
    v_known.plain_reason := tinydevcrm._cut_text((refresh).plain_reason);

    if v_known is distinct from matview then
        update tinydevcrm.matviews
           set last_row_count = v_known.last_row_count,
               has_baseline = v_known.has_baseline,
               plain_reason = v_known.plain_reason
         where matviews.id = v_known.id;
    end if;
end
$$;

comment on function tinydevcrm._remember_refresh(tinydevcrm.matviews, tinydevcrm._refresh) is
    'Writes to the registry what the next refresh is compared with, where it has changed.';

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
    v_matview      tinydevcrm.matviews;
    v_outcome      text;
    v_is_notified      boolean;
    v_is_plain_now boolean;
    v_event        tinydevcrm.matview_refresh_events;
begin
    -- Reads the registry once more, for a skip too. When the registration has been dropped, there
    -- is nothing to record.
    select matviews.*
      into v_matview
      from tinydevcrm.matviews
     where matviews.id = (matview).id;

    if not found then
        return null;
    end if;

    v_outcome := case
        when (refresh).method is null then 'skipped'
        when (refresh).error_code is not null then 'failed'
        when v_matview.last_outcome = 'failed' then 'recovered'
        else 'refreshed'
    end;
    -- A key that rows have come to share notifies once.
    v_is_plain_now := v_matview.key is not null
        and v_matview.plain_reason is null
        and v_outcome = 'refreshed'
        and (refresh).plain_reason is not null;
    v_is_notified := tinydevcrm._should_notify(v_matview, refresh, v_outcome) or v_is_plain_now;

    if v_outcome in ('refreshed', 'recovered') then
        perform tinydevcrm._remember_refresh(v_matview, refresh);
    end if;

    insert into tinydevcrm.matview_refresh_events (
               matview_id, schedule_id, outcome, is_notified, method, plain_reason,
               row_count, added_count, removed_count, columns, rows, is_cut,
               error_code, error_message, duration)
    values (
               v_matview.id,
               _record_refresh.schedule_id,
               v_outcome,
               v_is_notified,
               (refresh).method,
               case when v_is_plain_now then tinydevcrm._cut_text((refresh).plain_reason) end,
               (refresh).row_count,
               (refresh).added_count,
               (refresh).removed_count,
               case when v_is_notified and (refresh).rows is not null then (refresh).column_names end,
               case when v_is_notified then (refresh).rows end,
               v_is_notified
               and coalesce(jsonb_array_length((refresh).rows), 0) < coalesce(
                   case
                       when (refresh).notify_when = 'rows_added' then (refresh).added_count
                       else (refresh).row_count
                   end,
                   0),
               (refresh).error_code,
               tinydevcrm._cut_text((refresh).error_message),
               -- Not negative, even when the clock is set back.
               greatest(
                   least(clock_timestamp() - _record_refresh.started_at, interval '7 days'),
                   interval '0'))
    returning matview_refresh_events.*
         into v_event;

    return v_event;
end
$$;

comment on function tinydevcrm._record_refresh(
    tinydevcrm.matviews, bigint, timestamptz, tinydevcrm._refresh
) is
    'Writes the event of a refresh, and what the next refresh is compared with. A null refresh is '
    'a skip. Writes nothing and returns null when the registration is gone. The only function that '
    'writes events of refreshes.';

revoke execute on function
    tinydevcrm._matview_refresh_events_remember(),
    tinydevcrm._cut_text(text),
    tinydevcrm._remember_refresh(tinydevcrm.matviews, tinydevcrm._refresh),
    tinydevcrm._record_refresh( tinydevcrm.matviews, bigint, timestamptz, tinydevcrm._refresh)
from public;

grant execute on function
    tinydevcrm._cut_text(text),
    tinydevcrm._remember_refresh(tinydevcrm.matviews, tinydevcrm._refresh),
    tinydevcrm._record_refresh( tinydevcrm.matviews, bigint, timestamptz, tinydevcrm._refresh)
to tinydevcrm_user;
