drop function tinydevcrm._next_due(integer, text, timestamptz);
drop function tinydevcrm._cron_timezone();
drop function tinydevcrm._next_cron_time(text, timestamp);
drop function tinydevcrm._cron_field(text, integer, integer, text[]);
drop function tinydevcrm._period_text(integer);
drop function tinydevcrm._parse_schedule(text);
drop function tinydevcrm._is_cron(text);
drop function tinydevcrm._schedule_hint();
drop function tinydevcrm._cron_has_seconds();
