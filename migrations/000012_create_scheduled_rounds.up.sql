-- What the job of a schedule does: it refreshes the materialized views that are due, each in a
-- transaction of its own, and makes the seconds where pg_cron has none.

alter table tinydevcrm.matviews
    add column last_scheduled_at timestamptz;

comment on column tinydevcrm.matviews.last_scheduled_at is
    'When its last refresh by its schedule began, skips included.';


create function tinydevcrm._next_step(
    schedule_id    bigint,
    called_at      timestamptz,
    out matview    tinydevcrm.matviews,
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
               step.wait
          into v_step
          from tinydevcrm._next_step(refresh_scheduled.schedule_id, v_called_at) as step;

        if (v_step.matview).id is not null then
            perform tinydevcrm._refresh_by_schedule(v_step.matview);
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
create function tinydevcrm._refresh_by_schedule(matview tinydevcrm.matviews)
    returns void
    language plpgsql
    volatile
as $$
declare
    v_started_at timestamptz := pg_catalog.clock_timestamp();
begin
    perform tinydevcrm._refresh_matview(matview, (matview).schedule_id);
    perform tinydevcrm._mark_scheduled((matview).id, v_started_at);
end
$$;

comment on function tinydevcrm._refresh_by_schedule(tinydevcrm.matviews) is
    'A scheduled refresh of one materialized view.';

create function tinydevcrm._mark_scheduled(matview_id bigint, started_at timestamptz)
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    update tinydevcrm.matviews
       set last_scheduled_at = _mark_scheduled.started_at
     where matviews.id = _mark_scheduled.matview_id
$$;

comment on function tinydevcrm._mark_scheduled(bigint, timestamptz) is
    'Notes that a materialized view has had its turn. After the refresh, so that a turn that was '
    'killed is taken again and the registry''s row is not locked meanwhile.';

revoke execute on function
    tinydevcrm._next_step(bigint, timestamptz),
    tinydevcrm._refresh_by_schedule(tinydevcrm.matviews),
    tinydevcrm._mark_scheduled(bigint, timestamptz)
from public;

revoke execute on procedure tinydevcrm.refresh_scheduled(bigint) from public;

grant execute on function
    tinydevcrm._next_step(bigint, timestamptz),
    tinydevcrm._refresh_by_schedule(tinydevcrm.matviews),
    tinydevcrm._mark_scheduled(bigint, timestamptz)
to tinydevcrm_user;

grant execute on procedure tinydevcrm.refresh_scheduled(bigint) to tinydevcrm_user;
