-- Where pg_cron belongs to somebody else: settles the jobs of each user as that user.

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

revoke execute on function
    tinydevcrm._settle_jobs_of(regrole),
    tinydevcrm._settle_jobs_of_others()
from public;
