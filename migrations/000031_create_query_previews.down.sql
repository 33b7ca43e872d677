drop function tinydevcrm.preview_query(text, integer);
drop function tinydevcrm._make_view(text, text);
drop function tinydevcrm._check_query(text);
