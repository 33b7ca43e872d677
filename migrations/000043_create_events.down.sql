drop table tinydevcrm.matview_refresh_events;
drop function tinydevcrm._matview_refresh_events_fill_in();
drop function tinydevcrm._matview_refresh_events_notify();
drop function tinydevcrm._notify(bigint);
