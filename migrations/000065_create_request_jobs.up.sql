-- The pg_cron jobs that do what was requested: refreshes that another session may not run, and those
-- of views on change. They run as the owner of the materialized views.

create function tinydevcrm._refresh_requests_create_job()
    returns trigger
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._create_request_job(matviews.owner)
       from tinydevcrm.matviews
      where matviews.id = new.matview_id;

    return null;
end
$$;

comment on function tinydevcrm._refresh_requests_create_job() is
    'Creates the job that does the requested refreshes of an owner. Security definer: users cannot '
    'create jobs. As a trigger it runs only for a request that row-level security has let through.';

create function tinydevcrm._create_request_job(owner regrole)
    returns bigint
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select tinydevcrm._create_job(
               _create_request_job.owner,
               format('tinydevcrm requests of %s', _create_request_job.owner::oid),
               case when tinydevcrm._cron_has_seconds() then '5 seconds' else '* * * * *' end,
               'call tinydevcrm.refresh_requested()')
$$;

comment on function tinydevcrm._create_request_job(regrole) is
    'Creates the job that does the requested refreshes of an owner, and returns its number. '
    'settle_jobs() removes the job when no request is left.';

create trigger _500_create_job
    after insert on tinydevcrm.refresh_requests
    for each row
    execute function tinydevcrm._refresh_requests_create_job();

create function tinydevcrm._reschedule_job(schedule tinydevcrm.schedules, cron_schedule text)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_job record;
begin
    if tinydevcrm._may_edit_jobs() then
        update cron.job
           set schedule = _reschedule_job.cron_schedule
         where job.jobid = (_reschedule_job.schedule).job_id;
        return;
    end if;

    v_job := tinydevcrm._describe_job(_reschedule_job.schedule);
    perform tinydevcrm._create_job_as_owner(
        (_reschedule_job.schedule).owner, v_job.job_name, _reschedule_job.cron_schedule,
        v_job.command);
end
$$;

comment on function tinydevcrm._reschedule_job(tinydevcrm.schedules, text) is
    'Makes the job of a schedule run at other times for a while: see _wake_change_jobs().';

create function tinydevcrm._wake_change_jobs(served regrole)
    returns double precision
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_is_silent   boolean;
    v_schedule    tinydevcrm.schedules;
    v_due_at      timestamptz;
    v_look_at     timestamptz;
    v_has_changed boolean := false;
begin
    if not tinydevcrm._cron_has_seconds()
       or not exists (
           select
             from tinydevcrm.schedules
            where schedules.schedule = 'on change'
              and schedules.owner <> coalesce(_wake_change_jobs.served::oid, 0)
       )
    then
        return null;
    end if;

    -- As in _refresh_stale(): before what follows.
    v_is_silent := tinydevcrm._may_change_silently();
    for v_schedule in
        select waiting.*
          from (
            select schedules.*
              from tinydevcrm.schedules
              join pg_roles
                on pg_roles.oid = schedules.owner
               and pg_roles.rolcanlogin
              left join cron.job
                on job.jobid = schedules.job_id
             where schedules.schedule = 'on change'
               and schedules.owner <> coalesce(_wake_change_jobs.served::oid, 0)
               -- A job of another role may be invisible.
               and (
                   job.schedule = schedules.cron_schedule
                   or job.jobid is null
                  and not tinydevcrm._is_job_owner(schedules.owner)
                  and pg_has_role(schedules.owner, 'usage')
               )
               and exists (select tinydevcrm._list_unlooked(schedules.id))
            offset 0
          ) as waiting
         cross join lateral tinydevcrm._take_jobs(array[waiting.job_id])
    loop
        v_due_at := tinydevcrm._find_change_due(v_schedule.id);
        if v_due_at <= clock_timestamp() + interval '1 minute' then
            perform tinydevcrm._reschedule_job(v_schedule, '1 second');
        else
            v_has_changed := tinydevcrm._arm_watches(v_schedule.id) or v_has_changed;
        end if;
        v_look_at := least(v_look_at, v_due_at);
    end loop;

    return least(
        extract(epoch from v_look_at - clock_timestamp()),
        case when v_is_silent or v_has_changed then 1 end);
end
$$;

comment on function tinydevcrm._wake_change_jobs(regrole) is
    'Makes the jobs "on change" of all owners but one run each second, if views of theirs are '
    'stale. Upkeep makes them run each minute again. Returns in how many seconds to call it again; '
    'null when a notification comes before there is anything to do, and where pg_cron has no '
    'seconds. The orchestrator calls it, and refreshes the views of the served role itself: a view '
    'runs only in a session that has logged in as its owner. Security '
    'definer: lends the right to make these jobs run sooner.';

revoke execute on function
    tinydevcrm._reschedule_job(tinydevcrm.schedules, text),
    tinydevcrm._wake_change_jobs(regrole),
    tinydevcrm._refresh_requests_create_job(),
    tinydevcrm._create_request_job(regrole)
from public;

grant execute on function tinydevcrm._wake_change_jobs(regrole) to tinydevcrm_orchestrator;
