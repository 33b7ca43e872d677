drop procedure tinydevcrm.refresh_by_seconds(boolean);
drop function tinydevcrm._list_loop_schedules(boolean);
drop procedure tinydevcrm.refresh_scheduled(bigint);
drop function tinydevcrm._find_call_time();
drop function tinydevcrm._check_schedule(bigint);
drop procedure tinydevcrm._refresh_round(bigint[], timestamptz, boolean);
drop function tinydevcrm._refresh_due_matview(
    bigint, bigint[], timestamptz, interval, boolean);
