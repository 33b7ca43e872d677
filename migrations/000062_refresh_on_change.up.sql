-- What the job of the schedule "on change" does, and the orchestrator: it refreshes what is stale until
-- nothing is.

create function tinydevcrm._find_change_schedule()
    returns bigint
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select schedules.id
      from tinydevcrm.schedules
     where schedules.schedule = 'on change'
       and tinydevcrm._is_session_of(schedules.owner)
$$;

comment on function tinydevcrm._find_change_schedule() is
    'The schedule "on change" of the role that has logged in; null when it has none.';

create function tinydevcrm._find_change_due(schedule_id bigint)
    returns timestamptz
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select min(tinydevcrm._compute_change_due(matviews))
      from tinydevcrm.matviews
     where matviews.schedule_id = _find_change_due.schedule_id
       and not matviews.is_paused
$$;

comment on function tinydevcrm._find_change_due(bigint) is
    'When a view of a schedule "on change" is next to be refreshed; null when none is stale.';

create function tinydevcrm._list_unlooked(schedule_id bigint)
    returns setof regclass
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select change_watches.relation
      from tinydevcrm.change_watches
     cross join lateral (
         select
           from tinydevcrm.table_changes
          where table_changes.relation = change_watches.relation
            and table_changes.xid >= txid_snapshot_xmin(change_watches.looked_snapshot)
            and not txid_visible_in_snapshot(table_changes.xid, change_watches.looked_snapshot)
          order by table_changes.xid desc
          limit 1
     ) as unlooked
     where change_watches.schedule_id = _list_unlooked.schedule_id
     union all
    -- The database was restored from a dump.
    select change_watches.relation
      from tinydevcrm.change_watches
     where change_watches.schedule_id = _list_unlooked.schedule_id
       and txid_snapshot_xmax(change_watches.looked_snapshot)
           > txid_snapshot_xmax(txid_current_snapshot())
$$;

comment on function tinydevcrm._list_unlooked(bigint) is
    'What has changed since a round "on change" last looked. Nobody notifies of the next change of '
    'these.';

create function tinydevcrm._list_unarmed(schedule_id bigint)
    returns setof regclass
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select unlooked.relation
      from tinydevcrm._list_unlooked(_list_unarmed.schedule_id) as unlooked (relation)
     where exists (
         select
           from tinydevcrm.matview_sources
           join tinydevcrm.matviews
             on matviews.id = matview_sources.matview_id
          where matview_sources.relation = unlooked.relation
            and matviews.schedule_id = _list_unarmed.schedule_id
            and not tinydevcrm._is_stale(matviews)
     )
$$;

comment on function tinydevcrm._list_unarmed(bigint) is
    'Those of which somebody has to notify: a view that reads them is not stale. While all of them '
    'are, a change makes no difference.';

create function tinydevcrm._arm_watches(schedule_id bigint)
    returns boolean
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    update tinydevcrm.change_watches
       -- A trigger sets it.
       set looked_snapshot = default
     where change_watches.schedule_id = _arm_watches.schedule_id
       and change_watches.relation in (
           select tinydevcrm._list_unarmed(_arm_watches.schedule_id)
       );
    return found;
end
$$;

comment on function tinydevcrm._arm_watches(bigint) is
    'Makes writers notify of the next change of what tinydevcrm._list_unarmed() lists, and returns '
    'whether there is any. Look for changes once more after the commit: some may have come without '
    'a notification.';

create function tinydevcrm._has_just_changed(schedule_id bigint, within interval)
    returns boolean
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select
          from tinydevcrm.matviews
         where matviews.schedule_id = _has_just_changed.schedule_id
           and matviews.last_scheduled_at > clock_timestamp() - _has_just_changed.within
    )
$$;

comment on function tinydevcrm._has_just_changed(bigint, interval) is
    'Whether a schedule has refreshed a view within a time.';

-- It commits, as _refresh_round() does.
create procedure tinydevcrm._refresh_stale(
    schedule_id            bigint,
    inout look_again_after double precision
)
    language plpgsql
as $$
declare
    v_ends_at   timestamptz := pg_catalog.clock_timestamp()
        operator(pg_catalog.+) '3 seconds'::pg_catalog.interval;
    v_is_silent boolean;
    v_due_at    timestamptz;
    v_is_over   boolean;
