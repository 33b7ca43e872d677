drop function tinydevcrm.use_pg_cron();
drop function tinydevcrm._record_job_runs(jsonb);
drop function tinydevcrm._list_clock_jobs();
drop function tinydevcrm._end_run(bigint, text);
drop function tinydevcrm._find_next_run(bigint[]);
drop function tinydevcrm._take_due_jobs(bigint[], integer);
drop function tinydevcrm._keep_clock();
drop function tinydevcrm._is_clock();
drop function tinydevcrm._compute_next_run(text, timestamptz);
