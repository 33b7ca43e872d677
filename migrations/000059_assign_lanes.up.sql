-- Slow views have a job of their own, in which they delay only each other.

create function tinydevcrm._find_last_look(matview tinydevcrm.matviews)
    returns timestamptz
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return greatest(
        (matview).last_scheduled_at,
        case
            when (matview).is_tracked then (
                select _locks.looked_at
                  from tinydevcrm._locks
                 where _locks.what = 'schedule'
                   and _locks.id = (matview).schedule_id
            )
        end);
end
$$;

comment on function tinydevcrm._find_last_look(tinydevcrm.matviews) is
    'When its schedule last came to a materialized view: it was refreshed, or it is tracked and had '
    'not changed. Null for never.';

create function tinydevcrm._reads_slow_matview(matview_id bigint, schedule text, time_zone text)
    returns boolean
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
          from tinydevcrm.matview_sources
          join tinydevcrm.matviews
            on matviews.relation = matview_sources.relation
          join tinydevcrm.schedules
            on schedules.id = matviews.schedule_id
           and schedules.is_slow
         where matview_sources.matview_id = _reads_slow_matview.matview_id
           and schedules.schedule = _reads_slow_matview.schedule
           and schedules.time_zone is not distinct from _reads_slow_matview.time_zone
    );
end
$$;

comment on function tinydevcrm._reads_slow_matview(bigint, text, text) is
    'Whether a view reads a slow one of the same schedule. It is then in the same job, after it.';

create function tinydevcrm._make_slow(matview_id bigint)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    with recursive readers as (
        select matviews.id,
               matviews.relation,
               matviews.schedule_id
          from tinydevcrm.matviews
         where matviews.id = _make_slow.matview_id
         union
        select matviews.id,
               matviews.relation,
               matviews.schedule_id
          from readers
          join tinydevcrm.matview_sources
            on matview_sources.relation = readers.relation
          join tinydevcrm.matviews
            on matviews.id = matview_sources.matview_id
           and matviews.schedule_id = readers.schedule_id
    )
    update tinydevcrm.matviews
       set is_slow = true
      from readers
     where matviews.id = readers.id
       and not matviews.is_slow;
end
$$;

comment on function tinydevcrm._make_slow(bigint) is
    'Moves a view to the job for slow ones, with the views of its schedule that read it.';

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
       or v_schedule.schedule = 'on change'
       or _assign_lane.took is null
       or v_schedule.is_slow
          and (
              _assign_lane.took > v_period / 10
              or tinydevcrm._reads_slow_matview(
                     _assign_lane.matview_id, v_schedule.schedule, v_schedule.time_zone)
          )
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

    if v_schedule.is_slow then
        update tinydevcrm.matviews
           set is_slow = false
         where matviews.id = _assign_lane.matview_id;
    else
        perform tinydevcrm._make_slow(_assign_lane.matview_id);
    end if;
end
$$;

comment on function tinydevcrm._assign_lane(bigint, interval) is
    'Moves a materialized view to another job after a scheduled refresh: to the job for slow ones '
    'when the refresh took more than half of the time between two rounds and others share its job, '
    'and back to the common job when it took less than a tenth and it reads no slow one.';

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
    tinydevcrm._find_last_look(tinydevcrm.matviews),
    tinydevcrm._reads_slow_matview(bigint, text, text),
    tinydevcrm._make_slow(bigint),
    tinydevcrm._assign_lane(bigint, interval),
    tinydevcrm._find_round_grace(integer, text)
from public;

grant execute on function
    tinydevcrm._find_last_look(tinydevcrm.matviews),
    tinydevcrm._reads_slow_matview(bigint, text, text),
    tinydevcrm._make_slow(bigint),
    tinydevcrm._assign_lane(bigint, interval),
    tinydevcrm._find_round_grace(integer, text)
to tinydevcrm_user;
