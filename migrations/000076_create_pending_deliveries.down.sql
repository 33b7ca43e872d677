drop trigger _400_requeue on tinydevcrm.deliveries;
drop trigger _500_remove on tinydevcrm.deliveries;
drop trigger _500_dequeue on tinydevcrm.deliveries;
drop trigger _500_enqueue on tinydevcrm.deliveries;
drop function tinydevcrm._deliveries_requeue();
drop function tinydevcrm._deliveries_remove();
drop function tinydevcrm._deliveries_dequeue();
drop function tinydevcrm._deliveries_enqueue();
drop table tinydevcrm.pending_deliveries;
