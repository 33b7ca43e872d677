drop function tinydevcrm._explain_failure(regclass, tinydevcrm._refresh, interval);
drop function tinydevcrm._find_refresh_timeout();
drop function tinydevcrm._describe_lock_holder(regclass, boolean, interval);
drop function tinydevcrm._record_ended_refresh(tinydevcrm.matviews, bigint);
drop function tinydevcrm._take_ended_refreshes(text, bigint[]);
drop function tinydevcrm._find_ended_pause(integer);
drop function tinydevcrm._record_refresh(
    tinydevcrm.matviews, bigint, timestamptz, tinydevcrm._refresh);
drop function tinydevcrm._remember_refresh(tinydevcrm.matviews, tinydevcrm._refresh, text);
drop function tinydevcrm._advance_rule(tinydevcrm.matviews, tinydevcrm._refresh, text);
drop function tinydevcrm._cut_text(text);
drop trigger _500_remember on tinydevcrm.matview_refresh_events;
drop function tinydevcrm._matview_refresh_events_remember();

alter table tinydevcrm.matviews
    drop column blocked_since,
    drop column ended_count;
