-- What the job of a schedule does: it refreshes the materialized views that are due, each in a
-- transaction of its own, and makes the seconds where pg_cron has none.

create function tinydevcrm._next_round(
    schedule_id     bigint,
    called_at       timestamptz,
    out is_slow     boolean,
    out matview_ids bigint[],
    out due_at      timestamptz,
    out ends_at     timestamptz,
    out wait        double precision
)
    returns record
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule tinydevcrm.schedules;
    v_now      timestamptz := clock_timestamp();
    v_is_loop  boolean;
    v_next_at  timestamptz;
begin
    select schedules.*
      into v_schedule
      from tinydevcrm.schedules
     where schedules.id = _next_round.schedule_id;

    if not found or not tinydevcrm._lock_schedule(v_schedule.id) then
        return;
    end if;

    _next_round.is_slow := v_schedule.is_slow;
    v_is_loop := v_schedule.seconds is not null
             and v_schedule.cron_schedule <> v_schedule.schedule;
    _next_round.ends_at := case
        when v_is_loop then date_trunc('minute', _next_round.called_at) + interval '1 minute'
        else 'infinity'
    end;

    -- The last round that has become due. Rounds below a minute fall on multiples of their seconds
    -- since the epoch, whatever minute's job serves them: no drift, and none is served twice.
    -- pg_cron queues runs behind a slow one; they find their minute served already.
    _next_round.due_at := case
        when v_schedule.seconds is null then date_trunc('minute', _next_round.called_at)
        else to_timestamp(
            floor(extract(epoch from case when v_is_loop then v_now else _next_round.called_at end)
                  / v_schedule.seconds)
            * v_schedule.seconds)
    end;

    if v_now >= _next_round.ends_at then
        return;
    end if;

    select array_agg(matviews.id order by matviews.last_refreshed_at nulls first, matviews.id)
      into _next_round.matview_ids
      from tinydevcrm.matviews
      -- One that has just been given away waits for settle_jobs().
      join pg_class
        on pg_class.oid = matviews.relation
       and pg_class.relowner = matviews.owner
     where matviews.schedule_id = _next_round.schedule_id
       and not matviews.is_paused
       and (matviews.last_scheduled_at is null or matviews.last_scheduled_at < _next_round.due_at);

    v_next_at := _next_round.due_at + v_schedule.seconds * interval '1 second';
    if _next_round.matview_ids is null and v_is_loop and v_next_at < _next_round.ends_at then
        _next_round.wait := extract(epoch from v_next_at - v_now);
    end if;
end
$$;

comment on function tinydevcrm._next_round(bigint, timestamptz) is
    'What a job has to do next: refresh these materialized views, those that are due, the longest '
    'unrefreshed first, until ends_at; or wait so many seconds; or, when both are null, end.';

create function tinydevcrm._lock_schedule(schedule_id bigint)
    returns boolean
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    return pg_try_advisory_xact_lock(
        tinydevcrm._lock_key('schedules', _lock_schedule.schedule_id));
end
$$;

comment on function tinydevcrm._lock_schedule(bigint) is
    'Takes the lock by which a schedule has one job at work, until the transaction ends, so that '
    'an error leaves none behind. Between two transactions another session may take it over: then '
    'this one ends, and there is still only one.';

create function tinydevcrm._due_matview(matview_id bigint, schedule_id bigint, due_at timestamptz)
    returns tinydevcrm.matviews
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_matview tinydevcrm.matviews;
begin
    if tinydevcrm._lock_schedule(_due_matview.schedule_id) then
        select matviews.*
          into v_matview
          from tinydevcrm.matviews
         where matviews.id = _due_matview.matview_id
           and matviews.schedule_id = _due_matview.schedule_id
           and not matviews.is_paused
           and (matviews.last_scheduled_at is null
                or matviews.last_scheduled_at < _due_matview.due_at);
    end if;

    return v_matview;
end
$$;

