drop function tinydevcrm._build_notification(bigint, tinydevcrm.matview_refresh_events, bigint, json, integer);
drop function tinydevcrm._name_message(bigint, integer);
drop function tinydevcrm._describe_event(tinydevcrm.matview_refresh_events, bigint);
drop function tinydevcrm._count_changes(tinydevcrm.matview_refresh_events);
drop function tinydevcrm._count_rows(bigint, text);
drop function tinydevcrm._encode_path(text);
