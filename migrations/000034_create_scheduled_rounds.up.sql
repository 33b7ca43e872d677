-- What the job of a schedule does: it refreshes the materialized views that are due, each in a
-- transaction of its own. Where pg_cron has no seconds, it loops over them. A round is a time at
-- which a schedule is due.

create function tinydevcrm._plan_round(
    schedule_ids     bigint[],
    called_at        timestamptz,
    out matview_ids  bigint[],
    out matview_dues timestamptz[],
    out ends_at      timestamptz,
    out wait         double precision
)
    returns record
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_now     timestamptz := clock_timestamp();
    v_is_loop boolean;
    v_next_at timestamptz;
begin
    -- The latest round of each schedule. Rounds below a minute are at multiples of their seconds
    -- since the epoch, whichever run of the job refreshes: they do not drift, and none is refreshed
    -- twice. pg_cron queues runs behind a slow one; a queued run finds that its round is done.
    with taken as (
        select schedules.*,
               tinydevcrm._is_loop(schedules) as is_loop
          from tinydevcrm._locks
          join tinydevcrm.schedules
            on schedules.id = _locks.id
         where _locks.what = 'schedule'
           and _locks.id = any (_plan_round.schedule_ids)
           and tinydevcrm._is_session_of(schedules.owner)
           for update of _locks skip locked
    ),
    rounds as (
        select taken.*,
               case
                   when seconds is null then tinydevcrm._find_round(
                       schedule, time_zone, cron_schedule, _plan_round.called_at)
                   else to_timestamp(
                       floor(
                           extract(epoch from case
                               when is_loop then v_now
                               else _plan_round.called_at
                           end) / seconds)
                       * seconds)
               end as due_at
          from taken
    ),
    due as (
        select matviews.id,
               matviews.last_refreshed_at,
               rounds.due_at
          from rounds
          join tinydevcrm.matviews
            on matviews.schedule_id = rounds.id
          -- A view whose owner has just changed waits for settle_jobs().
          join pg_class
            on pg_class.oid = matviews.relation
           and pg_class.relowner = matviews.owner
         where not matviews.is_paused
           and coalesce(matviews.last_scheduled_at, '-infinity') < rounds.due_at
    )
    select (select array_agg(id order by last_refreshed_at nulls first, id) from due),
           (select array_agg(due_at order by last_refreshed_at nulls first, id) from due),
           bool_or(is_loop),
           min(due_at + seconds * interval '1 second')
      into _plan_round.matview_ids,
           _plan_round.matview_dues,
           v_is_loop,
           v_next_at
      from rounds;

    _plan_round.ends_at := case
        when v_is_loop then date_trunc('minute', _plan_round.called_at) + interval '1 minute'
        else 'infinity'
    end;

    if v_now >= _plan_round.ends_at then
        _plan_round.matview_ids := null;
    elsif _plan_round.matview_ids is null and v_is_loop and v_next_at < _plan_round.ends_at then
        _plan_round.wait := extract(epoch from v_next_at - v_now);
    end if;
end
$$;

comment on function tinydevcrm._plan_round(bigint[], timestamptz) is
    'Returns the next step of a job for these schedules: to refresh matview_ids, which are due '
    'since matview_dues, the longest unrefreshed first, until ends_at; or to wait so many seconds; '
    'or, when both are null, to end. It leaves out schedules that another session has locked, and '
    'those of other roles than the one that has logged in.';

create function tinydevcrm._find_due_matview(
    matview_id   bigint,
    schedule_ids bigint[],
    due_at       timestamptz
)
    returns tinydevcrm.matviews
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule_id bigint;
    v_matview     tinydevcrm.matviews;
begin
    select matviews.schedule_id
      into v_schedule_id
      from tinydevcrm.matviews
     where matviews.id = _find_due_matview.matview_id
       and matviews.schedule_id = any (_find_due_matview.schedule_ids);

    -- Another session may have locked the schedule since the last commit.
    if tinydevcrm._take_lock('schedule', v_schedule_id) then
        select matviews.*
          into v_matview
          from tinydevcrm.matviews
         where matviews.id = _find_due_matview.matview_id
           and matviews.schedule_id = v_schedule_id
           and not matviews.is_paused
           and (matviews.last_scheduled_at is null
                or matviews.last_scheduled_at < _find_due_matview.due_at);
    end if;

    return v_matview;
end
$$;

comment on function tinydevcrm._find_due_matview(bigint, bigint[], timestamptz) is
    'The registration of a materialized view if it is still due. Null when it has meanwhile been '
    'dropped, paused, rescheduled or refreshed by its schedule, or when another session has locked '
    'the schedule.';

-- It commits, as its callers do, so it cannot set a search_path: all of its names are qualified.
create procedure tinydevcrm._refresh_round(
    schedule_ids  bigint[],
    called_at     timestamptz,
    inout is_over boolean
)
    language plpgsql
as $$
declare
    v_round    record := tinydevcrm._plan_round(
        _refresh_round.schedule_ids, _refresh_round.called_at);
    v_matview  tinydevcrm.matviews;
    v_event    tinydevcrm.matview_refresh_events;
    v_event_id bigint;
