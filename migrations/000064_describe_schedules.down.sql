drop function tinydevcrm.describe_schedule(text);
drop function tinydevcrm._describe_cron(
    integer[], integer[], integer[], integer[], integer[], boolean);
