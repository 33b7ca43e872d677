drop trigger _510_group on tinydevcrm.matview_refresh_events;
drop function tinydevcrm._matview_refresh_events_group();
drop function tinydevcrm._group_failure(tinydevcrm.matview_refresh_events);
drop function tinydevcrm._find_leader(bigint, tinydevcrm.matview_refresh_events);
drop function tinydevcrm._find_delivery_before(bigint, bigint, bigint);
drop function tinydevcrm.grouped_events(bigint);
drop trigger _500_lead on tinydevcrm.deliveries;
drop function tinydevcrm._deliveries_lead();
