-- Upkeep: a job that finds what no trigger sees. Owners that were changed in bulk, jobs that are
-- gone, and jobs that came with a dump from a server with another socket or another pg_cron.

create function tinydevcrm._list_unsettled_jobs()
    returns table (job_id bigint, schedule_id bigint, what text)
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    -- When a job is created, pg_cron writes into it where it connects to.
    select job.jobid,
           null::bigint,
           format('%s: connects to %s:%s, %s', job.jobname, nodename, nodeport, database)
      from cron.job
     where (
            command in (
                'call tinydevcrm.settle_jobs()', 'call tinydevcrm.remove_expired()',
                'call tinydevcrm.refresh_requested()', 'call tinydevcrm.import_fetched()')
            or command ~ '^call tinydevcrm\.refresh_(scheduled|by_seconds|changed)\('
           )
       and (nodename, nodeport, database) is distinct from (
            coalesce(tinydevcrm._setting('cron.host'), nodename),
            current_setting('port')::integer,
            current_database()::text
           )
    union all
    select null,
           schedules.id,
           case
               when job.jobid is null then 'has no job'
               when schedules.cron_zone <> tinydevcrm._cron_timezone() then
               format('its job was made for the time zone %s', schedules.cron_zone)
           else format('its job''s schedule is %s', job.schedule)
           end
      from tinydevcrm.schedules
     cross join lateral tinydevcrm._describe_job(schedules) as wanted
      left join cron.job
        on job.jobid = schedules.job_id
       and job.username = pg_get_userbyid(schedules.owner)
       and job.jobname = wanted.job_name
       and job.command = wanted.command
     where exists (select from pg_roles where oid = schedules.owner)
       and tinydevcrm._is_job_owner(schedules.owner)
       and (
            job.schedule is distinct from schedules.cron_schedule
            -- While something changes: _wake_change_jobs().
            and (schedules.schedule <> 'on change' or job.schedule is distinct from '1 second')
            or schedules.cron_zone <> tinydevcrm._cron_timezone()
            -- This pg_cron has seconds and an earlier one had not, or the other way round.
            or schedules.seconds is not null
               and (schedules.cron_schedule = schedules.schedule)
                   <> tinydevcrm._cron_has_seconds()
           )
$$;

comment on function tinydevcrm._list_unsettled_jobs() is
    'What is wrong with our pg_cron jobs: job_id of a job that connects to another server or '
    'database, or schedule_id of a schedule that has no job, or a job with another schedule. '
    'Security definer: lends the right to see jobs, and shows their names, schedules and '
    'addresses.';

create function tinydevcrm._settle_schedules()
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule tinydevcrm.schedules;
    v_job      record;
begin
    if tinydevcrm._may_edit_jobs() then
        update cron.job
           set nodename = coalesce(tinydevcrm._setting('cron.host'), nodename),
               nodeport = current_setting('port')::integer,
               database = current_database()
         where job.jobid in (
             select tinydevcrm._take_jobs(array(
                        select unsettled.job_id
                          from tinydevcrm._list_unsettled_jobs() as unsettled
                         where unsettled.job_id is not null
                    ))
         );
    else
        perform tinydevcrm._settle_jobs_of_others();
    end if;

    -- The job of a role that was renamed has the old name. Its schedule gets a new job below.
    perform cron.unschedule(renamed.job_id)
       from tinydevcrm._take_jobs(array(
         select job.jobid
           from cron.job
          where job.jobname ~ '^tinydevcrm (schedule|(slow )?seconds of|requests of|sources of) \d+$'
            and not exists (
                select
                  from pg_roles
                 where pg_roles.rolname = job.username
            )
       )) as renamed (job_id);

    perform tinydevcrm._settle_requests();
    perform tinydevcrm._settle_fetches();

    for v_schedule in
        select schedules.*
          from tinydevcrm._list_unsettled_jobs() as unsettled
          join tinydevcrm.schedules
            on schedules.id = unsettled.schedule_id
           -- Another session is just changing one that it has locked. The next run sees the result.
           for update of schedules skip locked
    loop
        begin
            update tinydevcrm.schedules
               set cron_schedule = tinydevcrm._make_job_schedule(
                       schedules.seconds, schedules.schedule, schedules.time_zone,
                       tinydevcrm._cron_timezone()),
                   cron_zone = tinydevcrm._cron_timezone()
             where schedules.id = v_schedule.id
            returning schedules.* into v_schedule;
            v_job := tinydevcrm._describe_job(v_schedule);
            update tinydevcrm.schedules
               set job_id = tinydevcrm._create_job(
                       v_schedule.owner, v_job.job_name, v_schedule.cron_schedule, v_job.command)
             where schedules.id = v_schedule.id;
        exception
            -- One failure does not stop the others.
            when others then
                raise warning 'TinyDevCRM could not settle a job: % (SQLSTATE %)', sqlerrm, sqlstate
                    using hint = 'Schedule its materialized views again.';
        end;
    end loop;

    -- For example the loop that a newer pg_cron does not need.
    perform cron.unschedule(unused.job_id)
       from tinydevcrm._take_jobs(array(
         select job.jobid
           from cron.job
          where job.command ~ '^call tinydevcrm\.refresh_(scheduled|by_seconds|changed)\('
            and not exists (
                select
                  from tinydevcrm.schedules
                 where schedules.job_id = job.jobid
            )
       )) as unused (job_id);
end
$$;

comment on function tinydevcrm._settle_schedules() is
    'Makes our jobs connect to this server, and gives each schedule the job that it should have.';

