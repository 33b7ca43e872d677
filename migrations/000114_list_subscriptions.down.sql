drop function tinydevcrm._describe_subscription(text);
drop function tinydevcrm._list_subscriptions(text, text, text, boolean, integer, integer, name[]);
