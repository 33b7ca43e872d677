drop function tinydevcrm._list_recent_refreshes(bigint[], integer);
drop function tinydevcrm._list_events_by_id(text, bigint[], text, text, boolean);
drop function tinydevcrm._list_latest_events(text, bigint, integer, text, text, bigint);
drop function tinydevcrm._may_read(text, regrole);
drop function tinydevcrm._may_see(regrole);
drop function tinydevcrm.event_json(tinydevcrm.matview_refresh_events, boolean);
drop function tinydevcrm._print_numbers_as_text(tinydevcrm.matview_refresh_events);
drop function tinydevcrm._quote_numbers(text);
drop function tinydevcrm._order_row_columns(tinydevcrm.matview_refresh_events);
