drop trigger _500_fan_out on tinydevcrm.matview_refresh_events;
drop function tinydevcrm._matview_refresh_events_fan_out();
drop function tinydevcrm._list_event_readers(regrole);
