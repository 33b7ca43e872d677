drop function tinydevcrm._lock_due_deliveries(bigint, integer, integer);
drop function tinydevcrm._list_due_heads(bigint, integer);
drop function tinydevcrm._choose_start(bigint);
drop function tinydevcrm._list_heads(bigint);
