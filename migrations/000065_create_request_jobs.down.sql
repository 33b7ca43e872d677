select tinydevcrm._run_as(
           owners.owner,
           'select jsonb_agg(cron.unschedule(jobid)) from cron.job '
           'where command = ''call tinydevcrm.refresh_requested()''')
  from (
    select quote_ident(current_user)::regrole as owner
     union
    select matviews.owner
      from tinydevcrm.matviews
      join pg_catalog.pg_roles
        on pg_roles.oid = matviews.owner
  ) as owners;

drop function tinydevcrm._wake_change_jobs(regrole);
drop function tinydevcrm._reschedule_job(tinydevcrm.schedules, text);

drop trigger _500_create_job on tinydevcrm.refresh_requests;
drop function tinydevcrm._create_request_job(regrole);
drop function tinydevcrm._refresh_requests_create_job();
