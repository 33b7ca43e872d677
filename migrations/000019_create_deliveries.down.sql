drop function tinydevcrm.acknowledge_events(bigint[]);
drop function tinydevcrm.receive_events(text, integer, interval);
drop function tinydevcrm.drop_subscription(text);
drop function tinydevcrm.create_subscription(text, regclass);
drop function tinydevcrm._own_subscription(text);

drop trigger _500_fan_out on tinydevcrm.matview_refresh_events;
drop function tinydevcrm._matview_refresh_events_fan_out();

drop table tinydevcrm.deliveries;
drop table tinydevcrm.subscriptions;
