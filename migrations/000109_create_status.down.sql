drop view tinydevcrm.subscription_status;
drop view tinydevcrm.job_runs;
drop view tinydevcrm.matview_status;
drop function tinydevcrm._cron_is_running();
drop function tinydevcrm._find_clock();
