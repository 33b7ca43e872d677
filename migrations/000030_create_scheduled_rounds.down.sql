drop procedure tinydevcrm.refresh_scheduled(bigint);
drop function tinydevcrm._round_grace(integer, text);
drop function tinydevcrm._choose_lane(bigint, interval);
drop function tinydevcrm._due_matview(bigint, bigint, timestamptz);
drop function tinydevcrm._lock_schedule(bigint);
drop function tinydevcrm._next_round(bigint, timestamptz);