begin
    if v_round.wait is not null then
        perform pg_catalog.pg_sleep(v_round.wait);
        commit;
        return;
    end if;

    for v_index in 1 .. coalesce(pg_catalog.cardinality(v_round.matview_ids), 0) loop
        exit when pg_catalog.clock_timestamp() operator(pg_catalog.>=) v_round.ends_at;

        v_matview := tinydevcrm._find_due_matview(
            v_round.matview_ids[v_index],
            _refresh_round.schedule_ids,
            v_round.matview_dues[v_index]);
        if v_matview.id is not null then
            v_event := tinydevcrm._refresh_matview(
                v_matview, v_matview.schedule_id, is_job => true);
            v_event_id := coalesce(v_event.id, v_event_id);

            -- The shortest period is a second, so less than half a second is never slow.
            if v_matview.is_slow
               or v_event.duration operator(pg_catalog.>) '0.5 seconds'::pg_catalog.interval
            then
                perform tinydevcrm._assign_lane(v_matview.id, v_event.duration);
            end if;
        end if;

        commit;
    end loop;

    -- A step that writes no event is the last one. Otherwise the same step could repeat without
    -- end.
    _refresh_round.is_over := v_event_id is null;
end
$$;

comment on procedure tinydevcrm._refresh_round(bigint[], timestamptz, boolean) is
    'Does the step that tinydevcrm._plan_round() returns, each refresh in a transaction of its '
    'own. Sets is_over when it refreshed nothing.';

create procedure tinydevcrm.refresh_scheduled(schedule_id bigint)
    language plpgsql
as $$
declare
    v_called_at timestamptz := pg_catalog.clock_timestamp();
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

create function tinydevcrm._assign_lane(matview_id bigint, took interval)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule tinydevcrm.schedules;
    v_period   interval;
begin
    select schedules.*
      into v_schedule
      from tinydevcrm.schedules
      join tinydevcrm.matviews
        on matviews.schedule_id = schedules.id
     where matviews.id = _assign_lane.matview_id;

    -- Two rounds of a cron expression are at least a minute apart. The way back needs much less
    -- than half of a period, so that a view does not change jobs at every round. Schedules that
    -- share a job wait for each other, so the shortest period counts.
    select coalesce(min(schedules.seconds), 60) * interval '1 second'
      into v_period
      from tinydevcrm.schedules
     where schedules.id = v_schedule.id
        or schedules.owner = v_schedule.owner
           and tinydevcrm._is_loop(schedules)
           and tinydevcrm._is_loop(v_schedule);
    if v_schedule.id is null
       or _assign_lane.took is null
       or v_schedule.is_slow and _assign_lane.took > v_period / 10
       or not v_schedule.is_slow and _assign_lane.took < v_period / 2
       or not v_schedule.is_slow and not exists (
           select
             from tinydevcrm.matviews
             join tinydevcrm.schedules
               on schedules.id = matviews.schedule_id
            where schedules.job_id = v_schedule.job_id
              and matviews.id <> _assign_lane.matview_id
       )
    then
        return;
    end if;

    update tinydevcrm.matviews
       set is_slow = not v_schedule.is_slow
     where matviews.id = _assign_lane.matview_id;
end
$$;

comment on function tinydevcrm._assign_lane(bigint, interval) is
    'Moves a materialized view to another job after a scheduled refresh: to the job for slow ones '
    'when the refresh took more than half of the time between two rounds and others share its job, '
    'and back to the common job when it took less than a tenth.';

create function tinydevcrm._find_round_grace(seconds integer, cron_schedule text)
    returns interval
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    -- A loop starts at a full minute, and each connection takes its time.
    select case
               when _find_round_grace.seconds is not null
                    and _find_round_grace.cron_schedule = '* * * * *' then interval '75 seconds'
               else interval '15 seconds'
           end
$$;

comment on function tinydevcrm._find_round_grace(integer, text) is
    'How long a refresh by this schedule may be overdue before it is late.';

revoke execute on function
    tinydevcrm._find_round_grace(integer, text),
    tinydevcrm._plan_round(bigint[], timestamptz),
    tinydevcrm._find_due_matview(bigint, bigint[], timestamptz),
    tinydevcrm._check_schedule(bigint),
    tinydevcrm._list_loop_schedules(boolean),
    tinydevcrm._assign_lane(bigint, interval)
from public;

revoke execute on procedure
    tinydevcrm._refresh_round(bigint[], timestamptz, boolean),
    tinydevcrm.refresh_scheduled(bigint),
    tinydevcrm.refresh_by_seconds(boolean)
from public;

grant execute on function
    tinydevcrm._find_round_grace(integer, text),
    tinydevcrm._plan_round(bigint[], timestamptz),
    tinydevcrm._find_due_matview(bigint, bigint[], timestamptz),
    tinydevcrm._check_schedule(bigint),
    tinydevcrm._list_loop_schedules(boolean),
    tinydevcrm._assign_lane(bigint, interval)
to tinydevcrm_user;

grant execute on procedure
    tinydevcrm._refresh_round(bigint[], timestamptz, boolean),
    tinydevcrm.refresh_scheduled(bigint),
    tinydevcrm.refresh_by_seconds(boolean)
to tinydevcrm_user;
