drop function tinydevcrm._rest_webhook(bigint, interval);
drop function tinydevcrm._switch_off_webhook(bigint, text);
drop function tinydevcrm._receive_posts(bigint, integer, interval);
drop function tinydevcrm._webhook_body(tinydevcrm.matview_refresh_events);
drop function tinydevcrm._due_webhooks();
drop function tinydevcrm.rotate_webhook_secret(text, interval);
drop function tinydevcrm.create_webhook(text, text, regclass, integer);
drop function tinydevcrm._new_webhook_secret();
drop table tinydevcrm.webhooks;
