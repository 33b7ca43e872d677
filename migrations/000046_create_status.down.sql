drop view tinydevcrm.subscription_status;
drop view tinydevcrm.job_runs;
drop view tinydevcrm.matview_status;
drop function tinydevcrm._is_late(tinydevcrm.schedules, timestamptz);
drop function tinydevcrm._matview_state(tinydevcrm.matviews);
drop function tinydevcrm._cron_is_running();
