drop function tinydevcrm._build_digest(tinydevcrm.webhooks, bigint);
drop function tinydevcrm._name_post(bigint);
drop function tinydevcrm._name_views(bigint);
drop function tinydevcrm._list_posted_events(bigint);
drop function tinydevcrm._lock_gathered(tinydevcrm.webhooks);
drop function tinydevcrm._hold_posts(bigint, timestamptz);

drop trigger _610_release on tinydevcrm.deliveries;
drop function tinydevcrm._deliveries_release();
drop trigger _600_gather on tinydevcrm.deliveries;
drop function tinydevcrm._deliveries_gather();
alter table tinydevcrm.deliveries drop column is_gathered;

drop function tinydevcrm.set_digest(text, text);
drop trigger _600_refuse_parted_digest on tinydevcrm.subscriptions;
drop trigger _600_refuse_parted_digest on tinydevcrm.webhooks;
drop function tinydevcrm._refuse_parted_digest();
drop trigger _530_change_digest on tinydevcrm.webhooks;
drop trigger _520_set_digest on tinydevcrm.webhooks;
drop trigger _510_note_post on tinydevcrm.webhooks;
drop trigger _500_hold on tinydevcrm.webhooks;
drop function tinydevcrm._webhooks_set_next_post();
drop function tinydevcrm._gathers(tinydevcrm.webhooks);
drop function tinydevcrm._compute_next_digest(text, timestamptz);