begin
    loop
        -- In this order: what has been committed without a notification until now, or before the
        -- watches were armed, is seen by the next statement.
        v_is_silent := tinydevcrm._may_change_silently();
        v_due_at := tinydevcrm._find_change_due(_refresh_stale.schedule_id);
        if coalesce(v_due_at operator(pg_catalog.<=) pg_catalog.clock_timestamp(), false) then
            v_is_over := false;
            call tinydevcrm._refresh_round(
                array[_refresh_stale.schedule_id], pg_catalog.clock_timestamp(), v_is_over);
            -- Another session is at it, or the time is up.
            if v_is_over
               or pg_catalog.clock_timestamp() operator(pg_catalog.>) v_ends_at
            then
                look_again_after := case when v_is_over then 1 else 0 end;
                exit;
            end if;
        elsif tinydevcrm._arm_watches(_refresh_stale.schedule_id) then
            commit;
        else
            look_again_after := least(
                extract(epoch from v_due_at operator(pg_catalog.-) pg_catalog.clock_timestamp()),
                case when v_is_silent then 1 end);
            commit;
            exit;
        end if;
    end loop;
end
$$;

comment on procedure tinydevcrm._refresh_stale(bigint, double precision) is
    'Refreshes the views of a schedule "on change" that are due, each in a transaction of its own, '
    'until none is, or for three seconds, so that its caller can end in time. Sets when to look again: see tinydevcrm.refresh_changed().';

create procedure tinydevcrm.refresh_changed(
    inout look_again_after double precision default null,
    is_job                 boolean default false
)
    language plpgsql
as $$
declare
    v_schedule_id bigint := tinydevcrm._find_change_schedule();
    v_ends_at     timestamptz := pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp())
        operator(pg_catalog.+) '59 seconds'::pg_catalog.interval;
    v_began_at    timestamptz;
begin
    look_again_after := null;
    if v_schedule_id is null then
        return;
    end if;

    loop
        call tinydevcrm._refresh_stale(v_schedule_id, look_again_after);
        -- Where pg_cron has seconds, the job itself runs more often.
        exit when not is_job
            or tinydevcrm._cron_has_seconds()
            or not tinydevcrm._has_just_changed(v_schedule_id, '5 minutes')
            or pg_catalog.clock_timestamp() operator(pg_catalog.>) v_ends_at;

        v_began_at := pg_catalog.clock_timestamp();
        begin
            perform pg_catalog.pg_sleep(0.3);
        exception
            -- As in _refresh_round().
            when query_canceled then
                if not tinydevcrm._is_round_timeout(v_began_at) then
                    raise;
                end if;
        end;
        commit;
    end loop;
end
$$;

comment on procedure tinydevcrm.refresh_changed(double precision, boolean) is
    'Refreshes the views of this session''s role that are scheduled "on change" and stale, each in '
    'a transaction of its own, those first that others read. look_again_after: in how many seconds '
    'to call it again; null when a notification "changed" on matview_refresh_channel comes before '
    'there is anything to do. The orchestrator calls it, and each minute a pg_cron job of the owner '
    '(is_job), more often while something changes: see tinydevcrm._wake_change_jobs().';

revoke execute on function
    tinydevcrm._find_change_schedule(),
    tinydevcrm._find_change_due(bigint),
    tinydevcrm._list_unlooked(bigint),
    tinydevcrm._list_unarmed(bigint),
    tinydevcrm._arm_watches(bigint),
    tinydevcrm._has_just_changed(bigint, interval)
from public;

revoke execute on procedure
    tinydevcrm._refresh_stale(bigint, double precision),
    tinydevcrm.refresh_changed(double precision, boolean)
from public;

grant execute on function
    tinydevcrm._find_change_schedule(),
    tinydevcrm._find_change_due(bigint),
    tinydevcrm._list_unlooked(bigint),
    tinydevcrm._list_unarmed(bigint),
    tinydevcrm._arm_watches(bigint),
    tinydevcrm._has_just_changed(bigint, interval)
to tinydevcrm_user;

grant execute on procedure
    tinydevcrm._refresh_stale(bigint, double precision),
    tinydevcrm.refresh_changed(double precision, boolean)
to tinydevcrm_user;
