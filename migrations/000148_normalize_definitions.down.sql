drop function tinydevcrm._normalize_subscription(jsonb, name);
drop function tinydevcrm._normalize_source(text, jsonb, name);
drop function tinydevcrm._normalize_view(jsonb);
drop function tinydevcrm._normalize_schedule(text);
drop function tinydevcrm._list_sorted(jsonb);
drop function tinydevcrm._list_texts(jsonb);
drop function tinydevcrm._normalize_name(text, name);
drop function tinydevcrm._read_name(text, name);
