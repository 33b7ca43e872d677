drop trigger _510_group on tinydevcrm.matview_refresh_events;
drop function tinydevcrm._matview_refresh_events_group();
drop function tinydevcrm._find_leader(bigint, tinydevcrm.matview_refresh_events);
drop function tinydevcrm.grouped_events(bigint);

drop function tinydevcrm._list_due_heads(bigint, integer);
drop function tinydevcrm._choose_start(bigint);
drop function tinydevcrm._list_heads(bigint);
drop trigger _500_fan_out on tinydevcrm.matview_refresh_events;
drop function tinydevcrm._matview_refresh_events_fan_out();

drop table tinydevcrm.deliveries;
drop function tinydevcrm._deliveries_lead();
drop function tinydevcrm._deliveries_redeliver();
drop function tinydevcrm._deliveries_set_times();
drop function tinydevcrm._deliveries_set_matview();
