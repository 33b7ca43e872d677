drop function tinydevcrm.describe_schedule(text);
drop function tinydevcrm._describe_cron(tinydevcrm._cron);
drop function tinydevcrm._describe_days(integer[], integer[], integer[], boolean);
drop function tinydevcrm._describe_times(integer[], integer[]);
drop function tinydevcrm._find_even_step(integer[], integer);
drop function tinydevcrm._spell_numbers(integer[], text[]);
drop function tinydevcrm._join_words(text[]);
