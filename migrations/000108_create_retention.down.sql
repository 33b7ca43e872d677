select cron.unschedule(jobid)
  from cron.job
 where jobname = 'tinydevcrm retention'
   and username = current_user;

drop procedure tinydevcrm.remove_expired(integer);
drop function tinydevcrm._remove_expired_runs(integer);
drop function tinydevcrm._remove_expired_drops(integer);
drop function tinydevcrm._remove_expired_imports(integer);
drop function tinydevcrm._remove_expired_job_runs(integer);
