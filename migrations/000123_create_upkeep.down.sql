drop function tinydevcrm._find_last_upkeep();
drop procedure tinydevcrm.settle_jobs();
drop function tinydevcrm._remove_unused_locks();
drop function tinydevcrm._settle_changes();
drop function tinydevcrm._join_users();

select cron.unschedule(jobid)
  from cron.job
 where jobname = 'tinydevcrm upkeep'
   and username = current_user;

drop function tinydevcrm._settle_schedules();
drop function tinydevcrm._list_unsettled_jobs();
