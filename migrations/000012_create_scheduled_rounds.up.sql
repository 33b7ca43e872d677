-- What the job of a schedule does: it refreshes the materialized views that are due, each in a
-- transaction of its own, and makes the seconds where pg_cron has none.

create function tinydevcrm._next_step(
    schedule_id    bigint,
    called_at      timestamptz,
    out matview    tinydevcrm.matviews,
    out is_slow    boolean,
    out wait       double precision
)
    returns record
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule  tinydevcrm.schedules;
    v_now       timestamptz := clock_timestamp();
    v_is_loop   boolean;
    v_due_at    timestamptz;
    v_ends_at   timestamptz;
begin
    -- Until the transaction ends, so that an error leaves no lock behind. Between two transactions
    -- another session may take it over; then this one ends, and there is still only one.
    if not pg_try_advisory_xact_lock(
        hashtextextended('tinydevcrm.schedules', _next_step.schedule_id))
    then
        return;
    end if;

    select schedules.*
      into v_schedule
      from tinydevcrm.schedules
     where schedules.id = _next_step.schedule_id;

    if not found then
        return;
    end if;

    _next_step.is_slow := v_schedule.is_slow;
    v_is_loop := v_schedule.seconds is not null
             and v_schedule.cron_schedule <> v_schedule.schedule;

    -- The last round that has become due. Rounds below a minute fall on multiples of their seconds
    -- since the epoch, whatever minute's job serves them: no drift, and none is served twice.
    -- pg_cron queues runs behind a slow one; they find their minute served already.
    v_due_at := case
        when v_schedule.seconds is null then date_trunc('minute', _next_step.called_at)
        else to_timestamp(
            floor(extract(epoch from case when v_is_loop then v_now else _next_step.called_at end)
                  / v_schedule.seconds)
            * v_schedule.seconds)
    end;
    v_ends_at := date_trunc('minute', _next_step.called_at) + interval '1 minute';

    if v_is_loop and v_now >= v_ends_at then
        return;
    end if;

    select matviews.*
      into _next_step.matview
      from tinydevcrm.matviews
     where matviews.schedule_id = _next_step.schedule_id
       and not matviews.is_paused
       and (matviews.last_scheduled_at is null or matviews.last_scheduled_at < v_due_at)
     order by matviews.last_refreshed_at nulls first, matviews.id
     limit 1;

    if not found
       and v_is_loop
       and v_due_at + v_schedule.seconds * interval '1 second' < v_ends_at
    then
        _next_step.wait := extract(
            epoch from v_due_at + v_schedule.seconds * interval '1 second' - v_now);
    end if;
end
$$;

comment on function tinydevcrm._next_step(bigint, timestamptz) is
    'What a job has to do next: refresh this materialized view, the longest unrefreshed of those '
    'that are due; or wait so many seconds; or, when both are null, end. Takes the lock by which a '
    'schedule has one job at work.';

-- Commits, so it cannot have a search_path of its own: names of its own are all qualified.
create procedure tinydevcrm.refresh_scheduled(schedule_id bigint)
    language plpgsql
as $$
declare
    v_called_at timestamptz := pg_catalog.clock_timestamp();
    v_step      record;
begin
    loop
        select step.matview,
               step.is_slow,
               step.wait
          into v_step
          from tinydevcrm._next_step(refresh_scheduled.schedule_id, v_called_at) as step;

        if (v_step.matview).id is not null then
            perform tinydevcrm._refresh_by_schedule(v_step.matview, v_step.is_slow);
        elsif v_step.wait is not null then
            perform pg_catalog.pg_sleep(v_step.wait);
        else
            return;
        end if;

        commit;
    end loop;
end
$$;

comment on procedure tinydevcrm.refresh_scheduled(bigint) is
    'What the pg_cron job of a schedule runs: refreshes its materialized views that are due, each '
    'in a transaction of its own. Where pg_cron has no seconds, goes on until the minute is over. '
    'Does nothing while another session is at it. To refresh one at once: '
    'tinydevcrm.refresh_matview().';

-- As _refresh_matview(): no search_path of its own.
create function tinydevcrm._refresh_by_schedule(matview tinydevcrm.matviews, is_slow boolean)
    returns void
    language plpgsql
    volatile
as $$
declare
    v_event tinydevcrm.matview_refresh_events;
begin
    v_event := tinydevcrm._refresh_matview(matview, (matview).schedule_id);

    -- Less than half a second is slow on no schedule.
    if is_slow or v_event.duration operator(pg_catalog.>) '0.5 seconds'::pg_catalog.interval then
        perform tinydevcrm._choose_lane((matview).id, v_event.duration);
    end if;
end
$$;

comment on function tinydevcrm._refresh_by_schedule(tinydevcrm.matviews, boolean) is
    'A scheduled refresh of one materialized view.';

create function tinydevcrm._choose_lane(matview_id bigint, took interval)
    returns void
    language plpgsql
    volatile
    strict
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
     where matviews.id = _choose_lane.matview_id;

    -- A minute is the least that a cron expression can have between two rounds. What has become
    -- fast comes back only when it is so by far, so that it does not go to and fro at every round.
    v_period := coalesce(v_schedule.seconds, 60) * interval '1 second';
    if v_schedule.id is null
       or v_schedule.is_slow and _choose_lane.took > v_period / 10
       or not v_schedule.is_slow and _choose_lane.took < v_period / 2
       or not v_schedule.is_slow and not exists (
           select
             from tinydevcrm.matviews
            where matviews.schedule_id = v_schedule.id
              and matviews.id <> _choose_lane.matview_id
       )
    then
        return;
    end if;

    update tinydevcrm.matviews
       set schedule_id = (tinydevcrm._schedule_of(
               v_schedule.owner,
               v_schedule.schedule,
               v_schedule.seconds,
               v_schedule.cron_schedule,
               not v_schedule.is_slow)).id
     where matviews.id = _choose_lane.matview_id;
end
$$;

comment on function tinydevcrm._choose_lane(bigint, interval) is
    'After a scheduled refresh that took so long: gives a materialized view that takes more than '
    'half of the time between two rounds to the schedule''s job for slow ones, if it has company '
    'to hold up, and one that takes less than a tenth back to the common job.';

revoke execute on function
    tinydevcrm._next_step(bigint, timestamptz),
    tinydevcrm._refresh_by_schedule(tinydevcrm.matviews, boolean),
    tinydevcrm._choose_lane(bigint, interval)
from public;

revoke execute on procedure tinydevcrm.refresh_scheduled(bigint) from public;

grant execute on function
    tinydevcrm._next_step(bigint, timestamptz),
    tinydevcrm._refresh_by_schedule(tinydevcrm.matviews, boolean),
    tinydevcrm._choose_lane(bigint, interval)
to tinydevcrm_user;

grant execute on procedure tinydevcrm.refresh_scheduled(bigint) to tinydevcrm_user;
