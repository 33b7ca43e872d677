-- What the job of a schedule does: it refreshes the materialized views that are due, each in a
-- transaction of its own, and makes the seconds where pg_cron has none.

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
    -- The last round of each schedule that has become due. Rounds below a minute fall on multiples
    -- of their seconds since the epoch, whatever minute's job serves them: no drift, and none is
    -- served twice. pg_cron queues runs behind a slow one; they find their minute served already.
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
                   when seconds is null then date_trunc('minute', _plan_round.called_at)
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
          -- One that has just been given away waits for settle_jobs().
          join pg_class
            on pg_class.oid = matviews.relation
           and pg_class.relowner = matviews.owner
         where not matviews.is_paused
           and (matviews.last_scheduled_at is null or matviews.last_scheduled_at < rounds.due_at)
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
    'What a job has to do next for these schedules, as far as they are of this session''s role and '
    'no other session is at them: refresh these materialized views, those that are due since '
    'matview_dues, the longest unrefreshed first, until ends_at; or wait so many seconds; or, when '
    'both are null, end.';

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

    -- Between two transactions another session may have taken the schedule over.
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
    'The registration of a materialized view of a round, if it is still its turn: nobody has '
    'dropped, paused or rescheduled it meanwhile, or taken the round over. Null otherwise.';

-- Commits, as those that call it, so it cannot have a search_path of its own: names of its own are
-- all qualified.
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

    for v_place in 1 .. coalesce(pg_catalog.cardinality(v_round.matview_ids), 0) loop
        exit when pg_catalog.clock_timestamp() operator(pg_catalog.>=) v_round.ends_at;

        v_matview := tinydevcrm._find_due_matview(
            v_round.matview_ids[v_place],
            _refresh_round.schedule_ids,
            v_round.matview_dues[v_place]);
        if v_matview.id is not null then
            v_event := tinydevcrm._refresh_matview(v_matview, v_matview.schedule_id, is_job => true);
            v_event_id := coalesce(v_event.id, v_event_id);

            -- Less than half a second is slow on no schedule.
            if v_matview.is_slow
               or v_event.duration operator(pg_catalog.>) '0.5 seconds'::pg_catalog.interval
            then
                perform tinydevcrm._assign_lane(v_matview.id, v_event.duration);
            end if;
        end if;

        commit;
    end loop;

    -- A round that has nothing to record would come round without end.
    _refresh_round.is_over := v_event_id is null;
end
$$;

comment on procedure tinydevcrm._refresh_round(bigint[], timestamptz, boolean) is
    'Does what tinydevcrm._plan_round() says, each refresh in a transaction of its own; is_over '
    'when there was nothing left.';

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
    'What the pg_cron job of a schedule runs: refreshes its materialized views that are due, each '
    'in a transaction of its own. Does nothing while another session is at it. To refresh one at '
    'once: tinydevcrm.refresh_matview(). Raises TD001 when you have no such schedule, 42501 in the '
    'session of another role than its owner.';

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
            hint    = 'They are in tinydevcrm.schedules.';
    end if;

    if not tinydevcrm._is_session_of(v_owner) then
        raise exception using
            errcode = '42501',
            message = format(
                'schedule %s belongs to %s, and this session has not logged in as that role',
                _check_schedule.schedule_id, v_owner),
            hint    = 'Its job does it. To have one materialized view refreshed: '
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
    -- Each time anew: one that is just made begins at once.
    while not v_is_over loop
        call tinydevcrm._refresh_round(
            tinydevcrm._list_loop_schedules(refresh_by_seconds.is_slow), v_called_at, v_is_over);
    end loop;
end
$$;

comment on procedure tinydevcrm.refresh_by_seconds(boolean) is
    'What a pg_cron job of each owner runs where pg_cron has no seconds: does the rounds of all '
    'schedules of this session''s role that are less than a minute apart, either the slow ones or '
    'the others, until the minute is over.';

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
    'The schedules of this session''s role whose seconds a loop makes; null when there are none.';

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

    -- A minute is the least that a cron expression can have between two rounds. What has become
    -- fast comes back only when it is so by far, so that it does not go to and fro at every round.
    -- Schedules that share a job wait for each other: the shortest counts.
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
    'After a scheduled refresh that took so long: gives a materialized view that takes more than '
    'half of the time between two rounds to the schedule''s job for slow ones, if it has company '
    'to hold up, and one that takes less than a tenth back to the common job.';

create function tinydevcrm._find_round_grace(seconds integer, cron_schedule text)
    returns interval
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    -- A loop for seconds begins with a minute, and each connection takes its time.
    select case
               when _find_round_grace.seconds is not null
                    and _find_round_grace.cron_schedule = '* * * * *' then interval '75 seconds'
               else interval '15 seconds'
           end
$$;

comment on function tinydevcrm._find_round_grace(integer, text) is
    'How long after its time a round of a schedule is not late yet.';

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
