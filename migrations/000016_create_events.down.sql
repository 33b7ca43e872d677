drop function tinydevcrm.event_json(tinydevcrm.matview_refresh_events);
drop table tinydevcrm.matview_refresh_events;
drop function tinydevcrm._matview_refresh_events_notify();
