drop function tinydevcrm._find_next_delivery(bigint);
drop function tinydevcrm.latest_deliveries(text, integer);
drop function tinydevcrm._needs_attention(text);
drop function tinydevcrm._subscription_state(tinydevcrm.subscriptions);
drop function tinydevcrm._delivery_state(tinydevcrm.deliveries);