create function tinydevcrm._join_users()
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    select tinydevcrm._join_user(pg_roles.oid)
      from pg_roles
     where not pg_has_role(pg_roles.oid, 'member')
$$;

comment on function tinydevcrm._join_users() is
    'Makes the role that migrates a member again of users who have revoked that.';

create function tinydevcrm._settle_changes()
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform tinydevcrm._settle_watches(schedules.id)
       from tinydevcrm.schedules
      where schedules.schedule = 'on change';

    -- There, _settle_jobs_of() does it.
    if not tinydevcrm._may_edit_jobs() then
        return;
    end if;

    update cron.job
       set schedule = schedules.cron_schedule
      from tinydevcrm.schedules
      join pg_roles
        on pg_roles.oid = schedules.owner
     where schedules.schedule = 'on change'
       and job.jobid = schedules.job_id
       and job.schedule <> schedules.cron_schedule
       and (
           not pg_roles.rolcanlogin
           or tinydevcrm._find_change_due(schedules.id) is null
          and not tinydevcrm._has_just_changed(schedules.id, '10 seconds')
       );
end
$$;

comment on function tinydevcrm._settle_changes() is
    'Makes tinydevcrm.change_watches true, and lets jobs "on change" that have nothing to do, or '
    'cannot start, run each minute again: see tinydevcrm._wake_change_jobs().';

create function tinydevcrm._remove_unused_locks()
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    with unused as (
        select _locks.what,
               _locks.id
          from tinydevcrm._locks
         where case what
                   -- A dropped view that is restored takes its number and its lock.
                   when 'matview' then not exists (
                       select
                         from tinydevcrm.matviews
                        where matviews.id = _locks.id
                   ) and not exists (
                       select
                         from tinydevcrm.dropped_matviews
                        where dropped_matviews.id = _locks.id
                   )
                   when 'schedule' then not exists (
                       select
                         from tinydevcrm.schedules
                        where schedules.id = _locks.id
                   )
               end
           for update skip locked
    )
    delete
      from tinydevcrm._locks
     using unused
     where _locks.what = unused.what
       and _locks.id = unused.id
$$;

comment on function tinydevcrm._remove_unused_locks() is
    'Removes the locks of materialized views and schedules that are gone, except those that a '
    'session holds.';

create procedure tinydevcrm.settle_jobs()
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    -- A user may have locked a row. The next run, a minute later, tries again.
    set lock_timeout = '1s'
as $$
declare
    v_part text;
begin
    -- Two runs at once would change the same jobs. The first one does the work for both.
    if not tinydevcrm._take_lock('upkeep', 0) then
        return;
    end if;

    foreach v_part in array array[
        '_join_users',
        '_cancel_overdue_refreshes', '_request_left_rounds', '_end_locked_sessions',
        '_remove_gone', '_settle_owners', '_settle_definitions', '_request_missed_refreshes', '_settle_schedules',
        '_remove_unused_locks', '_note_late', '_settle_tracking', '_note_silent',
        '_note_silent_sources',
        '_settle_changes',
        '_remove_seen_changes'
    ] loop
        begin
            execute format('select tinydevcrm.%I()', v_part);
        exception
            -- One failure does not stop the others.
            when others then
                raise warning 'TinyDevCRM could not run %(): % (SQLSTATE %)',
                    v_part, sqlerrm, sqlstate
                    using hint = 'The next run, a minute later, tries again.';
        end;
    end loop;

    -- pg_cron up to 1.6.7 can miss a new or removed job among thousands of catalog changes, which a
    -- hundred refreshes in a second cause: https://github.com/citusdata/pg_cron/pull/406.
    -- Scheduling this job again, unchanged, makes pg_cron read all jobs again.
    perform cron.schedule('tinydevcrm upkeep', '* * * * *', 'call tinydevcrm.settle_jobs()');
end
$$;

comment on procedure tinydevcrm.settle_jobs() is
    'Repairs registry and pg_cron jobs after changes that no trigger sees: owners changed in bulk, '
    'jobs removed by hand, a restored dump, another version of pg_cron; notes what is late. A '
    'pg_cron job calls it '
    'every minute. After a restore call it once, which orchestrator up does. Security definer: it '
    'settles jobs of all owners, also for the orchestrator''s role; it takes nothing from its '
    'caller.';

create function tinydevcrm._find_last_upkeep()
    returns timestamptz
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    select max(runs.end_time)
      from (
        select _job_runs.end_time,
               _job_runs.command,
               _job_runs.status
          from tinydevcrm._job_runs
         order by _job_runs.runid desc
         limit 100000
      ) as runs
     where runs.command = 'call tinydevcrm.settle_jobs()'
       and runs.status = 'succeeded'
$$;

comment on function tinydevcrm._find_last_upkeep() is
    'When the upkeep job last succeeded; null when that is not among the last 100000 runs of all '
    'jobs. Security definer: pg_cron shows the history of a job only to its owner. It lends this '
    'one time.';

revoke execute on function
    tinydevcrm._list_unsettled_jobs(),
    tinydevcrm._settle_schedules(),
    tinydevcrm._join_users(),
    tinydevcrm._settle_changes(),
    tinydevcrm._remove_unused_locks(),
    tinydevcrm._find_last_upkeep()
from public;

revoke execute on procedure tinydevcrm.settle_jobs() from public;

grant execute on function
    tinydevcrm._list_unsettled_jobs(),
    tinydevcrm._find_last_upkeep()
to tinydevcrm_user;

call tinydevcrm.settle_jobs();
