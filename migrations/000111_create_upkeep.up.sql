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

create function tinydevcrm._settle_jobs_of(owner regrole)
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_jobs jsonb;
begin
    v_jobs := tinydevcrm._run_as(
        _settle_jobs_of.owner,
        'select coalesce(jsonb_agg(job), ''[]'') from cron.job where jobname like ''tinydevcrm %''');

    update tinydevcrm.schedules
       set job_id = tinydevcrm._create_job(
               schedules.owner, wanted.job_name, schedules.cron_schedule, wanted.command)
      from tinydevcrm.schedules as old
     cross join lateral tinydevcrm._describe_job(old) as wanted
     where schedules.id = old.id
       and old.owner = _settle_jobs_of.owner
       and not v_jobs @> jsonb_build_array(jsonb_build_object(
               'jobid', old.job_id,
               'jobname', wanted.job_name,
               'schedule', old.cron_schedule,
               'command', wanted.command));

    perform tinydevcrm._run_as(
                _settle_jobs_of.owner,
                format('select to_jsonb(cron.unschedule(%s))', job ->> 'jobid'))
       from jsonb_array_elements(v_jobs) as job
      where case job ->> 'command'
                when 'call tinydevcrm.refresh_requested()' then not exists (
                    select
                      from tinydevcrm.refresh_requests
                      join tinydevcrm.matviews
                        on matviews.id = refresh_requests.matview_id
                     where matviews.owner = _settle_jobs_of.owner
                )
                when 'call tinydevcrm.import_fetched()' then not exists (
                    select
                      from tinydevcrm.source_runs
                     where source_runs.status = 'staged'
                       and source_runs.owner = _settle_jobs_of.owner
                )
                else not exists (
                    select
                      from tinydevcrm.schedules
                     where schedules.owner = _settle_jobs_of.owner
                       and schedules.job_id = (job ->> 'jobid')::bigint
                )
            end;

    perform tinydevcrm._run_as(
                _settle_jobs_of.owner,
                format(
                    'with removed as (delete from cron.job_run_details where end_time < %L and '
                    'username = current_user and command like ''call tinydevcrm.%%'' returning 1) '
                    'select to_jsonb(count(*)) from removed',
                    now() - settings.job_run_retention))
       from tinydevcrm.settings
      where has_table_privilege(_settle_jobs_of.owner::oid, 'cron.job_run_details', 'select')
        and has_table_privilege(_settle_jobs_of.owner::oid, 'cron.job_run_details', 'delete');
end
$$;

comment on function tinydevcrm._settle_jobs_of(regrole) is
    'Gives an owner the jobs that they should have, and removes others of ours and their expired '
    'history, as that owner.';

create function tinydevcrm._settle_jobs_of_others()
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_owner regrole;
begin
    for v_owner in
        select pg_roles.oid
          from pg_roles
         where pg_has_role(pg_roles.oid, 'tinydevcrm_user', 'usage')
           and pg_has_role(pg_roles.oid, 'usage')
           and not tinydevcrm._is_job_owner(pg_roles.oid)
           and not tinydevcrm._is_group(pg_roles.oid)
    loop
        begin
            perform tinydevcrm._settle_jobs_of(v_owner);
        exception
            -- One failure does not stop the others.
            when others then
                raise warning 'TinyDevCRM could not settle the jobs of %: % (SQLSTATE %)',
                    v_owner, sqlerrm, sqlstate
                    using hint = 'The next run, a minute later, tries again.';
        end;
    end loop;
end
$$;

comment on function tinydevcrm._settle_jobs_of_others() is
    'Settles the jobs of all users of whom this role is a member, where pg_cron belongs to somebody '
    'else.';

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
       and tinydevcrm._may_signal(usesysid)
       and (
           pg_roles.oid is null
           or not rolcanlogin
              and shobj_description(usesysid, 'pg_authid') = 'Created by tinydevcrm.create_user().'
       )
$$;

comment on function tinydevcrm._end_locked_sessions() is
    'Ends the sessions of users who have been dropped, or locked by "alter role … nologin", which '
    'itself ends no session.';

create function tinydevcrm._cancel_overdue_refreshes()
    returns table (pid integer, role_name name, reason text)
    language sql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '500ms'
as $$
    with overdue as materialized (
        select activity.pid,
               activity.usesysid,
               clock_timestamp() - activity.xact_start as age,
               least(
                   nullif(_locks.statement_timeout, interval '0'),
                   settings.refresh_timeout) as timeout
          from tinydevcrm._locks
         cross join tinydevcrm.settings
          join pg_stat_get_activity(null) as activity
            on activity.pid = _locks.pid
           and activity.backend_start = _locks.backend_start
           -- A session of psql may do something else after a call that was canceled.
           and activity.query ~* 'call\s+tinydevcrm\.refresh_'
         where _locks.matview_ids is not null
    )
    select overdue.pid,
           pg_get_userbyid(overdue.usesysid),
           format(
               'its refresh took %s s, longer than %s',
               round(extract(epoch from overdue.age)), overdue.timeout)
      from overdue
     where overdue.age > overdue.timeout
       and tinydevcrm._may_signal(overdue.usesysid)
       and pg_cancel_backend(overdue.pid)
