drop function tinydevcrm.rotate_webhook_secret(text, interval);
drop function tinydevcrm.alter_webhook(text, text, text, jsonb);
drop function tinydevcrm.create_webhook(text, text, regclass, integer, boolean, text, jsonb, text, text, boolean);
drop function tinydevcrm._generate_webhook_secret();

drop table tinydevcrm.webhooks;
drop function tinydevcrm._webhooks_limit_rate();
drop function tinydevcrm._webhooks_keep_secret();
