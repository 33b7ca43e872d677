drop function tinydevcrm._find_next_attempt(tinydevcrm.subscriptions);
drop function tinydevcrm.retry_subscription(text);
