drop function tinydevcrm._compute_next_zoned_time(text, text, timestamptz);
drop function tinydevcrm._place_clock_time(timestamp, text);
drop function tinydevcrm._compute_next_cron_time(tinydevcrm._cron, timestamp);
drop function tinydevcrm._has_cron_values(text);
drop function tinydevcrm._cron_fields(text);
drop type tinydevcrm._cron;
drop function tinydevcrm._spell_out_cron(text);
drop function tinydevcrm._cron_field(text, integer, integer, text[]);
drop function tinydevcrm._is_cron(text);
