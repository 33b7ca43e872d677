drop function tinydevcrm._set_up_matview(text, text, text, text, text, text);
drop function tinydevcrm._try_rule(regclass, text, integer, interval, integer);
drop function tinydevcrm._list_names(integer, integer);
drop function tinydevcrm._list_subscribed(regclass, integer);
drop function tinydevcrm._describe_reads(regclass);
