-- What a refresh leaves: its event, and what the registry remembers of it. Also a refresh that was
-- stopped: by a lock that another session holds, by a limit, or by the end of its session.

alter table tinydevcrm.matviews
    add column blocked_since timestamptz,
    add column ended_count integer not null default 0,
    add constraint matviews_ended_count_not_negative check (ended_count >= 0);

comment on column tinydevcrm.matviews.blocked_since is
    'When the first of its last refreshes began that all failed because another session held a '
    'lock; null when the last one did not. Its job then refreshes it after the others.';
comment on column tinydevcrm.matviews.ended_count is
    'Number of its last refreshes during which the session ended; 0 when the last one did not end '
    'it. Its job then refreshes it last, and less often: see tinydevcrm._find_ended_pause().';

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

    if new.outcome in ('silent', 'resumed') then
        update tinydevcrm.matviews
           set silent_noted_at = case new.outcome when 'silent' then new.started_at end
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
               when new.outcome <> 'failed' and (new.is_notified or new.held_rules is not null)
               then new.started_at
               else matviews.last_notified_at
           end,
           failing_since = case new.outcome
               when 'failed' then coalesce(matviews.failing_since, new.started_at)
           end,
           failure_count = case new.outcome
               when 'failed' then matviews.failure_count + 1
               else 0
           end,
           is_failure_notified = case new.outcome
               when 'failed' then matviews.is_failure_notified or new.is_notified
               when 'recovered' then matviews.is_failure_notified and not new.is_notified
               else matviews.is_failure_notified
           end,
           blocked_since = case new.error_code
               when '55P03' then coalesce(matviews.blocked_since, new.started_at)
           end,
           ended_count = case
               when new.error_code = '57P01' and new.method is null then matviews.ended_count + 1
               else 0
           end
     where matviews.id = new.matview_id;

    delete
      from tinydevcrm.refresh_requests
     where refresh_requests.matview_id = new.matview_id;

    -- For the views that read this one.
    if new.outcome <> 'failed' and coalesce(new.is_changed, true) then
        perform tinydevcrm._record_change(matviews.relation)
           from tinydevcrm.matviews
          where matviews.id = new.matview_id
            and exists (
                select
                  from tinydevcrm.matview_sources
                 where matview_sources.relation = matviews.relation
            );
    end if;

    return null;
end
$$;

comment on function tinydevcrm._matview_refresh_events_remember() is
    'Writes outcomes and times of an event into the registry, and the change of a view that others '
    'read. Security definer: users write none of these. As a trigger it runs only for an event that row-level security has let through, and '
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

create function tinydevcrm._advance_rule(
    matview       tinydevcrm.matviews,
    refresh       tinydevcrm._refresh,
    suppressed_by text
)
    returns tinydevcrm.matviews
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_known tinydevcrm.matviews := matview;
    v_holds boolean := tinydevcrm._rule_holds(
        (matview).notify_when, (matview).last_row_count, refresh);
begin
    -- Rows whose refresh may not notify yet stay new until one notifies of them, and so does that
    -- there are none. Rules of subscriptions may be about either.
    if coalesce(_advance_rule.suppressed_by, 'rule') = 'rule'
           and ((refresh).quiet_by is null or (matview).asked_rules = '{}')
       or ((refresh).row_count = 0) <> ((matview).notify_when = 'became_empty')
           and (matview).asked_rules = '{}'
    then
        v_known.last_row_count := (refresh).row_count;
    end if;

    v_known.rule_count := case
        when v_holds is null then (matview).rule_count
        -- The next comparison is with the rows of this refresh: it begins anew.
        when not v_holds or (refresh).rule_compares and _advance_rule.suppressed_by is null then 0
        else least((matview).rule_count + 1, (matview).notify_after - 1)
    end;

    return v_known;
end
$$;

comment on function tinydevcrm._advance_rule(
    tinydevcrm.matviews, tinydevcrm._refresh, text
) is
    'The registration with what the notify rule remembers after a refresh that succeeded: '
    'last_row_count and rule_count.';

create function tinydevcrm._remember_refresh(
    matview       tinydevcrm.matviews,
    refresh       tinydevcrm._refresh,
    suppressed_by text
)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_known tinydevcrm.matviews := tinydevcrm._advance_rule(
        matview, refresh, _remember_refresh.suppressed_by);
