drop function tinydevcrm.describe_schedule(text);
drop function tinydevcrm._cron_words(
    integer[], integer[], integer[], integer[], integer[], boolean);
