drop table tinydevcrm.subscriptions;
drop function tinydevcrm._subscriptions_check_templates();
drop function tinydevcrm._subscriptions_drop();
