select cron.unschedule(jobid)
  from cron.job
 where command = 'call tinydevcrm.refresh_requested()';

drop function tinydevcrm._wake_change_jobs(regrole);
drop function tinydevcrm._reschedule_job(tinydevcrm.schedules, text);

drop trigger _500_create_job on tinydevcrm.refresh_requests;
drop function tinydevcrm._create_request_job(regrole);
drop function tinydevcrm._refresh_requests_create_job();
