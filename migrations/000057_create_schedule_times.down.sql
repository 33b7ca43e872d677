drop function tinydevcrm._find_round(text, text, text, timestamptz);
drop function tinydevcrm._make_job_schedule(integer, text, text, text);
drop function tinydevcrm._list_offsets(text);
drop function tinydevcrm._compute_next_due(integer, text, text, timestamptz);
drop function tinydevcrm._cron_timezone();
drop function tinydevcrm._cron_has_seconds();
