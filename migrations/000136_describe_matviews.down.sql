drop function tinydevcrm.describe_matview(regclass);
drop function tinydevcrm._show_query(regclass);
