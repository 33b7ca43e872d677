drop procedure tinydevcrm.refresh_by_seconds(boolean);
drop function tinydevcrm._loop_schedules(boolean);
drop procedure tinydevcrm.refresh_scheduled(bigint);
drop function tinydevcrm._check_schedule(bigint);
drop procedure tinydevcrm._refresh_round(bigint[], timestamptz, boolean);
drop function tinydevcrm._round_grace(integer, text);
drop function tinydevcrm._choose_lane(bigint, interval);
drop function tinydevcrm._due_matview(bigint, bigint[], timestamptz);
drop function tinydevcrm._next_round(bigint[], timestamptz);
