drop function tinydevcrm._build_digest(tinydevcrm.webhooks, bigint);
drop function tinydevcrm._name_post(bigint);
drop function tinydevcrm._name_views(bigint);
drop function tinydevcrm._list_posted_events(bigint);
drop function tinydevcrm._lock_gathered(tinydevcrm.webhooks);

drop trigger _610_release on tinydevcrm.deliveries;
drop function tinydevcrm._deliveries_release();
drop trigger _600_gather on tinydevcrm.deliveries;
drop function tinydevcrm._deliveries_gather();
drop function tinydevcrm._gathers(tinydevcrm.webhooks);
alter table tinydevcrm.deliveries drop column is_gathered;
