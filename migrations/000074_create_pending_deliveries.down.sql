drop trigger _400_requeue on tinydevcrm.deliveries;
drop trigger _500_dequeue_deleted on tinydevcrm.deliveries;
drop trigger _500_dequeue on tinydevcrm.deliveries;
drop trigger _500_enqueue on tinydevcrm.deliveries;
drop function tinydevcrm._deliveries_requeue();
drop function tinydevcrm._deliveries_dequeue();
drop function tinydevcrm._deliveries_enqueue();
drop table tinydevcrm.pending_deliveries;
