drop function tinydevcrm._release_posts(bigint[]);
drop function tinydevcrm._receive_posts(bigint, integer, interval, integer, boolean);
drop function tinydevcrm._list_signing_secrets(tinydevcrm.webhooks);
drop function tinydevcrm._claim_probe(bigint, interval);
drop function tinydevcrm._list_due_webhooks();
drop function tinydevcrm._is_served(tinydevcrm.webhooks, tinydevcrm.subscriptions);
drop function tinydevcrm._endpoint_is_due(tinydevcrm.webhooks);
