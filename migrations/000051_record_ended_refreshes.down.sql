drop function tinydevcrm._explain_failure(regclass, tinydevcrm._refresh, interval);
drop function tinydevcrm._find_refresh_timeout();
drop function tinydevcrm._describe_lock_holder(regclass, boolean, interval);
drop function tinydevcrm._record_ended_refresh(tinydevcrm.matviews, bigint);
drop function tinydevcrm._take_ended_refreshes(text, bigint[]);
drop function tinydevcrm._find_ended_pause(integer);
