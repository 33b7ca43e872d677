drop table tinydevcrm.deliveries;
drop function tinydevcrm._deliveries_redeliver();
drop function tinydevcrm._deliveries_set_signs();
drop function tinydevcrm._deliveries_set_visible();
drop function tinydevcrm._deliveries_set_ended();
drop function tinydevcrm._deliveries_set_matview();
