drop table tinydevcrm.deliveries;
drop function tinydevcrm._deliveries_redeliver();
drop function tinydevcrm._deliveries_complete();
drop function tinydevcrm._deliveries_set_matview();
drop domain tinydevcrm.row_numbers;
