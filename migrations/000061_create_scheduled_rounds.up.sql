-- What the job of a schedule does: it refreshes the materialized views that are due, each in a
-- transaction of its own. Where pg_cron has no seconds, it loops over them. A round is a time at
-- which a schedule is due.

-- As _refresh_matview(): no search_path of its own.
create function tinydevcrm._refresh_due_matview(
    matview_id   bigint,
    schedule_ids bigint[],
    due_at       timestamptz,
    lock_wait    interval,
    looks_first  boolean
)
    returns tinydevcrm.matview_refresh_events
    language plpgsql
    volatile
as $$
declare
    v_matview tinydevcrm.matviews := tinydevcrm._find_due_matview(
        _refresh_due_matview.matview_id,
        _refresh_due_matview.schedule_ids,
        _refresh_due_matview.due_at);
    v_event   tinydevcrm.matview_refresh_events;
begin
    if v_matview.id is null then
        return null;
    end if;

    v_event := tinydevcrm._refresh_matview(
        v_matview,
        v_matview.schedule_id,
        is_job => true,
        lock_wait => _refresh_due_matview.lock_wait,
        looks_first => _refresh_due_matview.looks_first or v_matview.blocked_since is not null);

    -- The shortest period is a second, so less than half a second is never slow.
    if v_matview.is_slow
       or v_event.duration operator(pg_catalog.>) '0.5 seconds'::pg_catalog.interval
    then
        perform tinydevcrm._assign_lane(v_matview.id, v_event.duration);
    end if;

    return v_event;
end
$$;

comment on function tinydevcrm._refresh_due_matview(
    bigint, bigint[], timestamptz, interval, boolean
) is
    'Refreshes a materialized view by its schedule if it is still due, and moves it to the job '
    'that fits how long that took. Null when it is not due: see tinydevcrm._find_due_matview(). '
    'For the last two arguments see tinydevcrm._refresh_matview().';

-- It commits, as its callers do, so it cannot set a search_path: all of its names are qualified.
create procedure tinydevcrm._refresh_round(
    schedule_ids  bigint[],
    called_at     timestamptz,
    inout is_over boolean
)
    language plpgsql
as $$
declare
    v_round      record;
    v_event      tinydevcrm.matview_refresh_events;
    v_event_id   bigint;
    v_began_at   timestamptz := pg_catalog.clock_timestamp();
    v_is_done    boolean;
    v_is_blocked boolean := false;
begin
    begin
        v_round := tinydevcrm._plan_round(
            _refresh_round.schedule_ids, _refresh_round.called_at);
        if v_round.wait is not null then
            perform pg_catalog.pg_sleep(v_round.wait);
        end if;
    exception
        -- statement_timeout cancels a call once, wherever it is: the caller takes this step again.
        when query_canceled then
            if not tinydevcrm._is_round_timeout(v_began_at) then
                raise;
            end if;
            return;
    end;
    commit;

    if v_round.wait is not null then
        return;
    end if;

    for v_index in 1 .. coalesce(pg_catalog.cardinality(v_round.matview_ids), 0) loop
        if pg_catalog.clock_timestamp() operator(pg_catalog.>=) v_round.ends_at then
            perform tinydevcrm._mark_lock('schedule', v_round.lock_id, null);
            commit;
            exit;
        end if;

        v_is_done := false;
        while not v_is_done loop
            v_began_at := pg_catalog.clock_timestamp();
            v_event := null;
            begin
                v_event := tinydevcrm._refresh_due_matview(
                    v_round.matview_ids[v_index],
                    _refresh_round.schedule_ids,
                    v_round.matview_dues[v_index],
                    v_round.lock_wait,
                    v_is_blocked);
                perform tinydevcrm._move_mark(
                    v_round.lock_id, v_round.matview_ids, v_index, v_event.id is not null);
                v_is_done := true;
            exception
                -- Or the refresh was canceled again while its failure was recorded.
                when query_canceled then
                    if not tinydevcrm._is_round_timeout(v_began_at)
                       and not tinydevcrm._is_overdue(v_began_at)
                    then
                        raise;
                    end if;
            end;
            commit;
        end loop;

        v_event_id := coalesce(v_event.id, v_event_id);
        -- One wait is enough for a round: what else is blocked for so long does not wait.
        if v_event.error_code operator(pg_catalog.=) '55P03' then
            v_is_blocked := true;
        end if;
    end loop;

    -- A step that writes no event is the last one. Otherwise the same step could repeat without
    -- end.
    _refresh_round.is_over := v_event_id is null;
end
$$;

comment on procedure tinydevcrm._refresh_round(bigint[], timestamptz, boolean) is
    'Does the step that tinydevcrm._plan_round() returns, each refresh in a transaction of its '
    'own. Sets is_over when it refreshed nothing.';

