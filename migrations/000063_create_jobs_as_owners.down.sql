drop function tinydevcrm._take_jobs(bigint[]);
drop function tinydevcrm._create_job_as_owner(regrole, text, text, text);
drop function tinydevcrm._run_as(regrole, text);
drop function tinydevcrm._is_job_owner(regrole);
