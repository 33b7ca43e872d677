drop function tinydevcrm._find_event_recipient(tinydevcrm.matview_refresh_events, integer[], text, text[]);
drop function tinydevcrm._address_event(tinydevcrm.matview_refresh_events, text[], integer[]);
drop function tinydevcrm._carry_parts(tinydevcrm.matview_refresh_events, integer[]);
drop function tinydevcrm._split_event(tinydevcrm.matview_refresh_events, text[], boolean, text);
drop function tinydevcrm._has_more_rows(tinydevcrm.matview_refresh_events, text[]);
drop function tinydevcrm._find_row_kinds(tinydevcrm.matview_refresh_events, text[]);
drop function tinydevcrm._read_cell(text, text);
drop function tinydevcrm._list_event_rows(tinydevcrm.matview_refresh_events);
drop function tinydevcrm._list_held_rules(tinydevcrm.matview_refresh_events);
