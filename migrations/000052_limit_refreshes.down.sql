drop function tinydevcrm._is_overdue(timestamptz, real);
drop function tinydevcrm._is_round_timeout(timestamptz);
drop function tinydevcrm._limit_lock_waits(
    tinydevcrm.matviews, tinydevcrm._refresh, boolean, interval, boolean);
