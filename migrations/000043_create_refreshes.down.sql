drop procedure tinydevcrm.refresh_requested();
drop function tinydevcrm._find_requested_matview(bigint);
drop function tinydevcrm._record_ended_requests();
drop function tinydevcrm.refresh_matview(regclass);
drop function tinydevcrm._refresh_matview(
    tinydevcrm.matviews, bigint, boolean, interval, boolean);
drop function tinydevcrm._is_overdue(timestamptz, real);
drop function tinydevcrm._is_round_timeout(timestamptz);
drop function tinydevcrm._limit_lock_waits(
    tinydevcrm.matviews, tinydevcrm._refresh, boolean, interval, boolean);
drop function tinydevcrm._read_rows(regclass, tinydevcrm._refresh);
drop function tinydevcrm._begin_refresh(tinydevcrm.matviews);
