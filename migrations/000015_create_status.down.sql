drop view tinydevcrm.job_runs;
drop view tinydevcrm.matview_status;
