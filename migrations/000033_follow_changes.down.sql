drop procedure tinydevcrm.settle_jobs();

select cron.unschedule(jobid)
  from cron.job
 where jobname = 'tinydevcrm upkeep'
   and username = current_user;

drop event trigger tinydevcrm_follow_owners;
drop function tinydevcrm._follow_owners();
drop function tinydevcrm._settle_owners();
drop event trigger tinydevcrm_follow_drops;
drop function tinydevcrm._follow_drops();
