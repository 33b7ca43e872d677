-- The clock: what orchestrator up --clock calls to run the jobs of a database without pg_cron. The
-- tables in schema cron are ours there. PL/pgSQL, because those of pg_cron have fewer columns.

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

create function tinydevcrm._is_clock()
    returns boolean
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- Until the transaction ends, no other session becomes the clock.
    perform
       from tinydevcrm._locks
      where _locks.what = 'clock'
        and _locks.pid = pg_backend_pid()
        and not tinydevcrm._is_left_mark(_locks)
        for share;

    return found;
end
$$;

comment on function tinydevcrm._is_clock() is
    'Whether this session is the clock, and stays it until the transaction ends.';

create function tinydevcrm._list_upkeep_jobs()
    returns text[]
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
    select array['tinydevcrm upkeep', 'tinydevcrm retention']
$$;

comment on function tinydevcrm._list_upkeep_jobs() is
    'The names of the jobs that do not refresh views, but keep everything in order.';

create function tinydevcrm._keep_clock()
    returns boolean
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '2s'
as $$
declare
    v_clock integer;
begin
    if not tinydevcrm._has_clock() then
        raise exception using
            errcode = 'TD010',
            message = 'pg_cron runs the schedules of this database',
            hint    = 'Start the orchestrator without --clock.';
    end if;

    perform
       from tinydevcrm._locks
      where _locks.what = 'clock'
        for update;
    v_clock := tinydevcrm._find_clock();
    if v_clock <> pg_backend_pid() then
        return false;
    end if;

    update tinydevcrm._locks
       set matview_ids = '{0}'
     where _locks.what = 'clock'
       and (v_clock is null or _locks.marked_at < clock_timestamp() - interval '2 seconds');

    if v_clock is not null then
        return true;
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

    -- Without it, a clock that only runs now and then might never do it.
    update cron.job
       set next_at = clock_timestamp()
     where job.jobname = any (tinydevcrm._list_upkeep_jobs())
       and job.next_at < clock_timestamp() - interval '1 minute';

    return true;
end
$$;

comment on function tinydevcrm._keep_clock() is
    'Makes this session the clock, or keeps it that, and returns true, unless another session is '
    'it. To be called each second. A new clock does at once what upkeep was not done without one. '
    'Raises TD010 where pg_cron runs the jobs. Security definer: lends the right to change jobs.';

create function tinydevcrm._take_due_jobs(running bigint[], most integer)
    returns table (
        job_id    bigint,
        run_id    bigint,
        role_name text,
        command   text,
        due_at    timestamptz
    )
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not tinydevcrm._is_clock() then
        return;
    end if;

    return query
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
           'running',
           clock_timestamp(),
           moved.due_at
      from moved
     -- Upkeep makes up for what no clock ran in time.
     where moved.due_at > clock_timestamp() - interval '1 minute'
    returning job_run_details.jobid,
              job_run_details.runid,
              job_run_details.username,
              job_run_details.command,
              job_run_details.due_at;
end
$$;

comment on function tinydevcrm._take_due_jobs(bigint[], integer) is
    'Takes up to so many jobs that are due and not running, and returns a run of each. One that is '
    'over a minute late is left out until it is due again. Does nothing in a session that is not '
    'the clock. Security definer: '
    'lends the right to run jobs of all owners, each in a session of the owner.';

create function tinydevcrm._find_next_run(running bigint[])
    returns double precision
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select extract(epoch from min(job.next_at) - clock_timestamp())
          from cron.job
         where job.active
           and isfinite(job.next_at)
           and job.jobid <> all (_find_next_run.running)
    );
end
$$;

comment on function tinydevcrm._find_next_run(bigint[]) is
    'In how many seconds a job is due that is not running; null when there is none. Security '
    'definer: lends the right to see jobs, and shows this number.';

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

create function tinydevcrm._list_clock_jobs()
    returns jsonb
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
               jsonb_agg(
                   jsonb_build_object(
                       'jobname', job.jobname,
                       'schedule', job.schedule,
                       'command', job.command,
                       'username', job.username)
                   order by job.jobid),
               '[]')
      from cron.job
     where job.active
       and job.jobname is not null
$$;

comment on function tinydevcrm._list_clock_jobs() is
    'The jobs of a database without pg_cron, for the pg_cron of another database of the server. '
    'Security definer: lends the right to see jobs.';

create function tinydevcrm._record_job_runs(runs jsonb)
    returns bigint
    language sql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    insert into cron.job_run_details
        (runid, jobid, database, username, command, status, return_message, start_time, end_time)
    select runs.runid,
           job.jobid,
           current_database(),
           runs.username,
           runs.command,
           runs.status,
           runs.return_message,
           runs.start_time,
           runs.end_time
      from jsonb_to_recordset(_record_job_runs.runs) as runs (
               runid bigint, username text, command text, status text, return_message text,
               start_time timestamptz, end_time timestamptz)
      join cron.job
        on job.username = runs.username
       and job.command = runs.command
        on conflict do nothing;

    select coalesce(max(job_run_details.runid), 0)
      from cron.job_run_details
$$;

comment on function tinydevcrm._record_job_runs(jsonb) is
    'Adds runs that the pg_cron of another database has done to the history here, and returns the '
    'number of the last. Security definer: lends the right to write the history.';

create function tinydevcrm.use_pg_cron()
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not tinydevcrm._has_clock() then
        raise exception using
            errcode = 'TD007',
            message = 'pg_cron runs the schedules of this database already';
    end if;

    -- What reads the history then has none, and nothing depends on the tables.
    alter schema cron rename to cron_of_clock;
    perform tinydevcrm._read_job_runs();
    drop schema cron_of_clock cascade;

    create extension pg_cron;
    comment on extension pg_cron is 'Created by TinyDevCRM''s migrations.';
    revoke delete on cron.job_run_details from public;
    perform tinydevcrm._read_job_runs();
    perform cron.schedule(
                'tinydevcrm retention', '*/10 * * * *', 'call tinydevcrm.remove_expired()');
    call tinydevcrm.settle_jobs();
end
$$;

comment on function tinydevcrm.use_pg_cron() is
    'Has pg_cron run the jobs of a database whose jobs the orchestrator has run so far, by "up '
    '--clock". To be called by who may create the extension, once pg_cron is preloaded and works in '
    'this database. The history of jobs begins anew. Raises TD007 when pg_cron runs them already.';

revoke execute on function
    tinydevcrm._list_clock_jobs(),
    tinydevcrm._record_job_runs(jsonb),
    tinydevcrm.use_pg_cron(),
    tinydevcrm._compute_next_run(text, timestamptz),
    tinydevcrm._is_clock(),
    tinydevcrm._list_upkeep_jobs(),
    tinydevcrm._keep_clock(),
    tinydevcrm._take_due_jobs(bigint[], integer),
    tinydevcrm._find_next_run(bigint[]),
    tinydevcrm._end_run(bigint, text)
from public;

grant execute on function
    tinydevcrm._list_clock_jobs(),
    tinydevcrm._record_job_runs(jsonb),
    tinydevcrm._keep_clock(),
    tinydevcrm._take_due_jobs(bigint[], integer),
    tinydevcrm._find_next_run(bigint[]),
    tinydevcrm._end_run(bigint, text)
to tinydevcrm_orchestrator;