begin
    v_known.has_baseline := (matview).has_baseline
        or (refresh).compares
           and (refresh).notify_when = (matview).notify_when
           and (refresh).ignored_columns = (matview).ignored_columns;
    v_known.plain_reason := tinydevcrm._cut_text((refresh).plain_reason);
    v_known.content_hash := (refresh).content_hash;
    -- What may not notify yet has to be found again by a later refresh.
    if coalesce(_remember_refresh.suppressed_by, 'rule') = 'rule' then
        v_known.seen_snapshot := (refresh).snapshot;
    end if;
    if (matview).is_on_change then
        v_known.tried_snapshot := (refresh).snapshot;
    end if;

    if v_known is distinct from matview then
        update tinydevcrm.matviews
           set last_row_count = v_known.last_row_count,
               has_baseline = v_known.has_baseline,
               rule_count = v_known.rule_count,
               plain_reason = v_known.plain_reason,
               content_hash = v_known.content_hash,
               seen_snapshot = v_known.seen_snapshot,
               tried_snapshot = v_known.tried_snapshot
         where matviews.id = v_known.id;
    end if;
end
$$;

comment on function tinydevcrm._remember_refresh(
    tinydevcrm.matviews, tinydevcrm._refresh, text
) is
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
    v_suppressed_by text;
    v_is_notified      boolean;
    v_held_rules   text[];
    v_is_carried   boolean;
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
        when (refresh).error_code is not null then 'failed'
        when (refresh).method is null then 'skipped'
        when v_matview.last_outcome = 'failed' then 'recovered'
        -- The recovery came during a mute, and has not notified.
        when v_matview.is_failure_notified and (refresh).quiet_by is distinct from 'mute' then
            'recovered'
        else 'refreshed'
    end;
    -- A key that rows have come to share notifies once.
    v_is_plain_now := v_matview.key is not null
        and v_matview.plain_reason is null
        and v_outcome = 'refreshed'
        and (refresh).quiet_by is distinct from 'mute'
        and (refresh).plain_reason is not null;
    v_suppressed_by := case
        when not v_is_plain_now then tinydevcrm._find_suppression(v_matview, refresh, v_outcome)
    end;
    v_is_notified := v_suppressed_by is null;

    if v_outcome in ('refreshed', 'recovered') then
        if v_matview.asked_rules <> '{}' then
            v_held_rules := tinydevcrm._find_held_rules(v_matview, refresh, v_suppressed_by);
        end if;
        perform tinydevcrm._remember_refresh(v_matview, refresh, v_suppressed_by);
    elsif v_outcome = 'failed' and v_matview.is_on_change then
        update tinydevcrm.matviews
           set tried_snapshot = (refresh).snapshot
         where matviews.id = v_matview.id;
    end if;

    v_is_carried := v_is_notified or v_held_rules is not null;

    insert into tinydevcrm.matview_refresh_events (
               matview_id, schedule_id, outcome, is_notified, suppressed_by, held_rules, method,
               plain_reason, row_count, added_count, removed_count, updated_count, is_changed, columns, rows,
               added_rows, removed_rows, updated_rows, is_cut, error_code, error_message, duration)
    values (
               v_matview.id,
               _record_refresh.schedule_id,
               v_outcome,
               v_is_notified,
               v_suppressed_by,
               v_held_rules,
               (refresh).method,
               case when v_is_plain_now then tinydevcrm._cut_text((refresh).plain_reason) end,
               (refresh).row_count,
               (refresh).added_count,
               (refresh).removed_count,
               (refresh).updated_count,
               (refresh).is_changed,
               case
                   when v_is_carried
                        and ((refresh).rows is not null or (refresh).added_rows is not null)
                   then (refresh).column_names
               end,
               case when v_is_carried then (refresh).rows end,
               case when v_is_carried then (refresh).added_rows end,
               case when v_is_carried then (refresh).removed_rows end,
               case when v_is_carried then (refresh).updated_rows end,
               v_is_carried
               and (
                   coalesce((refresh).is_cut, false)
                   or coalesce(jsonb_array_length((refresh).rows), 0) < coalesce(
                       case (refresh).notify_when
                           when 'rows_added' then (refresh).added_count
                           when 'rows_removed' then 0
                           else (refresh).row_count
                       end,
                       0)
               ),
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
    tinydevcrm._advance_rule(tinydevcrm.matviews, tinydevcrm._refresh, text),
    tinydevcrm._remember_refresh(tinydevcrm.matviews, tinydevcrm._refresh, text),
    tinydevcrm._record_refresh( tinydevcrm.matviews, bigint, timestamptz, tinydevcrm._refresh)
from public;

grant execute on function
    tinydevcrm._cut_text(text),
    tinydevcrm._advance_rule(tinydevcrm.matviews, tinydevcrm._refresh, text),
    tinydevcrm._remember_refresh(tinydevcrm.matviews, tinydevcrm._refresh, text),
    tinydevcrm._record_refresh( tinydevcrm.matviews, bigint, timestamptz, tinydevcrm._refresh)
to tinydevcrm_user;