create function tinydevcrm._find_call_time()
    returns timestamptz
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select least(
               clock_timestamp(),
               nullif(current_setting('tinydevcrm_own.due_at', true), '')::timestamptz)
$$;

comment on function tinydevcrm._find_call_time() is
    'The time that a job is called for: now, or, when a clock of ours calls it, when it was due. A '
    'run that another clock has left is then for the same round.';

create procedure tinydevcrm.refresh_scheduled(schedule_id bigint)
    language plpgsql
as $$
declare
    v_called_at timestamptz := tinydevcrm._find_call_time();
    v_is_over   boolean := false;
begin
    perform tinydevcrm._check_schedule(refresh_scheduled.schedule_id);

    while not v_is_over loop
        call tinydevcrm._refresh_round(
            array[refresh_scheduled.schedule_id], v_called_at, v_is_over);
    end loop;
end
$$;

comment on procedure tinydevcrm.refresh_scheduled(bigint) is
    'Refreshes the materialized views of a schedule that are due, each in a transaction of its '
    'own. The pg_cron job of the schedule calls it. Does nothing while another session does the '
    'same. To refresh one materialized view at once: tinydevcrm.refresh_matview(). Raises TD001 '
    'when you have no such schedule, 42501 in a session that has not logged in as its owner.';

create function tinydevcrm._check_schedule(schedule_id bigint)
    returns void
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_owner regrole;
begin
    select schedules.owner
      into v_owner
      from tinydevcrm.schedules
     where schedules.id = _check_schedule.schedule_id;

    if not found then
        raise exception using
            errcode = 'TD001',
            message = format(
                'there is no schedule %s', coalesce(_check_schedule.schedule_id::text, 'null')),
            hint    = 'tinydevcrm.schedules lists them.';
    end if;

    if not tinydevcrm._is_session_of(v_owner) then
        raise exception using
            errcode = '42501',
            message = format(
                'schedule %s belongs to %s, and this session has not logged in as that role',
                _check_schedule.schedule_id, v_owner),
            hint    = 'The job of the schedule refreshes by it. To refresh one materialized view: '
                      'tinydevcrm.refresh_matview().';
    end if;
end
$$;

comment on function tinydevcrm._check_schedule(bigint) is
    'Raises TD001 when the caller has no such schedule, 42501 when the session has not logged in '
    'as its owner.';

create procedure tinydevcrm.refresh_by_seconds(is_slow boolean)
    language plpgsql
as $$
declare
    v_called_at timestamptz := pg_catalog.clock_timestamp();
    v_is_over   boolean := false;
begin
    -- The list is read in each step, so that a new schedule starts at once.
    while not v_is_over loop
        call tinydevcrm._refresh_round(
            tinydevcrm._list_loop_schedules(refresh_by_seconds.is_slow), v_called_at, v_is_over);
    end loop;
end
$$;

comment on procedure tinydevcrm.refresh_by_seconds(boolean) is
    'Serves all schedules below a minute of the role that has logged in, either those for slow '
    'materialized views or the others, until the minute is over. Where pg_cron has no seconds, a '
    'job of each owner calls it.';

create function tinydevcrm._list_loop_schedules(is_slow boolean)
    returns bigint[]
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select array_agg(schedules.id)
      from tinydevcrm.schedules
     where schedules.is_slow = _list_loop_schedules.is_slow
       and tinydevcrm._is_loop(schedules)
       and tinydevcrm._is_session_of(schedules.owner)
$$;

comment on function tinydevcrm._list_loop_schedules(boolean) is
    'The schedules that a loop serves for the role that has logged in, either those for slow '
    'materialized views or the others; null when there are none.';

revoke execute on function
    tinydevcrm._find_call_time(),
    tinydevcrm._refresh_due_matview(bigint, bigint[], timestamptz, interval, boolean),
    tinydevcrm._check_schedule(bigint),
    tinydevcrm._list_loop_schedules(boolean)
from public;

revoke execute on procedure
    tinydevcrm._refresh_round(bigint[], timestamptz, boolean),
    tinydevcrm.refresh_scheduled(bigint),
    tinydevcrm.refresh_by_seconds(boolean)
from public;

grant execute on function
    tinydevcrm._find_call_time(),
    tinydevcrm._refresh_due_matview(bigint, bigint[], timestamptz, interval, boolean),
    tinydevcrm._check_schedule(bigint),
    tinydevcrm._list_loop_schedules(boolean)
to tinydevcrm_user;

grant execute on procedure
    tinydevcrm._refresh_round(bigint[], timestamptz, boolean),
    tinydevcrm.refresh_scheduled(bigint),
    tinydevcrm.refresh_by_seconds(boolean)
to tinydevcrm_user;
