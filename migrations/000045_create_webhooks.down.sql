drop function tinydevcrm._note_failure(bigint);
drop function tinydevcrm._classify_refusal(integer);
drop function tinydevcrm._note_success(bigint);
drop function tinydevcrm.rotate_webhook_secret(text, interval);
drop function tinydevcrm.alter_webhook(text, text);
drop function tinydevcrm.create_webhook(text, text, regclass, integer, boolean);
drop function tinydevcrm._generate_webhook_secret();
drop function tinydevcrm._endpoint_is_down(tinydevcrm.webhooks);

drop table tinydevcrm.webhooks;
drop function tinydevcrm._webhooks_set_probe();
drop function tinydevcrm._webhooks_set_failing();
drop function tinydevcrm._webhooks_limit_rate();
drop function tinydevcrm._webhooks_keep_secret();
drop function tinydevcrm._webhooks_check_url();
drop function tinydevcrm._find_url_problem(text);