$$;

comment on function tinydevcrm._cancel_overdue_refreshes() is
    'Cancels each refresh of a job that takes longer than the statement_timeout of its session, or '
    'than tinydevcrm.settings.refresh_timeout, and returns the sessions. The refresh then fails, '
    'and its job goes on. The orchestrator calls it each second, upkeep each minute: Postgres '
    'itself counts a statement_timeout from the call of a job on, over all of its refreshes. Each '
    'has a transaction of its own, whose age this is. Security definer: lends the right to cancel '
    'statements of users.';

create function tinydevcrm._request_left_rounds()
    returns void
    language sql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
    insert into tinydevcrm.refresh_requests (matview_id, schedule_id)
    select matviews.id,
           matviews.schedule_id
      from tinydevcrm._locks
      join tinydevcrm.matviews
        on matviews.id = any (_locks.matview_ids)
       and coalesce(matviews.last_scheduled_at < _locks.marked_at, true)
     where _locks.what = 'schedule'
       and _locks.server_id = (pg_control_system()).system_identifier
       and tinydevcrm._is_left_mark(_locks)
        on conflict do nothing
$$;

comment on function tinydevcrm._request_left_rounds() is
    'Requests the refreshes that a job has left because its session ended: the next round may be '
    'a day away.';

create function tinydevcrm._settle_requests()
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_owner regrole;
begin
    for v_owner in
        select distinct matviews.owner
          from tinydevcrm.refresh_requests
          join tinydevcrm.matviews
            on matviews.id = refresh_requests.matview_id
          join pg_roles
            on pg_roles.oid = matviews.owner
    loop
        begin
            perform tinydevcrm._create_request_job(v_owner);
        exception
            -- The owner may be just creating it, in a transaction that stays open.
            when others then
                raise warning 'TinyDevCRM could not settle the requests of %: % (SQLSTATE %)',
                    v_owner, sqlerrm, sqlstate
                    using hint = 'The next run, a minute later, tries again.';
        end;
    end loop;

    perform cron.unschedule(unused.job_id)
       from tinydevcrm._take_jobs(array(
         select job.jobid
           from cron.job
          where job.command = 'call tinydevcrm.refresh_requested()'
            and not exists (
                select
                  from tinydevcrm.refresh_requests
                  join tinydevcrm.matviews
                    on matviews.id = refresh_requests.matview_id
                 where pg_get_userbyid(matviews.owner) = job.username
            )
       )) as unused (job_id);
end
$$;

comment on function tinydevcrm._settle_requests() is
    'Gives each owner with requested refreshes a job that does them, and removes the job of all '
    'others.';

create function tinydevcrm._settle_fetches()
    returns void
    language plpgsql
    volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_owner regrole;
begin
    for v_owner in
        select distinct source_runs.owner
          from tinydevcrm.source_runs
          join pg_roles
            on pg_roles.oid = source_runs.owner
         where source_runs.status = 'staged'
    loop
        begin
            perform tinydevcrm._create_fetch_job(v_owner);
        exception
            -- One failure does not stop the others.
            when others then
                raise warning 'TinyDevCRM could not settle the sources of %: % (SQLSTATE %)',
                    v_owner, sqlerrm, sqlstate
                    using hint = 'The next run, a minute later, tries again.';
        end;
    end loop;

    perform cron.unschedule(unused.job_id)
       from tinydevcrm._take_jobs(array(
         select job.jobid
           from cron.job
          where job.command = 'call tinydevcrm.import_fetched()'
            and not exists (
                select
                  from tinydevcrm.source_runs
                 where source_runs.status = 'staged'
                   and pg_get_userbyid(source_runs.owner) = job.username
            )
       )) as unused (job_id);
end
$$;

comment on function tinydevcrm._settle_fetches() is
    'Gives each owner with fetched files a job that imports them, and removes the job of all others.';

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
    tinydevcrm._settle_jobs_of(regrole),
    tinydevcrm._settle_jobs_of_others(),
    tinydevcrm._settle_schedules(),
    tinydevcrm._join_users(),
    tinydevcrm._end_locked_sessions(),
    tinydevcrm._cancel_overdue_refreshes(),
    tinydevcrm._request_left_rounds(),
    tinydevcrm._settle_requests(),
    tinydevcrm._settle_fetches(),
    tinydevcrm._settle_changes(),
    tinydevcrm._remove_unused_locks(),
    tinydevcrm._find_last_upkeep()
from public;

revoke execute on procedure tinydevcrm.settle_jobs() from public;

grant execute on function
    tinydevcrm._list_unsettled_jobs(),
    tinydevcrm._find_last_upkeep()
to tinydevcrm_user;

grant execute on function tinydevcrm._cancel_overdue_refreshes() to tinydevcrm_orchestrator;

call tinydevcrm.settle_jobs();
