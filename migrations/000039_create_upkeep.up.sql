-- What nothing tells, a job looks for: owners that were changed in bulk, jobs that are gone, and
-- jobs that came with a dump from a server with another socket or another pg_cron.

create function tinydevcrm._unsettled_jobs()
    returns table (job_id bigint, schedule_id bigint, what text)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    -- pg_cron writes into each job where it connects to, when the job is made.
    select job.jobid,
           null::bigint,
           format('%s: connects to %s:%s, %s', job.jobname, nodename, nodeport, database)
      from cron.job
     where (
            command in ('call tinydevcrm.settle_jobs()', 'call tinydevcrm.remove_expired()')
            or command ~ '^call tinydevcrm\.refresh_scheduled\(\d+\)$'
           )
       and (nodename, nodeport, database) is distinct from (
            coalesce(current_setting('cron.host', true), 'localhost'),
            current_setting('port')::integer,
            current_database()::text
           )
    union all
    select null,
           schedules.id,
           case
               when job.jobid is null then format('%s: has no job', schedules.schedule)
               else format('%s: its job''s schedule is %s', schedules.schedule, job.schedule)
           end
      from tinydevcrm.schedules
      left join cron.job
        on job.jobid = schedules.job_id
       and job.username = pg_get_userbyid(schedules.owner)
       and job.jobname = format('tinydevcrm schedule %s', schedules.id)
       and job.command = format('call tinydevcrm.refresh_scheduled(%s)', schedules.id)
     where exists (select from pg_roles where oid = schedules.owner)
       and (
            job.schedule is distinct from schedules.cron_schedule
            -- A pg_cron that has seconds now, or has them no more.
            or schedules.seconds is not null
               and (schedules.cron_schedule = schedules.schedule)
                   <> tinydevcrm._cron_has_seconds()
           )
$$;

comment on function tinydevcrm._unsettled_jobs() is
    'What is wrong with our pg_cron jobs: job_id of one that connects to elsewhere, or schedule_id '
    'of a schedule that has no job, or one that says something else.';

create function tinydevcrm._settle_schedules()
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule tinydevcrm.schedules;
begin
    update cron.job
       set nodename = coalesce(current_setting('cron.host', true), 'localhost'),
           nodeport = current_setting('port')::integer,
           database = current_database()
     where job.jobid in (
         select unsettled.job_id
           from tinydevcrm._unsettled_jobs() as unsettled
     );

    -- The job of a role that was renamed bears the old name. Its schedule gets another below.
    perform cron.unschedule(job.jobid)
       from cron.job
      where job.jobname ~ '^tinydevcrm schedule \d+$'
        and not exists (
            select
              from pg_roles
             where pg_roles.rolname = job.username
        );

    for v_schedule in
        select schedules.*
          from tinydevcrm._unsettled_jobs() as unsettled
          join tinydevcrm.schedules
            on schedules.id = unsettled.schedule_id
           -- Whoever holds it is just changing it: the next minute will tell.
           for update of schedules skip locked
    loop
        begin
            if v_schedule.seconds is not null then
                update tinydevcrm.schedules
                   set cron_schedule =
                           (tinydevcrm._parse_schedule(v_schedule.schedule)).cron_schedule
                 where schedules.id = v_schedule.id
                returning schedules.* into v_schedule;
            end if;
            perform tinydevcrm._create_job(v_schedule);
        exception
            -- One that cannot be settled does not keep the others.
            when others then
                raise warning 'TinyDevCRM could not settle a job: % (SQLSTATE %)', sqlerrm, sqlstate
                    using hint = 'Schedule its materialized views again.';
        end;
    end loop;
end
$$;

comment on function tinydevcrm._settle_schedules() is
    'Lets our jobs connect to this server, and gives each schedule the job that it should have.';

create function tinydevcrm._end_locked_sessions()
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select pg_terminate_backend(pid)
      from pg_stat_activity
      left join pg_roles
        on pg_roles.oid = usesysid
     where usesysid is not null
       and (
           pg_roles.oid is null
           or not rolcanlogin
              and shobj_description(usesysid, 'pg_authid') = 'Created by tinydevcrm.create_user().'
       )
$$;

comment on function tinydevcrm._end_locked_sessions() is
    'Ends the sessions of users who have been dropped, or locked by "alter role … nologin", which '
    'ends none by itself.';

create procedure tinydevcrm.settle_jobs()
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- Two at once would stumble over each other's jobs. The one that is at work does it for both.
    if not pg_try_advisory_xact_lock(tinydevcrm._lock_key('upkeep', 0)) then
        return;
    end if;

    perform tinydevcrm._settle_owners();
    perform tinydevcrm._settle_schedules();
    perform tinydevcrm._end_locked_sessions();

    -- pg_cron up to 1.6.7 misses a job that is made or removed among thousands of other changes
    -- of catalogs, as a hundred refreshes in a second make:
    -- https://github.com/citusdata/pg_cron/pull/406. To schedule this job again, as it is, makes
    -- pg_cron read all jobs anew.
    perform cron.schedule('tinydevcrm upkeep', '* * * * *', 'call tinydevcrm.settle_jobs()');
end
$$;

comment on procedure tinydevcrm.settle_jobs() is
    'Brings registry and pg_cron into step with what nothing tells them: owners changed in bulk, '
    'jobs removed by hand, a restored dump, another version of pg_cron. A pg_cron job calls it '
    'every minute; after a restore it has to be called once, which orchestrator up does. Security '
    'definer: jobs of all owners are to be settled, by the orchestrator''s role too; it takes '
    'nothing from who calls it.';

create function tinydevcrm._upkeep_ran_at()
    returns timestamptz
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select max(runs.end_time)
      from (
        select job_run_details.end_time,
               job_run_details.command,
               job_run_details.status
          from cron.job_run_details
         order by job_run_details.runid desc
         limit 100000
      ) as runs
     where runs.command = 'call tinydevcrm.settle_jobs()'
       and runs.status = 'succeeded'
$$;

comment on function tinydevcrm._upkeep_ran_at() is
    'When the upkeep job last succeeded; null when that is not among the last 100000 runs of all '
    'jobs. Security definer: pg_cron shows its history to the owner of each job alone; it lends '
    'this one time.';

revoke execute on function
    tinydevcrm._unsettled_jobs(),
    tinydevcrm._settle_schedules(),
    tinydevcrm._end_locked_sessions(),
    tinydevcrm._upkeep_ran_at()
from public;
revoke execute on procedure tinydevcrm.settle_jobs() from public;

grant execute on function tinydevcrm._upkeep_ran_at() to tinydevcrm_user;

call tinydevcrm.settle_jobs();
