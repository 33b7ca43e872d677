drop table tinydevcrm.deliveries;
drop function tinydevcrm._deliveries_redeliver();
drop function tinydevcrm._deliveries_set_signs();
drop function tinydevcrm._deliveries_set_times();
drop function tinydevcrm._deliveries_set_matview();
