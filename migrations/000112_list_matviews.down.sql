drop function tinydevcrm._find_matviews(
    text, text, integer, name[], text, text, boolean, integer);
drop function tinydevcrm._describe_view(text[], name[]);
drop function tinydevcrm._read_names(text);
drop function tinydevcrm._matview_key(text, name[]);
