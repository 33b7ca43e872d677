-- The clock: what orchestrator up --clock calls to run the jobs of a database without pg_cron. The
-- tables in schema cron are ours there.

create function tinydevcrm._compute_next_run(schedule text, after timestamptz)
    returns timestamptz
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
               tinydevcrm._compute_next_due(
                   substring(_compute_next_run.schedule from '^(\d+) seconds?$')::integer,
                   _compute_next_run.schedule,
                   null,
                   _compute_next_run.after),
               'infinity')
$$;

comment on function tinydevcrm._compute_next_run(text, timestamptz) is
    'When a job is first due after a time.';

create function tinydevcrm._begin_clock()
    returns boolean
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not tinydevcrm._has_clock() then
        raise exception using
            errcode = 'TD010',
            message = 'pg_cron runs the schedules of this database',
            hint    = 'Start the orchestrator without --clock.';
    end if;

    if not pg_try_advisory_lock('tinydevcrm'::regnamespace::oid::integer, 1) then
        -- Any role can take such a lock. A clock looks for jobs each second.
        perform pg_terminate_backend(activity.pid)
           from pg_stat_get_activity(tinydevcrm._find_clock()) as activity
          where pg_has_role(activity.usesysid, 'tinydevcrm_user', 'member')
                and not pg_has_role(activity.usesysid, 'tinydevcrm_orchestrator', 'member')
                and not pg_has_role(activity.usesysid, current_user, 'member')
             or activity.state = 'idle'
                and activity.state_change < clock_timestamp() - interval '8 seconds';
        return false;
    end if;

    -- The last clock has ended, and with it perhaps runs. Each is run again for the time that it was
    -- for, and then does only what was left.
    with left_runs as (
        update cron.job_run_details
           set status = 'failed',
               return_message = 'the orchestrator that ran it has ended',
               end_time = clock_timestamp()
         where job_run_details.end_time is null
        returning job_run_details.jobid,
                  job_run_details.due_at
    )
    update cron.job
       set next_at = left_runs.due_at
      from left_runs
     where job.jobid = left_runs.jobid
       and left_runs.due_at > clock_timestamp() - interval '1 minute';

    return true;
exception
    when insufficient_privilege then
        return false;
end
$$;

comment on function tinydevcrm._begin_clock() is
    'Makes the caller''s session the clock and returns true, unless another session is it. Ends a '
    'session that holds the lock and is no clock: that of a user, or one that has been idle for '
    'eight seconds. Raises TD010 where pg_cron runs the jobs. Security definer: lends the right '
    'to end such sessions, and to change jobs.';

create function tinydevcrm._take_due_jobs(running bigint[], most integer)
    returns table (job_id bigint, run_id bigint, role_name text, command text)
    language sql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    with due as (
        select job.jobid,
               job.next_at
          from cron.job
         where job.active
           and coalesce(job.next_at, '-infinity') <= clock_timestamp()
           and job.jobid <> all (_take_due_jobs.running)
         order by job.next_at
         limit _take_due_jobs.most
           for update skip locked
    ),
    moved as (
        update cron.job
           set next_at = tinydevcrm._compute_next_run(job.schedule, clock_timestamp())
          from due
         where job.jobid = due.jobid
        returning job.jobid,
                  job.username,
                  job.command,
                  due.next_at as due_at
    )
    insert into cron.job_run_details
        (jobid, database, username, command, status, start_time, due_at)
    select moved.jobid,
           current_database(),
           moved.username,
           moved.command,
           'starting',
           clock_timestamp(),
           moved.due_at
      from moved
     -- Upkeep makes up for what no clock ran in time.
     where moved.due_at > clock_timestamp() - interval '1 minute'
    returning job_run_details.jobid,
              job_run_details.runid,
              job_run_details.username,
              job_run_details.command
$$;

comment on function tinydevcrm._take_due_jobs(bigint[], integer) is
    'Takes up to so many jobs that are due and not running, and returns a run of each. One that is '
    'over a minute late is left out until it is due again. The clock calls it. Security definer: '
    'lends the right to run jobs of all owners, each in a session of the owner.';

create function tinydevcrm._find_next_run(running bigint[])
    returns double precision
    language sql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select extract(epoch from min(job.next_at) - clock_timestamp())
      from cron.job
     where job.active
       and isfinite(job.next_at)
       and job.jobid <> all (_find_next_run.running)
$$;

comment on function tinydevcrm._find_next_run(bigint[]) is
    'In how many seconds a job is due that is not running; null when there is none. Security '
    'definer: lends the right to see jobs, and shows this number.';

create function tinydevcrm._begin_run(run_id bigint)
    returns void
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_due_at timestamptz;
begin
    update cron.job_run_details
       set status = 'running',
           job_pid = pg_backend_pid()
     where job_run_details.runid = _begin_run.run_id
       and job_run_details.username = session_user
       and job_run_details.end_time is null
    returning job_run_details.due_at
         into v_due_at;

    perform set_config('tinydevcrm_own.due_at', coalesce(v_due_at::text, ''), false);
end
$$;

comment on function tinydevcrm._begin_run(bigint) is
    'Marks a run of a job of this session''s role as running, and makes what this session calls '
    'next be for the time at which the job was due: see tinydevcrm._find_call_time(). Security '
    'definer: users cannot write runs.';

create function tinydevcrm._end_run(run_id bigint, error text)
    returns void
    language sql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    update cron.job_run_details
       set status = case when _end_run.error is null then 'succeeded' else 'failed' end,
           return_message = coalesce(left(_end_run.error, 1000), 'CALL'),
           end_time = clock_timestamp()
     where job_run_details.runid = _end_run.run_id
       and job_run_details.end_time is null
$$;

comment on function tinydevcrm._end_run(bigint, text) is
    'Records how a run ended: error is null when it succeeded. The clock calls it. Security '
    'definer: lends the right to write runs.';

revoke execute on function
    tinydevcrm._compute_next_run(text, timestamptz),
    tinydevcrm._begin_clock(),
    tinydevcrm._take_due_jobs(bigint[], integer),
    tinydevcrm._find_next_run(bigint[]),
    tinydevcrm._begin_run(bigint),
    tinydevcrm._end_run(bigint, text)
from public;

grant execute on function
    tinydevcrm._begin_clock(),
    tinydevcrm._take_due_jobs(bigint[], integer),
    tinydevcrm._find_next_run(bigint[]),
    tinydevcrm._end_run(bigint, text)
to tinydevcrm_orchestrator;

grant execute on function tinydevcrm._begin_run(bigint) to tinydevcrm_user;
