drop trigger _500_fan_out on tinydevcrm.matview_refresh_events;
drop function tinydevcrm._matview_refresh_events_fan_out();

drop table tinydevcrm.deliveries;
drop function tinydevcrm._deliveries_redeliver();
drop function tinydevcrm._deliveries_set_times();
drop function tinydevcrm._deliveries_set_matview();
