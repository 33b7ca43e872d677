drop function tinydevcrm._parse_schedule(text);
drop function tinydevcrm._read_period(text);
drop function tinydevcrm._find_time_zone(text, boolean);
drop function tinydevcrm._read_words(text);
drop function tinydevcrm._format_period(integer);
drop function tinydevcrm._schedule_hint();