comment on function tinydevcrm._due_matview(bigint, bigint, timestamptz) is
    'The registration of a materialized view of a round, if it is still its turn: nobody has '
    'dropped, paused or rescheduled it meanwhile, or taken the round over. Null otherwise.';

-- Commits, so it cannot have a search_path of its own: names of its own are all qualified.
create procedure tinydevcrm.refresh_scheduled(schedule_id bigint)
    language plpgsql
as $$
declare
    v_called_at  timestamptz := pg_catalog.clock_timestamp();
    v_round      record;
    v_matview_id bigint;
    v_matview    tinydevcrm.matviews;
    v_event      tinydevcrm.matview_refresh_events;
    v_event_id   bigint;
begin
    loop
        v_round := tinydevcrm._next_round(refresh_scheduled.schedule_id, v_called_at);

        if v_round.wait is not null then
            perform pg_catalog.pg_sleep(v_round.wait);
            commit;
            continue;
        end if;

        exit when v_round.matview_ids is null;
        v_event_id := null;

        foreach v_matview_id in array v_round.matview_ids loop
            exit when pg_catalog.clock_timestamp() operator(pg_catalog.>=) v_round.ends_at;

            v_matview := tinydevcrm._due_matview(
                v_matview_id, refresh_scheduled.schedule_id, v_round.due_at);
            if v_matview.id is not null then
                v_event := tinydevcrm._refresh_matview(v_matview, refresh_scheduled.schedule_id);
                v_event_id := coalesce(v_event.id, v_event_id);

                -- Less than half a second is slow on no schedule.
                if v_round.is_slow
                   or v_event.duration operator(pg_catalog.>) '0.5 seconds'::pg_catalog.interval
                then
                    perform tinydevcrm._choose_lane(v_matview_id, v_event.duration);
                end if;
            end if;

            commit;
        end loop;

        -- A round that has nothing to record would come round without end.
        exit when v_event_id is null;
    end loop;
end
$$;

comment on procedure tinydevcrm.refresh_scheduled(bigint) is
    'What the pg_cron job of a schedule runs: refreshes its materialized views that are due, each '
    'in a transaction of its own. Where pg_cron has no seconds, goes on until the minute is over. '
    'Does nothing while another session is at it. To refresh one at once: '
    'tinydevcrm.refresh_matview().';

create function tinydevcrm._choose_lane(matview_id bigint, took interval)
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
     where matviews.id = _choose_lane.matview_id;

    -- A minute is the least that a cron expression can have between two rounds. What has become
    -- fast comes back only when it is so by far, so that it does not go to and fro at every round.
    v_period := coalesce(v_schedule.seconds, 60) * interval '1 second';
    if v_schedule.id is null
       or _choose_lane.took is null
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

create function tinydevcrm._round_grace(seconds integer, cron_schedule text)
    returns interval
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    -- A loop for seconds begins with a minute, and each connection takes its time.
    select case
               when _round_grace.seconds is not null
                    and _round_grace.cron_schedule = '* * * * *' then interval '75 seconds'
               else interval '15 seconds'
           end
$$;

comment on function tinydevcrm._round_grace(integer, text) is
    'How long after its time a round of a schedule is not late yet.';

revoke execute on function
    tinydevcrm._round_grace(integer, text),
    tinydevcrm._next_round(bigint, timestamptz),
    tinydevcrm._lock_schedule(bigint),
    tinydevcrm._due_matview(bigint, bigint, timestamptz),
    tinydevcrm._choose_lane(bigint, interval)
from public;

revoke execute on procedure tinydevcrm.refresh_scheduled(bigint) from public;

grant execute on function
    tinydevcrm._round_grace(integer, text),
    tinydevcrm._next_round(bigint, timestamptz),
    tinydevcrm._lock_schedule(bigint),
    tinydevcrm._due_matview(bigint, bigint, timestamptz),
    tinydevcrm._choose_lane(bigint, interval)
to tinydevcrm_user;

grant execute on procedure tinydevcrm.refresh_scheduled(bigint) to tinydevcrm_user;
