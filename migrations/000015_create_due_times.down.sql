drop function tinydevcrm._next_due(integer, text, timestamptz);
drop function tinydevcrm._next_cron_time(text, timestamp);
drop function tinydevcrm._cron_field(text, integer, integer, text[]);
