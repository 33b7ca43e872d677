drop function tinydevcrm._find_next_delivery(bigint);
drop function tinydevcrm.latest_deliveries(text, integer);
drop function tinydevcrm._list_deliveries(text, text, bigint, integer);
drop function tinydevcrm._needs_attention(text);
drop function tinydevcrm._delivery_state(tinydevcrm.deliveries);
drop function tinydevcrm._matview_state(tinydevcrm.matviews, boolean);
drop function tinydevcrm._find_renamed_read(bigint);
