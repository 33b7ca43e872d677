-- Jobs for what waits: refreshes that were requested, or left by a job whose session ended, and fetched files.

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

revoke execute on function
    tinydevcrm._request_left_rounds(),
    tinydevcrm._settle_requests(),
    tinydevcrm._settle_fetches()
from public;
