drop function tinydevcrm._settle_jobs_of_others();
drop function tinydevcrm._settle_jobs_of(regrole);
