drop function tinydevcrm._subscription_state(tinydevcrm.subscriptions);
drop function tinydevcrm._unsubscribe(bigint, text, text);
drop function tinydevcrm._find_unsubscribed(bigint, text, text);
drop function tinydevcrm._address_email(tinydevcrm.webhooks, text, json);
drop function tinydevcrm._sign(text, text);
drop function tinydevcrm.alter_email(text, text[]);
drop function tinydevcrm.create_email(text, text[], regclass, text, integer);
drop function tinydevcrm._join_addresses(text[]);
drop function tinydevcrm._list_addresses(tinydevcrm.webhooks);
