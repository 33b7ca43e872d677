drop function tinydevcrm.reject_event(bigint, text, interval);
drop function tinydevcrm._compute_retry_delay(integer);
drop function tinydevcrm.acknowledge_events(bigint[]);
drop function tinydevcrm.receive_events(text, integer, interval);
drop function tinydevcrm._receive_deliveries(bigint, integer, interval);

drop trigger _500_fan_out on tinydevcrm.matview_refresh_events;
drop function tinydevcrm._matview_refresh_events_fan_out();

drop table tinydevcrm.deliveries;
drop function tinydevcrm._deliveries_redeliver();
drop function tinydevcrm._deliveries_set_times();
