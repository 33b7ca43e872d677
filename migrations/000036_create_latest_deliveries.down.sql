drop function tinydevcrm.latest_deliveries(text, integer);
