drop function tinydevcrm._recent_refreshes(bigint[], integer);
drop function tinydevcrm._numbered_events(text, bigint[], text, text, boolean);
drop function tinydevcrm._latest_events(text, bigint, integer, text, text, bigint);
drop function tinydevcrm._may_read(text, regrole);
drop function tinydevcrm.event_json(tinydevcrm.matview_refresh_events);
drop function tinydevcrm._ordered_rows(tinydevcrm.matview_refresh_events);
drop table tinydevcrm.matview_refresh_events;
drop function tinydevcrm._matview_refresh_events_notify();
