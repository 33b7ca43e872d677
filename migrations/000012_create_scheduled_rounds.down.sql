drop procedure tinydevcrm.refresh_scheduled(bigint);
drop function tinydevcrm._choose_lane(bigint, interval);
drop function tinydevcrm._refresh_by_schedule(tinydevcrm.matviews, boolean);
drop function tinydevcrm._next_step(bigint, timestamptz);
