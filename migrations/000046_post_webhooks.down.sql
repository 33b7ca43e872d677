drop function tinydevcrm._refuse_post(bigint, bigint, integer, text, interval);
drop function tinydevcrm._accept_post(bigint);
drop function tinydevcrm._lock_posted(bigint);
drop function tinydevcrm._limit_webhook_rate(bigint, interval);
drop function tinydevcrm._disable_webhook(bigint, text);
drop function tinydevcrm._receive_posts(bigint, integer, interval);
drop function tinydevcrm._build_webhook_body(tinydevcrm.matview_refresh_events, json);
drop function tinydevcrm._list_due_webhooks();
